"""Which waits of code on engines fail, and which go on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, combinations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import ProtocolError
from ipython1.kernel.controller.command import Command
from ipython1.kernel.controller.commanddata import CommandData
from ipython1.kernel.controller.queuedengine import QueuedEngine
from ipython1.kernel.controller.scheduling.instructions import AskDepend, Retract
from ipython1.kernel.controller.scheduling.outlook import TaskOutlook
from ipython1.kernel.controller.tests.test_task_machine import ALICE, BOB, REJECTED, Desk
from ipython1.kernel.controller.waits import (
    Alternatives,
    Requirement,
    Victim,
    WaitGraph,
    on_circles,
    stuck_engines,
)
from ipython1.kernel.controller.waitwatch import WaitWatch
from ipython1.kernel.wire import frames, messages
from ipython1.kernel.wire.link import FrameLink, TurnFlusher
from ipython1.kernel.wire.waits import Needs, Run, pack_wait, unpack_wait

ENGINES = 5
engine_ids = st.integers(0, ENGINES - 1)
requirements = st.builds(
    Requirement,
    st.booleans(),
    st.frozensets(st.frozensets(engine_ids, max_size=3), min_size=1, max_size=4),
)
holders = st.dictionaries(
    engine_ids, st.lists(requirements, min_size=1, max_size=2), max_size=ENGINES
)


def subsets(items: set[int]) -> Iterator[set[int]]:
    for each in chain.from_iterable(combinations(items, size) for size in range(len(items) + 1)):
        yield set(each)


def blocks_itself(group: set[int], held: Mapping[int, list[Requirement]]) -> bool:
    """Whether no engine of ``group`` can go on although all others do."""

    def ends(item: Alternatives) -> bool:
        return not item or bool(item - group)

    return not any(
        (all if each.every else any)(ends(item) for item in each.items)
        for engine in group
        for each in held[engine]
    )


class StuckEnginesTests(SynchronousTestCase):
    @given(holders)
    @settings(max_examples=100, deadline=None)
    def test_stuck_is_who_belongs_to_a_group_that_blocks_itself(
        self, held: dict[int, list[Requirement]]
    ) -> None:
        groups = [group for group in subsets(set(held)) if blocks_itself(group, held)]
        self.assertEqual(stuck_engines(held), set().union(*groups))

    @given(holders)
    @settings(max_examples=100, deadline=None)
    def test_the_stuck_wait_for_a_circle(self, held: dict[int, list[Requirement]]) -> None:
        """So to end the waits on circles lets everybody go on."""
        left = dict(held)
        while stuck := stuck_engines(left):
            circles = on_circles(left, stuck)
            self.assertTrue(circles)
            self.assertLessEqual(circles, stuck)
            del left[min(circles)]


class Pretended:
    """Engines and their work, as the test says."""

    def __init__(self) -> None:
        self.runs: dict[int, Run] = {}
        self.tasks: dict[int, set[int]] = {}
        self.all: set[int] = set()

    def is_running(self, engine: int, run: Run) -> bool:
        return self.runs.get(engine) == run

    def task_engines(self, client: str, task_id: int, runs: Mapping[int, Run]) -> Alternatives:
        return frozenset(self.tasks.get(task_id, ()))

    def command_engines(
        self, client: str, number: int, engines: tuple[int, ...], runs: Mapping[int, Run]
    ) -> Alternatives:
        return frozenset(engines)

    def all_task_engines(self) -> Alternatives:
        return frozenset(self.all)


class WaitGraphTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = Pretended()
        self.graph = WaitGraph()

    def hold(self, engine: int, *tasks: int, number: int = 1, every: bool = True) -> None:
        """Task ``100 + engine`` on an engine waits for tasks."""
        self.world.runs[engine] = ("", 100 + engine)
        self.graph.tell(engine, number, ("", 100 + engine), Needs("", every, tasks))

    def victims(self) -> list[Victim]:
        return self.graph.victims(self.world)

    def failed(self) -> list[int]:
        return [victim.engine for victim in self.victims()]

    def test_an_engine_cannot_wait_for_what_only_it_could_run(self) -> None:
        self.world.tasks[1] = {0}
        self.hold(0, 1)
        [victim] = self.victims()
        self.assertEqual((victim.engine, victim.numbers), (0, [1]))
        self.assertIn("code on engine 0 waits for task 1,", victim.message)
        self.assertIn("only this engine could run it", victim.message)
        self.assertFalse(self.graph)

    def test_it_can_as_long_as_another_engine_could(self) -> None:
        self.world.tasks[1] = {0, 1}
        self.hold(0, 1)
        self.assertEqual(self.failed(), [])
        # What the other one waits for runs elsewhere.
        self.world.tasks[2] = {2}
        self.hold(1, 2)
        self.assertEqual(self.failed(), [])

    def test_only_the_wait_that_closes_a_circle_fails(self) -> None:
        self.world.tasks.update({1: {0, 1}, 2: {0, 1}})
        self.hold(0, 1)
        self.assertEqual(self.failed(), [])
        self.hold(1, 2)
        [victim] = self.victims()
        self.assertEqual(victim.engine, 1)
        self.assertIn(
            "only engines 0-1 could run it, and code that waits holds them all", victim.message
        )
        self.assertEqual(self.failed(), [])

    def test_who_waits_for_a_circle_is_left_alone(self) -> None:
        """It goes on when the wait of the circle has failed, even if it is the youngest."""
        self.world.tasks.update({1: {0}, 2: {0}})
        self.hold(0, 1)
        self.hold(1, 2)
        self.assertEqual(self.failed(), [0])

    def test_what_could_end_may_not_be_able_to_later(self) -> None:
        self.world.tasks[1] = {0, 1}
        self.hold(0, 1)
        self.assertEqual(self.failed(), [])
        self.world.tasks[1] = {0}  # engine 1 has died, or the task has rejected it
        self.assertEqual(self.failed(), [0])

    def test_all_tasks_or_one(self) -> None:
        self.world.tasks.update({1: {0}, 2: {1}})
        self.hold(0, 1, 2, every=False)
        self.assertEqual(self.failed(), [])
        self.hold(0, 1, 2)
        self.assertEqual(self.failed(), [0])

    def test_what_is_done_or_not_known_yet_holds_nothing_up(self) -> None:
        self.hold(0, 7)
        self.hold(1)
        self.assertEqual(self.failed(), [])

    def test_one_of_several_waits_is_enough(self) -> None:
        """Code that waits for several futures, or in several coroutines, goes on with any of them."""
        self.world.tasks.update({1: {0}, 2: {1}})
        self.hold(0, 1)
        self.hold(0, 2, number=2)
        self.assertEqual(self.failed(), [])
        self.graph.over(0, 2)
        self.assertEqual(self.failed(), [0])

    def test_waits_of_what_runs_no_more_do_not_count(self) -> None:
        self.world.tasks[1] = {0}
        self.hold(0, 1)
        self.world.runs[0] = ("", 5)
        self.assertEqual(self.failed(), [])
        self.assertFalse(self.graph)

    def test_a_long_wait_may_go_on_as_long_as_any_engine_can(self) -> None:
        self.world.tasks[1] = {0}
        self.world.runs[0] = ("", 100)
        needs = Needs("", False, tuple([1] * 1000)).limited()
        self.assertTrue(needs.more)
        self.graph.tell(0, 1, ("", 100), needs)
        self.world.all = {0, 1}
        self.assertEqual(self.failed(), [])
        self.world.all = {0}
        self.assertEqual(self.failed(), [0])


class TaskOutlookTests(SynchronousTestCase):
    def engines(self, desk: Desk, task_id: int, held: int = -1, run: int = -1) -> set[int]:
        return set(TaskOutlook(desk.machine).engines(ALICE, task_id, {held: ("", run)}))

    def test_a_queued_task_needs_any_engine_that_may_run_it(self) -> None:
        desk = Desk(engines=3)
        *_, last = desk.submit(7)
        self.assertEqual(self.engines(desk, last), {0, 1, 2})
        rejecting = desk.sent[0][0][0]
        desk.end(0, REJECTED)
        self.assertEqual(self.engines(desk, rejecting), {1, 2})

    def test_what_runs_needs_its_engine_and_what_was_given_ahead_any(self) -> None:
        desk = Desk(engines=2)
        desk.submit(4)
        running, ahead = (task_id for task_id, _ in desk.sent[0])
        self.assertEqual(self.engines(desk, running, 0, running), {0})
        self.assertEqual(self.engines(desk, ahead, 0, running), {0, 1})

    def test_what_ends_needs_none(self) -> None:
        desk = Desk(engines=1)
        first, second = desk.submit(2)
        self.assertTrue(TaskOutlook(desk.machine).is_running(0, first))
        desk.machine.abort(first, desk.now)
        self.assertFalse(TaskOutlook(desk.machine).is_running(0, first))
        self.assertEqual(self.engines(desk, first), set())
        desk.machine.arriving(0, *desk.sent[0][1], desk.now)
        self.assertEqual(self.engines(desk, second), set())
        self.assertEqual(self.engines(desk, second + 1), set())

    def test_ids_of_another_controllers_client_mean_nothing(self) -> None:
        desk = Desk(engines=1)
        [task_id] = desk.submit()
        self.assertEqual(set(TaskOutlook(desk.machine).engines(BOB, task_id, {})), set())

    def test_an_idle_engine_is_asked_about_what_another_has_ahead(self) -> None:
        """Else a task with a dependency would stay behind the code that waits for it."""
        desk = Desk(engines=1)
        desk.submit()
        [ahead] = desk.submit(depend=b"d")
        desk.machine.depend_answer(0, b"d", 0, True, desk.now)
        desk.settle()
        self.assertEqual(desk.sent[0][1][0], ahead)
        desk.other.clear()
        desk.now = 1.0
        desk.join(1)
        self.assertEqual(desk.other, [AskDepend(1, b"d", 0)])
        desk.machine.depend_answer(1, b"d", 0, True, desk.now)
        desk.settle()
        self.assertEqual(desk.other[1:], [Retract(0, (desk.sent[0][1],))])


class Transport:
    """Notes which waits an engine is told of."""

    has_room = True

    def __init__(self) -> None:
        self.told: list[tuple[int, str]] = []

    def send_batch(self, parts: list[frames.Buffer]) -> None:
        frames.dispatch(b"".join(parts), self.received)

    def abort(self) -> None:
        pass

    def received(
        self, kind: int, flags: int, ident: int, meta: frames.Buffer, payload: frames.Buffer
    ) -> None:
        if kind == frames.WAITS_FOREVER:
            self.told.append((ident, messages.unpack_json(payload)[0]))


class Silent:
    def frame_received(self, *frame: object) -> None:
        pass

    def link_lost(self, reason: str) -> None:
        pass


class WaitWatchTests(SynchronousTestCase):
    """Commands on real queues of engines."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.engines: dict[int, QueuedEngine] = {}
        self.watch = WaitWatch(self.engines, self.clock)
        self.transports = [self.add_engine(number) for number in range(2)]

    def add_engine(self, number: int) -> Transport:
        hello = messages.Hello(uuid=f"{number:032x}", pid=1, host="here", role=messages.ENGINE)
        engine = QueuedEngine(number, hello, self.clock)
        self.engines[number] = engine
        self.watch.engine_came(engine)
        transport = Transport()
        link = FrameLink(TurnFlusher(lambda flush: self.clock.callLater(0, flush)), Silent())
        link.connected(transport)
        engine.attach(link, messages.Holds())
        return transport

    def command(self, engine: int, number: int) -> None:
        self.engines[engine].submit(Command(ALICE, number, "execute", CommandData(0, b"")))
        self.watch.changed()

    def wait(self, engine: int, run: int, number: int, on: tuple[int, ...]) -> None:
        needs = Needs(ALICE.hex(), commands=((number, on),))
        payload = pack_wait((ALICE.hex(), run), needs)
        self.engines[engine].frame_received(frames.WAITING, 0, 1, b"", payload)
        self.look()

    def look(self) -> None:
        self.clock.pump([1.0, 0.0])

    def test_mutual_waits(self) -> None:
        for engine, number in ((0, 1), (1, 2), (0, 3), (1, 4)):
            self.command(engine, number)
        self.wait(0, 1, 4, (1,))
        self.assertEqual([each.told for each in self.transports], [[], []])
        self.wait(1, 2, 3, (0,))
        self.assertEqual([each.told for each in self.transports], [[], [(1, "WaitsForever")]])

    def test_a_command_that_comes_after_it_was_told_of(self) -> None:
        self.command(0, 1)
        self.wait(0, 1, 2, (0,))
        self.assertEqual(self.transports[0].told, [])
        self.command(0, 2)
        self.look()
        self.assertEqual(self.transports[0].told, [(1, "WaitsForever")])

    def test_a_command_that_may_move_to_another_engine(self) -> None:
        self.command(0, 1)
        self.command(0, 2)
        self.wait(0, 1, 2, (0, 1))
        self.wait(0, 1, 0, (0, 1))
        self.assertEqual(self.transports[0].told, [])
        del self.engines[1]
        self.watch.engine_gone(1)
        self.look()
        self.assertEqual(self.transports[0].told, [(1, "WaitsForever")])

    def test_a_wait_that_is_over(self) -> None:
        self.command(0, 1)
        self.wait(0, 1, 2, (0,))
        self.engines[0].frame_received(frames.WAITED, 0, 1, b"", b"")
        self.command(0, 2)
        self.look()
        self.assertEqual(self.transports[0].told, [])

    def test_garbage_is_refused(self) -> None:
        for garbage in (
            b"",
            b"[]",
            b"1",
            b'[["x",1],"",true,[],[],false]',
            b'[["",1],"",1,["a"],[],1]',
        ):
            self.assertRaises(ProtocolError, unpack_wait, garbage)
