"""What becomes of a task that does not simply succeed.

**Retries** are used up by failures, timeouts and deaths of engines; then the **recovery task** takes over,
under the same id, with its own retries; what it gives is the result, and nothing is said of the failure
before.  A rejection uses no retry; the task goes to an engine that it has not rejected, or waits until one
comes, or until the properties of one that it rejected change.

**Blame.**  An engine runs its tasks in order and tells results in batches, so when it dies, what it ran at
that moment may not be known.  It tells at once when it begins a *guarded* task (one that was never measured,
has had trouble, or has a time limit), after it has told all results before; and it tells when a task takes
long.  So the task it ran is known for certain, or it is one of a row of *suspects*, each of which is short
and of a kind that has run well before.  A task whose large result was on its way had ended, and is neither.
Suspects run again, guarded, at no cost; if one then kills another engine, both deaths count against it.  A
task that has killed ``max_deaths`` engines is not run again, whatever its retries.
"""

from __future__ import annotations

from ipython1.kernel.controller.scheduling.instructions import Kill, Retract, Stop
from ipython1.kernel.controller.scheduling.records import (
    ABORTING,
    QUEUED,
    UNCLEAR,
    WAITING,
    Error,
    TaskRecord,
    WorkerRecord,
)
from ipython1.kernel.controller.scheduling.seams import MachineParts
from ipython1.kernel.wire.frames import Bytes
from ipython1.kernel.wire.taskwire import Status
from ipython1.kernel.wire.verdicts import Verdict


def withdrawn_error(task_id: int) -> Error:
    """What a task ends with that its client took back."""
    return ("TaskAborted", f"task {task_id} was taken back before it began")


