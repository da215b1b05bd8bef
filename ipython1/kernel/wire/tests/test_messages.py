"""What frames say: packed and unpacked to the same, and anything else refused."""

from __future__ import annotations

import dataclasses
import sys

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import (
    InvalidEngineID,
    KernelError,
    ProtocolError,
    SecurityError,
    VersionMismatch,
)
from ipython1.kernel.tests.wiresupport import quick
from ipython1.kernel.wire import frames, messages

HELLO = messages.Hello(uuid="ab" * 16, pid=7, host="here", role=messages.ENGINE, wanted_id=3)


def without(hello: messages.Hello, **changes: object) -> bytes:
    """The greeting with some values replaced by others that a program of ours would not send."""
    value = dataclasses.asdict(hello)
    for name, new in changes.items():
        if new is dataclasses.MISSING:
            del value[name]
        else:
            value[name] = new
    return messages.pack_json(value)


class HelloTest(SynchronousTestCase):
    def test_it_travels(self):
        self.assertEqual(messages.Hello.unpack(HELLO.pack()), HELLO)
        client = dataclasses.replace(HELLO, wanted_id=None, role=messages.TASK)
        self.assertEqual(messages.Hello.unpack(memoryview(client.pack())), client)

    def test_what_a_party_calls_itself_can_be_printed(self):
        greeting = without(HELLO, label="ann\x1b[2J\n@there", host="h\r|x")
        read = messages.Hello.unpack(greeting)
        self.assertEqual((read.label, read.host), (r"ann\x1b[2J\n@there", r"h\r|x"))

    def test_a_uuid_has_one_form(self):
        """Otherwise one could come as a known client without knowing its secret."""
        for same in ("AB" * 16, "ab " * 16, f" {'aB' * 16}"):
            self.assertEqual(messages.Hello.unpack(without(HELLO, uuid=same)), HELLO)

    def test_json_that_is_nested_too_deeply_is_refused(self):
        self.assertRaises(ProtocolError, messages.Hello.unpack, b"[" * 100_000)

    def test_malformed_greetings_are_refused(self):
        missing = dataclasses.MISSING
        for changes in (
            {"uuid": missing},
            {"uuid": "no hex"},
            {"uuid": "abcd"},
            {"pid": "x"},
            {"pid": 0},
            {"pid": -1},
            {"pid": None},
            {"wanted_id": "zero"},
            {"wanted_id": missing},
            {"role": missing},
            {"python": [3]},
            {"python": None},
            {"protocol": None},
            {"wanted_id": float("inf")},
            {"role": "x" * 2000},
            {"host": "x" * 2000},
            {"host": ["x"]},
            {"secret": "x" * 2000},
        ):
            with self.assertRaises(ProtocolError, msg=str(changes)):
                messages.Hello.unpack(without(HELLO, **changes))
        for data in (b"", b"\xff\xfe", b"[]", b"5", b'"text"', b"{}", b"null"):
            self.assertRaises(ProtocolError, messages.Hello.unpack, data)

    def test_a_greeting_of_a_later_version_may_say_more(self):
        self.assertEqual(messages.Hello.unpack(without(HELLO, colour="blue")), HELLO)

    def test_another_python_is_refused_by_name(self):
        other = dataclasses.replace(HELLO, python=(3, 2))
        error = self.assertRaises(VersionMismatch, other.check_versions, "the engine")
        here = f"{sys.version_info[0]}.{sys.version_info[1]}"
        self.assertIn("the engine runs Python 3.2", str(error))
        self.assertIn(f"the controller Python {here}", str(error))
        HELLO.check_versions("the engine")

    def test_another_protocol_is_refused_by_version(self):
        other = dataclasses.replace(HELLO, protocol=frames.PROTOCOL_VERSION + 1, version="99.0")
        error = self.assertRaises(VersionMismatch, other.check_versions, "the client")
        self.assertIn("the client is ipython1 99.0", str(error))

    def test_the_wrong_furl_is_named_with_the_right_ones(self):
        error = self.assertRaises(SecurityError, HELLO.check_role, messages.MULTIENGINE)
        self.assertIn(
            "this FURL is for MultiEngine clients, but it was used for engines", str(error)
        )
        self.assertIn("ipcontroller-engine.furl", str(error))
        HELLO.check_role(messages.ENGINE)


class WelcomeTest(SynchronousTestCase):
    def test_it_travels(self):
        welcome = messages.Welcome(engine_id=4, max_message=100, pid=9, extra={"ids": [1, 2]})
        self.assertEqual(messages.unpack_welcome(welcome.pack()), welcome)

    def test_a_refusal_is_raised_as_what_it_was(self):
        refusal = messages.pack_refusal(InvalidEngineID("there is no engine 5"))
        error = self.assertRaises(InvalidEngineID, messages.unpack_welcome, refusal)
        self.assertEqual(str(error), "there is no engine 5")
        refusal = messages.pack_refusal(ZeroDivisionError("division by zero"))
        error = self.assertRaises(KernelError, messages.unpack_welcome, refusal)
        self.assertEqual(str(error), "ZeroDivisionError: division by zero")

    def test_malformed_answers_are_refused(self):
        for data in (b"", b"5", b"[1]", b'{"colour": 1}', b'{"error": 5}', b'{"error": ["a"]}'):
            self.assertRaises(ProtocolError, messages.unpack_welcome, data)


ids = st.integers(0, 2**32 - 1)


class PackedTest(SynchronousTestCase):
    @quick
    @given(
        st.text(max_size=40),
        st.none() | st.lists(ids, max_size=5).map(tuple),
        st.booleans(),
        st.booleans(),
    )
    def test_submissions(self, method, targets, stream, announce):
        submission = messages.SubmitMeta(method, targets, stream, announce)
        self.assertEqual(messages.SubmitMeta.unpack(memoryview(submission.pack())), submission)

    @quick
    @given(
        ids,
        st.sampled_from([messages.OK, messages.FAILED, messages.REFUSED]),
        st.none() | st.tuples(st.text(), st.text()),
    )
    def test_outcomes(self, engine_id, status, error):
        outcome = messages.OutcomeMeta(engine_id, status, error)
        self.assertEqual(messages.OutcomeMeta.unpack(outcome.pack()), outcome)

    @quick
    @given(st.binary(min_size=16, max_size=16), st.text(max_size=30), st.booleans())
    def test_commands(self, origin, method, stream):
        command = messages.CommandMeta(origin, method, stream)
        self.assertEqual(messages.CommandMeta.unpack(memoryview(command.pack())), command)

    @quick
    @given(st.lists(ids, max_size=9))
    def test_ids(self, some):
        self.assertEqual(messages.unpack_ids(messages.pack_ids(some)), tuple(some))

    def test_what_is_cut_short_is_refused(self):
        submission = messages.SubmitMeta("execute", (1, 2)).pack()
        for data in (b"", submission[:3], submission[:-1]):
            self.assertRaises(ProtocolError, messages.SubmitMeta.unpack, data)
        self.assertRaises(ProtocolError, messages.SubmitMeta.unpack, b"\x01\x00\xff\xff\xff")
        self.assertRaises(ProtocolError, messages.CommandMeta.unpack, b"x" * 16)
        self.assertRaises(ProtocolError, messages.OutcomeMeta.unpack, b"x" * 4)
        self.assertRaises(ProtocolError, messages.unpack_ids, b"x" * 5)
        self.assertRaises(ProtocolError, messages.unpack_json, b"{")

    def test_json_of_any_text(self):
        for value in ("\ud800", "ä€😀", {"a": [1, None, True]}):
            self.assertEqual(messages.unpack_json(messages.pack_json(value)), value)
