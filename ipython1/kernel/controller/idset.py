"""Sets of ids: small when most ids are consecutive, in memory and packed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from heapq import merge


class IdSet:
    """A set of ints that takes little room when most are consecutive."""

    __slots__ = ("_count", "_starts", "_stops")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._count = 0
        for start, stop in ranges:
            self.add_range(start, stop)

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

    def add_range(self, start: int, stop: int) -> None:
        """Add all from ``start`` up to ``stop``."""
        self._replace(start, stop, filled=True)

    def update(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Add ranges that come in rising order; they may overlap."""
        new = list(ranges)
        if len(new) < 16:
            for start, stop in new:
                self.add_range(start, stop)
            return
        starts: list[int] = []
        stops: list[int] = []
        end = -1
        for start, stop in merge(new, self.ranges()):
            if start > end or not stops:
                starts.append(start)
                stops.append(stop)
                end = stop
            elif stop > end:
                stops[-1] = end = stop
        self._starts, self._stops = starts, stops
        self._count = sum(stops) - sum(starts)

    def common(self, start: int, stop: int) -> list[tuple[int, int]]:
        """What of the ids from ``start`` up to ``stop`` is there, as rising ranges."""
        first = bisect_right(self._stops, start)
        last = bisect_right(self._starts, stop - 1)
        return [
            (max(start, a), min(stop, b))
            for a, b in zip(self._starts[first:last], self._stops[first:last], strict=True)
        ]

    def shared(self, other: IdSet) -> IdSet:
        """A new set of the ids that are in both."""
        return IdSet(part for some in other.ranges() for part in self.common(*some))

    def discard(self, number: int) -> None:
        """Remove one, if it is there."""
        self._replace(number, number + 1, filled=False)

    def discard_range(self, start: int, stop: int) -> None:
        """Remove those from ``start`` up to ``stop`` that are there."""
        self._replace(start, stop, filled=False)

    def _replace(self, start: int, stop: int, filled: bool) -> None:
        """Have all from ``start`` up to ``stop`` be there, or none."""
        if start >= stop:
            return
        starts, stops = self._starts, self._stops
        # The ranges from first up to last touch what is replaced.
        first = bisect_right(stops, start - 1 if filled else start)
        last = bisect_right(starts, stop if filled else stop - 1)
        old = list(zip(starts[first:last], stops[first:last], strict=True))
        if filled:
            low = min(start, old[0][0]) if old else start
            high = max(stop, old[-1][1]) if old else stop
            new = [(low, high)]
        else:
            new = [(a, start) for a, _ in old[:1] if a < start]
            new += [(stop, b) for _, b in old[-1:] if b > stop]
        self._count += sum(b - a for a, b in new) - sum(b - a for a, b in old)
        starts[first:last] = [a for a, _ in new]
        stops[first:last] = [b for _, b in new]

    def shrink(self, most: int) -> None:
        """Remove the lowest ids, if there are more than ``most`` ranges."""
        if len(self._starts) > most:
            self.discard_range(0, self._stops[len(self._starts) - most // 2 - 1])

    def covers(self, start: int, stop: int) -> bool:
        """Whether all from ``start`` up to ``stop`` are there."""
        index = bisect_right(self._starts, start) - 1
        return start >= stop or (index >= 0 and stop <= self._stops[index])

    def ranges(self) -> list[tuple[int, int]]:
        """Rising (start, stop) that do not touch."""
        return list(zip(self._starts, self._stops, strict=True))

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
