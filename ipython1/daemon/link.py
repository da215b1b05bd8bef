"""A supervisor's connection to one nanny."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from ipython1.daemon.protocol import (
    Alive,
    Failed,
    FileText,
    Hello,
    LineBuffer,
    Message,
    ReadFile,
    WriteFile,
    Written,
    decode,
    encode,
)
from ipython1.kernel.basics.error import ConnectionError, KernelError, ProtocolError

P = TypeVar("P", bound=Protocol)


class NannyError(KernelError):
    """A nanny could not carry out a request."""


class NannyLink(Protocol):
    """Sends requests, and passes events to ``on_event``.

    :ivar hello: fires with the nanny's :class:`Hello`, or fails if the connection ends before it.
    :ivar lost: fires with None when the connection is lost.
    :ivar heard: how many messages have come.
    :ivar strays: lines that are not messages (such as a login script's output), for error messages.
    """

    def __init__(self, on_event: Callable[[Message], None]) -> None:
        self._on_event = on_event
        self._lines = LineBuffer()
        self._numbers = itertools.count()
        self._answers: dict[str, Deferred[Any]] = {}
        self.hello: Deferred[Hello] = Deferred()
        self.lost: Deferred[None] = Deferred()
        self.heard: int = 0
        self.strays: list[str] = []
        self._greeted = False
        self._gone = False

    # -- requests

    def send(self, message: Message) -> None:
        """Send a request; do nothing if the connection is lost."""
        if not self._gone and self.transport is not None:
            self.transport.write(encode(message))

    def write_file(self, path: str, text: str) -> Deferred[None]:
        """Create a private file on the nanny's host; fails with :class:`NannyError`."""
        return self._ask(lambda key: WriteFile(key, path, text))

    def read_file(self, path: str, *, lines: int = 0, wait: float = 0.0) -> Deferred[str]:
        """Read a text file on the nanny's host; fails with :class:`NannyError`."""
        return self._ask(lambda key: ReadFile(key, path, lines, wait))

    def keep_alive(self) -> None:
        """Tell the nanny that this side is alive."""
        self.send(Alive())

    def close(self) -> None:
        """Close the connection, which also ends everything that the nanny has started."""
        if self.transport is not None:
            self.transport.loseConnection()

    def _ask(self, request: Callable[[str], Message]) -> Deferred[Any]:
        key = f"?{next(self._numbers)}"
        answer: Deferred[Any] = Deferred()
        if self._gone:
            answer.errback(ConnectionError("the nanny is gone"))
            return answer
        self._answers[key] = answer
        self.send(request(key))
        return answer

    # -- Twisted

    def dataReceived(self, data: bytes) -> None:
        try:
            for line in self._lines.feed(data):
                self._handle_line(line)
        except ProtocolError:
            self.close()

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        self._gone = True
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            answer.errback(ConnectionError("the nanny is gone"))
        if not self._greeted:
            self.hello.errback(ConnectionError("the nanny exited before it was ready"))
        self.lost.callback(None)

    # -- events

    def _handle_line(self, line: bytes) -> None:
        try:
            message = decode(line)
        except ProtocolError:
            if self._greeted:
                raise
            if len(self.strays) < 20:
                self.strays.append(line.decode(errors="replace"))
            return
        self.heard += 1
        key = getattr(message, "key", "")
        if isinstance(message, Hello):
            self._greeted = True
            self.hello.callback(message)
        elif key in self._answers:
            answer = self._answers.pop(key)
            if isinstance(message, Failed):
                answer.errback(NannyError(message.error))
            else:
                answer.callback(message.text if isinstance(message, FileText) else None)
        elif not isinstance(message, (Written, FileText, Alive)):
            self._on_event(message)


def adopt_connection(reactor: Any, connection: socket.socket, protocol: P) -> P:
    """Let the reactor take over a connected socket.

    :param protocol: takes what arrives.
    :returns: the protocol, connected.
    """
    factory = Factory.forProtocol(lambda: protocol)
    factory.noisy = False
    connection.setblocking(False)
    reactor.adoptStreamConnection(connection.fileno(), connection.family, factory)
    connection.close()  # the reactor has a duplicate descriptor
    return protocol
