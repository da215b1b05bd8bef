"""The scheduler's state machine: events in, instructions out.

Every event is a method, of the machine or of its ``clients``; ``now`` is seconds on one monotonic clock of the
caller's.  An event only changes what is known.  When all events of a turn are in, the caller calls
:meth:`TaskMachine.settle`, which assigns tasks to engines and returns the instructions of the whole turn, so a turn
costs one message per engine and client however many tasks it moved.

======================  ==========================================  =======================================
a task that is          on                                          becomes
======================  ==========================================  =======================================
(new)                   submit                                      QUEUED
QUEUED                  settle, an engine that may run it has room  ASSIGNED
QUEUED                  abort                                       DONE: TaskAborted
ASSIGNED                result OK                                   DONE
ASSIGNED                result FAILED                               QUEUED (retry, recovery) or DONE
ASSIGNED                result REJECTED                             QUEUED, not for that engine
ASSIGNED                retracted; its engine died before it began  QUEUED, in its old place
ASSIGNED                its engine died of it                       QUEUED (retry, recovery) or DONE: EngineDied
ASSIGNED                its engine died, it is one of the suspects  QUEUED, guarded from now on
ASSIGNED                its engine died, its result was on its way  QUEUED, in its old place
ASSIGNED                abort, its time is up                       ABORTING
ABORTING                any result; its engine died                 DONE, or QUEUED for a retry after a timeout
DONE                    clear, too old, too much                    (gone)
======================  ==========================================  =======================================

Whatever does not fit (a second result, an old attempt, a task of nobody) was delivered twice or too late: it
is counted and dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from ipython1.kernel.basics.error import InvalidClientID, ProtocolError
from ipython1.kernel.controller.scheduling.accounts import Finished, Lease
from ipython1.kernel.controller.scheduling.assigners import Assigner
from ipython1.kernel.controller.scheduling.balance import take_back
from ipython1.kernel.controller.scheduling.clients import Clients
from ipython1.kernel.controller.scheduling.dependencies import Dependencies
from ipython1.kernel.controller.scheduling.faults import Faults, withdrawn_error
from ipython1.kernel.controller.scheduling.instructions import Instruction, Send
from ipython1.kernel.controller.scheduling.prefetch import Templates
from ipython1.kernel.controller.scheduling.records import (
    ASSIGNED,
    DONE,
    QUEUED,
    Digest,
    Error,
    TaskRecord,
    TaskTerms,
    Trouble,
    WorkerRecord,
)
from ipython1.kernel.controller.scheduling.seams import TaskSettings
from ipython1.kernel.controller.scheduling.timers import Timers
from ipython1.kernel.wire.taskwire import Result, Status

Submission: TypeAlias = tuple[int, TaskTerms, bytes, Sequence[tuple[TaskTerms, bytes]]]
"""Task id, options, payload, and (options, payload) of each recovery task."""

OK = Status.OK


class TaskMachine:
    """The state of the task interface of one controller.

    :param assigner: which engine gets which task.
    :param held: whether an engine has a direct command.
    """

    def __init__(
        self,
        assigner: Assigner,
        settings: TaskSettings | None = None,
        held: Callable[[int], bool] = lambda engine: False,
    ) -> None:
        self.held = held
        self.settings = settings or TaskSettings()
        self.assigner = assigner
        self.templates = Templates(self.settings.prefetch)
        self.tasks: dict[int, TaskRecord] = {}
        """All that are not done, by id."""
        self.workers: dict[int, WorkerRecord] = {}
        self.timers = Timers()
        self.roomy: dict[int, WorkerRecord] = {}
        """The usable engines that can take more."""
        self.dropped = 0
        """Repeated or late deliveries."""
        self._out: list[Instruction] = []
        self.clients = Clients(self)
        self.store = self.clients.store
        self.dependencies = Dependencies(self)
        self.faults = Faults(self)

    # -- clients (the rest of what they do is told to ``clients``)

    def submit(self, uuid: bytes, submissions: Iterable[Submission], now: float) -> None:
        """A client submits tasks, in rising order of ids.

        :raises InvalidClientID: when the client is unknown, or an id is not one of those it has leased.
        :raises ProtocolError: when it submits far more than its credit allows.
        """
        account = self.clients.account(uuid)
        if account.overdrawn:
            raise ProtocolError(f"the client {account.name} submits more than its credit allows")
        tasks = self.tasks
        fresh: list[TaskRecord] = []
        lease: Lease | None = None
        try:
            for task_id, options, payload, recovery in submissions:
                if lease is None or not lease.start <= task_id < lease.stop:
                    lease = account.lease_of(task_id)
                    if lease is None:
                        raise InvalidClientID(
                            f"the client {account.name} submitted a task as number {task_id}, "
                            "which is not one of its ids"
                        )
                if task_id < lease.next:
                    self.dropped += 1
                    continue
                lease.next = task_id + 1
                record = TaskRecord(task_id, account, options, payload, now)
                if recovery:
                    record.trouble = Trouble(recovery=list(recovery))
                tasks[task_id] = record
                fresh.append(record)
        finally:
            if fresh:
                self.assigner.put_many(fresh)
                self.clients.accepted(account, len(fresh))

    # -- engines

    def worker_joined(self, engine: int, properties_version: int, now: float) -> None:
        """An engine can be used from now on; one that had its id before is forgotten."""
        self.dependencies.forgive(engine)
        worker = WorkerRecord(engine, properties_version, now, self.dependencies.ask)
        self.workers[engine] = worker
        self.roomy[engine] = worker

    def worker_lost(
        self, engine: int, now: float, reason: str = "", other_work: bool = False
    ) -> None:
        """An engine is gone for good.

        :param reason: how it went, for people.
        :param other_work: it had commands besides its tasks, which may be what ended it.
        """
        worker = self.workers.pop(engine, None)
        if worker is None:
            return
        self.unusable(worker)
        head = worker.first()
        if head is None or worker.running != (head.id, head.attempt):
            # It may have died of a dependency function instead of a task.
            other_work = other_work or bool(worker.asked)
            if not worker.doomed:
                self.dependencies.died(worker)
        self.faults.died(worker, now, reason, other_work)

    def properties_changed(self, engine: int, version: int, now: float) -> None:
        """An engine's properties have changed: what was known of its dependencies is void."""
        worker = self.workers.get(engine)
        if worker is None:
            return
        self.dependencies.changed(worker, version)
        self._consider(worker)

    def depend_answer(
        self, engine: int, depend: Digest, version: int, answer: bool, now: float
    ) -> None:
        """An engine says whether a dependency holds for its properties."""
        worker = self.workers.get(engine)
        if worker is None or worker.properties_version != version:
            self.dropped += 1
            return
        self.dependencies.answered(worker, depend, answer)

    def results(self, engine: int, entries: Iterable[Result], now: float) -> None:
        """An engine tells how runs came out, in the order in which they ended."""
        worker = self.workers.get(engine)
        if worker is None:
            self.dropped += 1
            return
        outstanding = worker.outstanding
        tasks = self.tasks
        done: list[Finished] = []
        work = 0.0
        measured, durations, number = None, 0.0, 0
        for task_id, attempt, status, duration, payload in entries:
            record = outstanding.get(task_id)
            if record is None or record.attempt != attempt:
                self.dropped += 1
                continue
            options = record.options
            if options.measured is not measured:
                if measured is not None:
                    measured.add(durations, number)
                measured, durations, number = options.measured, 0.0, 0
            durations += duration / options.weight
            number += 1
            if status or record.state is not ASSIGNED or record.trouble is not None:
                self.clients.finished(done)
                done = []
                self.faults.ended(worker, record, Status(status), duration, payload, now)
                continue
            del outstanding[task_id], tasks[task_id]
            work += record.estimate
            record.state = DONE
            account = record.client
            account.released_size += len(record.payload)
            done.append(
                Finished(
                    task_id, account, OK, engine, attempt, record.submitted, now, duration, payload
                )
            )
        if measured is not None:
            measured.add(durations, number)
        self.clients.finished(done)
        worker.progressed(work, now)
        self._consider(worker)

    def arriving(self, engine: int, task_id: int, attempt: int, now: float) -> None:
        """A run has ended, and its result, which is large, is on its way; :meth:`results` follows.

        From now on it is not what the engine runs: not what it dies of, nor what runs out of time.
        """
        worker = self.workers.get(engine)
        record = worker.outstanding.get(task_id) if worker is not None else None
        if worker is None or record is None or record.attempt != attempt:
            self.dropped += 1
            return
        worker.arriving.add(task_id)
        worker.progress = now

    def running(self, engine: int, task_id: int, attempt: int, now: float) -> None:
        """An engine tells that it has begun a run."""
        worker = self.workers.get(engine)
        record = worker.outstanding.get(task_id) if worker is not None else None
        if worker is None or record is None or record.attempt != attempt:
            self.dropped += 1
            return
        if worker.running == (task_id, attempt):
            return
        worker.running = (task_id, attempt)
        worker.progress = now
        if record.options.timeout and record.state is ASSIGNED:
            self.timers.at(now + record.options.timeout, "timeout", record, attempt)

    def retracted(self, engine: int, runs: Iterable[tuple[int, int]], now: float) -> None:
        """An engine gives back runs that it had not begun; what it was asked for besides, it keeps."""
        worker = self.workers.get(engine)
        if worker is None:
            self.dropped += 1
            return
        worker.retracting.clear()
        back = []
        for task_id, attempt in runs:
            record = worker.outstanding.get(task_id)
            if record is None or record.attempt != attempt:
                self.dropped += 1
                continue
            back.append(record)
        self.faults.given_back(worker, back, now)
        self._consider(worker)

    # -- requests

    def abort(self, task_id: int, now: float, by_force: bool = True) -> None:
        """End a task that is not done; it ends with ``TaskAborted``.

        :param by_force: kill an engine that does not let go of it in time.
        :raises IndexError: when it is done, or there is none of that number.
        """
        record = self.tasks.get(task_id)
        if record is None:
            if self.store.knows(task_id):
                raise IndexError(f"task {task_id} is completed already; it cannot be aborted")
            raise IndexError(f"there is no task {task_id}")
        self.faults.abort(record, now, by_force)

    def withdraw(self, task_id: int, now: float) -> bool | None:
        """End a task with ``TaskAborted`` if it has not begun; leave it alone if it has.

        :returns: True when it has ended so, False when it has begun or is done, None when its engine is being asked:
            then ask again.
        """
        record = self.tasks.get(task_id)
        if record is not None:
            return self.faults.withdraw(record, now)
        # It may have come back since it was asked for last time.
        finished = self.store.results.get(task_id)
        return finished is not None and finished.error == withdrawn_error(task_id)

    def has_begun(self, task_id: int) -> bool:
        """Whether a task runs now, for all that is known."""
        record = self.tasks.get(task_id)
        if record is None or record.worker is None:
            return False
        return record.worker.running == (task_id, record.attempt)

    def spin(self, now: float) -> None:
        """Try everything again: engines are asked anew about dependencies, and rejections are forgotten."""
        self.dependencies.forget()

    def status(self) -> dict[str, list[int]]:
        """The ids of the tasks in each state; ``unsatisfied`` is a part of ``scheduled``."""
        pending = [
            head.id for worker in self.workers.values() if (head := worker.first()) is not None
        ]
        begun = set(pending)
        return {
            "scheduled": sorted(task_id for task_id in self.tasks if task_id not in begun),
            "pending": sorted(pending),
            "succeeded": list(self.store.succeeded),
            "failed": list(self.store.failed),
            "unsatisfied": self._unsatisfied(),
        }

    def counts(self) -> dict[str, int]:
        """The number of tasks in each state, as in :meth:`status`."""
        pending = sum(1 for worker in self.workers.values() if worker.first() is not None)
        return {
            "scheduled": len(self.tasks) - pending,
            "pending": pending,
            "succeeded": len(self.store.succeeded),
            "failed": len(self.store.failed),
            "unsatisfied": len(self._unsatisfied()),
        }

    def _unsatisfied(self) -> list[int]:
        workers = [worker for worker in self.workers.values() if worker.usable]
        if not workers:
            return []
        return sorted(record.id for record in self.assigner.unsatisfied(workers))

    # -- time

    def tick(self, now: float) -> None:
        """Do what is due."""
        for kind, record, attempt in self.timers.due(now):
            if kind == "timeout" and record is not None:
                self.faults.time_is_up(record, attempt, now)
            elif kind == "kill" and record is not None:
                self.faults.grace_is_up(record, attempt, now)
            elif kind == "expire":
                self.clients.expire(now)

    def next_tick(self) -> float | None:
        """When :meth:`tick` has something to do, as far as is known now."""
        return self.timers.next()

    # -- the end of a turn

    def settle(self, now: float) -> list[Instruction]:
        """Assign what can be assigned, and return what is to be done about all events since the last call."""
        if len(self.assigner) and self.roomy:
            free = [worker for worker in self.roomy.values() if not self.held(worker.id)]
            self._assign([worker for worker in free if not worker.outstanding], now)
            if len(self.assigner) and self.roomy:
                self._assign([worker for worker in free if worker.id in self.roomy], now)
            if len(self.assigner) and self.roomy:
                self._assign(list(self.roomy.values()), now)
        if self.roomy:
            take_back(self, now)
        self.clients.settle(now)
        if len(self.timers) > 100 + 2 * len(self.tasks):
            self.timers.compact()
        out, self._out = self._out, []
        return out

    def _assign(self, workers: list[WorkerRecord], now: float) -> None:
        for worker, batch in self.assigner.assign(workers):
            outstanding = worker.outstanding
            if not outstanding:
                worker.given = now
            guarded: list[int] = []
            for record in batch:
                record.state = ASSIGNED
                record.attempt += 1
                record.worker = worker
                outstanding[record.id] = record
                options = record.options
                if not options.measured.count or options.timeout or record.suspect:
                    guarded.append(record.id)
            worker.guarded.update(guarded)
            self._out.append(Send(worker.id, batch, frozenset(guarded)))
            self._consider(worker)

    def _consider(self, worker: WorkerRecord) -> None:
        """Note whether a worker can take more."""
        prefetch = self.settings.prefetch
        if worker.usable and prefetch.has_room(worker.work, len(worker.outstanding)):
            self.roomy[worker.id] = worker
        else:
            self.unusable(worker)

    # -- what the policies use

    def say(self, instruction: Instruction) -> None:
        """Have something done."""
        self._out.append(instruction)

    def unusable(self, worker: WorkerRecord) -> None:
        """A worker cannot take more."""
        if self.roomy.pop(worker.id, None) is not None:
            self.assigner.withdraw(worker)

    def detach(self, worker: WorkerRecord, record: TaskRecord) -> None:
        """A worker does not have a task any more; it is put somewhere else at once."""
        del worker.outstanding[record.id]
        worker.work = max(0.0, worker.work - record.estimate) if worker.outstanding else 0.0
        worker.guarded.discard(record.id)
        worker.arriving.discard(record.id)
        worker.retracting.discard(record.id)
        record.worker = None
        record.state = QUEUED

    def finish(
        self,
        record: TaskRecord,
        status: Status,
        engine: int,
        now: float,
        duration: float = 0.0,
        payload: bytes = b"",
        error: Error | None = None,
    ) -> None:
        """A task is done; it is neither queued nor assigned any more."""
        record.state = DONE
        del self.tasks[record.id]
        account = record.client
        account.released_size += len(record.payload)
        if record.trouble is not None:
            account.released_size += sum(len(payload) for _, payload in record.trouble.recovery)
        self.clients.finished(
            [
                Finished(
                    record.id,
                    account,
                    status,
                    engine,
                    record.attempt,
                    record.submitted,
                    now,
                    duration,
                    payload,
                    error,
                )
            ]
        )
