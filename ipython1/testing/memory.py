"""In-memory links: two ends, no network, everything arrives in the order sent."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock

from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.link import FrameLink, FrameReceiver, TurnFlusher
from ipython1.kernel.wire.room import HIGH_WATER


class Pump(Clock):
    """Replaces the reactor of all parties: queues calls and makes them on request.

    Time advances only by :meth:`advance`, as with any ``task.Clock``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[Callable[[], None]] = deque()
        self.flusher: TurnFlusher = TurnFlusher(self.soon, self)

    def soon(self, function: Callable[[], None]) -> None:
        """Call ``function`` in the next turn."""
        self._waiting.append(function)

    def callFromThread(self, function: Callable[..., Any], *args: Any) -> None:
        self.soon(lambda: function(*args))

    def step(self) -> bool:
        """Make one call; return False if there was nothing to do."""
        if self._waiting:
            self._waiting.popleft()()
            return True
        if any(call.getTime() <= self.seconds() for call in self.getDelayedCalls()):
            self.advance(0)
            return True
        return False

    def run(self, most: int = 1_000_000) -> None:
        """Make all queued calls, and those that they queue.

        :param most: the maximum number of calls.
        :raises RuntimeError: if there are more.
        """
        for _ in range(most):
            if not self.step():
                return
        raise RuntimeError("the parties do not stop sending to each other")


class ReactorPump(Pump):
    """Makes all calls immediately in the reactor's thread: for blocking clients, whose reactor runs in a thread.

    Create the cluster in that thread, too::

        cluster = blockingCallFromThread(lambda: InMemoryCluster(4, ReactorPump()))
        mec = MultiEngineClient(blockingCallFromThread(cluster.connect, cluster.multiengine_face)[0])
    """

    def soon(self, function: Callable[[], None]) -> None:
        from twisted.internet import reactor

        reactor.callFromThread(function)  # type: ignore[attr-defined]

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: object, **kw: object
    ) -> Any:
        from twisted.internet import reactor

        return reactor.callLater(delay, callable, *args, **kw)

    def seconds(self) -> float:
        from twisted.internet import reactor

        return float(reactor.seconds())


class MemoryTransport:
    """One direction of an in-memory link.

    :ivar other: the link that receives.
    :ivar cut_off: drop everything sent, like a broken network.
    :ivar reading: whether the other side reads; while it does not, what is sent waits here.
    """

    def __init__(self, pump: Pump, other: FrameLink) -> None:
        self._pump = pump
        self.other = other
        self._unread: deque[bytes] = deque()
        self._when_room: list[Callable[[], None]] = []
        self.cut_off: bool = False
        self.reading: bool = True
        self.unsent: int = 0
        self.has_room: bool = True
        self.batches: int = 0

    @classmethod
    def of(cls, link: FrameLink) -> MemoryTransport:
        """Return what ``link`` sends through, to slow it down::

        MemoryTransport.of(link).stop_reading()
        """
        transport = link._transport
        if not isinstance(transport, MemoryTransport):
            raise TypeError("the link is lost, or not an in-memory one")
        return transport

    def send_batch(self, parts: list[Buffer]) -> None:
        if self.cut_off:
            return
        self.batches += 1
        batch = b"".join(parts)
        if self.reading:
            self._deliver(batch)
            return
        self._unread.append(batch)
        self.unsent += len(batch)
        if self.unsent > HIGH_WATER:
            self.has_room = False

    def _deliver(self, batch: bytes) -> None:
        self._pump.soon(lambda: self.other.deliver(batch))

    def when_room(self, call: Callable[[], None]) -> None:
        if self.has_room:
            call()
        else:
            self._when_room.append(call)

    def stop_reading(self) -> None:
        """Be a party that does not read."""
        self.reading = False

    def read(self, size: int) -> int:
        """Read batches, in order, until at least ``size`` bytes are read or none is left; return how many were."""
        taken = 0
        while self._unread and taken < size:
            batch = self._unread.popleft()
            taken += len(batch)
            self._deliver(batch)
        self.unsent -= taken
        if not self.unsent and not self.has_room:
            self.has_room = True
            waiting, self._when_room = self._when_room, []
            for call in waiting:
                call()
        return taken

    def read_on(self) -> None:
        """Read what waits, and everything from now on."""
        self.reading = True
        self.read(self.unsent)

    def abort(self) -> None:
        self._unread.clear()
        self._when_room.clear()
        self._pump.soon(lambda: self.other.connection_lost("the other side closed the connection"))

    close = abort


def connect_in_memory(
    pump: Pump, first: FrameReceiver, second: FrameReceiver
) -> tuple[FrameLink, FrameLink]:
    """Return two connected links, one for each receiver."""
    one, two = FrameLink(pump.flusher, first), FrameLink(pump.flusher, second)
    one.connected(MemoryTransport(pump, two))
    two.connected(MemoryTransport(pump, one))
    return one, two
