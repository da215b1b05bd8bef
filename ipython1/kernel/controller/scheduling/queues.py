"""Tasks that wait, in the order of a scheduler.

Three orders are supplied.  Tasks that only some engines may run are kept apart from the others, in groups of equal
constraints, so that one of them never holds up what comes behind it, and all of a group stand and fall together.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections import deque
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import ClassVar, Protocol

from ipython1.kernel.controller.scheduling.prefetch import Prefetch
from ipython1.kernel.controller.scheduling.records import (
    DONE,
    FREE,
    QUEUED,
    Constraint,
    TaskRecord,
    WorkerRecord,
)

_COMPACT_ABOVE = 1024


class Line(Protocol):
    """Tasks in one order.  Removal is lazy: a task whose state is no longer ``QUEUED`` is skipped."""

    dead: int

    def put(self, record: TaskRecord) -> None:
        """A new one."""

    def put_back(self, record: TaskRecord) -> None:
        """One that was taken, to its old place."""

    def pop(self) -> TaskRecord | None:
        """The next one."""

    def key(self) -> tuple[int, int] | None:
        """Where the next one stands; smaller is earlier.  None when there is none."""

    def records(self) -> Iterator[TaskRecord]:
        """All, in no particular order."""

    def compact(self) -> None:
        """Let go of the removed ones."""


class FIFOLine:
    """First in, first out."""

    __slots__ = ("_records", "_take", "dead")

    _next: ClassVar = 0
    """The index of the next one."""

    _sign: ClassVar = 1
    """That of the order in which they are taken."""

    def __init__(self) -> None:
        records: deque[TaskRecord] = deque()
        self._records: deque[TaskRecord] | list[TaskRecord] = records
        self._take: Callable[[], TaskRecord] = records.popleft
        self.dead: int = 0

    def put(self, record: TaskRecord) -> None:
        self._records.append(record)

    def put_back(self, record: TaskRecord) -> None:
        self._records.insert(0, record)

    def pop(self) -> TaskRecord | None:
        records = self._records
        take = self._take
        while records:
            record = take()
            if record.state is QUEUED:
                return record
            self.dead -= 1
        return None

    def key(self) -> tuple[int, int] | None:
        records = self._records
        following = self._next
        while records:
            if records[following].state is QUEUED:
                return (0, self._sign * records[following].order)
            self._take()
            self.dead -= 1
        return None

    def records(self) -> Iterator[TaskRecord]:
        return (record for record in self._records if record.state is QUEUED)

    def compact(self) -> None:
        queued = list(self.records())
        self._records.clear()
        self._records.extend(queued)
        self.dead = 0


class LIFOLine(FIFOLine):
    """Last in, first out."""

    __slots__ = ()

    _next = -1
    _sign = -1

    def __init__(self) -> None:
        super().__init__()
        records: list[TaskRecord] = []
        self._records = records
        self._take = records.pop

    def put_back(self, record: TaskRecord) -> None:
        insort(self._records, record, key=attrgetter("order"))


class PriorityLine:
    """Larger priorities first, equal ones in order of submission."""

    __slots__ = ("_heap", "dead")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, int, TaskRecord]] = []
        self.dead: int = 0

    def put(self, record: TaskRecord) -> None:
        heapq.heappush(self._heap, (-record.options.priority, record.order, record.id, record))

    put_back = put

    def pop(self) -> TaskRecord | None:
        heap = self._heap
        while heap:
            record = heapq.heappop(heap)[3]
            if record.state is QUEUED:
                return record
            self.dead -= 1
        return None

    def key(self) -> tuple[int, int] | None:
        heap = self._heap
        while heap:
            if heap[0][3].state is QUEUED:
                return heap[0][:2]
            heapq.heappop(heap)
            self.dead -= 1
        return None

    def records(self) -> Iterator[TaskRecord]:
        return (entry[3] for entry in self._heap if entry[3].state is QUEUED)

    def compact(self) -> None:
        self._heap = [entry for entry in self._heap if entry[3].state is QUEUED]
        heapq.heapify(self._heap)
        self.dead = 0


class WaitingTasks:
    """All tasks that wait, in groups by constraint.

    :param line: the class of the order.
    """

    def __init__(self, line: type[Line], policy: Prefetch) -> None:
        self._line = line
        self._policy = policy
        self._free: Line = line()
        self._constrained: dict[Constraint, Line] = {}
        self._sizes: dict[Constraint, int] = {}
        self._next_order = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def choosy(self) -> bool:
        """Whether any of them may not run just anywhere."""
        return bool(self._constrained)

    def put_many(self, records: list[TaskRecord]) -> None:
        """New tasks, in order."""
        order = self._next_order
        put = self._free.put
        for record in records:
            record.order = order
            order += 1
            if record.trouble is None and not record.options.choosy:
                put(record)
            else:
                self._line_of(record).put(record)
        self._next_order = order
        self._count += len(records)

    def number(self, records: list[TaskRecord]) -> None:
        """Tasks that are put back later; their places are before those of all that come from now on."""
        for order, record in enumerate(records, self._next_order):
            record.order = order
        self._next_order += len(records)

    def put_back(self, records: list[TaskRecord]) -> None:
        """Tasks that were taken, to their old places."""
        for record in reversed(records):
            self._line_of(record).put_back(record)
        self._count += len(records)

    def _line_of(self, record: TaskRecord) -> Line:
        constraint = record.constraint
        if constraint == FREE:
            return self._free
        line = self._constrained.get(constraint)
        if line is None:
            line = self._constrained[constraint] = self._line()
            self._sizes[constraint] = 0
        self._sizes[constraint] += 1
        return line

    def _shrink(self, constraint: Constraint) -> None:
        self._sizes[constraint] -= 1
        if not self._sizes[constraint]:
            del self._sizes[constraint], self._constrained[constraint]

    def remove(self, record: TaskRecord) -> None:
        """A queued task is done for."""
        record.state = DONE
        self._count -= 1
        constraint = record.constraint
        if constraint == FREE:
            line = self._free
            line.dead += 1
            if line.dead > _COMPACT_ABOVE and line.dead > self._count:
                line.compact()
        else:
            self._constrained[constraint].dead += 1
            self._shrink(constraint)

    def take(self, worker: WorkerRecord, share: int) -> list[TaskRecord]:
        """The next tasks for ``worker``: up to ``share`` and the room it has, but no less than a grain of work."""
        batch: list[TaskRecord] = []
        if self._constrained:
            lines = self._eligible(worker)
            if len(lines) > 1:
                pop = _Merged(lines).pop
            elif lines:
                pop = lines[0].pop
            else:
                return batch
        else:
            pop = self._free.pop
        policy = self._policy
        ahead, fewest, most = policy.ahead, policy.fewest, policy.most
        work = worker.work
        enough = work + policy.grain
        number = len(worker.outstanding)
        last = number + share
        while number < fewest or (work < ahead and number < most):
            if number >= last and work >= enough:
                break
            record = pop()
            if record is None:
                break
            options = record.options
            estimate = record.estimate = options.measured.expect(options.weight)
            work += estimate
            number += 1
            batch.append(record)
        worker.work = work
        self._count -= len(batch)
        if self._constrained:
            for record in batch:
                if record.options.choosy or record.trouble is not None:
                    constraint = record.constraint
                    if constraint != FREE:
                        self._shrink(constraint)
        return batch

    def _eligible(self, worker: WorkerRecord) -> list[Line]:
        lines = [self._free] if self._free.key() is not None else []
        lines += [
            line for constraint, line in self._constrained.items() if worker.may_run(constraint)
        ]
        return lines

    def unsatisfied(self, workers: list[WorkerRecord]) -> Iterator[TaskRecord]:
        """The tasks that none of ``workers`` may run."""
        for constraint, line in self._constrained.items():
            if all(worker.verdict(constraint) is False for worker in workers):
                yield from line.records()

    def rejecting(self) -> Iterator[TaskRecord]:
        """The tasks that have rejected engines."""
        for (_, rejected, _), line in self._constrained.items():
            if rejected:
                yield from line.records()

    def regroup(self) -> None:
        """Constraints of queued tasks have changed; sort them anew."""
        constrained, self._constrained, self._sizes = self._constrained, {}, {}
        records = [record for line in constrained.values() for record in line.records()]
        records.sort(key=lambda record: record.order)
        for record in reversed(records):
            self._line_of(record).put_back(record)

    def records(self) -> Iterator[TaskRecord]:
        """All, in no particular order."""
        yield from self._free.records()
        for line in self._constrained.values():
            yield from line.records()


class _Merged:
    """Several lines as one."""

    def __init__(self, lines: list[Line]) -> None:
        self._lines = lines

    def pop(self) -> TaskRecord | None:
        best = None
        first: tuple[int, int] | None = None
        for line in self._lines:
            key = line.key()
            if key is not None and (first is None or key < first):
                first, best = key, line
        return None if best is None else best.pop()
