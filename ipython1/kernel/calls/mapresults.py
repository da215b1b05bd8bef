"""The result of a map on explicitly named engines, made from what came of each engine's part."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

from ipython1.kernel.basics.error import CompositeError, FailedItems
from ipython1.kernel.calls.calls import Entry, Reading
from ipython1.kernel.calls.map import Distribution
from ipython1.kernel.objects.exceptions import exception_of
from ipython1.kernel.objects.mapparts import MapPart


class Piece(NamedTuple):
    """The items that one command maps.

    :ivar target: the index of the engine among the targets.
    :ivar start: the position of the first item among those of the engine.
    :ivar stop: that of the last one, plus 1.
    """

    target: int
    start: int
    stop: int


class MapResults:
    """Joins the parts of one map.

    :param distribution: cut the sequences.
    :ivar total: the number of items.
    :ivar sizes: the number of items of each target.
    :ivar pieces: what is sent, in this order; targets without items take no part.
    """

    def __init__(self, distribution: Distribution, total: int) -> None:
        self._distribution = distribution
        self.total = total
        self.sizes: list[int] = []
        self.pieces: list[Piece] = []

    def cut(self, sizes: list[int], chunks: int) -> None:
        """Cut what each target gets into pieces; each target's first one comes first, then all second ones.

        :param sizes: the number of items of each target.
        :param chunks: the number of pieces for each target, if it has as many items.
        """
        self.sizes = sizes
        bounds = [
            [size * number // min(chunks, size) for number in range(min(chunks, size) + 1)]
            if size
            else [0]
            for size in sizes
        ]
        self.pieces = [
            Piece(target, own[number], own[number + 1])
            for number in range(min(chunks, max(sizes, default=0)))
            for target, own in enumerate(bounds)
            if number + 1 < len(own)
        ]

    def conclude(self, readings: Sequence[Reading]) -> list[Any]:
        """Return the values in the order of the items.

        :param readings: what the pieces gave.
        :raises CompositeError: if items failed.
        """
        failures = _Failures()
        numbers = self._numbers() if _failed(readings) else []
        parts: list[list[Any]] = [[] for _ in self.sizes]
        for reading, (target, start, stop) in zip(readings, self.pieces, strict=True):
            if numbers:
                own = numbers[target][start:stop]
                parts[target] += failures.entries(reading, own, stop - start)
            elif start:
                parts[target] += reading.value.values
            else:
                parts[target] = list(reading.value.values)
        if not failures.found:
            return list(self._distribution.join(parts))
        raise failures.error(self._join(parts))

    def places(self) -> list[Sequence[int]] | None:
        """Return the numbers of the items of each piece; None if that is not known."""
        numbers = self._numbers()
        try:
            whole = list(self._distribution.join([list(each) for each in numbers]))
        except Exception:  # that of a distribution of the user's own
            return None
        if whole != list(range(self.total)):
            return None
        return [numbers[target][start:stop] for target, start, stop in self.pieces]

    def entries(self, reading: Reading, numbers: Sequence[int]) -> list[Entry]:
        """Return what came of the items of a piece."""
        part: MapPart | None = reading.value
        values = _Failures().entries(reading, numbers, len(numbers))
        if part is None or reading.failure is not None:
            return [Entry(None, reading.failure) for _ in numbers]
        ended = len(part.values)
        return [
            Entry(None, value) if position in part.failures or position >= ended else Entry(value)
            for position, value in enumerate(values)
        ]

    def _numbers(self) -> list[Sequence[int]]:
        """Return the numbers of each target's items."""
        numbers: list[Sequence[int]] = []
        with contextlib.suppress(Exception):  # a distribution may take no numbers
            numbers = self._distribution.partition(list(range(self.total)), len(self.sizes))
        if list(map(len, numbers)) == self.sizes:
            return numbers
        return [()] * len(self.sizes)

    def _join(self, parts: list[list[Any]]) -> list[Any]:
        try:
            return list(self._distribution.join(parts))
        except Exception:  # the error of the map must not be hidden by that of a distribution
            return list(chain.from_iterable(parts))


def _failed(readings: Sequence[Reading]) -> bool:
    return any(
        reading.failure is not None or reading.value.failures or reading.value.stopped
        for reading in readings
    )


class _Failures:
    """Collects the failures of a map."""

    def __init__(self) -> None:
        self.found: list[tuple[FailedItems, BaseException, str, int]] = []

    def entries(self, reading: Reading, numbers: Sequence[int], size: int) -> list[Any]:
        """Return the values of an engine's items, with the exceptions of those that failed, which are noted."""
        engine = reading.engine_id
        if reading.failure is not None:
            self.found.append((FailedItems(numbers), reading.failure, reading.text, engine))
            return [reading.failure] * size
        part: MapPart = reading.value
        entries = list(part.values)
        rebuilt: dict[int, BaseException] = {}
        for position, (record, shown) in sorted(part.failures.items()):
            problem = rebuilt.get(id(record))
            if problem is None:
                problem = rebuilt[id(record)] = _tagged(exception_of(record), engine)
            entries[position] = problem
            items = FailedItems(numbers[position : position + 1], shown, record.line)
            self.found.append((items, problem, record.traceback, engine))
        if part.stopped is not None and len(entries) < size:
            problem = _tagged(exception_of(part.stopped), engine)
            items = FailedItems(numbers[len(entries) :], "", part.stopped.line)
            self.found.append((items, problem, part.stopped.traceback, engine))
            entries += [problem] * (size - len(entries))
        return entries

    def error(self, results: list[Any]) -> CompositeError:
        self.found.sort(key=lambda each: list(each[0].numbers[:1]))
        return CompositeError(
            "map",
            [(type(problem), problem, text) for _, problem, text, _ in self.found],
            [engine for *_, engine in self.found],
            results,
            [items for items, *_ in self.found],
        )


def _tagged(exception: BaseException, engine: int) -> BaseException:
    info = {"engineid": engine, "method": "map", "result": None}
    with contextlib.suppress(Exception):  # a class may allow no attributes
        exception._ipython_engine_info = info  # type: ignore[attr-defined]
    return exception
