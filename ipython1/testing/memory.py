"""Links in memory: two ends, no network, everything in the order in which it was sent."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock

from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.link import FrameLink, FrameReceiver, TurnFlusher


class Pump(Clock):
    """Stands for the reactor of all parties: holds what is to be done, and does it when told.

    Time passes only by :meth:`advance`, as with any ``task.Clock``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[Callable[[], None]] = deque()
        self.flusher = TurnFlusher(self.soon)

    def soon(self, function: Callable[[], None]) -> None:
        """Do it in the next turn."""
        self._waiting.append(function)

    def callFromThread(self, function: Callable[..., Any], *args: Any) -> None:
        self.soon(lambda: function(*args))

    def step(self) -> bool:
        """Do one thing; False when there is nothing to do."""
        if self._waiting:
            self._waiting.popleft()()
            return True
        if any(call.getTime() <= self.seconds() for call in self.getDelayedCalls()):
            self.advance(0)
            return True
        return False

    def run(self, most: int = 1_000_000) -> None:
        """Do everything there is to do, and what that leads to.

        :raises RuntimeError: when it does not come to an end.
        """
        for _ in range(most):
            if not self.step():
                return
        raise RuntimeError("the parties keep sending to each other")


class ReactorPump(Pump):
    """Does everything in the reactor's thread as it comes: for blocking clients, whose reactor runs in a thread.

    Make the cluster in that thread as well::

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
    """One direction of a link in memory.

    :ivar cut_off: drop what is sent, as a network that is gone does.
    """

    def __init__(self, pump: Pump, other: FrameLink) -> None:
        self._pump = pump
        self._other = other
        self.cut_off = False
        self.batches = 0

    def send_batch(self, parts: list[Buffer]) -> None:
        if not self.cut_off:
            self.batches += 1
            batch = b"".join(parts)
            self._pump.soon(lambda: self._other.deliver(batch))

    def abort(self) -> None:
        self._pump.soon(lambda: self._other.connection_lost("the other side ended the connection"))


def connect_in_memory(
    pump: Pump, first: FrameReceiver, second: FrameReceiver
) -> tuple[FrameLink, FrameLink]:
    """Two connected links, one for each receiver."""
    one, two = FrameLink(pump.flusher, first), FrameLink(pump.flusher, second)
    one.connected(MemoryTransport(pump, two))
    two.connected(MemoryTransport(pump, one))
    return one, two
