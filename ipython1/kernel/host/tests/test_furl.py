"""FURLs: parsing, other locations, and keeping the secret out of sight."""

import traceback
from dataclasses import replace

from foolscap.furl import decode_furl
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import SecurityError
from ipython1.kernel.host.furl import Furl, parse_furl, redact

TUB = "abcdefghijklmnopqrstuvwxyz234567"
SECRET = "s3cr3t" + "q" * 26
TEXT = f"pb://{TUB}@tcp:127.0.0.1:10105,tcp:[fe80::1]:7/{SECRET}"


class ParseTests(SynchronousTestCase):
    def test_parts_and_text(self):
        furl = parse_furl(f"  {TEXT}\n")
        self.assertEqual(furl, Furl(TUB, (("127.0.0.1", 10105), ("fe80::1", 7)), SECRET))
        self.assertEqual(str(furl), TEXT)

    def test_foolscap_reads_the_same_parts(self):
        tub, hints, name = decode_furl(str(parse_furl(TEXT)))
        self.assertEqual((tub, name), (TUB, SECRET))
        self.assertEqual(hints, ["tcp:127.0.0.1:10105", "tcp:[fe80::1]:7"])

    def test_hint_without_a_type_and_no_hint_at_all(self):
        self.assertEqual(parse_furl(f"pb://{TUB}@node1:80/x").hints, (("node1", 80),))
        self.assertEqual(parse_furl(f"pb://{TUB}@/x").hints, ())

    def test_malformed_texts_say_what_is_wrong_and_never_show_the_secret(self):
        for text, word in [
            ("", "empty"),
            ("   \n", "empty"),
            ("http://example.org/" + SECRET, "pb://"),
            (TEXT[:20], "incomplete"),
            (f"pb://{TUB}@tcp:h:1", "incomplete"),
            (f"pb://{TUB}@tcp:h:1/", "incomplete"),
            (f"pb://{TUB[:-1]}@tcp:h:1/{SECRET}", "Tub id"),
            (f"pb://{TUB.upper()}@tcp:h:1/{SECRET}", "Tub id"),
            (f"pb://{TUB}@tcp:h:0/{SECRET}", "port"),
            (f"pb://{TUB}@tcp:h:65536/{SECRET}", "port"),
            (f"pb://{TUB}@tcp:h/{SECRET}", "tcp:HOST:PORT"),
            (f"pb://{TUB}@tcp:[1::2::3]:5/{SECRET}", "IP address"),
            (f"pb://{TUB}@tcp:h:1,,/{SECRET}", "tcp:HOST:PORT"),
            (f"pb://{TUB}@unix:x:1/{SECRET}", "tcp:HOST:PORT"),
            (f"pb://{TUB}@tcp:h: 1/{SECRET}", "white space"),
            (f"pb://{TUB}@tcp:h:1/{SECRET} {SECRET}", "name"),
            (f"pb://{TUB}@tcp:h:1/{SECRET}/../x", "name"),
            (TEXT + "\n" + TEXT, "name"),
            ("pb://" + "x" * 5000, "characters"),
        ]:
            exception = self.assertRaises(SecurityError, parse_furl, text)
            self.assertIn(word, str(exception), text)
            shown = "".join(traceback.format_exception_only(exception))
            self.assertNotIn(SECRET, shown)

    @settings(deadline=None)
    @given(st.text(max_size=80))
    def test_any_text_gives_a_furl_or_the_one_error(self, text):
        for candidate in (text, TEXT.replace("tcp", text), TEXT + text, TEXT.replace(TUB, text)):
            try:
                parsed = parse_furl(candidate)
            except SecurityError:
                continue
            self.assertEqual(parse_furl(str(parsed)), parsed)


class LocationTests(SynchronousTestCase):
    def test_location_is_replaced_and_the_capability_kept(self):
        furl = parse_furl(TEXT)
        moved = furl.with_location("192.168.1.1", 10113)
        self.assertEqual(str(moved), f"pb://{TUB}@tcp:192.168.1.1:10113/{SECRET}")
        self.assertEqual(furl.with_location(port=5).hints, (("127.0.0.1", 5), ("fe80::1", 5)))
        self.assertEqual(furl.with_location("node1").hints, (("node1", 10105),))
        self.assertEqual(str(furl.with_location("[::1]", 5)), f"pb://{TUB}@tcp:[::1]:5/{SECRET}")

    def test_all_hosts_are_kept_unless_one_is_given(self):
        furl = parse_furl(TEXT).with_location("node1", 1)
        furl = replace(furl, hints=(("node1", 1), ("::1", 2), ("127.0.0.1", 1)))
        self.assertEqual(furl.with_location(), furl)
        moved = furl.with_location(port=5)
        self.assertEqual(moved.hints, (("node1", 5), ("::1", 5), ("127.0.0.1", 5)))
        self.assertEqual(furl.with_location("node2").hints, (("node2", 1),))

    def test_what_cannot_be_a_location_is_refused(self):
        furl = parse_furl(TEXT)
        for host, port in [
            ("", 1),
            ("a b", 1),
            ("h/x", 1),
            ("h,tcp:i:2", 1),
            (7, 1),
            ("h", 0),
            ("h", 70000),
            ("h", "1"),
            ("h", True),
            ("x:y", 1),
            ("::1:", 1),
            ("1.2.3", 1),
            ("1.2.3.400", 1),
            ("[::1", 1),
        ]:
            self.assertRaises(SecurityError, furl.with_location, host, port)
        self.assertRaises(SecurityError, Furl(TUB, (), "x").with_location, "h")


class SecretTests(SynchronousTestCase):
    def test_repr_does_not_show_the_secret(self):
        self.assertNotIn(SECRET, repr(parse_furl(TEXT)))
        self.assertNotIn(SECRET, f"{[parse_furl(TEXT)]!r}")

    def test_redact_removes_secrets_and_keeps_who_and_where(self):
        for before, after in [
            ("connecting to ", ""),
            ("'", "' failed"),
            ("<Ref ", ">"),
            ("", ",x"),
        ]:
            shown = redact(f"{before}{TEXT}{after}")
            self.assertNotIn(SECRET, shown)
            self.assertIn(f"pb://{TUB}@tcp:127.0.0.1:10105", shown)
            self.assertTrue(shown.startswith(before) and shown.endswith(after), shown)

    def test_redact_removes_short_names_and_bare_secrets(self):
        self.assertNotIn("engine", redact(f"at pb://{TUB}@tcp:h:1/engine now"))
        self.assertNotIn(SECRET, redact(f"no object named '{SECRET}' here"))
        self.assertNotIn(SECRET, redact(f"name={SECRET},{SECRET}"))

    def test_redact_leaves_ordinary_text_alone(self):
        for text in (
            "engine 3 registered from 127.0.0.1",
            "ipython1.kernel.controller.multienginefc.IFCMultiEngine_with_a_very_long_name",
            "sha1 da39a3ee5e6b4b0d3255bfef95601890afd80709",
            "",
        ):
            self.assertEqual(redact(text), text)
