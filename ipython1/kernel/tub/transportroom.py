"""Room on a connection: Twisted tells when much of what was written waits in this process, and when all is gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from ipython1.kernel.wire.room import HIGH_WATER

DEAF_WATER = 32 * HIGH_WATER
"""Bytes that a party has not taken, with which the controller does not listen to it: who asks without end and does not
read the answers can ask no more.  Only the accepting side does this, so that never both sides wait."""


@implementer(IPushProducer)
class TransportRoom:
    """Knows whether a connection has room.

    It poses as a producer of the TCP transport itself, beneath TLS: encrypted bytes are what waits there, whether
    :mod:`ipython1.kernel.tub.tlsstream` or Twisted wrote them.

    :param deaf_water: see :data:`DEAF_WATER`; None to listen always.
    """

    def __init__(self, deaf_water: int | None = None) -> None:
        self.has_room: bool = True
        self._deaf_water = deaf_water
        self._deaf = False
        self._transport: Any = None
        self._waiting: list[Callable[[], None]] = []

    def watch(self, transport: Any) -> None:
        """Watch ``transport``; one that is not Twisted's own, as in tests, always has room."""
        if isinstance(transport, FileDescriptor) and transport.producer is None:
            self._transport = transport
            FileDescriptor.registerProducer(transport, self, True)

    def when_room(self, call: Callable[[], None]) -> None:
        """Call ``call`` once when there is room; never, if the connection is lost before."""
        if self.has_room:
            call()
        else:
            self._waiting.append(call)

    @property
    def unsent(self) -> int:
        """The number of written bytes that the operating system has not taken."""
        transport = self._transport
        if transport is None:
            return 0
        return int(transport._tempDataLen + len(transport.dataBuffer) - transport.offset)

    # IPushProducer, called by the transport

    def pauseProducing(self) -> None:
        # The transport calls this from its bufferSize on, 64 KiB, which is also how much it reads at a time.
        unsent = self.unsent
        if unsent > HIGH_WATER:
            self.has_room = False
        if self._deaf_water is not None and not self._deaf and unsent > self._deaf_water:
            self._deaf = True
            self._transport.pauseProducing()

    def resumeProducing(self) -> None:
        self.has_room = True
        if self._deaf:
            self._deaf = False
            self._transport.resumeProducing()
        if self._transport is not None and self._transport.disconnecting:
            # The transport asks its producer for more instead of closing, and has stopped to write.
            self._transport.startWriting()
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call()

    def stopProducing(self) -> None:
        """The connection is lost: nobody will take what was written, and it must not wait for the garbage collector.

        (A transport and its protocols refer to each other.)
        """
        transport, self._transport = self._transport, None
        self._waiting.clear()
        if transport is not None:
            transport._tempDataBuffer = []
            transport._tempDataLen = 0
            transport.dataBuffer = b""
            transport.offset = 0
