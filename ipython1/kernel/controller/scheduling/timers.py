"""What is to happen later."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count
from typing import TypeAlias

from ipython1.kernel.controller.scheduling.records import ABORTING, ASSIGNED, TaskRecord

RUNNING = (ASSIGNED, ABORTING)

Due: TypeAlias = tuple[str, TaskRecord | None, int]
"""The kind of timer, and the run (task, attempt) it is about."""


class Timers:
    """A heap of times.  Nothing is ever cancelled: whoever handles a timer looks whether it still matters.

    Timers that concern no task are of one kind each, and at most one of a kind is kept: the earliest.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, str, TaskRecord | None, int]] = []
        self._general: dict[str, float] = {}
        self._numbers = count()

    def at(
        self, time: float, kind: str, record: TaskRecord | None = None, attempt: int = 0
    ) -> None:
        """Remind of ``kind`` at ``time``."""
        if record is None:
            pending = self._general.get(kind)
            if pending is not None and pending <= time:
                return
            self._general[kind] = time
        heapq.heappush(self._heap, (time, next(self._numbers), kind, record, attempt))

    def due(self, now: float) -> Iterator[Due]:
        """Take out what is due."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            time, _, kind, record, attempt = heapq.heappop(heap)
            if record is None:
                if self._general.get(kind) != time:
                    continue
                del self._general[kind]
            yield kind, record, attempt

    def compact(self) -> None:
        """Let go of timers about runs that are over."""
        self._heap = [
            entry
            for entry in self._heap
            if entry[3] is None or (entry[3].state in RUNNING and entry[3].attempt == entry[4])
        ]
        heapq.heapify(self._heap)

    def __len__(self) -> int:
        return len(self._heap)

    def next(self) -> float | None:
        """The earliest."""
        return self._heap[0][0] if self._heap else None
