"""The scheduler's state machine: events in, instructions out.

Every event is a method, of the machine or of its ``clients``; ``now`` is seconds on one monotonic clock of the
caller's.  An event only changes what is known.  When all events of a turn are in, the caller calls
:meth:`TaskMachine.settle`, which assigns tasks to engines and returns the instructions of the whole turn, so a turn
costs one message per engine and client however many tasks it moved.

======================  ==========================================  =======================================
a task that is          on                                          becomes
======================  ==========================================  =======================================
(new)                   submit                                      QUEUED, or WAITING for other tasks
(of an earlier epoch)   restore                                     UNCLEAR
UNCLEAR                 an engine is back and has it                ASSIGNED
UNCLEAR                 all engines that may have it are back/gone  QUEUED, in its old place, or WAITING
UNCLEAR                 abort                                       DONE: TaskAborted
WAITING                 the others came out as it wants             QUEUED
WAITING                 one of them did not, or never comes         DONE: DependencyFailed
WAITING                 abort                                       DONE: TaskAborted
QUEUED                  the engines that it follows are gone        DONE: DependencyFailed
QUEUED                  settle, an engine that may run it has room  ASSIGNED
QUEUED                  abort                                       DONE: TaskAborted
QUEUED                  no engine could run it for too long         DONE: TaskTimeout
ASSIGNED                result OK                                   DONE
ASSIGNED                result FAILED                               QUEUED (retry, recovery) or DONE
ASSIGNED                result REJECTED                             QUEUED, not for that engine
ASSIGNED                retracted; its engine died before it began  QUEUED, in its old place
ASSIGNED                its engine was away and does not have it    QUEUED, in its old place
ASSIGNED                its engine died of it                       QUEUED (retry, recovery) or DONE: EngineDied
ASSIGNED                its engine died, it is one of the suspects  QUEUED, guarded from now on
ASSIGNED                its engine died, its result was on its way  QUEUED, in its old place
ASSIGNED                abort, its time is up                       ABORTING
ABORTING                any result; its engine died                 DONE, or QUEUED for a retry after a timeout
UNCLEAR, QUEUED,        no engine has it, and its client has its    DONE
WAITING                 result from the earlier controller
DONE                    clear, too old, too much                    (gone)
======================  ==========================================  =======================================

Whatever does not fit (a second result, an old attempt, a task of nobody) was delivered twice or too late: it
is counted and dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ipython1.kernel.controller.scheduling.absence import Absence, Restored
from ipython1.kernel.controller.scheduling.accounts import Account, Finished
from ipython1.kernel.controller.scheduling.assigners import Assigner
from ipython1.kernel.controller.scheduling.balance import hand_back, take_back
from ipython1.kernel.controller.scheduling.clients import Clients
from ipython1.kernel.controller.scheduling.custody import Rows
from ipython1.kernel.controller.scheduling.dependencies import Dependencies
from ipython1.kernel.controller.scheduling.faults import Faults
from ipython1.kernel.controller.scheduling.instructions import Instruction, Safe, Send
from ipython1.kernel.controller.scheduling.notes import Notes
from ipython1.kernel.controller.scheduling.predecessors import Predecessors
from ipython1.kernel.controller.scheduling.prefetch import Templates
from ipython1.kernel.controller.scheduling.records import (
    ASSIGNED,
    DONE,
    QUEUED,
    UNCLEAR,
    WAITING,
    Digest,
    Error,
    Parcel,
    Submission,
    TaskRecord,
    WorkerRecord,
)
from ipython1.kernel.controller.scheduling.reports import Reports
from ipython1.kernel.controller.scheduling.requests import Requests
from ipython1.kernel.controller.scheduling.retention import ResultStore
from ipython1.kernel.controller.scheduling.seams import TaskSettings
from ipython1.kernel.controller.scheduling.survey import Survey
from ipython1.kernel.controller.scheduling.timelimits import TimeLimits
from ipython1.kernel.controller.scheduling.timers import Timers
from ipython1.kernel.controller.scheduling.unrunnable import Unrunnable
from ipython1.kernel.wire.frames import Bytes
from ipython1.kernel.wire.taskwire import Result, Status, attempt_number

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
        self.settings: TaskSettings = settings or TaskSettings()
        self.assigner = assigner
        self.templates: Templates = Templates(self.settings.prefetch)
        self.tasks: dict[int, TaskRecord] = {}
        """All that are not done, by id."""
        self.workers: dict[int, WorkerRecord] = {}
        self.timers: Timers = Timers()
        self.roomy: dict[int, WorkerRecord] = {}
        """The usable engines that can take more."""
        self.dropped: int = 0
        """Repeated or late deliveries."""
        self._out: list[Instruction] = []
        self._before = attempt_number(self.settings.epoch, 0)
        self._rows: Rows | None = None
        self.clients: Clients = Clients(self)
        self.store: ResultStore = self.clients.store
        self.predecessors: Predecessors = Predecessors(self, self.clients)
        self.dependencies: Dependencies = Dependencies(self)
        self.faults: Faults = Faults(self)
        self.restored: Restored = Restored(self)
        self.survey: Survey = Survey(self, self.clients, self.restored, self.predecessors)
        self.status: Callable[[], dict[str, list[int]]] = self.survey.status
        self.counts: Callable[[], dict[str, int]] = self.survey.counts
        requests = Requests(self, self.clients, self.faults)
        self.abort: Callable[..., None] = requests.abort
        self.withdraw: Callable[[int, float], bool | None] = requests.withdraw
        self.has_begun: Callable[[int], bool] = requests.has_begun
        self.told_before: Callable[..., None] = self.restored.told
        self._absence = Absence(self, self.restored)
        self._limits = TimeLimits(self)
        reports = Reports(self, self.faults, self._limits)
        self.arriving: Callable[..., None] = reports.arriving
        self.running: Callable[[int, int, int, float], None] = reports.running
        self.retracted: Callable[[int, Iterable[tuple[int, int]], float], None] = reports.retracted
        self._unrunnable = Unrunnable(self, self.survey)
        self._notes = Notes(self, self.survey)

    # -- clients (the rest of what they do is told to ``clients``)

    def submit(self, uuid: bytes, submissions: Iterable[Submission], now: float) -> None:
        """Tasks arrive, in rising order of ids, and are safe at once; see :meth:`Clients.admit`."""
        self.accept(self.clients.admit(uuid, submissions, now), None, now)

    def accept(self, records: list[TaskRecord], parcel: Parcel | None, now: float) -> None:
        """Tasks of one client that have arrived are safe.

        :param parcel: all of these, as the journal knows them.
        """
        if not records:
            return
        tasks = self.tasks
        linked = False
        for record in records:
            tasks[record.id] = record
            if record.links is not None:
                linked = True
        self.clients.accepted(records, parcel)
        self.assigner.put_many(self.predecessors.arrived(records) if linked else records)
        self.predecessors.look_again()
        self._unrunnable.soon(now)
        self._notes.soon(now)

    def restore(self, records: list[TaskRecord], engines: Iterable[int], now: float) -> None:
        """This controller was started again; the clients' accounts are there already.

        :param records: the tasks that were not done, in the order of submission.
        :param engines: those that may have some of them; they have joined and are away.
        """
        for record in records:
            self.tasks[record.id] = record
        self.restored.begin(records, engines, now)

    # -- engines

    def worker_joined(
        self,
        engine: int,
        properties_version: int,
        now: float,
        stale: bool = False,
        known: bool = True,
        since: float | None = None,
    ) -> None:
        """An engine can be used from now on; one that had its id before is forgotten.

        :param stale: it was given up once, and may not have ended yet what it was running then.
        :param known: it is in the journal; if not, it is given nothing before :meth:`worker_known`.
        :param since: since when it has this id, which may be from an earlier controller; default: now.
        """
        self.dependencies.forgive(engine)
        self.predecessors.following.ran.joined(engine)
        worker = WorkerRecord(engine, properties_version, now, self.dependencies.ask)
        worker.stale, worker.known = stale, known
        if since is not None:
            worker.joined = since
        self.workers[engine] = worker
        self.consider(worker)

    def worker_known(self, engine: int) -> None:
        """An engine is in the journal."""
        worker = self.workers.get(engine)
        if worker is not None:
            worker.known = True
            self.consider(worker)

    def worker_away(self, engine: int) -> None:
        """An engine is out of reach, and may come back."""
        worker = self.workers.get(engine)
        if worker is not None:
            self._absence.away(worker)

    def worker_back(
        self,
        engine: int,
        runs: Sequence[tuple[int, int]],
        ended: Sequence[tuple[int, int]],
        now: float,
    ) -> None:
        """An engine is back.

        :param runs: (task id, attempt) of what waits or runs there, in order.
        :param ended: those of which it will tell the results.
        """
        worker = self.workers.get(engine)
        if worker is None:
            return
        lacking = self._absence.back(worker, runs, ended, now)
        self.faults.given_back(worker, lacking, now)
        worker.progress = now
        if worker.draining:
            hand_back(self, worker)
        self._limits.again(worker, now)
        self.consider(worker)

    def worker_lost(
        self,
        engine: int,
        now: float,
        reason: str = "",
        other_work: bool = False,
        blameless: bool = False,
    ) -> None:
        """An engine is gone for good.

        :param reason: how it went, for people.
        :param other_work: it had commands besides its tasks, which may be what ended it.
        :param blameless: somebody has ended it on purpose, so that its tasks are not to blame.
        """
        worker = self.workers.pop(engine, None)
        if worker is None:
            return
        self.unusable(worker)
        head = worker.first()
        if head is None or worker.running != (head.id, head.attempt):
            # It may have died of a dependency function instead of a task.
            other_work = other_work or bool(worker.asked)
            if not worker.doomed and not blameless:
                self.dependencies.died(worker)
        self.faults.died(worker, now, reason, other_work, blameless)
        self.predecessors.engine_lost(engine, now)
        self._notes.soon(now)
        self.restored.settled(engine, now)

    def drain(self, engine: int, draining: bool) -> None:
        """An engine is to be given no more tasks, and to hand back what it has not begun; or it is used again."""
        worker = self.workers.get(engine)
        if worker is not None and worker.draining is not draining:
            worker.draining = draining
            if draining and not worker.away:
                hand_back(self, worker)
            self.consider(worker)

    def properties_changed(self, engine: int, version: int, now: float) -> None:
        """An engine's properties have changed: what was known of its dependencies is void."""
        worker = self.workers.get(engine)
        if worker is None:
            return
        self.dependencies.changed(worker, version)
        self.consider(worker)

    def depend_answer(
        self, engine: int, depend: Digest, version: int, answer: bool, now: float, problem: str = ""
    ) -> None:
        """An engine says whether a dependency holds for its properties, and what it raised."""
        worker = self.workers.get(engine)
        if worker is None or worker.properties_version != version:
            self.dropped += 1
            return
        self.dependencies.answered(worker, depend, answer, problem)
        self._notes.soon(now)

    def results(self, engine: int, entries: Sequence[Result], now: float, first: int = 0) -> None:
        """An engine tells how runs came out, in the order in which they ended.

        :param first: the number of the first row; 0 if they have none.
        :raises ProtocolError: when there are rows missing before them.
        """
        worker = self.workers.get(engine)
        if worker is None:
            self.dropped += 1
            return
        rows = self._rows = worker.custody.received(first, len(entries)) if first else None
        worker.stale = False
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
                self.clients.finished(done, rows)
                done = []
                self.faults.ended(worker, record, Status(status), duration, payload, now)
                continue
            del outstanding[task_id], tasks[task_id]
            work += record.estimate
            record.state = DONE
            account = record.client
            account.released_size += len(record.payload)
            if record.parcel is not None:
                self._count_down(record.parcel, account)
            done.append(Finished(record, OK, engine, now, duration, payload))
        if measured is not None:
            measured.add(durations, number)
        self.clients.finished(done, rows)
        self._rows = None
        worker.progressed(work, now)
        if worker.timed:
            self._limits.look(worker, now)
        self.consider(worker)

    # -- requests

    def spin(self, now: float) -> None:
        """Try everything again: engines are asked anew about dependencies, and rejections are forgotten."""
        self.dependencies.forget()
        self._notes.forget()

    # -- time

    def tick(self, now: float) -> None:
        """Do what is due."""
        for kind, record, attempt in self.timers.due(now):
            if kind == "timeout" and record is not None:
                if self._limits.is_up(record, attempt, now):
                    self.faults.time_is_up(record, now)
            elif kind == "kill" and record is not None:
                self.faults.grace_is_up(record, attempt, now)
            elif kind == "expire":
                self.clients.expire(now)
            elif kind == "unrunnable":
                self._unrunnable.look(now)
            elif kind == "notes":
                self._notes.look()

    def next_tick(self) -> float | None:
        """When :meth:`tick` has something to do, as far as is known now."""
        return self.timers.next()

    # -- the end of a turn

    def settle(self, now: float) -> list[Instruction]:
        """Assign what can be assigned, and return what is to be done about all events since the last call."""
        self.predecessors.settle(now)
        if len(self.assigner) and self.roomy and not self.clients.closed():
            free = [
                worker
                for worker in self.roomy.values()
                if not worker.stale and not self.held(worker.id)
            ]
            self._assign([worker for worker in free if not worker.outstanding], now)
            if len(self.assigner) and self.roomy:
                self._assign([worker for worker in free if worker.id in self.roomy], now)
            if len(self.assigner) and self.roomy:
                self._assign(list(self.roomy.values()), now)
        if self.roomy:
            take_back(self, now)
        self.clients.settle(now)
        for worker in self.workers.values():
            if not worker.away:
                row = worker.custody.to_tell()
                if row is not None:
                    self._out.append(Safe(worker.id, row))
        if len(self.timers) > 100 + 2 * len(self.tasks):
            self.timers.compact()
        out, self._out = self._out, []
        return out

    def _assign(self, workers: list[WorkerRecord], now: float) -> None:
        before = self._before
        for worker, batch in self.assigner.assign(workers):
            outstanding = worker.outstanding
            if not outstanding:
                worker.given = now
            guarded: list[int] = []
            for record in batch:
                record.state = ASSIGNED
                attempt = record.attempt
                record.attempt = (attempt if attempt > before else before) + 1
                record.worker = worker
                outstanding[record.id] = record
                options = record.options
                if not options.measured.count or options.timeout or record.suspect:
                    guarded.append(record.id)
                    if options.timeout:
                        worker.timed.add(record.id)
            worker.guarded.update(guarded)
            self._out.append(Send(worker.id, batch, frozenset(guarded)))
            if worker.timed:
                self._limits.look(worker, now)
            self.consider(worker)

    def consider(self, worker: WorkerRecord) -> None:
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
        worker.kept.discard(record.id)
        worker.timed.discard(record.id)
        record.worker = None
        record.state = QUEUED

    def put_back(self, records: list[TaskRecord], now: float, anew: bool = False) -> None:
        """Tasks that no engine has any more wait again: in their old places, or ``anew`` behind all others."""
        clear = self.predecessors.hold_back(self.restored.hold_back(records, now))
        (self.assigner.put_many if anew else self.assigner.put_back)(clear)

    def unqueue(self, record: TaskRecord) -> None:
        """A task that no engine has is done for."""
        if record.state is UNCLEAR:
            self.restored.taken(record.id)
        elif record.state is WAITING:
            self.predecessors.take(record)
        else:
            self.assigner.remove(record)

    def finish(
        self,
        record: TaskRecord,
        status: Status,
        engine: int,
        now: float,
        duration: float = 0.0,
        payload: Bytes = b"",
        error: Error | None = None,
    ) -> None:
        """A task is done; it is neither queued nor assigned any more."""
        record.state = DONE
        del self.tasks[record.id]
        account = record.client
        account.released_size += record.size
        if record.parcel is not None:
            self._count_down(record.parcel, account)
        finished = Finished(record, status, engine, now, duration, payload, error)
        if record.trouble is not None and record.trouble.told:
            self.restored.as_told(finished, record.trouble.told_failed)
            self.clients.told_before(finished, self._rows, now)
        else:
            self.clients.finished([finished], self._rows)

    def _count_down(self, parcel: Parcel, account: Account) -> None:
        """One more task of a parcel is done."""
        parcel.left -= 1
        if not parcel.left:
            self.clients.over(account, parcel)
