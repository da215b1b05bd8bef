"""Lazy maps with tasks: the input is read only as far as a bound allows, and may be endless.

:class:`LazyPlan` decides how much is read, and how items are grouped.  :class:`LazyRun` reads, submits and gives the
values out; it is used by one thread at a time, the one that asks for values.  The reactor's thread only adds what
arrives to a queue and rings.

===============  ==================================================  ===============================================
an item is       on                                                  becomes
===============  ==================================================  ===============================================
in the input     there is room for its group                         read, and submitted with its group
submitted        its group is done                                   ready
submitted        its whole group is lost (an engine died)            submitted again, alone
submitted        it was submitted alone, and is lost                 ready: it failed
ready            it is its turn (at once, if order does not matter)  given out, which makes room
any              the map is closed                                   dropped; interrupted, if it runs
===============  ==================================================  ===============================================
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from ipython1.checks import check_int
from ipython1.core.interrupt import raised_by_handler
from ipython1.kernel.basics.error import (
    ClientError,
    ConnectionError,
    KernelError,
    MessageSizeError,
    SerializationError,
    describe_exception,
)
from ipython1.kernel.calls.connect import Connection
from ipython1.kernel.calls.liveview import show_output
from ipython1.kernel.calls.sequences import check_sequences
from ipython1.kernel.objects.frozen import Freezer, Frozen
from ipython1.kernel.objects.mapparts import show_item
from ipython1.kernel.objects.taskcodec import output_of
from ipython1.kernel.objects.taskoptions import TaskOptions
from ipython1.kernel.tasks.clienttasks import IDS_AT_ONCE, ClientTasks, Waiter
from ipython1.kernel.tasks.encoder import Encoded, TaskEncoder
from ipython1.kernel.tasks.maps import GROUP, UNDER_WAY, check_map
from ipython1.kernel.tasks.mapvalues import raisable, read_group
from ipython1.kernel.wire.frames import Bytes
from ipython1.kernel.wire.taskwire import DONE_HEAD
from ipython1.kernel.wire.waits import Needs
from ipython1.notebook.frontend import person_waits

MOST_HELD: Final = 32_768
"""The maximum number of items that are read and not given out, if the user does not say otherwise."""

GROWTH: Final = 4
"""A group has at most so many times the items of the largest one that is done."""

RECENT: Final = 10_000
"""Items after which what is known of durations counts half."""

PATIENCE: Final = 0.002
"""Seconds of reading after which what was read is sent, and values are given out that are there."""


class LazyPlan:
    """Decides how many items are read, and how they are grouped, without I/O.

    :param outstanding: the maximum number of items that are read and not given out; None to derive it from the number
        of engines and the duration of items.
    :param grouping: False to keep items separate.
    :ivar held: the number of items that are read and not given out.
    """

    def __init__(self, outstanding: int | None, grouping: bool) -> None:
        self._outstanding = outstanding
        self._grouping = grouping
        self._items = 0.0
        self._seconds = 0.0
        self._largest = 1
        self.held: int = 0

    def next_size(self, engines: int) -> int:
        """Return the size of the group to read next, and 0 if there is no room for it."""
        engines = max(1, engines)
        size = self._size(engines)
        limit = self._outstanding or min(MOST_HELD, engines * UNDER_WAY * size)
        size = min(size, limit)
        return size if self.held + size <= limit else 0

    def _size(self, engines: int) -> int:
        if not self._items or not self._grouping:
            return 1
        each = max(self._seconds / self._items, 1e-7)
        most = (self._outstanding or MOST_HELD) // (2 * engines)
        return max(1, min(int(GROUP / each), self._largest * GROWTH, most))

    def done(self, items: int, seconds: float) -> None:
        """Note that a group is done, after ``seconds`` on its engine."""
        if self._items > RECENT:
            self._items /= 2
            self._seconds /= 2
        self._items += items
        self._seconds += seconds
        self._largest = max(self._largest, items)


class _Group(NamedTuple):
    """Items that are one task.

    :ivar start: the index of the first one.
    :ivar rows: the arguments of each call.
    """

    start: int
    rows: Sequence[tuple[Any, ...]]


class _Done(NamedTuple):
    """A group that is done: its result, or why it could not be sent."""

    group: _Group
    data: Bytes
    offset: int
    problem: BaseException | None = None


class Given(NamedTuple):
    """An item that is given out."""

    number: int
    value: Any
    problem: BaseException | None


class LazyRun:
    """A lazy map in progress.

    The function is packed when it is created; the first items are read by the first :meth:`step`.

    :param ordered: whether values are given out in the order of the items, or as they are done.
    :param outstanding: the maximum number of items that are read and not given out; None to choose it.
    :param ring: called, in the reactor's thread or in one that submits, when :meth:`step` may get further.
    :ivar given: the number of items that were given out.
    :ivar failure: why no more results will arrive; None while they may.
    :ivar closed: whether it was closed.
    :ivar broken: why the map was given up; None if it was not.
    :raises TypeError, ValueError: if an argument is invalid.
    :raises SerializationError, MessageSizeError: if the function or an option cannot be sent.
    """

    def __init__(
        self,
        tasks: ClientTasks,
        encoder: TaskEncoder,
        connection: Connection,
        function: Callable[..., Any],
        sequences: Sequence[Any],
        options: TaskOptions,
        ordered: bool,
        outstanding: int | None,
        ring: Callable[[], None],
    ) -> None:
        check_map(function, options)
        if outstanding is not None and check_int("outstanding", outstanding) < 1:
            raise ValueError(f"outstanding must be at least 1, or None, not {outstanding}")
        rows = zip(*check_sequences(sequences), strict=False)
        self._tasks = tasks
        self._encoder = encoder
        self._connection = connection  # a reference keeps it open
        self._common = encoder.prepare(function, options)
        self._grouping = not options.for_single_calls
        self._ordered = ordered
        self._ring = ring
        self._plan = LazyPlan(outstanding, self._grouping)
        self._rows: Iterator[tuple[Any, ...]] | None = rows
        self._freezer = Freezer()
        self._partial: list[tuple[Any, ...]] = []
        self._read = 0
        self._input_problem: BaseException | None = None
        self._groups: dict[int, _Group] = {}
        self._again: deque[_Group] = deque()
        self._arrived: deque[tuple[int, Bytes, int]] = deque()
        self._ready: dict[int, _Done] = {}
        self._next = 0
        self._current: deque[Given] = deque()
        self._waiter = Waiter(self._told)
        self._room_awaited = False
        self._released = False
        self.given: int = 0
        self.failure: Exception | None = None
        self.closed: bool = False
        self.broken: Exception | None = None
        tasks.borrow(self._common.function)

    @property
    def held(self) -> int:
        """The number of items that are read and not given out."""
        return self._plan.held

    # -- in the reactor's thread, or in one that submits

    def _told(self, task_ids: list[int]) -> None:
        """Handle tasks that are done, or the failure of the waiter."""
        if self._waiter.failure is not None:
            self.failure = self._waiter.failure
        for task_id in task_ids:
            place = self._tasks.results.get(task_id)
            if place is not None:
                self._arrived.append((task_id, *place))
        self._tasks.forget(task_ids)
        if self.closed:
            self._clean_up()
        self._ring()

    # -- for who asks for values

    def step(self) -> Given | None:
        """Give out an item, after reading and submitting what there is room for.

        :returns: None if there is no value now.  More may come, unless the map :meth:`is over <is_over>`, is closed, or
            has a :attr:`failure`.
        :raises BaseException: what reading the input raised, if it is not to be raised in its place, or what a signal
            handler of the user's raised meanwhile. The map is given up then, unless it was the input that raised it.
        """
        try:
            return self._step()
        except BaseException as problem:
            if problem is not self._input_problem:
                # It may have been raised between any two steps, so that items are neither here nor there.
                self.broken = ClientError(
                    f"this map was aborted when {describe_exception(problem)} was raised while it sent or read items"
                )
                self.close()
            raise

    def _step(self) -> Given | None:
        if not self._current:
            self._take_arrived()
            if not self.closed and self.failure is None:
                self._fill()
            self._advance()
        if not self._current:
            return None
        given = self._current.popleft()
        self._plan.held -= 1
        self.given += 1
        return given

    def is_over(self) -> bool:
        """Whether the input is read, and all of it given out; raises what the input raised, once."""
        if self._rows is not None or self._partial or self._plan.held:
            return False
        problem, self._input_problem = self._input_problem, None
        self.close()
        if problem is not None:
            raise problem
        return True

    def _take_arrived(self) -> None:
        for task_id, data, offset in self._pop_arrived():
            group = self._groups.pop(task_id, None)
            if group is None:
                continue
            head = DONE_HEAD.unpack_from(data, offset)
            if head[2] and len(group.rows) > 1:
                self._split(group)
                continue
            self._plan.done(len(group.rows), head[7])
            self._done(_Done(group, data, offset))

    def _pop_arrived(self) -> Iterator[tuple[int, Bytes, int]]:
        # Another thread may do the same while the map is closed.
        with suppress(IndexError):
            while True:
                yield self._arrived.popleft()

    def _split(self, group: _Group) -> None:
        """Submit the items of a group again, each alone."""
        self._again.extend(_Group(group.start + at, [row]) for at, row in enumerate(group.rows))

    def _done(self, done: _Done) -> None:
        # If the order of the items does not matter, that of the keys counts, which is that of their arrival.
        self._ready[done.group.start] = done

    def _fill(self) -> None:
        """Read and submit as much as there is room for; not for long, if there is something to give out."""
        until = time.monotonic() + PATIENCE
        while not self.closed:
            group = self._again.popleft() if self._again else self._read_group()
            if group is None or not self._submit(group):
                return
            self._take_arrived()
            if time.monotonic() > until and self._has_next():
                return

    def _read_group(self) -> _Group | None:
        """Read the next group, or less if reading takes long."""
        size = self._plan.next_size(len(self._connection.end.ids))
        rows = self._rows
        if rows is not None and size:
            until = time.monotonic() + PATIENCE
            try:
                while len(self._partial) < size:
                    # A copy, as the same object may come again with other contents.
                    self._partial.append(self._freezer.row(next(rows)))
                    if time.monotonic() > until:
                        break
            except StopIteration:
                self._rows = None
            except BaseException as problem:
                self._rows = None
                self._input_problem = problem
                if not isinstance(problem, Exception) or raised_by_handler(problem):
                    raise
        if not self._partial:
            return None
        group = _Group(self._read, self._partial)
        self._read += len(group.rows)
        self._plan.held += len(group.rows)
        self._partial, self._freezer = [], Freezer()
        return group

    def _submit(self, group: _Group) -> bool:
        """Submit a group; returns False if there is no room for more tasks."""
        try:
            task_id = self._tasks.submit(self._encode(group), self._common.function)
        except (SerializationError, MessageSizeError) as problem:
            self._cannot_be_sent(group, problem)
            return True
        except ConnectionError as problem:
            self.failure = problem
            return False
        if task_id is None:
            self._again.appendleft(group)
            if not self._room_awaited:
                self._room_awaited = True
                self._tasks.when_room(self._has_room)
            return False
        self._groups[task_id] = group
        done = self._tasks.watch(self._waiter, [task_id])
        if done:
            self._told(done)
        if self.closed:  # meanwhile, by another thread
            self._abort()
        return True

    def _has_room(self) -> None:
        self._room_awaited = False
        self._ring()

    def _encode(self, group: _Group) -> Encoded:
        if self._grouping:
            return self._encoder.encode_items(self._common, group.rows)
        return self._encoder.encode_item(self._common, group.rows[0])

    def _cannot_be_sent(self, group: _Group, problem: KernelError) -> None:
        if len(group.rows) > 1:
            self._split(group)
            return
        cause = problem.__cause__
        # That is the error from the time at which the item was read.
        self._done(
            _Done(group, b"", 0, cause if isinstance(cause, SerializationError) else problem)
        )

    def _has_next(self) -> bool:
        return self._next in self._ready if self._ordered else bool(self._ready)

    def _advance(self) -> None:
        """Read the next group that is ready."""
        if not self._has_next():
            return
        start = self._next if self._ordered else next(iter(self._ready))
        done = self._ready[start]
        self._current.extend(self._items_of(done))
        del self._ready[start]
        self._next = start + len(done.group.rows)

    def _items_of(self, done: _Done) -> list[Given]:
        group = done.group
        if done.problem is not None:
            return [Given(group.start, None, _noted(done.problem, group.start, group.rows[0]))]
        read = read_group(len(group.rows), self._grouping, done.data, done.offset)
        if person_waits() and read.engine is not None:
            head = DONE_HEAD.unpack_from(done.data, done.offset)
            payload = done.data[done.offset + DONE_HEAD.size :][: head[1]]
            texts = dict(zip(("stdout", "stderr"), output_of(payload), strict=True))
            show_output(read.engine, texts, "the rest is not shown")
        values: list[Given] = []
        failed = set(read.failed)
        for number, value in enumerate(read.values, group.start):
            if number - group.start not in failed:
                values.append(Given(number, value, None))
                continue
            problem = raisable("imap", value, read.engine)
            if not read.whole:
                _noted(problem, number, group.rows[number - group.start])
            values.append(Given(number, None, problem))
        return values

    # -- waits on an engine that never end, in the reactor's thread

    def needs(self) -> Needs | None:
        """Return what has to end before the next item can be given out."""
        groups = list(self._groups.items())
        first = [task_id for task_id, group in groups if group.start == self._next]
        wanted = first if self._ordered and first else sorted(task_id for task_id, _ in groups)
        return Needs(self._connection.end.origin.hex(), False, tuple(wanted))

    def give_up(self, problem: Exception) -> None:
        """End, as the next item would never come."""
        self.failure = problem
        self._abort()
        self._ring()

    # -- the end, in any thread

    def close(self) -> None:
        """End the map: nothing more is read, what has not begun is dropped, and what runs is interrupted."""
        if not self.closed:
            self.closed = True
            self._rows = None
            self._abort()
            self._ring()

    def _abort(self) -> None:
        self._connection.reactor.callFromThread(self._abort_all)

    def _abort_all(self) -> None:
        task_ids = list(self._groups)
        unsent = self._tasks.take_back(task_ids)
        for task_id in unsent:
            self._groups.pop(task_id, None)
        left = [task_id for task_id in task_ids if task_id not in unsent]
        if self._connection.end.usable:
            for start in range(0, len(left), IDS_AT_ONCE):
                part = left[start : start + IDS_AT_ONCE]
                self._connection.end.ask("abort_many", taskids=part).addErrback(lambda _: None)
        self._clean_up()

    def _clean_up(self) -> None:
        """Once the last task has ended, release what they had in common; in the reactor's thread."""
        if not self.closed:
            return
        for task_id, _, _ in self._pop_arrived():
            self._groups.pop(task_id, None)
        if self.failure is None and self._groups:
            return
        self._tasks.remove_waiter(self._waiter)
        if not self._released:
            self._released = True
            self._tasks.release(self._common.function)


def _noted(problem: BaseException, index: int, row: Sequence[Any]) -> BaseException:
    """Return the exception of an item with a note that names the item."""
    try:
        shown = show_item([item.value() if isinstance(item, Frozen) else item for item in row])
    except Exception:  # the user's own objects may do anything
        shown = ""
    problem.add_note(f"(item {index} of the input{': ' if shown else ''}{shown})")
    return problem
