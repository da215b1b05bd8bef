"""Which engine gets which task.

:class:`BulkAssigner` deals out whole batches in a supplied order.  :class:`SchedulerAssigner` lets a user's scheduler
choose, one pair of task and engine at a time.  The machine does not see the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Protocol, TypeAlias

from twisted.logger import Logger

from ipython1.kernel.controller.scheduling.prefetch import Prefetch
from ipython1.kernel.controller.scheduling.queues import Line, WaitingTasks
from ipython1.kernel.controller.scheduling.records import DONE, TaskRecord, WorkerRecord

log: Logger = Logger()

Assignment: TypeAlias = tuple[WorkerRecord, list[TaskRecord]]


class Assigner(Protocol):
    """Holds the tasks that wait."""

    def __len__(self) -> int: ...

    @property
    def choosy(self) -> bool:
        """Whether any of them may not run just anywhere, as far as that is easily told."""

    def put_many(self, records: list[TaskRecord]) -> None:
        """New tasks, in order."""

    def number(self, records: list[TaskRecord]) -> None:
        """Give tasks that will be put back later their places, behind all that came before."""

    def put_back(self, records: list[TaskRecord]) -> None:
        """Tasks that were assigned and have not begun, to their old places."""

    def remove(self, record: TaskRecord) -> None:
        """A waiting task is done for."""

    def assign(self, workers: list[WorkerRecord]) -> Iterator[Assignment]:
        """Take tasks for ``workers``, which all have room; their ``work`` is raised accordingly."""

    def withdraw(self, worker: WorkerRecord) -> None:
        """``worker`` is not to be used any more."""

    def unsatisfied(self, workers: list[WorkerRecord]) -> Iterator[TaskRecord]:
        """The waiting tasks that none of ``workers`` may run."""

    def rejecting(self) -> Iterator[TaskRecord]:
        """The waiting tasks that have rejected engines."""

    def regroup(self) -> None:
        """The constraints of waiting tasks have changed."""

    def records(self) -> Iterator[TaskRecord]:
        """All waiting tasks, in no particular order."""


class BulkAssigner:
    """Deals out batches.

    :param line: the class of the order, see ``queues``.
    """

    def __init__(self, line: type[Line], policy: Prefetch) -> None:
        self._waiting = WaitingTasks(line, policy)
        self.put_many: Callable[[list[TaskRecord]], None] = self._waiting.put_many
        self.number: Callable[[list[TaskRecord]], None] = self._waiting.number
        self.put_back: Callable[[list[TaskRecord]], None] = self._waiting.put_back
        self.remove: Callable[[TaskRecord], None] = self._waiting.remove
        self.unsatisfied: Callable[[list[WorkerRecord]], Iterator[TaskRecord]] = (
            self._waiting.unsatisfied
        )
        self.rejecting: Callable[[], Iterator[TaskRecord]] = self._waiting.rejecting
        self.regroup: Callable[[], None] = self._waiting.regroup
        self.records: Callable[[], Iterator[TaskRecord]] = self._waiting.records

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def choosy(self) -> bool:
        return self._waiting.choosy

    def assign(self, workers: list[WorkerRecord]) -> Iterator[Assignment]:
        waiting = self._waiting
        left = len(workers)
        for worker in workers:
            if not len(waiting):
                return
            batch = waiting.take(worker, -(-len(waiting) // left))
            left -= 1
            if batch:
                yield worker, batch

    def withdraw(self, worker: WorkerRecord) -> None:
        pass


class SchedulerAssigner:
    """Lets a scheduler (``ipython1.kernel.task.IScheduler``) choose.

    What it chooses is checked: a task that may not run on the chosen engine, or may not yet, goes back, and
    the scheduler is asked again at the next event.  When it fails, it is told again of all tasks and workers, as it
    may have lost some.
    """

    def __init__(self, scheduler: Any, policy: Prefetch) -> None:
        self._scheduler = scheduler
        self._policy = policy
        self._offered: dict[int, WorkerRecord] = {}
        self._waiting: dict[int, TaskRecord] = {}
        self._failed = False

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def choosy(self) -> bool:
        return bool(self._waiting)

    def put_many(self, records: list[TaskRecord]) -> None:
        for record in records:
            self._waiting[record.id] = record
            self._tell(self._scheduler.add_task, record)

    put_back = put_many

    def number(self, records: list[TaskRecord]) -> None:
        pass

    def remove(self, record: TaskRecord) -> None:
        self._tell(self._scheduler.pop_task, record.id)
        del self._waiting[record.id]
        record.state = DONE

    def _tell(self, call: Callable[[Any], object], what: Any) -> None:
        """Tell the scheduler something; what it makes of it concerns nobody else."""
        try:
            call(what)
        except Exception:
            self._note_failure()

    def _note_failure(self) -> None:
        self._failed = True
        log.failure(
            "the configured scheduler failed; it is told again of what waits, and asked again"
        )

    def _tell_all_again(self) -> None:
        self._failed = False
        scheduler = self._scheduler
        for task_id, record in self._waiting.items():
            with suppress(Exception):
                scheduler.pop_task(task_id)
            self._tell(scheduler.add_task, record)
        for worker_id, worker in self._offered.items():
            with suppress(Exception):
                scheduler.pop_worker(worker_id)
            self._tell(scheduler.add_worker, worker)

    def assign(self, workers: list[WorkerRecord]) -> Iterator[Assignment]:
        for worker in workers:
            if worker.id not in self._offered:
                self._offered[worker.id] = worker
                self._tell(self._scheduler.add_worker, worker)
        batches: dict[int, Assignment] = {}
        for _ in range(2):
            if self._failed:
                self._tell_all_again()
            try:
                self._choose(batches)
            except Exception:
                # What it has given out before it failed is run all the same.
                self._note_failure()
            else:
                break
        return iter(batches.values())

    def _choose(self, batches: dict[int, Assignment]) -> None:
        scheduler = self._scheduler
        while scheduler.ready():
            worker, record = scheduler.schedule()
            if worker is None or record is None:
                return
            del self._offered[worker.id]
            _, batch = batches.setdefault(worker.id, (worker, []))
            allowed = worker.may_run(record.constraint)
            if allowed:
                del self._waiting[record.id]
                batch.append(record)
                options = record.options
                record.estimate = options.measured.expect(options.weight)
                worker.work += record.estimate
            else:
                scheduler.add_task(record)
            if self._policy.takes_more(worker.work, len(worker.outstanding) + len(batch)):
                self._offered[worker.id] = worker
                scheduler.add_worker(worker)
            if not allowed:
                return

    def withdraw(self, worker: WorkerRecord) -> None:
        if self._offered.pop(worker.id, None) is not None:
            self._tell(self._scheduler.pop_worker, worker.id)

    def unsatisfied(self, workers: list[WorkerRecord]) -> Iterator[TaskRecord]:
        for record in self._waiting.values():
            if all(worker.verdict(record.constraint) is False for worker in workers):
                yield record

    def rejecting(self) -> Iterator[TaskRecord]:
        for record in self._waiting.values():
            if record.trouble is not None and record.trouble.rejected:
                yield record

    def regroup(self) -> None:
        pass

    def records(self) -> Iterator[TaskRecord]:
        return iter(list(self._waiting.values()))
