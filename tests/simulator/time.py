"""The clock of a simulated world."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer


@implementer(IReactorTime)
class SimClock:
    """Runs calls in the order of their times, and of their making if these are the same.

    It does what ``twisted.internet.task.Clock`` does, faster, and one call at a time.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._queue: list[tuple[float, int, DelayedCall]] = []
        self._numbers = count()

    def seconds(self) -> float:
        return self.now

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: object, **kw: object
    ) -> DelayedCall:
        call = DelayedCall(
            self.now + delay, callable, args, kw, _nothing, self._moved, self.seconds
        )
        self._put(call)
        return call

    def getDelayedCalls(self) -> list[DelayedCall]:
        return [call for _, _, call in self._queue if call.active()]

    def _put(self, call: DelayedCall) -> None:
        heapq.heappush(self._queue, (call.getTime(), next(self._numbers), call))

    def _moved(self, call: DelayedCall) -> None:
        # It was moved to an earlier time; the old place in the queue is skipped.
        self._put(call)

    def due(self) -> float | None:
        """When the next call is due; None if there is none."""
        while self._queue:
            at, _, call = self._queue[0]
            if call.active() and call.getTime() == at:
                return at
            heapq.heappop(self._queue)
            if call.active() and call.getTime() > at:
                self._put(call)  # it was put off
        return None

    def step(self) -> bool:
        """Make the next call, and let time go on to its moment; False if there is none."""
        at = self.due()
        if at is None:
            return False
        _, _, call = heapq.heappop(self._queue)
        self.now = max(self.now, at)
        call.called = 1
        call.func(*call.args, **call.kw)
        return True


def _nothing(call: DelayedCall) -> None:
    pass
