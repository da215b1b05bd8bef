"""Which engines tasks depend on, for those who wait for them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Final

from ipython1.kernel.controller.scheduling.machine import TaskMachine
from ipython1.kernel.controller.scheduling.records import (
    ABORTING,
    ASSIGNED,
    WAITING,
    TaskRecord,
    WorkerRecord,
)
from ipython1.kernel.controller.waits import NONE, Alternatives
from ipython1.kernel.wire.waits import Run

MOST_ROOTS: Final = 1000
"""Tasks that are looked at of those that one waits for."""


class TaskOutlook:
    """Looks at the tasks of a machine."""

    def __init__(self, machine: TaskMachine) -> None:
        self._machine = machine

    def is_running(self, engine: int, task_id: int) -> bool:
        """Whether an engine has a task, and is not to let go of it."""
        worker = self._machine.workers.get(engine)
        record = worker.outstanding.get(task_id) if worker is not None else None
        if worker is None or record is None:
            return False
        return record.state is ASSIGNED and _goes_on(worker) and task_id not in worker.arriving

    def engines(self, client: bytes, task_id: int, runs: Mapping[int, Run]) -> Alternatives:
        """The engines of which one has to go on for a task to end.

        What an engine was given ahead is given back when another one has nothing to do.

        :param client: the uuid of the client that waits; the ids of another controller's clients mean nothing here.
        :param runs: what the held engines run.
        :returns: the ids; none if the task is done, being ended, not known, or waits for an engine that may run it.
            Of a task that waits for others, those of the one that depends on the fewest engines.
        """
        machine = self._machine
        record = machine.tasks.get(task_id)
        if record is None or client not in machine.clients.accounts:
            return NONE
        if record.state is not WAITING:
            return self._engines(record, runs)
        roots = islice(machine.predecessors.roots(record), MOST_ROOTS)
        known = [each for root in roots if (each := self._engines(root, runs))]
        return min(known, key=len, default=NONE)

    def _engines(self, record: TaskRecord, runs: Mapping[int, Run]) -> Alternatives:
        machine, task_id = self._machine, record.id
        if record.state is ABORTING:
            return NONE
        worker = record.worker
        if worker is not None:
            if task_id in worker.arriving or not _goes_on(worker):
                return NONE
            if runs.get(worker.id) == ("", task_id):
                return frozenset((worker.id,))
        able = {
            each.id
            for each in machine.workers.values()
            if each.usable and each.verdict(record.constraint) is not False
        }
        if worker is not None and able:
            able.add(worker.id)
        return frozenset(able)

    def all_engines(self) -> Alternatives:
        """The usable engines."""
        return frozenset(each.id for each in self._machine.workers.values() if each.usable)


def _goes_on(worker: WorkerRecord) -> bool:
    """Whether an engine runs what it has, though it may be given nothing more."""
    return worker.usable or (worker.draining and not worker.doomed and not worker.away)
