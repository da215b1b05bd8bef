"""Connecting to a Tub through another program: its standard input and output are one end of a pair of sockets."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from foolscap.ipb import IConnectionHintHandler, InvalidHintError
from twisted.internet import defer
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

Starter = Callable[[str, int, socket.socket], None]
"""Starts a program that connects to host and port; the socket is its standard input and output, and it closes it."""


@implementer(IStreamClientEndpoint)
class PipeEndpoint:
    """Starts the program and speaks to it.  The connection is there at once; what it is worth, the first answer tells.

    :param start: starts the program, with its end of the pair.
    """

    def __init__(self, reactor: Any, start: Callable[[socket.socket], None]) -> None:
        self._reactor = reactor
        self._start = start

    def connect(self, protocolFactory: IProtocolFactory) -> defer.Deferred[Any]:
        """Start the program; fires with the protocol."""
        return defer.maybeDeferred(self._connect, protocolFactory)

    def _connect(self, factory: Any) -> Any:
        made: list[Any] = []

        class Remembering:
            def buildProtocol(self, address: object) -> Any:
                made.append(factory.buildProtocol(address))
                return made[0]

        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)
            self._start(theirs)
            self._reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, Remembering())
        return made[0]


@implementer(IConnectionHintHandler)  # type: ignore[misc]
class PipeHints:
    """Connects to ``tcp:host:port`` through a program."""

    def __init__(self, start: Starter) -> None:
        self._start = start

    def hint_to_endpoint(
        self, hint: str, reactor: Any, update_status: Callable[[str], None]
    ) -> tuple[Any, str]:
        address, _, port = hint.removeprefix("tcp:").rpartition(":")
        if not (address and port.isdecimal()):
            raise InvalidHintError("it must have the form tcp:host:port")
        host = address.strip("[]")
        return PipeEndpoint(reactor, lambda theirs: self._start(host, int(port), theirs)), host

    def describe(self) -> str:
        return "pipe"
