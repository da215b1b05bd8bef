"""Room on a connection: Twisted tells when much of what was written waits in this process, and when all is gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from ipython1.kernel.wire.room import HIGH_WATER


@implementer(IPushProducer)
class TransportRoom:
    """Knows whether a connection has room.

    It poses as a producer of the TCP transport itself, beneath TLS: encrypted bytes are what waits there, whether
    :mod:`ipython1.kernel.tub.directwrite` or Twisted wrote them.

    :param high_water: see :data:`~ipython1.kernel.wire.room.HIGH_WATER`.
    """

    def __init__(self, high_water: int = HIGH_WATER) -> None:
        self.has_room = True
        self._high_water = high_water
        self._transport: Any = None
        self._waiting: list[Callable[[], None]] = []

    def watch(self, transport: Any) -> None:
        """Watch ``transport``; one that is not Twisted's own, as in tests, always has room."""
        if isinstance(transport, FileDescriptor) and transport.producer is None:
            self._transport = transport
            transport.bufferSize = self._high_water
            FileDescriptor.registerProducer(transport, self, True)

    def when_room(self, call: Callable[[], None]) -> None:
        """Call ``call`` once when there is room; never, if the connection is lost before."""
        if self.has_room:
            call()
        else:
            self._waiting.append(call)

    # IPushProducer, called by the transport

    def pauseProducing(self) -> None:
        self.has_room = False

    def resumeProducing(self) -> None:
        self.has_room = True
        if self._transport is not None and self._transport.disconnecting:
            # The transport asks its producer for more instead of closing, and has stopped to write.
            self._transport.startWriting()
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call()

    def stopProducing(self) -> None:
        """The connection is lost."""
        self._transport = None
        self._waiting.clear()
