"""Random events on the task machine, with every invariant checked after each of them."""

from __future__ import annotations

import os
from collections import Counter

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import KernelError
from ipython1.kernel.controller.scheduling.assigners import (
    Assigner,
    BulkAssigner,
    SchedulerAssigner,
)
from ipython1.kernel.controller.scheduling.instructions import (
    AskDepend,
    Credit,
    Deliver,
    Kill,
    Retract,
    Send,
    Stop,
)
from ipython1.kernel.controller.scheduling.invariants import check
from ipython1.kernel.controller.scheduling.machine import TaskMachine
from ipython1.kernel.controller.scheduling.prefetch import Prefetch
from ipython1.kernel.controller.scheduling.queues import FIFOLine, LIFOLine, PriorityLine
from ipython1.kernel.controller.scheduling.records import TaskTerms
from ipython1.kernel.controller.scheduling.seams import TaskSettings
from ipython1.kernel.controller.taskschedulers import FIFOScheduler, PriorityScheduler
from ipython1.kernel.controller.tests.taskworld import PretendedEngine
from ipython1.kernel.wire.taskwire import Status

ASSIGNERS = {
    "fifo": lambda: BulkAssigner(FIFOLine, Prefetch()),
    "lifo": lambda: BulkAssigner(LIFOLine, Prefetch()),
    "priority": lambda: BulkAssigner(PriorityLine, Prefetch()),
    "user's fifo": lambda: SchedulerAssigner(FIFOScheduler(), Prefetch()),
    "user's priority": lambda: SchedulerAssigner(PriorityScheduler(), Prefetch()),
}

CLIENTS = [b"a" * 16, b"b" * 16]
DEPENDS = [b"", b"", b"", b"even", b"big"]
LIMITS = TaskSettings(max_deaths=3, grace=1.0, window_tasks=64, keep_size=5000, keep_age=30.0)


