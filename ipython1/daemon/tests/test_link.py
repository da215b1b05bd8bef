"""The supervisor's side of the conversation with a nanny, in memory."""

from __future__ import annotations

from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial import unittest

from ipython1.daemon.link import NannyError, NannyLink
from ipython1.daemon.protocol import (
    LINE_LIMIT,
    Ended,
    Failed,
    FileText,
    Hello,
    LineBuffer,
    Message,
    ReadFile,
    Spawn,
    WriteFile,
    Written,
    decode,
    encode,
)
from ipython1.kernel.basics.error import ConnectionError, ProtocolError

HELLO = Hello(pid=5, host="node1", home="/home/u", python="3.11", version="0.4", forks=True)


class NannyLinkTests(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        self.events: list[Message] = []
        self.link = NannyLink(self.events.append)
        self.transport = StringTransport()
        self.link.makeConnection(self.transport)

    def sent(self) -> list[Message]:
        lines = LineBuffer().feed(self.transport.value())
        self.transport.clear()
        return [decode(line) for line in lines]

    def lose(self) -> None:
        self.link.connectionLost(Failure(ConnectionDone()))

    def test_what_a_login_script_prints_is_kept_and_not_fatal(self) -> None:
        self.link.dataReceived(b"Welcome!\nYou have mail.\n" + encode(HELLO))
        self.assertEqual(self.successResultOf(self.link.hello), HELLO)
        self.assertEqual(self.link.strays, ["Welcome!", "You have mail."])

    def test_answers_find_their_questions(self) -> None:
        write = self.link.write_file("~/a", "text")
        read = self.link.read_file("~/b", wait=3.0)
        first, second = self.sent()
        assert isinstance(first, WriteFile) and isinstance(second, ReadFile)
        self.assertEqual((first.path, first.text, second.wait), ("~/a", "text", 3.0))
        self.link.dataReceived(encode(HELLO) + encode(FileText(second.key, "content")))
        self.assertEqual(self.successResultOf(read), "content")
        self.link.dataReceived(encode(Failed(first.key, "cannot write")))
        self.assertEqual(str(self.failureResultOf(write, NannyError).value), "cannot write")
        third = self.link.write_file("~/a", "text")
        self.link.dataReceived(encode(Written("?2")))
        self.assertIsNone(self.successResultOf(third))
        self.assertEqual(self.events, [])

    def test_events_arrive_whole_however_they_are_cut(self) -> None:
        ended = Ended("e", 7, None, 9, ("a", "b"))
        for byte in encode(HELLO) + encode(ended):
            self.link.dataReceived(bytes([byte]))
        self.assertEqual(self.events, [ended])

    def test_a_lost_connection_fails_what_waits(self) -> None:
        read = self.link.read_file("~/b")
        self.lose()
        self.failureResultOf(read, ConnectionError)
        self.failureResultOf(self.link.hello, ConnectionError)
        self.successResultOf(self.link.lost)
        self.failureResultOf(self.link.read_file("~/b"), ConnectionError)
        self.link.send(Spawn("e", ("x",)))

    def test_nonsense_after_the_greeting_ends_the_connection(self) -> None:
        self.link.dataReceived(encode(HELLO) + b"nonsense\n")
        self.assertTrue(self.transport.disconnecting)


class CodecTests(unittest.SynchronousTestCase):
    def test_every_message_survives(self) -> None:
        spawn = Spawn("e", ("a", "b"), env={"X": None, "Y": "é"}, after="controller")
        for message in (spawn, HELLO, Ended("e", 1, 3, None, ("x",)), Failed("e", "a\nb")):
            self.assertEqual(decode(encode(message).rstrip(b"\n")), message)
            self.assertEqual(encode(message).count(b"\n"), 1)

    def test_what_is_no_message_is_refused(self) -> None:
        for line in (b"", b"[]", b"{}", b'{"type": "Rm"}', b'{"type": "Failed"}', b'"x"', b"\xff"):
            self.assertRaises(ProtocolError, decode, line)

    def test_an_endless_line_is_refused(self) -> None:
        buffer = LineBuffer()
        with self.assertRaises(ProtocolError):
            for _ in range(LINE_LIMIT // 65536 + 2):
                list(buffer.feed(b"x" * 65536))