class Faults:
    """Decides; the machine carries out."""

    def __init__(self, machine: MachineParts) -> None:
        self._machine = machine

    # -- an attempt ended

    def ended(
        self,
        worker: WorkerRecord,
        record: TaskRecord,
        status: Status,
        duration: float,
        payload: Bytes,
        now: float,
    ) -> None:
        """A run ended, well or not, that was not a plain success without a history."""
        machine = self._machine
        settled = record.state is ABORTING
        machine.detach(worker, record)
        if settled:
            self._settle_verdict(record, worker.id, now, duration)
        elif status is Status.OK:
            machine.finish(record, status, worker.id, now, duration, payload)
        elif status is Status.REJECTED:
            trouble = record.note(f"rejected engine {worker.id}")
            trouble.rejected |= {worker.id}
            machine.put_back([record], now)
        elif status is Status.STOPPED and (verdict := Verdict.unpack(payload)):
            # An earlier controller had it stopped.
            record.in_trouble().verdict = verdict
            self._settle_verdict(record, worker.id, now, duration)
        elif status is Status.STOPPED:
            record.note(f"engine {worker.id} let go of it")
            machine.put_back([record], now)
        else:
            record.note(f"attempt {record.attempt} failed on engine {worker.id}")
            self._failed(record, worker.id, now, status, 1, duration, payload)

    def _failed(
        self,
        record: TaskRecord,
        engine: int,
        now: float,
        status: Status,
        charge: int,
        duration: float = 0.0,
        payload: Bytes = b"",
        error: Error | None = None,
        retry: bool = True,
    ) -> None:
        """A run failed: once more, the recovery task, or the end."""
        machine = self._machine
        trouble = record.in_trouble()
        trouble.used += charge
        if retry and trouble.used <= record.options.retries:
            machine.put_back([record], now, anew=True)
            return
        if trouble.recovery:
            trouble.replaced.append((record.options, record.payload))
            record.options, record.payload = trouble.recovery.pop(0)
            trouble.used = 0
            trouble.killed.clear()
            trouble.suspected.clear()
            trouble.rejected = frozenset()
            record.note("its recovery task takes over")
            machine.put_back([record], now, anew=True)
            return
        machine.finish(record, status, engine, now, duration, payload, error)

    # -- tasks come back

    def given_back(self, worker: WorkerRecord, records: list[TaskRecord], now: float) -> None:
        """An engine does not have ``records``, which it has not begun."""
        back: list[TaskRecord] = []
        for record in records:
            settled = record.state is ABORTING
            trouble = record.trouble
            wanted_back = trouble is not None and trouble.wanted_back == record.attempt
            self._machine.detach(worker, record)
            if settled:
                self._settle_verdict(record, worker.id, now, 0.0)
            elif wanted_back:
                self._withdrawn(record, now)
            else:
                back.append(record)
        self._machine.put_back(back, now)

    # -- an engine died

    def died(
        self, worker: WorkerRecord, now: float, reason: str, other_work: bool, blameless: bool
    ) -> None:
        """An engine is gone with all it had."""
        records = list(worker.outstanding.values())
        states = [record.state for record in records]
        suspected = [] if blameless else records
        guilty, suspects = self._suspects(worker, suspected, other_work)
        for record in records:
            self._machine.detach(worker, record)
        clean: list[TaskRecord] = []
        for record, state in zip(records, states, strict=True):
            if state is ABORTING:
                self._settle_verdict(record, worker.id, now, 0.0)
            elif record is guilty:
                self._blame(record, worker.id, now, reason)
            else:
                if record in suspects:
                    trouble = record.note(
                        f"one of {len(suspects)} suspects of the death of engine {worker.id}"
                    )
                    trouble.suspected.append(worker.id)
                clean.append(record)
        self._machine.put_back(clean, now)

    @staticmethod
    def _suspects(
        worker: WorkerRecord, records: list[TaskRecord], other_work: bool
    ) -> tuple[TaskRecord | None, list[TaskRecord]]:
        """The task that the engine died of, if that is certain, and else those that it may have died of."""
        records = [record for record in records if record.id not in worker.arriving]
        if not records or worker.doomed:
            return None, []
        head = records[0]
        if worker.running == (head.id, head.attempt):
            return head, []
        row: list[TaskRecord] = []
        for record in records:
            if record.id in worker.guarded:
                break
            row.append(record)
        if len(row) == 1 and not other_work:
            return head, []
        return None, row

    def _blame(self, record: TaskRecord, engine: int, now: float, reason: str) -> None:
        """An engine died of a task."""
        machine = self._machine
        trouble = record.note(f"engine {engine} died of it")
        charge = 1 + len(trouble.suspected)
        trouble.killed += [*trouble.suspected, engine]
        trouble.suspected.clear()
        deaths = len(trouble.killed)
        how = f": {reason}" if reason else ""
        if deaths >= machine.settings.max_deaths:
            engines = ", ".join(map(str, trouble.killed))
            message = (
                f"task {record.id} is quarantined: {deaths} engines died while they ran it ({engines}), "
                f"so it is not given to another one; the last was engine {engine}{how}"
            )
        else:
            message = f"engine {engine} died while it ran task {record.id}{how}"
            if record.options.retries:
                message += f" (all {record.options.retries} retries are used up)"
        self._failed(
            record,
            engine,
            now,
            Status.REFUSED,
            charge,
            error=("EngineDied", message),
            retry=deaths < machine.settings.max_deaths,
        )

    # -- aborts and timeouts

    def withdraw(self, record: TaskRecord, now: float) -> bool | None:
        """A client wants a task to end if it has not begun; see :meth:`TaskMachine.withdraw`."""
        machine = self._machine
        if record.state in (QUEUED, WAITING):
            machine.unqueue(record)
            self._withdrawn(record, now)
            return True
        if record.state is UNCLEAR:
            return None
        worker = record.worker
        assert worker is not None
        key = (record.id, record.attempt)
        if record.state is ABORTING or worker.running == key or record.id in worker.arriving:
            return False
        trouble = record.in_trouble()
        if trouble.wanted_back != record.attempt:
            trouble.wanted_back = record.attempt
            machine.say(Retract(worker.id, (key,)))
        return None

    def _withdrawn(self, record: TaskRecord, now: float) -> None:
        error = withdrawn_error(record.id)
        self._machine.finish(record, Status.REFUSED, -1, now, error=error)

    def abort(self, record: TaskRecord, now: float, by_force: bool = True) -> None:
        """A user wants a task to end."""
        machine = self._machine
        verdict = Verdict("TaskAborted", f"task {record.id} was aborted", True)
        if record.state in (QUEUED, UNCLEAR, WAITING):
            machine.unqueue(record)
            machine.finish(record, Status.REFUSED, -1, now, error=verdict[:2])
        else:
            self._stop(record, verdict, now, by_force)

    def time_is_up(self, record: TaskRecord, now: float) -> None:
        """A run has taken as long as it may."""
        assert record.worker is not None
        verdict = Verdict(
            "TaskTimeout",
            f"task {record.id} ran longer than its timeout of {record.options.timeout:g} s "
            f"on engine {record.worker.id}",
            False,
        )
        self._stop(record, verdict, now)

    def _stop(
        self,
        record: TaskRecord,
        verdict: Verdict,
        now: float,
        by_force: bool = True,
    ) -> None:
        """Have its engine let go of a task."""
        worker = record.worker
        assert worker is not None
        trouble = record.note(verdict.message)
        trouble.verdict = verdict
        if record.state is ABORTING:
            return
        record.state = ABORTING
        machine = self._machine
        machine.say(Stop(worker.id, record.id, record.attempt, verdict))
        if by_force:
            machine.timers.at(now + machine.settings.grace, "kill", record, record.attempt)

    def grace_is_up(self, record: TaskRecord, attempt: int, now: float) -> None:
        """An engine has had time enough to let go of a task."""
        worker = record.worker
        if record.state is not ABORTING or record.attempt != attempt or worker is None:
            return
        if record.id in worker.arriving:
            return
        machine = self._machine
        if worker.first() is not record or worker.away or worker.stale:
            # It runs something else that keeps it from answering; that is not to suffer.  Or it was not told yet.
            machine.timers.at(now + machine.settings.grace, "kill", record, attempt)
            return
        if not worker.doomed:
            worker.doomed = (
                f"it did not let go of task {record.id} within {machine.settings.grace:g} s"
            )
            record.note(f"engine {worker.id} is killed: {worker.doomed}")
            machine.unusable(worker)
            machine.say(Kill(worker.id, worker.doomed))

    def _settle_verdict(self, record: TaskRecord, engine: int, now: float, duration: float) -> None:
        """A task that was being stopped is off its engine."""
        trouble = record.trouble
        assert trouble is not None and trouble.verdict is not None
        verdict, trouble.verdict = trouble.verdict, None
        error = (verdict.name, verdict.message)
        if verdict.final:
            self._machine.finish(record, Status.REFUSED, engine, now, duration, error=error)
        else:
            self._failed(record, engine, now, Status.REFUSED, 1, duration, error=error)
