"""How long a run has taken, as far as the controller can tell.

An engine runs its tasks in order, so the first that it has runs from the moment it was sent, or from the end of the one
before it; an engine that is stopped cannot delay that.  It is allowed the time that its payload may take to get
there.  When the engine tells that it has begun, the run is counted from there; while a direct command holds the
engine, and while the engine is out of reach, it is not.
"""

from __future__ import annotations

from typing import Final

from ipython1.kernel.controller.scheduling.records import ASSIGNED, TaskRecord, WorkerRecord
from ipython1.kernel.controller.scheduling.seams import MachineParts

SLOWEST: Final = 2**20
"""Bytes per second that a payload travels at least."""


class TimeLimits:
    """Counts; what becomes of a run whose time is up is the business of ``faults``."""

    def __init__(self, machine: MachineParts) -> None:
        self._machine = machine

    def look(self, worker: WorkerRecord, now: float) -> None:
        """The first task of an engine may be another one than before; call this if it has any with a time limit."""
        head = worker.first()
        if head is None or head.id not in worker.timed or worker.away:
            return
        if worker.deadline is None or worker.deadline[0] != head.key:
            allowed = head.options.timeout
            if worker.running != head.key:
                allowed += len(head.payload) / SLOWEST
            self._count(worker, head, now + allowed)

    def again(self, worker: WorkerRecord, now: float) -> None:
        """An engine is back; it has begun nothing while it was away, and what it had begun went on."""
        if worker.deadline is not None:
            key, until = worker.deadline
            record = worker.outstanding.get(key[0])
            if record is not None and worker.running == key == record.key:
                self._count(worker, record, until)
            else:
                worker.deadline = None
        if worker.timed:
            self.look(worker, now)

    def begun(self, worker: WorkerRecord, record: TaskRecord, now: float) -> None:
        """An engine tells that it has begun a run."""
        self._count(worker, record, now + record.options.timeout)

    def _count(self, worker: WorkerRecord, record: TaskRecord, until: float) -> None:
        worker.deadline = (record.key, until)
        self._machine.timers.at(until, "timeout", record, record.attempt)

    def is_up(self, record: TaskRecord, attempt: int, now: float) -> bool:
        """Whether a run has had its time; if not, it is looked at again."""
        worker = record.worker
        if record.state is not ASSIGNED or record.attempt != attempt or worker is None:
            return False
        if record.id in worker.arriving or worker.away:
            return False
        if worker.deadline is None or worker.deadline[0] != record.key:
            return False
        until = worker.deadline[1]
        if worker.running != record.key and (worker.stale or self._machine.held(worker.id)):
            # It waits for what is none of its business.
            until = now + record.options.timeout
        if until <= now:
            return True
        self._count(worker, record, until)
        return False
