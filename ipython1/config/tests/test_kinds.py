"""Kinds of values: the text they accept, and how values are written."""

from twisted.trial.unittest import SynchronousTestCase

from ipython1.config import kinds


class SizeTests(SynchronousTestCase):
    def test_units(self):
        for text, size in [
            ("0", 0),
            ("5000000", 5000000),
            ("4 GiB", 4 * 2**30),
            ("4GB", 4 * 10**9),
            ("64 mib", 64 * 2**20),
            ("1.5 KiB", 1536),
            ("2k", 2000),
            ("9007199254740993 B", 9007199254740993),
        ]:
            self.assertEqual(kinds.parse_size(text), size, text)

    def test_everything_else_is_refused(self):
        for value in ("", "x", "4 XB", "-1", "1e9", "4 GiB 2", "1.2.3", True, -1, None, ["1", "2"]):
            self.assertRaises(ValueError, kinds.parse_size, value)

    def test_written_sizes_are_read_again(self):
        for size in (0, 1, 1000, 1024, 1025, 3 * 2**20, 5 * 2**30 + 1, 2**40):
            self.assertEqual(kinds.parse_size(kinds.format_size(size)), size)


class NameTests(SynchronousTestCase):
    def test_dotted_names(self):
        self.assertEqual(kinds.parse_dotted_name("a.b_1.C"), "a.b_1.C")
        for value in ("", "a", "a.", ".a", "a..b", "a.1b", "a b.c", "a.b()", ["a.b", "c.d"]):
            self.assertRaises(ValueError, kinds.parse_dotted_name, value)


class CodeTests(SynchronousTestCase):
    def test_code_is_compiled_and_not_run(self):
        code = "\nimport no_such_module_anywhere\nraise SystemExit\n"
        self.assertEqual(kinds.parse_code(code), code)
        for value in ("import a b", "x = = 1", "\0", ["import a", "b"]):
            self.assertRaises(ValueError, kinds.parse_code, value)
