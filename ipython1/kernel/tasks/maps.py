"""Maps with tasks: short items are grouped, results are returned in order, and errors are assigned to their items.

The duration of items is not known in advance, so a map begins with single items and forms groups based on their
durations (:class:`MapPlan`).  If a whole group is lost (because its engine died), its items run again separately.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred

from ipython1.kernel.basics.error import (
    CompositeError,
    KernelError,
    MessageSizeError,
    SerializationError,
    TaskAborted,
)
from ipython1.kernel.calls.connect import Connection
from ipython1.kernel.calls.map import is_array
from ipython1.kernel.calls.pendingresult import PendingResult
from ipython1.kernel.objects.taskcodec import Partly, unpack_item
from ipython1.kernel.objects.taskobjects import MapTask
from ipython1.kernel.objects.taskoptions import TaskOptions, check_options
from ipython1.kernel.tasks.clienttasks import ClientTasks, Waiter
from ipython1.kernel.tasks.encoder import Packed, TaskEncoder
from ipython1.kernel.tasks.methods import read_value
from ipython1.kernel.wire.taskwire import DONE_HEAD
from ipython1.kernel.wire.waits import Needs

GROUP = 0.010
"""The target duration of a group of items, in seconds."""

SMALLEST_GROUP = 0.001
"""The minimum duration of a group, in seconds, even at the end of a map."""

PROBES = 4
"""Single items per engine at the beginning."""

UNDER_WAY = 8
"""Groups per engine that are submitted in advance."""


class MapPlan:
    """Decides how items are grouped to tasks, without I/O.

    :param total: the number of items.
    :param engines: the number of engines.
    :param grouping: False to keep items separate.
    """

    def __init__(self, total: int, engines: int, grouping: bool) -> None:
        self._total = total
        self._engines = max(1, engines)
        self._grouping = grouping
        self._next = 0
        self._under_way = 0
        self._items = 0
        self._seconds = 0.0
        self._again: deque[tuple[int, int]] = deque()

    def next_group(self) -> tuple[int, int] | None:
        """Return the range of items (start, stop) to submit next; None if there is nothing to submit now."""
        if self._again:
            self._under_way += 1
            return self._again.popleft()
        if self._next >= self._total:
            return None
        limit = self._engines * (UNDER_WAY if self._items else PROBES)
        if self._under_way >= limit and self._grouping:
            return None
        start = self._next
        self._next = min(self._total, start + self._size())
        self._under_way += 1
        return start, self._next

    def _size(self) -> int:
        if not self._items or not self._grouping:
            return 1
        each = max(self._seconds / self._items, 1e-7)
        fair = (self._total - self._next) // (3 * self._engines)
        least = int(SMALLEST_GROUP / each)
        return max(1, min(int(GROUP / each), max(fair, least)))

    def done(self, start: int, stop: int, seconds: float) -> None:
        """Note that a group is done, after ``seconds`` on its engine."""
        self._under_way -= 1
        self._items += stop - start
        self._seconds += seconds

    def dropped(self) -> None:
        """Note that a group will not be sent."""
        self._under_way -= 1

    def lost(self, start: int, stop: int) -> None:
        """Note that a whole group was lost; its items run again separately."""
        self._under_way -= 1
        self._again.extend((index, index + 1) for index in range(start, stop))


@dataclass(frozen=True, slots=True)
class _Group:
    start: int
    stop: int
    single: bool


class MapRun:
    """A map in progress; until it is done, it is used only in the reactor's thread.

    :ivar finished: a Deferred that fires with this object once all results have arrived.
    """

    def __init__(
        self,
        tasks: ClientTasks,
        encoder: TaskEncoder,
        connection: Connection,
        function: Any,
        columns: Sequence[Any],
        options: TaskOptions,
    ) -> None:
        self._tasks = tasks
        self._encoder = encoder
        self._connection = connection
        self._function = function
        self._columns = columns
        self._options = options
        self.total = min(len(column) for column in columns)
        self.completed = 0
        self.finished: Deferred[MapRun] = Deferred()
        self._packed: Packed | None = None
        self._plan = MapPlan(0, 1, False)
        self._groups: dict[int, _Group] = {}
        self._places: list[tuple[_Group, bytes, int]] = []
        self._unsendable: list[tuple[int, KernelError]] = []
        self._waiter = Waiter(self._told)
        self._over = False
        self._waiting_for_room = False

    async def begin(self) -> None:
        """Ask for the number of engines, and submit the first items."""
        try:
            engines = await self._connection.end.ask("engines")
            plain = not self._options.for_single_calls
            # Errors in what all items have in common are found here.
            packed, _ = self._encoder.functions.pack(self._function)
            self._encoder.encode(MapTask(_nothing).with_options(self._options))
            if plain:
                self._tasks.borrow(packed)
                self._packed = packed
            self._plan = MapPlan(self.total, engines, plain)
            self._go_on()
        except Exception as problem:
            self._fail(problem)

    def _go_on(self) -> None:
        """Submit the groups that the plan allows."""
        if self._over or self._waiting_for_room:
            return
        done: list[int] = []
        while True:
            group = self._plan.next_group()
            if group is None:
                break
            try:
                task_id = self._submit(*group)
            except (SerializationError, MessageSizeError) as problem:
                self._cannot_be_sent(*group, problem)
                continue
            if task_id is None:
                return
            self._groups[task_id] = _Group(*group, single=self._packed is None)
            done += self._tasks.watch(self._waiter, [task_id])
        if done:
            self._told(done)
        elif self.completed == self.total:
            self._finish()

    def _submit(self, start: int, stop: int) -> int | None:
        items = [tuple(column[index] for column in self._columns) for index in range(start, stop)]
        if self._packed is not None:
            encoded = self._encoder.encode_items(self._options, self._packed, items)
        else:
            task = MapTask(self._function, items[0]).with_options(self._options)
            encoded = self._encoder.encode(task)
        task_id = self._tasks.submit(encoded, self._packed)
        if task_id is None:
            self._plan.lost(start, stop)
            self._waiting_for_room = True
            self._tasks.when_room(self._has_room)
        return task_id

    def _cannot_be_sent(self, start: int, stop: int, problem: KernelError) -> None:
        """Handle items that cannot be sent: a single one fails, a group is submitted item by item to find it."""
        if stop - start > 1:
            self._plan.lost(start, stop)
            return
        self._plan.dropped()
        self._unsendable.append((start, problem))
        self.completed += 1

    def _has_room(self) -> None:
        self._waiting_for_room = False
        try:
            self._go_on()
        except Exception as problem:
            self._fail(problem)

    def _told(self, task_ids: list[int]) -> None:
        """Handle tasks that are done, or the failure of the waiter."""
        if self._over:
            return
        if self._waiter.failure is not None:
            self._fail(self._waiter.failure)
            return
        try:
            for task_id in task_ids:
                self._take(task_id)
            self._go_on()
        except Exception as problem:
            self._fail(problem)

    def _take(self, task_id: int) -> None:
        group = self._groups.pop(task_id, None)
        place = self._tasks.results.get(task_id)
        if group is None or place is None:
            return
        data, offset = place
        head = DONE_HEAD.unpack_from(data, offset)
        self._tasks.forget([task_id])
        if head[2] and group.stop - group.start > 1:
            self._plan.lost(group.start, group.stop)
            return
        self._plan.done(group.start, group.stop, head[7])
        self._places.append((group, data, offset))
        self.completed += group.stop - group.start

    def _finish(self) -> None:
        if not self._over:
            self._over = True
            self._tasks.remove_waiter(self._waiter)
            if self._packed is not None:
                self._tasks.release(self._packed)
            self.finished.callback(self)

    def _fail(self, problem: Exception) -> None:
        if not self._over:
            self._over = True
            self._tasks.remove_waiter(self._waiter)
            self.finished.errback(problem)

    def needs(self) -> Needs | None:
        """Return what has to end before the map is done; None if it is."""
        if self._over:
            return None
        return Needs(self._connection.end.origin.hex(), tasks=tuple(sorted(self._groups)))

    def abort(self, problem: Exception | None = None) -> None:
        """Abort the map; running tasks are interrupted.

        :param problem: what it fails with; default: ``TaskAborted``.
        """
        task_ids = list(self._groups)
        self._fail(problem or TaskAborted("the map was aborted"))
        for task_id in task_ids:
            if not self._tasks.take_back([task_id]) and self._connection.end.connected:
                self._connection.end.ask("abort", taskid=task_id).addErrback(lambda failure: None)

    def collect(self) -> list[Any]:
        """Return the values in the order of the items.

        :raises CompositeError: if calls failed.
        """
        values: list[Any] = [None] * self.total
        failures: list[tuple[int, BaseException, int | None]] = [
            (index, problem, None) for index, problem in self._unsendable
        ]
        for index, problem in self._unsendable:
            values[index] = problem
        for group, data, offset in self._places:
            head = DONE_HEAD.unpack_from(data, offset)
            begin = offset + DONE_HEAD.size
            engine = head[3] if head[3] >= 0 else None
            value = read_value(head[2], data[begin : begin + head[1]], head[3], None)
            if value.failure is not None:
                # The whole group cannot be decoded here.
                for index in range(group.start, group.stop):
                    values[index] = value.failure
                    failures.append((index, value.failure, engine))
            elif group.single:
                values[group.start] = value.result
            elif isinstance(value.result, Partly):
                for index, (good, item) in enumerate(value.result, group.start):
                    values[index] = unpack_item(good, item)
                    if not good:
                        failures.append((index, values[index], engine))
            else:
                values[group.start : group.stop] = value.result
        if failures:
            failures.sort(key=lambda failure: failure[0])
            raise CompositeError(
                "map",
                [(type(problem), problem, _traceback_of(problem)) for _, problem, _ in failures],
                [engine for _, _, engine in failures],
                values,
            )
        return values


def _nothing() -> None:
    """Do nothing; a placeholder where only the options of a task matter."""


def _traceback_of(problem: BaseException) -> str:
    notes: Iterable[str] = getattr(problem, "__notes__", ())
    return "\n".join([*notes]) or f"{type(problem).__name__}: {problem}\n"


def columns_of(sequences: Sequence[Any]) -> list[Any]:
    """Return the sequences of a map as objects with a length and items by index.

    Iterators are consumed only as far as the built-in ``map`` would, as some may be infinite.

    :raises TypeError: if there are no sequences, or one of them is not iterable.
    """
    if not sequences:
        raise TypeError("map needs a function and at least one sequence")
    if all(_has_items_by_number(sequence) for sequence in sequences):
        return list(sequences)
    rows = list(zip(*sequences, strict=False))
    return [[row[number] for row in rows] for number in range(len(sequences))]


def _has_items_by_number(sequence: object) -> bool:
    """Return whether item ``i`` is ``sequence[i]``, which is not the case for dicts, for example."""
    return isinstance(sequence, Sequence) or is_array(sequence)


def check_map(func: object, options: TaskOptions) -> None:
    """Check the arguments of a map.

    :raises TypeError, ValueError: if the function or an option is invalid.
    """
    if not callable(func):
        raise TypeError(f"{func!r} is not callable")
    check_options(options)


class PendingMap(PendingResult):
    """The pending result of a map: a ``PendingResult`` of the list of values."""

    unit = "call"

    _run: MapRun

    @classmethod
    def start(
        cls,
        tasks: ClientTasks,
        encoder: TaskEncoder,
        connection: Connection,
        func: Callable[..., Any],
        sequences: Sequence[Any],
        options: TaskOptions,
    ) -> PendingMap:
        """Start a map; from any thread.

        :raises TypeError, ValueError: if an argument is invalid.
        """
        check_map(func, options)
        run = MapRun(tasks, encoder, connection, func, columns_of(sequences), options)
        pending = cls(lambda finished: finished.collect(), "map")
        pending._run = run

        def begin() -> None:
            pending.follow_deferred(run.finished)
            Deferred.fromCoroutine(run.begin())

        connection.reactor.callFromThread(begin)
        return pending

    @property
    def progress(self) -> tuple[int, int]:
        """The number of items that are done, and of all items."""
        return self._run.completed, self._run.total

    def abort(self) -> None:
        """Abort the map: drop calls that have not begun, and interrupt those that run."""
        self._run._connection.reactor.callFromThread(self._run.abort)

    def needs(self) -> Needs | None:
        return self._run.needs()

    def give_up(self, problem: Exception) -> None:
        self._run.abort(problem)
