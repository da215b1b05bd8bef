"""The clock of a simulated world, and the reactor's part of it that each process has."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer


class SimClock:
    """Runs calls one at a time, in the order of their times, and of their making if these are the same.

    :ivar now: seconds.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._queue: list[tuple[float, int, Callable[[], object], DelayedCall | None]] = []
        self._numbers = count()

    def seconds(self) -> float:
        return self.now

    def at(
        self, time: float, function: Callable[[], object], call: DelayedCall | None = None
    ) -> None:
        """Call ``function`` at a time, unless ``call`` is over or put off by then."""
        heapq.heappush(self._queue, (time, next(self._numbers), function, call))

    def later(self, seconds: float, function: Callable[[], object]) -> None:
        """Call ``function`` some time later, whatever becomes of any process."""
        self.at(self.now + seconds, function)

    def due(self) -> float | None:
        """When the next call is due; None if there is none."""
        while self._queue:
            time, _, function, call = self._queue[0]
            if call is None or (call.active() and call.getTime() == time):
                return time
            heapq.heappop(self._queue)
            if call.active() and call.getTime() > time:
                self.at(call.getTime(), function, call)  # it was put off
        return None

    def step(self) -> bool:
        """Make the next call, and let time go on to its moment; False if there is none."""
        if self.due() is None:
            return False
        time, _, function, _ = heapq.heappop(self._queue)
        self.now = max(self.now, time)
        function()
        return True


@implementer(IReactorTime)
class SimTime:
    """The timers of one process.  While it is :attr:`held`, those that are due wait."""

    def __init__(self, clock: SimClock) -> None:
        self._clock = clock
        self._due: list[DelayedCall] = []
        self._timers: dict[DelayedCall, None] = {}
        self.held = False
        self.stopped = False

    def seconds(self) -> float:
        return self._clock.now

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: object, **kw: object
    ) -> DelayedCall:
        call = DelayedCall(
            self._clock.now + delay, callable, args, kw, self._over, self._schedule, self.seconds
        )
        self._timers[call] = None
        self._schedule(call)
        return call

    def getDelayedCalls(self) -> list[DelayedCall]:
        return list(self._timers)

    def _schedule(self, call: DelayedCall) -> None:
        self._clock.at(call.getTime(), lambda: self._make(call), call)

    def _over(self, call: DelayedCall) -> None:
        self._timers.pop(call, None)

    def _make(self, call: DelayedCall) -> None:
        if self.stopped or not call.active():
            return
        if self.held:
            self._due.append(call)
            return
        self._over(call)
        call.called = 1
        call.func(*call.args, **call.kw)

    def let_go(self) -> None:
        """Make what waits now, in its order."""
        self.held = False
        waiting, self._due = self._due, []
        for call in waiting:
            self._clock.at(self._clock.now, lambda call=call: self._make(call))  # type: ignore[misc]

    def stop(self) -> None:
        """Make no call any more, also none that somebody still asks for."""
        self.stopped = True
        self._due.clear()
        for call in list(self._timers):
            call.cancel()
