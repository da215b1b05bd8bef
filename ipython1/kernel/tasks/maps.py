"""Maps with tasks: short items are grouped, results are returned in order, and errors are assigned to their items.

The duration of items is not known in advance, so a map begins with single items and forms groups based on their
durations (:class:`MapPlan`).  If a whole group is lost (because its engine died), its items run again separately.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred

from ipython1.kernel.basics.error import (
    KernelError,
    MessageSizeError,
    SerializationError,
    TaskAborted,
)
from ipython1.kernel.calls.connect import Connection
from ipython1.kernel.calls.sequences import check_sequences, is_array
from ipython1.kernel.objects.frozen import Freezer, Frozen
from ipython1.kernel.objects.mapparts import show_item
from ipython1.kernel.objects.taskcodec import failed_among, output_of
from ipython1.kernel.objects.taskoptions import TaskOptions, check_options
from ipython1.kernel.tasks.clienttasks import ClientTasks, Waiter
from ipython1.kernel.tasks.encoder import TaskEncoder
from ipython1.kernel.tasks.mapvalues import MapValues
from ipython1.kernel.tasks.methods import REFUSED
from ipython1.kernel.wire.frames import Bytes
from ipython1.kernel.wire.taskwire import DONE_HEAD, Status
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
    :param engines: the number of engines; see :meth:`engines_are`.
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

    def engines_are(self, number: int) -> None:
        """Note how many engines there are now."""
        self._engines = max(1, number)

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


class MapRun:
    """A map in progress; once it was created, and until it is done, it is used only in the reactor's thread.

    Everything that the tasks have in common is packed when it is created, in the caller's thread.

    :param waits: whether the caller waits until the map is done; if not, the items are copied.
    :ivar completed: how many items are done.
    :ivar failed: how many of those have failed.
    :ivar finished: a Deferred that fires with this object once all results have arrived.
    :ivar values: what has arrived.
    :ivar seconds: for how long engines have run the items that are done.
    :ivar on_output: called with an engine's id, the name of a stream and text when items have written something.
    :raises SerializationError: if the function or an option cannot be pickled.
    """

    def __init__(
        self,
        tasks: ClientTasks,
        encoder: TaskEncoder,
        connection: Connection,
        function: Any,
        columns: Sequence[Any],
        options: TaskOptions,
        waits: bool,
    ) -> None:
        self._tasks = tasks
        self._encoder = encoder
        self._connection = connection
        self._common = encoder.prepare(function, options)
        self._grouping = not options.for_single_calls
        self.total: int = min(len(column) for column in columns)
        if not waits:
            freezer = Freezer()
            columns = [freezer.column(column[: self.total]) for column in columns]
        self._columns = columns
        self.completed: int = 0
        self.failed: int = 0
        self.finished: Deferred[MapRun] = Deferred()
        self.on_output: Callable[[int, str, str], None] | None = None
        self._written: list[tuple[int, int, dict[str, str]]] = []
        self._plan = MapPlan(0, 1, False)
        self._groups: dict[int, _Group] = {}
        self.values: MapValues = MapValues(self.total, self._grouping, self._show)
        self.seconds: float = 0.0
        self._waiter = Waiter(self._told)
        self._over = False
        self._waiting_for_room = False
        self._follows_engines = False

    async def begin(self) -> None:
        """Ask for the number of engines, and submit the first items."""
        try:
            engines = await self._connection.end.ask("engines")
            self._tasks.borrow(self._common.function)
            self._plan = MapPlan(self.total, engines, self._grouping)
            if not self._over:
                self._connection.end.on_ids_changed(self._engines_changed)
                self._follows_engines = True
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
            self._groups[task_id] = _Group(*group)
            done += self._tasks.watch(self._waiter, [task_id])
        if done:
            self._told(done)
        elif self.completed == self.total:
            self._finish()

    def _submit(self, start: int, stop: int) -> int | None:
        items = [tuple([column[index] for column in self._columns]) for index in range(start, stop)]
        if self._grouping:
            encoded = self._encoder.encode_items(self._common, items)
        else:
            encoded = self._encoder.encode_item(self._common, items[0])
        task_id = self._tasks.submit(encoded, self._common.function)
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
        if isinstance(problem.__cause__, SerializationError):
            problem = problem.__cause__  # from the time of the call
        self.completed += 1
        self.failed += 1
        self.values.fail(start, problem)

    def _has_room(self) -> None:
        self._waiting_for_room = False
        self._try_to_go_on()

    def _engines_changed(self, ids: list[int]) -> None:
        self._plan.engines_are(len(ids))
        self._try_to_go_on()

    def _try_to_go_on(self) -> None:
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
        if head[2] != REFUSED:
            self._note_output(group, head[3], data[offset + DONE_HEAD.size :][: head[1]])
        self._plan.done(group.start, group.stop, head[7])
        self.seconds += head[7]
        self.failed += _failed_items(head[2], group, data[offset + DONE_HEAD.size :][: head[1]])
        self.completed += group.stop - group.start
        self.values.add(group.start, group.stop, data, offset)

    def _note_output(self, group: _Group, engine: int, payload: Bytes) -> None:
        texts = dict(zip(("stdout", "stderr"), output_of(payload), strict=True))
        if any(texts.values()):
            self._written.append((group.start, engine, texts))
            for stream, text in texts.items():
                if text and self.on_output is not None:
                    self.on_output(engine, stream, text)

    def output(self, stream: str) -> str:
        """Return what the items that are done have written, in the order of the items."""
        written = sorted(self._written, key=lambda each: each[0])
        return "".join(texts[stream] for _, _, texts in written)

    def outputs(self) -> dict[int, dict[str, str]]:
        """Return the same by engine and stream, in the order in which it arrived."""
        found: dict[int, dict[str, str]] = {}
        for _, engine, texts in list(self._written):
            of_engine = found.setdefault(engine, {"stdout": "", "stderr": ""})
            for stream, text in texts.items():
                of_engine[stream] += text
        return found

    def _let_go(self) -> None:
        """Take part in nothing any more."""
        self._over = True
        self.on_output = None
        self._tasks.remove_waiter(self._waiter)
        if self._follows_engines:
            self._connection.end.remove_ids_callback(self._engines_changed)

    def _finish(self) -> None:
        if not self._over:
            self._let_go()
            self._tasks.release(self._common.function)
            self.finished.callback(self)
            self.values.tell()

    def _fail(self, problem: Exception) -> None:
        if not self._over:
            self._let_go()
            self.finished.errback(problem)
            self.values.tell()

    def needs(self) -> Needs | None:
        """Return what has to end before the map is done; None if it is."""
        if self._over:
            return None
        return Needs(self._connection.end.origin.hex(), tasks=tuple(sorted(self._groups)))

    def needs_of(self, index: int | None) -> Needs | None:
        """Return what has to end before an item is there (None: another one); None if the map is done."""
        if self._over:
            return None
        groups = self._groups.items()
        mine = [each for each, group in groups if index in range(group.start, group.stop)]
        return Needs(self._connection.end.origin.hex(), False, tuple(mine or sorted(self._groups)))

    def abort(self, problem: Exception | None = None) -> None:
        """Abort the map; running tasks are interrupted.

        :param problem: what it fails with; default: ``TaskAborted``.
        """
        task_ids = list(self._groups)
        self._fail(problem or TaskAborted("the map was aborted"))
        unsent = self._tasks.take_back(task_ids)
        for task_id in task_ids:
            if task_id not in unsent and self._connection.end.usable:
                self._connection.end.ask("abort", taskid=task_id).addErrback(lambda failure: None)

    def collect(self) -> list[Any]:
        """Return the values in the order of the items; reads them once, and then lets go of everything else.

        :raises CompositeError: if calls failed.
        """
        values = self.values.collect()
        self._columns = ()
        return values

    def _show(self, index: int) -> str:
        try:
            items = [column[index] for column in self._columns]
            return show_item([item.value() if isinstance(item, Frozen) else item for item in items])
        except Exception:  # the user's own objects may do anything
            return ""


def _failed_items(status: int, group: _Group, payload: Bytes) -> int:
    """Return how many items of a group that is done have failed."""
    if status != Status.OK:
        return group.stop - group.start
    return failed_among(payload)


def columns_of(sequences: Sequence[Any]) -> list[Any]:
    """Return the sequences of a map as objects with a length and items by index.

    Ranges, strings, lists, tuples and arrays are returned as they are, if all sequences are such.  Others are read now,
    only as far as the built-in ``map`` would, as some may be infinite.

    :raises TypeError: if there are no sequences, or one of them is not iterable.
    """
    sequences = check_sequences(sequences)
    if all(type(sequence) in _WITH_ITEMS or is_array(sequence) for sequence in sequences):
        return list(sequences)
    rows = list(zip(*sequences, strict=False))
    return [[row[number] for row in rows] for number in range(len(sequences))]


_WITH_ITEMS = frozenset({range, str, bytes, bytearray, list, tuple})
"""Types whose item ``i`` is ``sequence[i]``, without any code of users."""


def check_map(func: object, options: TaskOptions) -> None:
    """Check the arguments of a map.

    :raises TypeError, ValueError: if the function or an option is invalid.
    """
    if not callable(func):
        raise TypeError(f"{func!r} is not callable")
    check_options(options)
