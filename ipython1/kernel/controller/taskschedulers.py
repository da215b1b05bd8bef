"""The schedulers that are supplied; all are made to be subclassed.

A subclass is driven task by task, through its methods.  The classes themselves are never called: each names an order
(``line``) that the controller keeps for whole batches.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from typing import Any, ClassVar

from zope.interface import implementer

from ipython1.kernel.basics.taskinterfaces import IScheduler
from ipython1.kernel.controller.scheduling.assigners import (
    Assigner,
    BulkAssigner,
    SchedulerAssigner,
)
from ipython1.kernel.controller.scheduling.prefetch import Prefetch
from ipython1.kernel.controller.scheduling.queues import FIFOLine, LIFOLine, Line, PriorityLine


@implementer(IScheduler)
class FIFOScheduler:
    """First in, first out; the default.  Made to be subclassed.

    :cvar line: the same order for whole batches.  It is used instead of the methods below, which work task by task,
        when the class itself is configured and not a subclass of it.
    """

    line: ClassVar[type[Line]] = FIFOLine

    def __init__(self) -> None:
        self._tasks: dict[int, Any] = {}
        self._workers: dict[int, Any] = {}

    @property
    def ntasks(self) -> int:
        """The number of tasks that wait."""
        return len(self._tasks)

    @property
    def nworkers(self) -> int:
        """The number of workers on offer."""
        return len(self._workers)

    @property
    def taskids(self) -> list[int]:
        """The ids of the tasks that wait, first in line first."""
        return [task.taskid for task in self.tasks()]

    @property
    def workerids(self) -> list[int]:
        """The ids of the workers on offer, first in line first."""
        return list(self._workers)

    def tasks(self) -> Iterable[Any]:
        """The tasks that wait, first in line first."""
        return self._tasks.values()

    def add_task(self, task: Any, **flags: Any) -> None:
        self._tasks[task.taskid] = task

    def pop_task(self, taskid: int | None = None) -> Any:
        if taskid is None:
            taskid = next((task.taskid for task in self.tasks()), None)
        if taskid not in self._tasks:
            raise IndexError("no task waits" if taskid is None else f"task {taskid} does not wait")
        return self._tasks.pop(taskid)

    def add_worker(self, worker: Any, **flags: Any) -> None:
        self._workers[worker.workerid] = worker

    def pop_worker(self, workerid: int | None = None) -> Any:
        if workerid is None:
            workerid = next(iter(self._workers), None)
        if workerid not in self._workers:
            raise IndexError(
                "no worker is on offer"
                if workerid is None
                else f"worker {workerid} is not on offer"
            )
        return self._workers.pop(workerid)

    def ready(self) -> bool:
        return bool(self._tasks and self._workers)

    def schedule(self) -> tuple[Any, Any]:
        for task in self.tasks():
            for worker in self._workers.values():
                if task.check_depend(worker.properties):
                    return self.pop_worker(worker.workerid), self.pop_task(task.taskid)
        return None, None


class LIFOScheduler(FIFOScheduler):
    """Last in, first out."""

    line: ClassVar[type[Line]] = LIFOLine

    def tasks(self) -> Iterable[Any]:
        return reversed(self._tasks.values())


class PriorityScheduler(FIFOScheduler):
    """Larger ``priority`` first; equal ones first in, first out."""

    line: ClassVar[type[Line]] = PriorityLine

    def __init__(self) -> None:
        super().__init__()
        self._order: list[tuple[int, int]] = []

    def tasks(self) -> Iterable[Any]:
        return (self._tasks[taskid] for _, taskid in self._order)

    def add_task(self, task: Any, **flags: Any) -> None:
        super().add_task(task, **flags)
        insort(self._order, (-task.priority, task.taskid))

    def pop_task(self, taskid: int | None = None) -> Any:
        task = super().pop_task(taskid)
        self._order.remove((-task.priority, task.taskid))
        return task


def assigner_for(scheduler: Any, policy: Prefetch) -> Assigner:
    """What lets the task machine use ``scheduler``: in bulk if it is one of the supplied ones, else by its methods."""
    if type(scheduler) in (FIFOScheduler, LIFOScheduler, PriorityScheduler):
        return BulkAssigner(scheduler.line, policy)
    return SchedulerAssigner(scheduler, policy)
