"""The scheduler's state machine: events in, instructions out.

Every event is a method; ``now`` is seconds on one monotonic clock of the caller's.  An event only changes what
is known. When all events of a turn are in, the caller calls :meth:`TaskMachine.settle`, which assigns tasks to
engines and returns the instructions of the whole turn, so a turn costs one message per engine and client however many
tasks it moved.

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

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from ipython1.kernel.basics.error import (
    InvalidClientID,
    ProtocolError,
    ResultAlreadyRetrieved,
    ResultNotCompleted,
)
from ipython1.kernel.controller.scheduling.accounts import Account, Finished, Lease
from ipython1.kernel.controller.scheduling.assigners import Assigner
from ipython1.kernel.controller.scheduling.balance import take_back
from ipython1.kernel.controller.scheduling.faults import Faults, withdrawn_error
from ipython1.kernel.controller.scheduling.instructions import (
    AskDepend,
    Credit,
    Deliver,
    Instruction,
    Send,
)
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
from ipython1.kernel.controller.scheduling.retention import ResultStore
from ipython1.kernel.controller.scheduling.seams import TaskSettings
from ipython1.kernel.controller.scheduling.timers import Timers
from ipython1.kernel.wire.taskwire import Result, Status

Submission: TypeAlias = tuple[int, TaskTerms, bytes, Sequence[tuple[TaskTerms, bytes]]]
"""Task id, options, payload, and (options, payload) of each recovery task."""

OK = Status.OK


class TaskMachine:
    """The state of the task interface of one controller.

    :param assigner: which engine gets which task.
    """

    def __init__(self, assigner: Assigner, settings: TaskSettings | None = None) -> None:
        self.settings = settings or TaskSettings()
        self.assigner = assigner
        self.templates = Templates(self.settings.prefetch)
        self.tasks: dict[int, TaskRecord] = {}
        """All that are not done, by id."""
        self.workers: dict[int, WorkerRecord] = {}
        self.clients: dict[bytes, Account] = {}
        self.store = ResultStore(self.settings.keep_size, self.settings.keep_age)
        self.timers = Timers()
        self.roomy: dict[int, WorkerRecord] = {}
        """The usable engines that can take more."""
        self.dropped = 0
        """Repeated or late deliveries."""
        self._next_id = 0
        self._deadly: Counter[Digest] = Counter()
        self._out: list[Instruction] = []
        self._deliveries: dict[bytes, list[Finished]] = {}
        self._watchers: dict[int, list[bytes]] = {}
        self._touched: dict[bytes, Account] = {}
        self.faults = Faults(self)

    # -- clients

    def client_joined(self, uuid: bytes, now: float) -> Account:
        """A client came, or came back; what it has not confirmed is delivered (again)."""
        account = self.clients.get(uuid)
        if account is None:
            account = self.clients[uuid] = Account(
                uuid, self.settings.window_tasks, self.settings.window_size
            )
        account.connected, account.gone = True, False
        account.told, account.granted = account.accepted, account.credit
        for number, (_, finished) in account.unconfirmed.items():
            self._out.append(Deliver(uuid, number, finished))
        return account

    def client_left(self, uuid: bytes, now: float, for_good: bool = True) -> None:
        """A client is gone, and may come back unless ``for_good``.  Its tasks go on."""
        account = self.clients.get(uuid)
        if account is None:
            return
        account.connected = False
        account.gone = for_good
        if for_good:
            self._close(account, now)

    def _close(self, account: Account, now: float) -> None:
        """The results of a client that is gone are for others."""
        for number in list(account.unconfirmed):
            self.confirm(account.uuid, number, now)
        if account.idle:
            self.clients.pop(account.uuid, None)

    def lease(self, uuid: bytes) -> Lease:
        """A block of task ids for a client.

        :raises InvalidClientID: when the client is unknown.
        """
        lease = self._account(uuid).lease(self._next_id)
        self._next_id = lease.stop
        return lease

    def _account(self, uuid: bytes) -> Account:
        account = self.clients.get(uuid)
        if account is None:
            raise InvalidClientID(f"the controller does not know the client {uuid.hex()[:8]}")
        return account

    def submit(self, uuid: bytes, submissions: Iterable[Submission], now: float) -> None:
        """A client submits tasks, in rising order of ids.

        :raises InvalidClientID: when the client is unknown, or an id is not one of those it has leased.
        :raises ProtocolError: when it submits far more than its credit allows.
        """
        account = self._account(uuid)
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
                account.accepted += len(fresh)
                self._touched[uuid] = account

    def confirm(self, uuid: bytes, number: int, now: float) -> None:
        """A client has received the batch of results ``number``."""
        account = self.clients.get(uuid)
        entry = account.unconfirmed.pop(number, None) if account is not None else None
        if account is None or entry is None:
            self.dropped += 1
            return
        size, batch = entry
        account.released += len(batch)
        account.unread_size -= size
        self.store.confirmed(batch, now)
        self._touched[uuid] = account
        self.timers.at(now + self.settings.keep_age, "expire")

    # -- engines

    def worker_joined(self, engine: int, properties_version: int, now: float) -> None:
        """An engine can be used from now on; one that had its id before is forgotten."""
        self._forgive(engine)
        worker = WorkerRecord(engine, properties_version, now, self._ask)
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
                self._deadly.update(worker.asked)
        self.faults.died(worker, now, reason, other_work)

    def properties_changed(self, engine: int, version: int, now: float) -> None:
        """An engine's properties have changed: what was known of its dependencies is void."""
        worker = self.workers.get(engine)
        if worker is None:
            return
        worker.properties_version = version
        worker.answers.clear()
        worker.asked.clear()
        self._deadly.clear()
        self._forgive(engine)
        self._consider(worker)

    def depend_answer(
        self, engine: int, depend: Digest, version: int, answer: bool, now: float
    ) -> None:
        """An engine says whether a dependency holds for its properties."""
        worker = self.workers.get(engine)
        if worker is None or worker.properties_version != version:
            self.dropped += 1
            return
        self._deadly.pop(depend, None)
        worker.asked.discard(depend)
        worker.answers[depend] = answer

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
                self._finish_batch(done)
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
                    task_id,
                    account,
                    OK,
                    engine,
                    attempt,
                    record.submitted,
                    now,
                    duration,
                    payload,
                )
            )
        if measured is not None:
            measured.add(durations, number)
        self._finish_batch(done)
        worker.work = worker.work - work if outstanding else 0.0
        worker.progress = now
        if worker.guarded:
            worker.guarded &= outstanding.keys()
        if worker.arriving:
            worker.arriving &= outstanding.keys()
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

    def fetch(self, uuid: bytes, task_id: int, wait: bool) -> Finished | None:
        """The result of a task; None when it is not done.

        :param wait: have it delivered to the client ``uuid`` when it is.
        :raises IndexError: when there is no task of that number.
        :raises ResultAlreadyRetrieved: when its result is not kept any more.
        """
        finished = self.store.results.get(task_id)
        if finished is not None:
            return finished
        if task_id in self.tasks:
            if wait:
                watchers = self._watchers.setdefault(task_id, [])
                if uuid not in watchers:
                    watchers.append(uuid)
            return None
        if self.store.knows(task_id):
            raise ResultAlreadyRetrieved(
                f"the result of task {task_id} was delivered to its client and is no longer kept"
            )
        raise IndexError(f"there is no task {task_id}")

    def clear(self, uuid: bytes, task_ids: Iterable[int] | None, now: float) -> None:
        """Forget finished tasks: those given, or all but other clients' unread ones.

        :raises IndexError: when there is no task of a given number.
        :raises ResultNotCompleted: when one of them is not done.
        """
        store = self.store
        if task_ids is None:
            unread = {
                finished.id
                for account in self.clients.values()
                if account.uuid != uuid and account.connected
                for _, batch in account.unconfirmed.values()
                for finished in batch
            }
            for task_id in [*store.succeeded, *store.failed]:
                if task_id not in unread:
                    store.clear(task_id)
            return
        chosen = list(task_ids)
        for task_id in chosen:
            if task_id in self.tasks:
                raise ResultNotCompleted(
                    f"task {task_id} is not done and cannot be cleared; abort it first"
                )
            if not store.knows(task_id):
                raise IndexError(f"there is no task {task_id}")
        for task_id in chosen:
            store.clear(task_id)

    def spin(self, now: float) -> None:
        """Try everything again: engines are asked anew about dependencies, and rejections are forgotten."""
        for worker in self.workers.values():
            worker.answers.clear()
        self._deadly.clear()
        self._forgive(None)

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

    def undelivered(self, uuid: bytes) -> int:
        """How many results wait for the end of the turn."""
        return len(self._deliveries.get(uuid, ()))

    # -- time

    def tick(self, now: float) -> None:
        """Do what is due."""
        for kind, record, attempt in self.timers.due(now):
            if kind == "timeout" and record is not None:
                self.faults.time_is_up(record, attempt, now)
            elif kind == "kill" and record is not None:
                self.faults.grace_is_up(record, attempt, now)
            elif kind == "expire":
                due = self.store.expire(now)
                if due is not None:
                    self.timers.at(due, "expire")

    def next_tick(self) -> float | None:
        """When :meth:`tick` has something to do, as far as is known now."""
        return self.timers.next()

    # -- the end of a turn

    def settle(self, now: float) -> list[Instruction]:
        """Assign what can be assigned, and return what is to be done about all events since the last call."""
        if len(self.assigner) and self.roomy:
            self._assign([worker for worker in self.roomy.values() if not worker.outstanding])
            if len(self.assigner) and self.roomy:
                self._assign(list(self.roomy.values()))
        if self.roomy:
            take_back(self, now)
        if self._deliveries:
            self._deliver(now)
        if self._touched:
            for uuid, account in self._touched.items():
                if account.connected and account.credit_due():
                    account.told, account.granted = account.accepted, account.credit
                    self._out.append(Credit(uuid, account.accepted, *account.granted))
            self._touched = {}
        if len(self.timers) > 100 + 2 * len(self.tasks):
            self.timers.compact()
        out, self._out = self._out, []
        return out

    def _deliver(self, now: float) -> None:
        deliveries, self._deliveries = self._deliveries, {}
        for uuid, batch in deliveries.items():
            account = self.clients[uuid]
            size = sum(len(finished.payload) for finished in batch)
            number = account.next_batch
            account.next_batch += 1
            account.unread_size += size
            account.unconfirmed[number] = (size, batch)
            if account.connected:
                self._out.append(Deliver(uuid, number, batch))
            elif account.gone:
                self._close(account, now)

    def _assign(self, workers: list[WorkerRecord]) -> None:
        for worker, batch in self.assigner.assign(workers):
            outstanding = worker.outstanding
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
        self._finish_batch(
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

    def _finish_batch(self, batch: list[Finished]) -> None:
        if not batch:
            return
        self.store.add(batch)
        deliveries = self._deliveries
        account = None
        own: list[Finished] = []
        for finished in batch:
            if finished.client is not account:
                account = finished.client
                own = deliveries.setdefault(account.uuid, [])
            own.append(finished)
        if self._watchers:
            for finished in batch:
                for uuid in self._watchers.pop(finished.id, ()):
                    if uuid != finished.client.uuid:
                        self._out.append(Deliver(uuid, 0, [finished]))

    def _ask(self, worker: WorkerRecord, depend: Digest) -> None:
        if self._deadly[depend] >= self.settings.max_deaths:
            # So many engines died instead of answering; the others are spared.
            worker.answers[depend] = False
        elif depend not in worker.asked and worker.usable:
            worker.asked.add(depend)
            self._out.append(AskDepend(worker.id, depend, worker.properties_version))

    def _forgive(self, engine: int | None) -> None:
        """Rejections of an engine (None: of all) do not count any more."""
        for worker in self.workers.values():
            for record in worker.outstanding.values():
                if record.trouble is not None and record.trouble.rejected:
                    record.trouble.forgive(engine)
        forgiven = [
            record
            for record in self.assigner.rejecting()
            if engine is None or engine in record.in_trouble().rejected
        ]
        for record in forgiven:
            record.in_trouble().forgive(engine)
        if forgiven:
            self.assigner.regroup()
