"""Random events on the task machine, with every invariant checked after each of them.

Engines and clients lose their links and come back, the controller is killed and starts again with what its journal had
written by then, and nothing may be lost, run twice where once was enough, or told to nobody.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field, replace

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.controller.idset import IdSet
from ipython1.kernel.controller.scheduling.accounts import Account, Batch, Lease
from ipython1.kernel.controller.scheduling.assigners import (
    Assigner,
    BulkAssigner,
    SchedulerAssigner,
)
from ipython1.kernel.controller.scheduling.instructions import (
    AskDepend,
    Credit,
    Deliver,
    Keep,
    Kill,
    Locate,
    Refuse,
    Retract,
    Safe,
    Send,
    Stop,
    Tell,
)
from ipython1.kernel.controller.scheduling.invariants import check
from ipython1.kernel.controller.scheduling.machine import TaskMachine
from ipython1.kernel.controller.scheduling.prefetch import Prefetch
from ipython1.kernel.controller.scheduling.queues import FIFOLine, LIFOLine, PriorityLine
from ipython1.kernel.controller.scheduling.records import (
    QUEUED,
    WAITING,
    Companion,
    Parcel,
    Submission,
    TaskRecord,
    TaskTerms,
)
from ipython1.kernel.controller.scheduling.seams import TaskSettings
from ipython1.kernel.controller.taskschedulers import FIFOScheduler, PriorityScheduler
from ipython1.kernel.controller.tests.taskworld import PretendedEngine, Row
from ipython1.kernel.wire.tasklinks import FAILURE, FOLLOW, SUCCESS, Links
from ipython1.kernel.wire.taskwire import Status

ASSIGNERS = {
    "fifo": lambda: BulkAssigner(FIFOLine, Prefetch()),
    "lifo": lambda: BulkAssigner(LIFOLine, Prefetch()),
    "priority": lambda: BulkAssigner(PriorityLine, Prefetch()),
    "user's fifo": lambda: SchedulerAssigner(FIFOScheduler(), Prefetch()),
    "user's priority": lambda: SchedulerAssigner(PriorityScheduler(), Prefetch()),
}

CLIENTS = [b"a" * 16, b"b" * 16]
Wishes = list[tuple[int, int]]
"""Flags of ties, and which task is meant, counted from the last one."""

LINKS = st.one_of(
    st.just([]),
    st.just([]),
    st.lists(
        st.tuples(
            st.sampled_from([SUCCESS, SUCCESS, SUCCESS | FAILURE, FAILURE, SUCCESS | FOLLOW]),
            st.integers(0, 12),
        ),
        max_size=3,
    ),
)

DEPENDS = [b"", b"", b"", b"even", b"big"]
LIMITS = TaskSettings(max_deaths=3, grace=1.0, window_tasks=64, keep_size=5000, keep_age=30.0)


@dataclass
class PretendedClient:
    """What a client knows: what it submitted, what became of it, and the ids it may still give."""

    uuid: bytes
    ids: list[int] = field(default_factory=list)
    submitted: dict[int, Submission] = field(default_factory=dict)
    results: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)
    connected: bool = True

    def missing(self) -> list[tuple[int, int]]:
        return [(each, each + 1) for each in self.submitted if each not in self.results]


@dataclass
class PretendedJournal:
    """What is on disk, and what waits to be written, in order."""

    waiting: list[Batch | tuple[Parcel, list[TaskRecord], list[Submission]]] = field(
        default_factory=list
    )
    parcels: dict[int, tuple[bytes, list[Submission]]] = field(default_factory=dict)
    done: IdSet = field(default_factory=IdSet)
    failed: IdSet = field(default_factory=IdSet)
    places: dict[int, PretendedEngine | None] = field(default_factory=dict)
    leases: dict[bytes, list[Lease]] = field(default_factory=dict)
    numbers: int = 0


class TaskStory(RuleBasedStateMachine):
    """Events in any order that the world can bring them.

    :ivar stale: engines that were given up once and came back.
    """

    limits = LIMITS

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.engines: dict[int, PretendedEngine] = {}
        self.questions: list[AskDepend] = []
        self.retracts: list[Retract] = []
        self.stops: list[Stop] = []
        self.sent: dict[tuple[int, int], int] = {}
        self.retries: dict[int, int] = {}
        self.endings: Counter[int] = Counter()
        self.failures: Counter[int] = Counter()
        self.blamed: dict[int, list[int]] = {}
        self.announced: set[tuple[int, int]] = set()
        self.submitted: dict[int, bytes] = {}
        self.links: dict[int, Links] = {}
        self.searches: list[Locate] = []
        self.timed_out: set[int] = set()
        self.succeeded: dict[int, set[int]] = {}
        self.aborted: set[int] = set()
        self.withdrawn: set[int] = set()
        self.clients = {client: PretendedClient(client) for client in CLIENTS}
        self.repeatable: list[tuple[int, int, list[Row]]] = []
        self.next_engine = 0
        self.next_client = 0
        self.unconfirmed: list[tuple[bytes, int]] = []
        self.journal = PretendedJournal()
        self.stale: set[int] = set()
        self.doomed: list[int] = []

    @initialize(name=st.sampled_from(sorted(ASSIGNERS)))
    def begin(self, name: str) -> None:
        self.assigner = name
        self.machine = self.new_machine()
        for client in CLIENTS:
            self.machine.clients.joined(client)
            self.machine.clients.begun(client)
        self.settle()

    def new_machine(self) -> TaskMachine:
        assigner: Assigner = ASSIGNERS[self.assigner]()
        return TaskMachine(assigner, self.limits)

    # -- what the shell would do

    def settle(self) -> None:
        self.check()
        for instruction in self.machine.settle(self.now):
            self.carry_out(instruction)
        self.check()
        while self.doomed:
            number = self.doomed.pop()
            if number in self.engines:
                self.kill(number)

    def check(self) -> None:
        waiting = sum(len(each[1]) for each in self.journal.waiting if not isinstance(each, Batch))
        check(self.machine, waiting)

    def carry_out(self, instruction: object) -> None:
        match instruction:
            case Send():
                engine = self.engines[instruction.engine]
                assert not engine.away, "something is sent to an engine that is away"
                for record in instruction.records:
                    key = (record.id, record.attempt)
                    assert key not in self.sent, "an attempt was sent twice"
                    self.sent[key] = instruction.engine
                    self.nobody_has(record.id)
                    self.may_run(record, engine)
                engine.receive(instruction)
            case Keep(batch=batch):
                self.journal.waiting.append(batch)
            case Deliver(client=client, batch=batch):
                if batch.client.connected:
                    [who] = [each for each in self.clients.values() if each.uuid == client]
                    assert who.connected
                    for finished in batch.finished:
                        self.judge(finished.id, finished.status, finished.attempt, finished.error)
                    assert who.results.isdisjoint(batch.ids), "a result is told twice"
                    who.results.update(batch.ids)
                    who.failed.update(each.id for each in batch.finished if each.status)
                    self.unconfirmed.append((client, batch.number))
            case Refuse(task_id=task_id):
                raise AssertionError(f"the controller has forgotten task {task_id}")
            case Tell(finished=finished):
                self.judge(finished.id, finished.status, finished.attempt, finished.error)
            case Locate():
                self.searches.append(instruction)
            case Safe(engine=number, row=row):
                self.engines[number].safe(row)
            case AskDepend():
                self.questions.append(instruction)
            case Retract():
                self.retracts.append(instruction)
            case Stop():
                self.stops.append(instruction)
            case Kill():
                self.doomed.append(instruction.engine)
            case Credit():
                assert instruction.tasks >= instruction.accepted

    def nobody_has(self, task_id: int) -> None:
        """A task that is to be run must not run elsewhere, or have run well where its result is still kept."""
        for engine in self.engines.values():
            if engine.id in self.stale:
                continue
            runs, _ = engine.holds()
            assert task_id not in {run[0] for run in runs}, "a task is run on two engines"
            told = (*engine.kept.values(), *engine.unsent)
            good = {row[0] for row in told if row[2] == Status.OK}
            late = task_id in self.timed_out  # and its end counts as a failure, whatever it is
            assert task_id not in good or late, "a task is run again that has a result"

    def may_run(self, record: TaskRecord, engine: PretendedEngine) -> None:
        """What a task waited for has ended as it had to, and it is where it wanted to be."""
        task_id, targets = record.id, record.options.targets
        assert targets is None or engine.id in targets, "a task runs on no target of its"
        followed = []
        for tie in self.links[task_id].ties if task_id in self.links else ():
            for start, stop in tie.ranges:
                for other in range(start, stop):
                    outcome = self.machine.store.outcome(other)
                    assert outcome is not None, "a task runs before another is done"
                    assert tie.flags & (SUCCESS if outcome else FAILURE), "another ended badly"
                    if not tie.flags & FAILURE:
                        assert self.succeeded.get(other), "a task runs after what never ran well"
                    if tie.flags & FOLLOW:
                        followed.append(other)
        begun = {key[0] for key in engine.begun}
        assert not followed or begun.intersection(followed), "a task runs where no other ran"

    def was_not_run(self, task_id: int, why: str) -> None:
        """A task is told not to have run because of others: one must have ended badly, or be unknown, or nowhere."""
        links = self.links[task_id]
        in_turn = why.endswith(
            ("which is itself", "which waits for it in turn, perhaps through others")
        )
        assert in_turn or any(
            tie.flags & FOLLOW
            or (outcome := self.machine.store.outcome(other)) is None
            or not tie.flags & (SUCCESS if outcome else FAILURE)
            for tie in links.ties
            for start, stop in tie.ranges
            for other in range(start, stop)
        )

    def judge(
        self, task_id: int, status: Status, attempt: int, error: tuple[str, str] | None
    ) -> None:
        """An ending that a client is told must have its reason."""
        if status is Status.OK:
            assert attempt in self.succeeded.get(task_id, set()), "a success that never was"
        elif error is not None and error[0] == "EngineDied":
            kills = self.blamed.get(task_id, [])
            assert kills, "a task is blamed that never ran on an engine that died"
            if "quarantined" in error[1]:
                assert len(kills) >= self.limits.max_deaths
            else:
                assert self.failures[task_id] + len(kills) > self.retries[task_id]
        elif error is not None and error[0] == "TaskAborted":
            assert task_id in self.aborted
            if "taken back" in error[1]:
                assert task_id in self.withdrawn
                begun = [key for engine in self.engines.values() for key in engine.begun]
                assert attempt == 0 or (task_id, attempt) not in begun or self.retries[task_id]
        elif error is not None and error[0] == "DependencyFailed":
            self.was_not_run(task_id, error[1])
            assert not self.succeeded.get(task_id), "a task ran that is said not to have run"
        else:
            assert status is Status.FAILED or (error is not None and error[0] == "TaskTimeout")
            assert (
                self.failures[task_id] + len(self.blamed.get(task_id, [])) > self.retries[task_id]
            )

    def kill(self, number: int) -> None:
        engine = self.engines.pop(number)
        self.stale.discard(number)
        if engine.current is not None:
            self.blamed.setdefault(engine.current.task_id, []).append(number)
        told = [entry for entry in engine.kept.values() if engine.away]
        untold = [entry for entry in (*told, *engine.unsent) if entry[:2] not in self.announced]
        for task_id, *_ in untold:
            # Computed and never told: it counts as possibly running.
            self.blamed.setdefault(task_id, []).append(number)
        if engine.current is None and not untold and engine.inbox:
            # A real engine would have begun it at once; nobody can know that this one had not.
            self.blamed.setdefault(engine.inbox[0].task_id, []).append(number)
        self.machine.worker_lost(number, self.now, "it was killed")
        self.settle()

    def there(self) -> list[int]:
        """The engines that can be reached."""
        return sorted(engine.id for engine in self.engines.values() if not engine.away)

    def some_engine(self, data: st.DataObject) -> PretendedEngine:
        return self.engines[data.draw(st.sampled_from(self.there()))]

    # -- events

    @rule(
        client=st.sampled_from(CLIENTS),
        tasks=st.lists(
            st.tuples(
                st.sampled_from(DEPENDS),
                st.integers(0, 2),
                st.integers(-1, 1),
                st.sampled_from([0.0, 0.0, 2.0]),
                st.sampled_from([b"f", b"g", b"h"]),
                st.integers(0, 2),
                LINKS,
                st.sampled_from([None] * 6 + [frozenset({0, 1}), frozenset({1, 9})]),
            ),
            min_size=1,
            max_size=12,
        ),
        repeat=st.booleans(),
    )
    def submit(
        self,
        client: bytes,
        tasks: list[tuple[bytes, int, int, float, bytes, int, Wishes, frozenset[int] | None]],
        repeat: bool,
    ) -> None:
        machine = self.machine
        who = self.clients[client]
        if not who.connected:
            return
        submissions: list[Submission] = []
        account = machine.clients.accounts[who.uuid]
        for depend, retries, priority, timeout, kind, recoveries, wishes, targets in tasks:
            if account.arrived + len(submissions) >= account.credit[0]:
                break
            if not who.ids:
                lease = machine.clients.lease(who.uuid)
                self.journal.leases.setdefault(who.uuid, []).append(lease)
                who.ids = list(range(lease.start, lease.stop))
            task_id = who.ids.pop(0)
            options = TaskTerms(
                machine.templates.get(kind),
                retries,
                priority,
                timeout,
                depend=depend,
                targets=targets,
            )
            links = self.links_of(wishes, task_id)
            plain = TaskTerms(machine.templates.get(kind))
            companions: list[Companion] = [(plain, b"recovery")] * recoveries
            if links:
                self.links[task_id] = links
                companions.insert(0, (links, b""))
            submissions.append((task_id, options, b"payload", companions))
            self.retries[task_id] = retries + recoveries
            self.submitted[task_id] = client
            who.submitted[task_id] = submissions[-1]
        self.arrive(who.uuid, submissions)
        if repeat:
            before = machine.dropped
            self.arrive(who.uuid, submissions)
            assert machine.dropped == before + len(submissions)
        self.settle()

    def links_of(self, wishes: Wishes, task_id: int) -> Links:
        """What a task says of others: of such that were submitted, of one to come, and of one that never will."""
        known = sorted(self.submitted)
        ties: dict[int, list[int]] = {}
        for flags, distance in wishes:
            chosen = known[-1 - distance % len(known)] if known else task_id + 3
            if distance >= 10:
                chosen = task_id + distance - 10
            if distance == 12:
                # The other client may be about to submit it.
                ids = [each for who in self.clients.values() for each in who.ids]
                chosen = ids[0] if ids else 10**9
            ties.setdefault(flags, []).append(chosen)
        return Links.pack(ties.items())

    def arrive(self, client: bytes, submissions: list[Submission]) -> None:
        records = self.machine.clients.admit(client, submissions, self.now)
        if not self.limits.journal:
            self.machine.accept(records, None, self.now)
        elif records:
            self.journal.numbers += 1
            parcel = Parcel(self.journal.numbers, len(records))
            fresh = {record.id for record in records}
            kept = [each for each in submissions if each[0] in fresh]
            self.journal.waiting.append((parcel, records, kept))

    @precondition(lambda self: len(self.engines) < 4)
    @rule()
    def engine_comes(self) -> None:
        number = self.next_engine
        self.next_engine += 1
        self.engines[number] = PretendedEngine(number)
        self.machine.worker_joined(number, 0, self.now)
        self.settle()

    @precondition(lambda self: self.there())
    @rule(data=st.data(), lost=st.integers(0, 2), tells=st.booleans())
    def engine_goes_away(self, data: st.DataObject, lost: int, tells: bool) -> None:
        """Its link breaks; runs on their way to it are lost, and so may be what it tells at that moment."""
        self.go_away(self.some_engine(data), lost, tells)

    def go_away(self, engine: PretendedEngine, lost: int, tells: bool) -> None:
        for _ in range(lost):
            if engine.inbox:
                engine.inbox.pop()
        if tells:
            engine.take_unsent()
        engine.away = True
        self.retracts = [each for each in self.retracts if each.engine != engine.id]
        self.stops = [each for each in self.stops if each.engine != engine.id]
        self.questions = [each for each in self.questions if each.engine != engine.id]
        self.machine.worker_away(engine.id)
        self.settle()

    @precondition(lambda self: len(self.there()) < len(self.engines))
    @rule(data=st.data(), ends=st.booleans())
    def engine_comes_back(self, data: st.DataObject, ends: bool) -> None:
        away = sorted(self.engines.keys() - set(self.there()))
        engine = self.engines[data.draw(st.sampled_from(away))]
        if ends and engine.current is not None:
            self.run_well(engine)
        self.come_back(engine)

    def come_back(self, engine: PretendedEngine) -> None:
        runs, ended = engine.holds()
        engine.away = False
        self.machine.worker_back(engine.id, runs, ended, self.now)
        self.settle()
        for row, entry in sorted(engine.kept.items()):
            if engine.id in self.engines:
                self.machine.results(engine.id, [entry], self.now, row)
                self.settle()

    def run_well(self, engine: PretendedEngine) -> None:
        run = engine.current
        assert run is not None
        self.succeeded.setdefault(run.task_id, set()).add(run.attempt)
        engine.end(Status.OK)

    @precondition(lambda self: len(self.there()) < len(self.engines))
    @rule(data=st.data())
    def engine_is_given_up_and_comes_back(self, data: st.DataObject) -> None:
        """It drops what it has, but what runs there may take its time to end."""
        number = data.draw(st.sampled_from(sorted(self.engines.keys() - set(self.there()))))
        engine = self.engines[number]
        self.kill(number)
        again = PretendedEngine(number, current=engine.current, rows=engine.rows)
        self.engines[number] = again
        if engine.current is not None:
            self.stale.add(number)
        self.machine.worker_joined(number, 0, self.now, stale=engine.current is not None)
        self.settle()

    @precondition(lambda self: self.there())
    @rule(
        data=st.data(),
        ends=st.lists(
            st.sampled_from([Status.OK, Status.OK, Status.OK, Status.FAILED, Status.REJECTED]),
            min_size=1,
            max_size=6,
        ),
        tell=st.booleans(),
    )
    def engine_works(self, data: st.DataObject, ends: list[Status], tell: bool) -> None:
        engine = self.some_engine(data)
        for status in ends:
            if engine.begin() is None:
                break
            run = engine.current
            assert run is not None
            if run.guarded:
                # What happens before the begin of a guarded run is told before it begins.
                self.tell(engine)
                if engine.id in self.engines:
                    self.machine.running(engine.id, *run.key, self.now)
                    self.settle()
            if engine.current is None or engine.away:
                break
            if status is Status.OK:
                self.succeeded.setdefault(run.task_id, set()).add(run.attempt)
            if status is Status.FAILED:
                self.failures[run.task_id] += 1
            engine.end(status)
            if run.guarded:
                self.tell(engine)
        if tell:
            self.tell(engine)

    @precondition(lambda self: self.there())
    @rule(data=st.data(), reported=st.booleans())
    def engine_begins(self, data: st.DataObject, reported: bool) -> None:
        engine = self.some_engine(data)
        run = engine.begin()
        if run is not None and (reported or run.guarded):
            self.tell(engine)
            self.machine.running(engine.id, *run.key, self.now)
            self.settle()

    @precondition(lambda self: self.there())
    @rule(data=st.data())
    def engine_tells(self, data: st.DataObject) -> None:
        self.tell(self.some_engine(data))

    @precondition(lambda self: self.there())
    @rule(data=st.data())
    def engine_announces(self, data: st.DataObject) -> None:
        engine = self.some_engine(data)
        for task_id, attempt, *_ in engine.unsent:
            self.announced.add((task_id, attempt))
            self.machine.arriving(engine.id, task_id, attempt, self.now)
            self.settle()
            if engine.id not in self.engines:
                break

    @precondition(lambda self: self.there())
    @rule(data=st.data(), arrives=st.booleans())
    def engine_sends_something_large(self, data: st.DataObject, arrives: bool) -> None:
        """A result comes in pieces, or its link breaks meanwhile."""
        engine = self.some_engine(data)
        first, entries = engine.take_unsent()
        for row, entry in enumerate(entries, first):
            self.announced.add(entry[:2])
            self.machine.arriving(engine.id, *entry[:2], self.now, row)
            self.settle()
        if not arrives and entries and engine.id in self.engines:
            self.go_away(engine, 0, False)
            return
        for row, entry in reversed(list(enumerate(entries, first))):
            if engine.id in self.engines:
                self.machine.results(engine.id, [entry], self.now, row)
                self.settle()

    def tell(self, engine: PretendedEngine) -> None:
        if engine.id not in self.engines or engine.away:
            return
        first, entries = engine.take_unsent()
        if entries:
            self.repeatable.append((engine.id, first, entries))
            self.machine.results(engine.id, entries, self.now, first)
        self.stale.discard(engine.id)
        self.settle()

    @precondition(lambda self: self.repeatable)
    @rule(data=st.data())
    def results_are_repeated(self, data: st.DataObject) -> None:
        number, first, entries = data.draw(st.sampled_from(self.repeatable))
        worker = self.machine.workers.get(number)
        if worker is not None and (worker.custody.seen or 0) >= first:
            before = len(self.machine.tasks)
            self.machine.results(number, entries, self.now, first)
            assert len(self.machine.tasks) == before, "a repeated result changed something"
            self.settle()

    @precondition(lambda self: self.there())
    @rule(data=st.data())
    def engine_dies(self, data: st.DataObject) -> None:
        self.kill(self.some_engine(data).id)

    @precondition(lambda self: self.questions)
    @rule(answer=st.booleans())
    def engine_answers(self, answer: bool) -> None:
        question = self.questions.pop()
        self.machine.depend_answer(
            question.engine, question.depend, question.properties_version, answer, self.now
        )
        self.settle()

    @precondition(lambda self: self.retracts)
    @rule()
    def engine_gives_back(self) -> None:
        retract = self.retracts.pop()
        engine = self.engines.get(retract.engine)
        if engine is not None:
            self.machine.retracted(engine.id, engine.give_back(retract.runs), self.now)
            self.settle()

    @precondition(lambda self: self.stops)
    @rule()
    def engine_stops(self) -> None:
        stop = self.stops.pop(0)
        engine = self.engines.get(stop.engine)
        if engine is not None:
            engine.stop((stop.task_id, stop.attempt))

    @precondition(lambda self: self.there())
    @rule(data=st.data(), version=st.integers(1, 1000))
    def properties_change(self, data: st.DataObject, version: int) -> None:
        self.machine.properties_changed(self.some_engine(data).id, version, self.now)
        self.settle()

    @precondition(lambda self: self.submitted)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        task_id = data.draw(st.sampled_from(sorted(self.submitted)))
        live = task_id in self.machine.tasks
        try:
            self.machine.abort(task_id, self.now)
        except IndexError:
            assert not live
        else:
            assert live
            self.aborted.add(task_id)
        self.settle()

    @precondition(lambda self: self.submitted)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        task_id = data.draw(st.sampled_from(sorted(self.submitted)))
        live = task_id in self.machine.tasks
        answer = self.machine.withdraw(task_id, self.now)
        if answer is not False:
            assert live or (answer and task_id in self.withdrawn)
            self.aborted.add(task_id)
            self.withdrawn.add(task_id)
        if live:
            assert bool(answer) == (task_id not in self.machine.tasks)
        self.settle()

    @rule(seconds=st.sampled_from([0.001, 0.1, 1.5, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.pass_time(seconds)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        due = self.machine.next_tick()
        if due is not None and due <= self.now:
            timed = [
                record.id
                for record in self.machine.tasks.values()
                if record.options.timeout and record.worker is not None
            ]
            self.timed_out.update(timed)
            for task_id in timed:
                self.failures[task_id] += 1
            self.machine.tick(self.now)
        self.settle()

    @precondition(lambda self: self.unconfirmed)
    @rule(data=st.data())
    def client_confirms(self, data: st.DataObject) -> None:
        client, number = data.draw(st.sampled_from(self.unconfirmed))
        self.unconfirmed.remove((client, number))
        self.machine.clients.confirm(client, number, self.now)
        self.settle()

    @rule(client=st.sampled_from(CLIENTS), for_good=st.booleans())
    def client_goes(self, client: bytes, for_good: bool) -> None:
        who = self.clients[client]
        self.unconfirmed = [each for each in self.unconfirmed if each[0] != who.uuid]
        who.connected = False
        self.machine.clients.left(who.uuid)
        if for_good:
            self.next_client += 1
            another = bytes([self.next_client]) * 16
            self.clients[client] = PretendedClient(another, connected=False)
            self.machine.clients.gone(who.uuid, self.now)
        self.settle()

    @rule(client=st.sampled_from(CLIENTS))
    def client_comes(self, client: bytes) -> None:
        who = self.clients[client]
        if who.connected:
            return
        who.connected = True
        self.machine.clients.joined(who.uuid)
        self.settle()
        ranges = [(each, each + 1) for each in sorted(who.failed)]
        account = self.machine.clients.resynchronised(who.uuid, who.missing(), self.now, ranges)
        self.settle()
        self.submit_again(who, account)
        self.settle()

    def submit_again(self, who: PretendedClient, account: Account) -> None:
        """What had not arrived is sent again."""
        arrived = {
            task_id
            for lease in account.leases
            for task_id in who.submitted
            if lease.start <= task_id < lease.next
        }
        lacking = [each for each in who.submitted.values() if each[0] not in arrived]
        self.arrive(account.uuid, [self.of_this_machine(each) for each in lacking])

    def of_this_machine(self, submission: Submission) -> Submission:
        """A submission whose options belong to the present machine."""

        def made(terms: TaskTerms) -> TaskTerms:
            measured = self.machine.templates.get(b"again")
            return TaskTerms(
                measured,
                terms.retries,
                terms.priority,
                terms.timeout,
                depend=terms.depend,
                targets=terms.targets,
            )

        task_id, terms, payload, companions = submission
        return (
            task_id,
            made(terms),
            payload,
            [(each if isinstance(each, Links) else made(each), data) for each, data in companions],
        )

    # -- the journal, and the death of the controller

    @precondition(lambda self: self.journal.waiting)
    @rule(number=st.integers(1, 5))
    def journal_writes(self, number: int) -> None:
        journal = self.journal
        for _ in range(min(number, len(journal.waiting))):
            entry = journal.waiting.pop(0)
            if isinstance(entry, Batch):
                for task_id in entry.ids:
                    journal.done.add(task_id)
                for finished in entry.finished:
                    journal.places[finished.id] = self.engines.get(finished.engine)
                    if finished.status:
                        journal.failed.add(finished.id)
                for parcel_number in entry.over:
                    _, submissions = journal.parcels.pop(parcel_number)
                    assert all(each[0] in journal.done for each in submissions)
                self.machine.clients.kept(entry, self.now)
            else:
                parcel, records, submissions = entry
                journal.parcels[parcel.number] = (records[0].client.uuid, submissions)
                self.machine.accept(records, parcel, self.now)
        self.settle()

    @precondition(lambda self: self.limits.journal)
    @rule(lost=st.integers(0, 2), tells=st.booleans())
    def controller_is_killed(self, lost: int, tells: bool) -> None:
        """It starts again with what was on disk; everybody else was left where they were."""
        self.journal.waiting.clear()
        self.unconfirmed.clear()
        self.questions.clear()
        self.retracts.clear()
        self.stops.clear()
        self.searches.clear()
        self.repeatable.clear()
        for who in self.clients.values():
            who.connected = False
        for engine in self.engines.values():
            self.stale.discard(engine.id)
            for _ in range(lost):
                if engine.inbox:
                    engine.inbox.pop()
            if tells:
                engine.take_unsent()
            engine.away = True
        self.limits = replace(self.limits, epoch=self.limits.epoch + 1)
        self.machine = self.new_machine()
        for number in sorted(self.engines):
            self.machine.worker_joined(number, 0, self.now)
            self.machine.worker_away(number)
        self.read_journal()
        self.settle()

    def read_journal(self) -> None:
        machine, journal = self.machine, self.journal
        for task_id in journal.done:
            failed = task_id in journal.failed
            (machine.store.failed if failed else machine.store.succeeded).add(task_id)
        uuids = [who.uuid for who in self.clients.values()]
        accounts = {uuid: machine.clients.add(uuid) for uuid in {*uuids, *journal.leases}}
        written = {each[0] for _, parcel in journal.parcels.values() for each in parcel}
        for client, account in accounts.items():
            for lease in journal.leases.get(client, ()):
                arrived = [
                    each
                    for each in range(lease.start, lease.next)
                    if each in written or each in journal.done
                ]
                reached = max(arrived, default=lease.start - 1) + 1
                account.add_lease(Lease(lease.start, lease.stop, reached))
                account.arrived += reached - lease.start
                machine.clients.next_id = max(machine.clients.next_id, lease.stop)
            account.accepted = account.arrived
        records = []
        for number, (client, submissions) in journal.parcels.items():
            live = [each for each in submissions if each[0] not in journal.done]
            parcel = Parcel(number, len(live))
            for each in live:
                task_id, terms, payload, companions = self.of_this_machine(each)
                record = TaskRecord(task_id, accounts[client], terms, payload, self.now, parcel)
                record.accompany(companions)
                records.append(record)
        for account in accounts.values():
            account.released = account.arrived - sum(each.client is account for each in records)
        journal.leases = {client: account.leases for client, account in accounts.items()}
        machine.restore(records, sorted(self.engines), self.now)
        for uuid in accounts.keys() - set(uuids):
            machine.clients.gone(uuid, self.now)

    @precondition(lambda self: self.searches)
    @rule()
    def places_are_found(self) -> None:
        found: dict[int, int | None] = {}
        for task_id in self.searches.pop().task_ids:
            engine = self.journal.places.get(task_id)
            there = engine is not None and self.engines.get(engine.id) is engine
            found[task_id] = engine.id if there and engine is not None else None
        self.machine.predecessors.located(found)
        self.settle()

    @rule(client=st.sampled_from(CLIENTS), data=st.data())
    def client_asks(self, client: bytes, data: st.DataObject) -> None:
        task_id = data.draw(st.sampled_from([*sorted(self.submitted), 10**9]))
        try:
            finished = self.machine.clients.fetch(self.clients[client].uuid, task_id, True)
        except IndexError:
            assert task_id not in self.machine.tasks
        else:
            assert (finished is False) == (task_id in self.machine.tasks)

    @rule(client=st.sampled_from(CLIENTS))
    def client_clears(self, client: bytes) -> None:
        who = self.clients[client]
        if who.connected and not self.limits.journal:
            self.machine.clients.clear(who.uuid, None)
            self.settle()

    @rule()
    def spin(self) -> None:
        self.machine.spin(self.now)
        self.settle()

    @invariant()
    def counts_agree(self) -> None:
        if not hasattr(self, "machine"):
            return
        counts = self.machine.counts()
        lists = self.machine.status()
        assert counts == {state: len(ids) for state, ids in lists.items()}
        assert set(lists["unsatisfied"]) <= set(lists["scheduled"])

    def teardown(self) -> None:
        """With everybody there and doing everything right, everything ends."""
        if not hasattr(self, "machine"):
            return
        for client in CLIENTS:
            self.client_comes(client)
        for number in sorted(self.engines.keys() - set(self.there())):
            if number in self.engines:
                self.come_back(self.engines[number])
        for _ in range(2):
            self.engine_comes()
        # Dependencies that were deadly, for all that engines told, are not asked for by themselves.
        self.spin()
        for turn in range(1000):
            if not self.machine.tasks and not self.journal.waiting:
                break
            self.pass_time(0.5)
            while self.questions:
                self.engine_answers(True)
            while self.retracts:
                self.engine_gives_back()
            while self.stops:
                self.engine_stops()
            while self.searches:
                self.places_are_found()
            if turn % 100 == 99:
                self.end_what_waits()
            for engine in list(self.engines.values()):
                while engine.begin() is not None:
                    self.run_well(engine)
                self.tell(engine)
            if self.journal.waiting:
                self.journal_writes(1000)
        self.check()
        assert not self.machine.tasks, [record.story() for record in self.machine.tasks.values()]
        self.settle()
        for who in self.clients.values():
            lacking = who.submitted.keys() - who.results
            assert not lacking, f"nobody told the client what became of {sorted(lacking)}"
        for engine in self.engines.values():
            assert not engine.kept, f"engine {engine.id} keeps {engine.kept} for ever"

    def end_what_waits(self) -> None:
        """Abort what waits for engines, or for tasks of the other client, that will never come."""
        for record in list(self.machine.tasks.values()):
            if record.state in (QUEUED, WAITING):  # some were ended by those before
                self.machine.abort(record.id, self.now)
                self.aborted.add(record.id)
        self.settle()


class JournalledStory(TaskStory):
    """The same with a journal, and a controller that is killed."""

    limits = replace(LIMITS, journal=True, epoch=1)


class TaskPropertiesTests(SynchronousTestCase):
    """The random stories."""

    def test_every_invariant_holds_after_every_event(self) -> None:
        self.tell(TaskStory)

    def test_nothing_is_lost_when_the_controller_is_killed(self) -> None:
        self.tell(JournalledStory)

    def tell(self, story: type[TaskStory]) -> None:
        case = story.TestCase
        case.settings = settings(
            max_examples=int(os.environ.get("TASK_STORIES", "80")),
            stateful_step_count=40,
            deadline=None,
            derandomize="TASK_STORIES" not in os.environ,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        case("runTest").debug()
