"""The values of a map's items: where they are in what has arrived, and what they are.

Results are added in the reactor's thread, and read when their values are first needed, in the thread that needs them.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

from ipython1.core.interrupt import raised_by_handler
from ipython1.kernel.basics.error import CompositeError, FailedItems
from ipython1.kernel.objects.exceptions import line_of
from ipython1.kernel.objects.taskcodec import Partly, unpack_item
from ipython1.kernel.tasks.methods import read_value
from ipython1.kernel.wire.frames import Bytes
from ipython1.kernel.wire.taskwire import DONE_HEAD

MOST_SHOWN: Final = 100
"""Failed items that an error shows with a ``repr``."""


class Read(NamedTuple):
    """A group of items as they were read.

    :ivar values: of all items, with exceptions in place of those that failed.
    :ivar failed: the positions in ``values`` of items that failed.
    :ivar whole: whether all failed for one reason, which says nothing of each.
    """

    values: list[Any]
    failed: list[int]
    engine: int | None
    whole: bool = False


def read_group(number: int, grouping: bool, data: Bytes, offset: int) -> Read:
    """Read the result of a group of ``number`` items.

    :param grouping: False if each item is a task of its own, whose value is not in a list.
    :param data: has the result at ``offset``.
    """
    head = DONE_HEAD.unpack_from(data, offset)
    begin = offset + DONE_HEAD.size
    engine = head[3] if head[3] >= 0 else None
    value = read_value(head[2], data[begin : begin + head[1]], head[3], None)
    if value.failure is not None:
        # Of a group, this means that all of it cannot be decoded here.
        return Read([value.failure] * number, list(range(number)), engine, number > 1)
    if not grouping:
        return Read([value.result], [], engine)
    if isinstance(value.result, Partly):
        values, failed = [], []
        for at, (good, item) in enumerate(value.result):
            good, read = _read_item(good, item)
            values.append(read)
            if not good:
                failed.append(at)
        return Read(values, failed, engine)
    return Read(value.result, [], engine)


def _read_item(good: bool, data: bytes) -> tuple[bool, Any]:
    """Return whether an item of a group went well, and can be decoded here, and its value or exception."""
    try:
        return good, unpack_item(good, data)
    except Exception as problem:
        if raised_by_handler(problem):
            raise
        return False, problem


def raisable(name: str, problem: BaseException, engine: int | None) -> BaseException:
    """Return what to raise for an item that failed; a signal to this program, or to a loop, is wrapped.

    :param name: the method that the items belong to.
    """
    if isinstance(problem, Exception) and not isinstance(
        problem, (StopIteration, StopAsyncIteration)
    ):
        return problem
    return CompositeError(name, [(type(problem), problem, _traceback_of(problem))], [engine])


class _Place(NamedTuple):
    """Where the result of a group is."""

    start: int
    stop: int
    data: Bytes
    offset: int


_Failure: TypeAlias = tuple[range, BaseException, int | None]
"""Items, what they failed with, and the engine."""


class MapValues:
    """The values of one map.

    :param total: the number of items.
    :param grouping: False if each item is a task of its own.
    :param show: returns a short ``repr`` of an item, by its index.
    :ivar arrived: the ranges of items that have arrived, in the order in which they came; it only grows.
    :ivar engines: the engine of each of these, or None.
    :ivar listeners: called, in the reactor's thread, when items have arrived, or the map has ended.
    """

    def __init__(self, total: int, grouping: bool, show: Callable[[int], str]) -> None:
        self.total = total
        self._grouping = grouping
        self._show = show
        self.arrived: list[range] = []
        self.engines: list[int | None] = []
        self.listeners: list[Callable[[], None]] = []
        self._of_item = array("i", [-1]) * total
        self._places: list[_Place | None] = []
        self._reading = threading.Lock()
        self._values: list[Any] = []
        self._failed: dict[int, BaseException] = {}
        self._failures: dict[int, list[_Failure]] = {}
        """By the number of the place, so that a place can be read again."""
        self._error: CompositeError | None = None
        self._complete = False
        self._looked_at = 0

    # -- what arrives, in the reactor's thread

    def add(self, start: int, stop: int, data: Bytes, offset: int) -> None:
        """Take the result of a group of items."""
        engine = DONE_HEAD.unpack_from(data, offset)[3]
        self._places.append(_Place(start, stop, data, offset))
        self.engines.append(engine if engine >= 0 else None)
        self._arrive(range(start, stop), len(self._places) - 1)

    def fail(self, index: int, problem: BaseException) -> None:
        """Note that an item failed without having been sent."""
        self._failed[index] = problem
        self._failures[len(self._places)] = [(range(index, index + 1), problem, None)]
        self._places.append(None)
        self.engines.append(None)
        self._arrive(range(index, index + 1), len(self._places) - 1)

    def _arrive(self, items: range, place: int) -> None:
        self._of_item[items.start : items.stop] = array("i", [place]) * len(items)
        self.arrived.append(items)
        self.tell()

    def tell(self) -> None:
        """Call the listeners."""
        for listener in list(self.listeners):
            listener()

    # -- reading, in any thread

    def is_there(self, index: int) -> bool:
        """Whether an item has arrived."""
        return self._complete or self._of_item[index] >= 0

    def read(self, index: int) -> tuple[Any, BaseException | None]:
        """Return the value of an item that has arrived, or what to raise if it failed."""
        with self._reading:
            if not self._complete:
                self._read_place(self._of_item[index])
            problem = self._failed.get(index)
            if problem is None:
                return self._values[index], None
            return None, raisable("map", problem, self.engines[self._of_item[index]])

    def by_engine(self) -> dict[int, list[Any]]:
        """Return the values by the id of the engine that they come from, in the order of the items.

        :raises CompositeError: if calls failed.
        """
        values = self.collect()
        found: dict[int, list[Any]] = {}
        for index, value in enumerate(values):
            engine = self.engines[self._of_item[index]]
            if engine is not None:
                found.setdefault(engine, []).append(value)
        return dict(sorted(found.items()))

    def has_failures(self) -> bool:
        """Whether an item that has arrived has failed; reads what was not read."""
        with self._reading:
            while not self._failed and self._looked_at < len(self._places):
                self._read_place(self._looked_at)
                self._looked_at += 1
            return bool(self._failed)

    def collect(self) -> list[Any]:
        """Return all values, in the order of the items, when all have arrived.

        :raises CompositeError: if calls failed.
        """
        with self._reading:
            if not self._complete:
                for place in range(len(self._places)):
                    self._read_place(place)
                for index, problem in self._failed.items():
                    self._allocate()[index] = problem
                self._allocate()
                self._error = self._make_error() if self._failures else None
                self._complete = True
                self._places = []
        if self._error is not None:
            raise self._error.with_traceback(None)
        return self._values

    def _allocate(self) -> list[Any]:
        if not self._values:
            self._values = [None] * self.total
        return self._values

    def _read_place(self, number: int) -> None:
        """Read a group, if that was not done before.  It can be interrupted at any point, and begun again."""
        values = self._allocate()
        place = self._places[number]
        if place is None:
            return
        start, stop, data, offset = place
        read = read_group(stop - start, self._grouping, data, offset)
        values[start:stop] = read.values
        problems = {start + at: read.values[at] for at in read.failed}
        self._failed.update(problems)
        if read.whole:
            self._failures[number] = [(range(start, stop), read.values[0], read.engine)]
        elif problems:
            self._failures[number] = [
                (range(index, index + 1), problem, read.engine)
                for index, problem in problems.items()
            ]
        self._places[number] = None

    def _make_error(self) -> CompositeError:
        found = [failure for of_place in self._failures.values() for failure in of_place]
        failures = sorted(found, key=lambda failure: failure[0].start)
        items: list[FailedItems] = []
        for numbers, problem, _ in failures:
            one = len(numbers) == 1 and len(items) < MOST_SHOWN
            shown = self._show(numbers[0]) if one else ""
            items.append(FailedItems(numbers, shown, line_of(problem)))
        return CompositeError(
            "map",
            [(type(problem), problem, _traceback_of(problem)) for _, problem, _ in failures],
            [engine for _, _, engine in failures],
            self._values,
            items,
        )


def _traceback_of(problem: BaseException) -> str:
    notes: Iterable[str] = getattr(problem, "__notes__", ())
    return "\n".join([*notes]) or f"{type(problem).__name__}: {problem}\n"


class MapItems(Iterator[Any]):
    """An iterator over the items of a map, each as soon as it is there.

    It raises the exception of an item that failed in its place, and can then go on with the next one.

    :param values: the values of the map.
    :param wait: waits until a function of no arguments is true; raises what the map ended with otherwise.
    :param completed: whether to give them in the order in which they are done.
    :param numbered: whether to give pairs of an index and a value.
    """

    def __init__(
        self,
        values: MapValues,
        wait: Callable[[Callable[[], bool], int | None], None],
        completed: bool,
        numbered: bool,
    ) -> None:
        self._numbered = numbered
        self._values = values
        self._wait = wait
        self._completed = completed
        self._given = 0
        self._range = iter(range(0))
        self._ranges = 0

    def __next__(self) -> Any:
        if self._given == self._values.total:
            raise StopIteration
        index = self._next_done() if self._completed else self._next_in_order()
        value, problem = self._values.read(index)
        self._given += 1
        if problem is not None:
            try:
                raise problem.with_traceback(None)
            finally:
                del problem, value, self
        return (index, value) if self._numbered else value

    def _next_in_order(self) -> int:
        index = self._given
        if not self._values.is_there(index):
            self._wait(lambda: self._values.is_there(index), index)
        return index

    def _next_done(self) -> int:
        while True:
            index = next(self._range, None)
            if index is not None:
                return index
            if not self._more():
                self._wait(self._more, None)
            self._range = iter(self._values.arrived[self._ranges])
            self._ranges += 1

    def _more(self) -> bool:
        return len(self._values.arrived) > self._ranges
