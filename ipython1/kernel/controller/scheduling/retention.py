"""Finished tasks: what is kept of them, for whom, and for how long.

A result is *unread* until the client that submitted the task has confirmed it; unread results are not dropped,
and count against that client's credit (see ``accounts``).  Read ones are kept for other clients up to an age
and a size, oldest first out.  The ids of all finished tasks are kept until they are cleared; they take next to nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator

from ipython1.kernel.controller.scheduling.accounts import Finished


class IdSet:
    """A set of ints that takes little room when most are consecutive."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._count = 0

    def add(self, number: int) -> None:
        """Add one."""
        starts, stops = self._starts, self._stops
        if stops and number == stops[-1]:  # the usual case
            stops[-1] += 1
            self._count += 1
            return
        index = bisect_right(starts, number) - 1
        if index >= 0 and number < stops[index]:
            return
        self._count += 1
        joins_left = index >= 0 and stops[index] == number
        joins_right = index + 1 < len(starts) and starts[index + 1] == number + 1
        if joins_left and joins_right:
            stops[index] = stops.pop(index + 1)
            starts.pop(index + 1)
        elif joins_left:
            stops[index] += 1
        elif joins_right:
            starts[index + 1] = number
        else:
            starts.insert(index + 1, number)
            stops.insert(index + 1, number + 1)

    def discard(self, number: int) -> None:
        """Remove one, if it is there."""
        index = bisect_right(self._starts, number) - 1
        if index < 0 or number >= self._stops[index]:
            return
        self._count -= 1
        start, stop = self._starts[index], self._stops[index]
        pieces = [(a, b) for a, b in ((start, number), (number + 1, stop)) if a < b]
        self._starts[index : index + 1] = [a for a, _ in pieces]
        self._stops[index : index + 1] = [b for _, b in pieces]

    def __contains__(self, number: int) -> bool:
        index = bisect_right(self._starts, number) - 1
        return index >= 0 and number < self._stops[index]

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        for start, stop in zip(self._starts, self._stops, strict=True):
            yield from range(start, stop)

    def clear(self) -> None:
        """Remove all."""
        self.__init__()  # type: ignore[misc]


class ResultStore:
    """The finished tasks.

    :param max_size: bytes of read results that are kept.
    :param max_age: seconds for which they are kept after completion.
    """

    def __init__(self, max_size: int, max_age: float) -> None:
        self.max_size = max_size
        self.max_age = max_age
        self.results: dict[int, Finished] = {}
        self.succeeded = IdSet()
        self.failed = IdSet()
        self._read: deque[tuple[float, int, list[Finished]]] = deque()
        self._read_size = 0

    def add(self, batch: list[Finished]) -> None:
        """Tasks have finished; nobody has read them."""
        results = self.results
        succeeded = self.succeeded
        for finished in batch:
            task_id = finished.id
            results[task_id] = finished
            (self.failed if finished.status else succeeded).add(task_id)

    def confirmed(self, batch: list[Finished], now: float) -> None:
        """Their client has these, or is gone for good."""
        size = 0
        for finished in batch:
            finished.read = True
            size += finished.size
        self._read.append((now, size, batch))
        self._read_size += size
        while self._read_size > self.max_size and self._read:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, size, batch = self._read.popleft()
        self._read_size -= size
        results = self.results
        for finished in batch:
            if results.get(finished.id) is finished:
                del results[finished.id]

    def knows(self, task_id: int) -> bool:
        """Whether a task of this id has finished, kept or not."""
        return task_id in self.succeeded or task_id in self.failed

    def expire(self, now: float) -> float | None:
        """Drop what is too old; returns when to call this again."""
        while self._read:
            due = self._read[0][0] + self.max_age
            if due > now:
                return due
            self._drop_oldest()
        return None

    def clear(self, task_id: int) -> None:
        """Forget that it ever was.  Its client gets it all the same if it is on its way there."""
        finished = self.results.pop(task_id, None)
        if finished is not None and finished.read:
            finished.payload = b""
        self.succeeded.discard(task_id)
        self.failed.discard(task_id)
