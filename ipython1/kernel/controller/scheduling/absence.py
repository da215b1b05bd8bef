"""Engines that are out of reach, and what they have when they are back.

An engine whose link is lost is *away*: it keeps its tasks, nobody is to blame, and nothing is sent to it.  When it is
back it says which runs it has; what it does not have never reached it, or was given back and that got lost, so it
goes to another at no cost.  What it has and is not its own any more, it is told to stop.

After this controller was started again, nothing is known of who has what.  A task of an earlier controller is
*unclear* until each engine that was registered then has said what it has, or is gone: another engine must not run it
meanwhile.  Then those that nobody has are queued, in their old order.  New tasks do not wait for that.  Engines may
have several runs of one task, as they keep the ends of those that failed or were stopped until the controller has heard
of them.  The one with the highest attempt is the task's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from ipython1.kernel.controller.idset import IdSet
from ipython1.kernel.controller.scheduling.accounts import Finished
from ipython1.kernel.controller.scheduling.instructions import Retract, Stop
from ipython1.kernel.controller.scheduling.records import (
    ABORTING,
    ASSIGNED,
    QUEUED,
    UNCLEAR,
    WAITING,
    TaskRecord,
    WorkerRecord,
)
from ipython1.kernel.controller.scheduling.seams import MachineParts
from ipython1.kernel.wire.taskwire import Status, epoch_of

Key: TypeAlias = tuple[int, int]
"""Task id and attempt."""


class Restored:
    """The tasks of an earlier controller.

    :ivar awaited: the engines that may have some of them and have not said so yet.
    :ivar unclear: those that one of these engines may have, by id, in their old order.
    :ivar ids: all that were not done at the start.
    """

    def __init__(self, machine: MachineParts) -> None:
        self._machine = machine
        self.awaited: set[int] = set()
        self.unclear: dict[int, TaskRecord] = {}
        self.ids: set[int] = set()

    def begin(self, records: list[TaskRecord], engines: Iterable[int], now: float) -> None:
        """This controller has just been started.

        :param records: what was not done, in the order of submission.
        :param engines: those that were registered; they are away now.
        """
        self.awaited.update(engines)
        self.ids.update(record.id for record in records)
        self._machine.assigner.number(records)
        for record in records:
            record.state = UNCLEAR
            self.unclear[record.id] = record
        self._release(now)

    def taken(self, task_id: int) -> TaskRecord | None:
        """Take out a task that is unclear, because it is settled where it is."""
        return self.unclear.pop(task_id, None)

    def claimed(self, task_id: int, attempt: int) -> TaskRecord | None:
        """An engine has a run of an earlier controller; returns its task, if no newer run of it is known."""
        record = self._machine.tasks.get(task_id)
        if record is None or task_id not in self.ids or attempt <= record.attempt:
            return None
        if record.state is UNCLEAR:
            return self.taken(task_id)
        older = record.worker
        if record.state is not ASSIGNED or older is None:
            return None
        self._machine.say(Stop(older.id, *record.key))
        self._machine.detach(older, record)
        self._machine.consider(older)
        return record

    def hold_back(self, records: list[TaskRecord], now: float) -> list[TaskRecord]:
        """Keep those tasks that may have a newer run with an engine that is awaited; returns the others.

        Those whose client has its result end here.
        """
        unclear = [record for record in records if self.awaited and record.id in self.ids]
        for record in unclear:
            record.state = UNCLEAR
            self.unclear[record.id] = record
        left: list[TaskRecord] = []
        for record in records:
            if record.state is UNCLEAR:
                continue
            if record.trouble is not None and record.trouble.told:
                self._machine.finish(record, Status.OK, -1, now)
            else:
                left.append(record)
        return left

    def settled(self, engine: int, now: float) -> None:
        """An engine has said what it has, or is gone."""
        self.awaited.discard(engine)
        self._release(now)

    def _release(self, now: float) -> None:
        if self.awaited or not self.unclear:
            return
        records = list(self.unclear.values())
        self.unclear = {}
        for record in records:
            record.state = QUEUED
        self._machine.assigner.put_back(self._machine.predecessors.arrived(records))
        for record in records:
            if record.trouble is not None and record.trouble.told:
                self._finish(record, now)

    def told(self, task_ids: Iterable[int], now: float, failed: IdSet | None = None) -> None:
        """Clients have the results of tasks, those that an earlier controller had; these are not run again.

        An engine that may have the result, or runs the task, is waited for all the same.

        :param failed: the ids of those that failed, and perhaps of others.
        """
        for task_id in task_ids:
            record = self._machine.tasks.get(task_id)
            if record is not None and task_id in self.ids:
                trouble = record.note("its client had its result from an earlier controller")
                trouble.told, trouble.told_failed = True, failed is not None and task_id in failed
                if record.state in (QUEUED, WAITING):
                    self._finish(record, now)
                elif epoch_of(record.attempt) == self._machine.settings.epoch:
                    self._call_off(record, now)

    def _call_off(self, record: TaskRecord, now: float) -> None:
        """A task that was given to an engine once more, for nothing."""
        worker = record.worker
        if worker is not None and record.state is ASSIGNED and record.id not in worker.arriving:
            self._machine.say(Stop(worker.id, *record.key))
            self._machine.detach(worker, record)
            self._machine.consider(worker)
            self._machine.finish(record, Status.OK, -1, now)

    def _finish(self, record: TaskRecord, now: float) -> None:
        self._machine.unqueue(record)
        self._machine.finish(record, Status.OK, -1, now)

    @staticmethod
    def as_told(finished: Finished, failed: bool) -> None:
        """A task has ended, perhaps again; it came out as its client knows that it did.

        :param failed: that it failed.
        """
        if failed != (finished.status is not Status.OK):
            finished.payload, finished.error = b"", None
            finished.status = Status.OK
            if failed:
                finished.status = Status.REFUSED
                text = "how, only its client knows, which has the result from an earlier controller"
                finished.error = ("ResultAlreadyRetrieved", f"task {finished.id} failed; {text}")


class Absence:
    """Engines that go away and come back."""

    def __init__(self, machine: MachineParts, restored: Restored) -> None:
        self._machine = machine
        self._restored = restored

    def away(self, worker: WorkerRecord) -> None:
        """An engine is out of reach."""
        worker.away = True
        self._machine.unusable(worker)

    def back(
        self, worker: WorkerRecord, runs: Sequence[Key], ended: Sequence[Key], now: float
    ) -> list[TaskRecord]:
        """An engine is back.

        :param runs: what waits or runs there, in order.
        :param ended: what has ended there; it tells the results.
        :returns: the tasks that it does not have.
        """
        machine = self._machine
        worker.away = False
        worker.retracting.clear()
        worker.asked.clear()
        worker.custody.back()
        has: dict[int, TaskRecord] = {}
        stops: list[Key] = []
        newest = dict(sorted((*ended, *runs)))
        for key in (*ended, *runs):
            record = self._claim(worker, key) if newest[key[0]] == key[1] else None
            if record is not None:
                has[record.id] = record
            else:
                stops.append(key)
        lacking = [record for task_id, record in worker.outstanding.items() if task_id not in has]
        over = set(ended)
        worker.arriving = {record.id for record in has.values() if record.key in over}
        worker.outstanding = {**has, **{record.id: record for record in lacking}}
        self._tell_again(worker, has, set(runs))
        for task_id, attempt in stops:
            if (task_id, attempt) not in over:
                machine.say(Stop(worker.id, task_id, attempt))
        self._restored.settled(worker.id, now)
        return lacking

    def _claim(self, worker: WorkerRecord, key: Key) -> TaskRecord | None:
        """The task whose run ``key`` an engine rightly has."""
        task_id, attempt = key
        record = worker.outstanding.get(task_id)
        if record is not None and record.attempt == attempt:
            return record
        if epoch_of(attempt) >= self._machine.settings.epoch:
            return None
        record = self._restored.claimed(task_id, attempt)
        if record is None:
            return None
        record.state = ASSIGNED
        record.attempt = attempt
        record.worker = worker
        options = record.options
        record.estimate = options.measured.expect(options.weight)
        worker.work += record.estimate
        worker.outstanding[task_id] = record
        if options.timeout:
            worker.timed.add(task_id)
        return record

    def _tell_again(self, worker: WorkerRecord, has: dict[int, TaskRecord], runs: set[Key]) -> None:
        """Say what the engine may not have heard."""
        for record in has.values():
            if record.key not in runs:
                continue
            if record.state is ABORTING:
                verdict = record.trouble.verdict if record.trouble is not None else None
                self._machine.say(Stop(worker.id, *record.key, verdict))
            elif record.trouble is not None and record.trouble.wanted_back == record.attempt:
                self._machine.say(Retract(worker.id, (record.key,)))