class TaskStory(RuleBasedStateMachine):
    """Events in any order that the world can bring them."""

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
        self.succeeded: dict[int, set[int]] = {}
        self.aborted: set[int] = set()
        self.withdrawn: set[int] = set()
        self.ids: dict[bytes, list[int]] = {client: [] for client in CLIENTS}
        self.repeatable: list[tuple[int, list[tuple[int, int, int, float, bytes]]]] = []
        self.next_engine = 0
        self.delivered: Counter[int] = Counter()
        self.unconfirmed: list[tuple[bytes, int]] = []

    @initialize(name=st.sampled_from(sorted(ASSIGNERS)))
    def begin(self, name: str) -> None:
        assigner: Assigner = ASSIGNERS[name]()
        self.machine = TaskMachine(assigner, LIMITS)
        for client in CLIENTS:
            self.machine.clients.joined(client)
        self.settle()

    # -- what the shell would do

    def settle(self) -> None:
        check(self.machine)
        for instruction in self.machine.settle(self.now):
            self.carry_out(instruction)
        check(self.machine)

    def carry_out(self, instruction: object) -> None:
        match instruction:
            case Send():
                assert instruction.engine in self.engines
                for record in instruction.records:
                    key = (record.id, record.attempt)
                    assert key not in self.sent, "an attempt was sent twice"
                    self.sent[key] = instruction.engine
                self.engines[instruction.engine].receive(instruction)
            case Deliver():
                for finished in instruction.finished:
                    if instruction.number:
                        self.delivered[finished.id] += 1
                    self.judge(finished.id, finished.status, finished.attempt, finished.error)
                if instruction.number:
                    self.unconfirmed.append((instruction.client, instruction.number))
            case AskDepend():
                self.questions.append(instruction)
            case Retract():
                self.retracts.append(instruction)
            case Stop():
                self.stops.append(instruction)
            case Kill():
                self.kill(instruction.engine)
            case Credit():
                assert instruction.tasks >= instruction.accepted

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
                assert len(kills) >= LIMITS.max_deaths
            else:
                assert self.failures[task_id] + len(kills) > self.retries[task_id]
        elif error is not None and error[0] == "TaskAborted":
            assert task_id in self.aborted
            if "taken back" in error[1]:
                assert task_id in self.withdrawn
                begun = [key for engine in self.engines.values() for key in engine.begun]
                assert attempt == 0 or (task_id, attempt) not in begun or self.retries[task_id]
        else:
            assert status is Status.FAILED
            assert (
                self.failures[task_id] + len(self.blamed.get(task_id, [])) > self.retries[task_id]
            )

    def kill(self, number: int) -> None:
        engine = self.engines.pop(number)
        if engine.current is not None:
            self.blamed.setdefault(engine.current.task_id, []).append(number)
        untold = [entry for entry in engine.unsent if entry[:2] not in self.announced]
        for task_id, *_ in untold:
            # Computed and never told: it counts as possibly running.
            self.blamed.setdefault(task_id, []).append(number)
        if engine.current is None and not untold and engine.inbox:
            # A real engine would have begun it at once; nobody can know that this one had not.
            self.blamed.setdefault(engine.inbox[0].task_id, []).append(number)
        self.machine.worker_lost(number, self.now, "it was killed")
        self.settle()

    def some_engine(self, data: st.DataObject) -> PretendedEngine:
        return self.engines[data.draw(st.sampled_from(sorted(self.engines)))]

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
            ),
            min_size=1,
            max_size=12,
        ),
        repeat=st.booleans(),
    )
    def submit(
        self,
        client: bytes,
        tasks: list[tuple[bytes, int, int, float, bytes, int]],
        repeat: bool,
    ) -> None:
        machine = self.machine
        if client not in machine.clients.accounts:
            machine.clients.joined(client)
            self.ids[client] = []
        submissions = []
        account = machine.clients.accounts[client]
        for depend, retries, priority, timeout, kind, recoveries in tasks:
            if account.accepted + len(submissions) >= account.credit[0]:
                break
            if not self.ids[client]:
                lease = machine.clients.lease(client)
                self.ids[client] = list(range(lease.start, lease.stop))
            task_id = self.ids[client].pop(0)
            options = TaskTerms(
                machine.templates.get(kind), retries, priority, timeout, depend=depend
            )
            plain = TaskTerms(machine.templates.get(kind))
            submissions.append((task_id, options, b"payload", [(plain, b"recovery")] * recoveries))
            self.retries[task_id] = retries + recoveries
            self.submitted[task_id] = client
        machine.submit(client, submissions, self.now)
        if repeat:
            before = machine.dropped
            machine.submit(client, submissions, self.now)
            assert machine.dropped == before + len(submissions)
        self.settle()

    @precondition(lambda self: len(self.engines) < 4)
    @rule()
    def engine_comes(self) -> None:
        number = self.next_engine
        self.next_engine += 1
        self.engines[number] = PretendedEngine(number)
        self.machine.worker_joined(number, 0, self.now)
        self.settle()

    @precondition(lambda self: self.engines)
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
            if status is Status.OK:
                self.succeeded.setdefault(run.task_id, set()).add(run.attempt)
            if status is Status.FAILED:
                self.failures[run.task_id] += 1
            if engine.current is not None:
                engine.end(status)
            if run.guarded:
                self.tell(engine)
        if tell:
            self.tell(engine)

    @precondition(lambda self: self.engines)
    @rule(data=st.data(), reported=st.booleans())
    def engine_begins(self, data: st.DataObject, reported: bool) -> None:
        engine = self.some_engine(data)
        run = engine.begin()
        if run is not None and (reported or run.guarded):
            self.tell(engine)
            self.machine.running(engine.id, *run.key, self.now)
            self.settle()

    @precondition(lambda self: self.engines)
    @rule(data=st.data())
    def engine_tells(self, data: st.DataObject) -> None:
        self.tell(self.some_engine(data))

    @precondition(lambda self: self.engines)
    @rule(data=st.data())
    def engine_announces(self, data: st.DataObject) -> None:
        engine = self.some_engine(data)
        for task_id, attempt, *_ in engine.unsent:
            self.announced.add((task_id, attempt))
            self.machine.arriving(engine.id, task_id, attempt, self.now)
            self.settle()
            if engine.id not in self.engines:
                break

    def tell(self, engine: PretendedEngine) -> None:
        if engine.id not in self.engines:
            return
        entries = engine.take_unsent()
        if entries:
            self.repeatable.append((engine.id, entries))
        self.machine.results(engine.id, entries, self.now)
        self.settle()

    @precondition(lambda self: self.repeatable)
    @rule(data=st.data())
    def results_are_repeated(self, data: st.DataObject) -> None:
        number, entries = data.draw(st.sampled_from(self.repeatable))
        before = len(self.machine.tasks)
        self.machine.results(number, entries, self.now)
        assert len(self.machine.tasks) == before, "a repeated result changed something"
        self.settle()

    @precondition(lambda self: self.engines)
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

    @precondition(lambda self: self.engines)
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
        self.now += seconds
        due = self.machine.next_tick()
        if due is not None and due <= self.now:
            timed = [
                record.id
                for record in self.machine.tasks.values()
                if record.options.timeout and record.worker is not None
            ]
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
        self.machine.clients.left(client, self.now, for_good)
        self.settle()

    @rule(client=st.sampled_from(CLIENTS))
    def client_comes(self, client: bytes) -> None:
        if client not in self.machine.clients.accounts:
            self.ids[client] = []
        self.machine.clients.joined(client)
        self.settle()

    @rule(client=st.sampled_from(CLIENTS), data=st.data())
    def client_asks(self, client: bytes, data: st.DataObject) -> None:
        task_id = data.draw(st.sampled_from([*sorted(self.submitted), 10**9]))
        try:
            finished = self.machine.clients.fetch(client, task_id, True)
        except (IndexError, KernelError):
            assert task_id not in self.machine.tasks
        else:
            assert (finished is None) == (task_id in self.machine.tasks)

    @rule(client=st.sampled_from(CLIENTS))
    def client_clears(self, client: bytes) -> None:
        self.machine.clients.clear(client, None)
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
        """With engines that do everything right, everything ends."""
        if not hasattr(self, "machine"):
            return
        for _ in range(2):
            self.engine_comes()
        # Dependencies that were deadly, for all that engines told, are not asked for by themselves.
        self.spin()
        for _ in range(1000):
            if not self.machine.tasks:
                break
            self.now += 0.5
            self.machine.tick(self.now)
            while self.questions:
                self.engine_answers(True)
            while self.retracts:
                self.engine_gives_back()
            while self.stops:
                self.engine_stops()
            for engine in list(self.engines.values()):
                while engine.begin() is not None:
                    run = engine.current
                    assert run is not None
                    self.succeeded.setdefault(run.task_id, set()).add(run.attempt)
                    engine.end(Status.OK)
                self.tell(engine)
        check(self.machine)
        assert not self.machine.tasks, [record.story() for record in self.machine.tasks.values()]


class TaskPropertiesTests(SynchronousTestCase):
    """The random stories."""

    def test_every_invariant_holds_after_every_event(self) -> None:
        case = TaskStory.TestCase
        case.settings = settings(
            max_examples=int(os.environ.get("TASK_STORIES", "80")),
            stateful_step_count=40,
            deadline=None,
            derandomize="TASK_STORIES" not in os.environ,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        case("runTest").debug()
