"""When engines come and go."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from twisted.trial import unittest

from ipython1.kernel.clusters.adaptive import (
    AdaptiveMachine,
    Drain,
    Grow,
    Instruction,
    Remove,
    Say,
    Undrain,
)
from ipython1.kernel.clusters.adaptiveunits import FIRST_PAUSE, LAST_PAUSE, UnitSeen
from ipython1.kernel.clusters.tests.loads import cluster_load, engine_load
from ipython1.kernel.launchers.adaptation import Adaptation
from ipython1.kernel.wire.loads import ClusterLoad, EngineLoad

PATIENCE = 60.0
"""Seconds that engines may take to come up."""


def units(*ids: int, queued: bool = False, starting: bool = False) -> list[UnitSeen]:
    return [UnitSeen(f"engine {each}", (each,), queued, starting) for each in ids]


def engines(*ids: int, **values: object) -> tuple[EngineLoad, ...]:
    return tuple(engine_load(each, **values) for each in ids)  # type: ignore[arg-type]


class AdaptiveCase(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 1000.0
        self.machine = AdaptiveMachine(Adaptation(0, 8), PATIENCE)

    def want(self, minimum: int, maximum: int, **values: object) -> None:
        self.machine.change(Adaptation(minimum, maximum, **values))  # type: ignore[arg-type]

    def look(
        self,
        load: ClusterLoad,
        seen: Sequence[UnitSeen] = (),
        after: float = 1.0,
        lost: Sequence[int] = (),
    ) -> list[Instruction]:
        self.now += after
        return self.machine.observed(self.now, load, seen, lost)

    def grown(self, load: ClusterLoad, seen: Sequence[UnitSeen] = ()) -> int:
        """How many engines are asked for."""
        todo = self.look(load, seen)
        return sum(each.count for each in todo if isinstance(each, Grow))


class GrowthTests(AdaptiveCase):
    def test_one_for_each_task_of_unknown_duration_in_one_go(self) -> None:
        todo = self.look(cluster_load(waiting=5))
        self.assertEqual(todo, [Grow(5, "starting 5 engines: 5 tasks wait")])
        self.assertEqual(self.look(cluster_load(waiting=5)), [])  # they are being asked for
        self.machine.start_requested()
        self.assertEqual(self.look(cluster_load(waiting=5), units(0, 1, 2, 3, 4)), [])
        self.assertEqual(self.grown(cluster_load(waiting=6), units(0, 1, 2, 3, 4)), 1)

    def test_not_more_than_the_maximum_and_not_less_than_the_minimum(self) -> None:
        self.assertEqual(self.grown(cluster_load(waiting=100)), 8)
        self.setUp()
        self.want(2, 8)
        self.assertEqual(self.grown(cluster_load()), 2)
        self.machine.start_requested()
        self.assertEqual(self.grown(cluster_load(engines=engines(0)), units(0)), 1)

    def test_as_many_as_are_done_in_the_target_duration(self) -> None:
        self.want(0, 8, target_duration=10.0)
        busy = engines(0, tasks=1)
        load = cluster_load(waiting=30, running=1, seconds=1.0, engines=busy)
        self.assertEqual(self.grown(load, units(0)), 3)
        self.setUp()
        self.assertEqual(self.grown(replace(load, seconds=0.1), units(0)), 0)
        self.setUp()
        self.assertEqual(self.grown(replace(load, waiting=3, seconds=60.0), units(0)), 3)

    def test_more_when_tasks_take_longer_than_those_before(self) -> None:
        load = cluster_load(waiting=99, running=1, seconds=0.1, engines=engines(0, tasks=1))
        self.assertEqual(self.look(load, units(0)), [])
        self.assertEqual(self.look(load, units(0), after=0.05), [])
        self.now += 0.3
        self.assertEqual(self.grown(load, units(0)), 7)

    def test_not_more_while_tasks_end_as_quickly_as_those_before(self) -> None:
        load = cluster_load(waiting=90, running=1, seconds=0.1, engines=engines(0, tasks=1))
        for waiting in range(90, 0, -10):
            self.assertEqual(self.look(replace(load, waiting=waiting), units(0)), [])

    def test_engines_that_run_commands_run_no_tasks(self) -> None:
        load = cluster_load(waiting=1, engines=engines(0, 1, commands=1))
        self.assertEqual(self.grown(load, units(0, 1)), 1)

    def test_engines_that_others_started_count(self) -> None:
        load = cluster_load(waiting=3, engines=engines(7, 8))
        self.assertEqual(self.grown(load), 1)

    def test_pauses_after_failures_are_longer_and_longer(self) -> None:
        load, pause = cluster_load(waiting=1), FIRST_PAUSE
        while pause < LAST_PAUSE:
            self.assertEqual(self.grown(load), 1)
            (said,) = self.machine.start_settled(self.now, 1, "the disk is full")
            assert isinstance(said, Say)
            self.assertIn("1 engine could not be started: the disk is full; the next", said.text)
            self.assertEqual(self.look(load, after=pause - 0.5), [])
            pause *= 2
        self.assertEqual(self.grown(load), 1)
        self.machine.start_settled(self.now, 0, "")
        self.assertEqual(self.grown(load), 1)
        self.machine.start_settled(self.now, 1, "the disk is full")
        self.now += FIRST_PAUSE
        self.assertEqual(self.grown(load), 1)

    def test_engines_that_end_at_once_are_replaced_more_and_more_slowly(self) -> None:
        self.want(1, 8)
        pause = FIRST_PAUSE
        for number in range(3):
            self.assertEqual(self.grown(cluster_load()), 1)
            self.machine.start_requested()
            self.machine.start_settled(self.now, 0, "")
            alive = cluster_load(engines=engines(number))
            self.assertEqual(self.look(alive, units(number)), [])
            (said,) = self.look(cluster_load(), lost=[number])
            assert isinstance(said, Say)
            self.assertIn(f"engine {number} ended within 10 s of the start; others", said.text)
            self.assertEqual(self.look(cluster_load(), after=pause - 0.5), [])
            pause *= 2
        self.assertEqual(self.grown(cluster_load()), 1)
        self.machine.start_requested()
        alive = cluster_load(engines=engines(9))
        self.look(alive, units(9))
        self.assertEqual(self.look(alive, units(9), after=11.0), [])
        self.assertEqual(self.grown(cluster_load()), 1)  # that one has lived

    def test_engines_that_a_new_controller_does_not_know_yet_have_not_died(self) -> None:
        self.look(cluster_load(engines=engines(0)), units(0))
        self.assertEqual(self.look(cluster_load(), units(0)), [])


class ShrinkingTests(AdaptiveCase):
    IDLE = 61.0

    def test_an_idle_engine_is_drained_and_then_ended(self) -> None:
        load = cluster_load(engines=engines(0, idle=self.IDLE) + engines(1, idle=59.0))
        self.assertEqual(self.look(load, units(0, 1)), [Drain((0,))])
        self.assertEqual(self.look(load, units(0, 1)), [Drain((0,))])  # a new controller
        drained = engines(0, idle=self.IDLE, draining=True) + engines(1, idle=59.0)
        todo = self.look(cluster_load(engines=drained), units(0, 1))
        self.assertEqual(
            todo, [Remove(("engine 0",), (0,), "ending engine 0: without work for 60 s")]
        )
        self.assertEqual(self.look(cluster_load(engines=drained), units(0, 1)), [])
        self.machine.removed(["engine 0"])
        self.assertEqual(self.look(cluster_load(engines=drained[1:]), units(1)), [])

    def test_the_minimum_stays(self) -> None:
        self.want(2, 8)
        load = cluster_load(engines=engines(0, 1, 2, idle=self.IDLE))
        self.assertEqual(self.look(load, units(0, 1, 2)), [Drain((2,))])

    def test_none_while_tasks_wait(self) -> None:
        load = cluster_load(waiting=1, running=2, engines=engines(0, 1, idle=self.IDLE))
        self.assertEqual(self.look(load, units(0, 1)), [Grow(1, "starting 1 engine: 1 task waits")])

    def test_what_somebody_has_pushed_or_executed_keeps_an_engine(self) -> None:
        load = cluster_load(engines=engines(0, 1, idle=self.IDLE, holds=True))
        self.assertEqual(self.look(load, units(0, 1)), [])
        self.want(0, 1)
        self.assertEqual(self.look(load, units(0, 1)), [])
        self.want(0, 8, keep_data=False)
        self.assertEqual(self.look(load, units(0, 1)), [Drain((1, 0))])

    def test_what_others_started_stays(self) -> None:
        load = cluster_load(engines=engines(0, 1, idle=self.IDLE))
        self.assertEqual(self.look(load, units(1)), [Drain((1,))])

    def test_work_that_comes_meanwhile_keeps_an_engine(self) -> None:
        idle = cluster_load(engines=engines(0, idle=self.IDLE))
        for between in (
            cluster_load(waiting=1, engines=engines(0, draining=True, idle=self.IDLE)),
            cluster_load(running=1, engines=engines(0, draining=True, tasks=1)),
            cluster_load(engines=engines(0, draining=True, commands=1)),
            cluster_load(engines=engines(0, draining=True, holds=True, idle=self.IDLE)),
        ):
            self.setUp()
            self.assertEqual(self.look(idle, units(0)), [Drain((0,))])
            self.assertEqual(self.look(between, units(0)), [Undrain((0,))])

    def test_a_new_minimum_keeps_an_engine(self) -> None:
        idle = cluster_load(engines=engines(0, idle=self.IDLE))
        self.assertEqual(self.look(idle, units(0)), [Drain((0,))])
        self.want(1, 8)
        drained = cluster_load(engines=engines(0, idle=self.IDLE, draining=True))
        self.assertEqual(self.look(drained, units(0)), [Undrain((0,))])

    def test_engines_that_end_together_go_together(self) -> None:
        pair = [UnitSeen("job", (0, 1))]
        load = cluster_load(engines=engines(0, idle=self.IDLE) + engines(1, idle=1.0))
        self.assertEqual(self.look(load, pair), [])
        load = cluster_load(engines=engines(0, 1, idle=self.IDLE))
        self.want(1, 8)
        self.assertEqual(self.look(load, pair), [])
        self.want(0, 8)
        self.assertEqual(self.look(load, pair), [Drain((0, 1))])

    def test_a_smaller_maximum_lets_tasks_end_first(self) -> None:
        self.want(0, 1)
        load = cluster_load(waiting=5, running=2, engines=engines(0, tasks=2) + engines(1, tasks=1))
        self.assertEqual(self.look(load, units(0, 1)), [Drain((1,))])
        busy = engines(0, tasks=2) + engines(1, tasks=1, draining=True)
        self.assertEqual(self.look(replace(load, engines=busy), units(0, 1)), [])
        free = engines(0, tasks=2) + engines(1, draining=True)
        todo = self.look(replace(load, engines=free), units(0, 1))
        self.assertEqual(todo, [Remove(("engine 1",), (1,), "ending engine 1: more than 1 engine")])

    def test_a_larger_maximum_keeps_them(self) -> None:
        self.want(0, 1)
        load = cluster_load(running=2, engines=engines(0, tasks=1) + engines(1, tasks=1))
        self.assertEqual(self.look(load, units(0, 1)), [Drain((1,))])
        self.want(0, 2)
        busy = engines(0, tasks=1) + engines(1, tasks=1, draining=True)
        self.assertEqual(self.look(replace(load, engines=busy), units(0, 1)), [Undrain((1,))])

    def test_stopping_keeps_what_is_not_ended_yet(self) -> None:
        self.look(cluster_load(engines=engines(0, idle=self.IDLE)), units(0))
        self.assertEqual(self.machine.stop(), [Undrain((0,))])

    def test_an_engine_that_cannot_be_ended_is_used_again(self) -> None:
        drained = cluster_load(engines=engines(0, idle=self.IDLE, draining=True))
        self.assertEqual(self.look(drained, units(0)), [Drain((0,))])
        (remove,) = self.look(drained, units(0))
        assert isinstance(remove, Remove)
        todo = self.machine.removal_failed(self.now, remove.keys, "scancel failed")
        self.assertEqual(todo[0], Undrain((0,)))
        self.assertIn("engine 0 could not be ended: scancel failed", str(todo[1]))
        self.assertEqual(self.look(drained, units(0)), [])
        self.assertEqual(self.look(drained, units(0), after=FIRST_PAUSE), [Drain((0,))])

    def test_one_that_died_meanwhile_is_forgotten(self) -> None:
        load = cluster_load(engines=engines(0, idle=self.IDLE))
        self.assertEqual(self.look(load, units(0)), [Drain((0,))])
        self.assertEqual(self.look(cluster_load(), after=11.0), [])
        self.assertEqual(self.look(load, units(0)), [Drain((0,))])


class ArrivalTests(AdaptiveCase):
    """Engines that run and do not come up."""

    def ended(self, todo: list[Instruction]) -> tuple[int, ...]:
        (remove,) = todo
        assert isinstance(remove, Remove)
        self.machine.removed(remove.keys)
        return remove.ids

    def test_they_are_ended_and_replaced_more_and_more_slowly(self) -> None:
        load, pause = cluster_load(waiting=2), FIRST_PAUSE
        for number in (0, 2, 4):
            self.assertEqual(self.grown(load), 2)
            self.machine.start_requested()
            hung = units(number, number + 1, starting=True)
            self.assertEqual(self.look(load, hung), [])
            self.assertEqual(self.look(load, hung, after=PATIENCE - 1), [])
            # That the start is over says nothing: it waits no longer either.
            self.assertEqual(self.machine.start_settled(self.now, 0, ""), [])
            (remove,) = self.look(load, hung)
            assert isinstance(remove, Remove)
            self.assertEqual(remove.ids, (number, number + 1))
            self.assertEqual(
                remove.why,
                f"ending engines {number}-{number + 1}: running, but not usable within 60 s (start_timeout); "
                f"others start in {pause:g} s at the earliest",
            )
            self.assertEqual(self.look(load, hung), [], "they are being ended")
            self.machine.removed(remove.keys)
            self.assertEqual(self.look(load, after=pause - 1.5), [])
            pause *= 2
        self.assertEqual(self.grown(load), 2)
        self.machine.start_requested()
        self.assertEqual(self.look(load, units(6, 7, starting=True)), [])
        one = replace(load, engines=engines(6, tasks=1))
        self.assertEqual(self.look(one, [*units(6), *units(7, starting=True)], after=5.0), [])
        (remove,) = self.look(one, [*units(6), *units(7, starting=True)], after=PATIENCE)
        self.assertIn("others start in 5 s at the earliest", str(remove), "one has come up")

    def test_nothing_replaces_them_when_nothing_waits(self) -> None:
        self.assertEqual(self.look(cluster_load(), units(0, starting=True)), [])
        todo = self.look(cluster_load(), units(0, starting=True), after=PATIENCE)
        self.assertEqual(self.ended(todo), (0,))
        self.assertEqual(self.look(cluster_load(), after=LAST_PAUSE), [])

    def test_time_in_a_queue_does_not_count(self) -> None:
        load = cluster_load(waiting=1)
        self.assertEqual(self.grown(load, units(0, queued=True)), 0)
        self.assertEqual(self.look(load, units(0, queued=True), after=600.0), [])
        self.assertEqual(self.look(load, units(0, starting=True), after=PATIENCE), [])
        self.assertEqual(self.look(load, units(0, queued=True), after=PATIENCE / 2), [])
        self.assertEqual(self.look(load, units(0, starting=True), after=PATIENCE), [])
        self.assertEqual(self.look(load, units(0, starting=True), after=PATIENCE - 1), [])
        self.assertEqual(self.ended(self.look(load, units(0, starting=True))), (0,))

    def test_time_without_a_controller_does_not_count(self) -> None:
        load, hung = cluster_load(waiting=1), units(0, starting=True)
        self.assertEqual(self.look(load, hung), [])
        self.machine.interrupted()
        self.assertEqual(self.look(load, hung, after=10 * PATIENCE), [])
        self.assertEqual(self.look(load, hung, after=PATIENCE - 1), [])
        self.assertEqual(self.ended(self.look(load, hung)), (0,))

    def test_time_in_which_the_user_wants_no_changes_does_not_count(self) -> None:
        hung = units(0, starting=True)
        self.assertEqual(self.look(cluster_load(), hung), [])
        self.machine.stop()
        self.want(1, 8)
        self.assertEqual(self.look(cluster_load(), hung, after=10 * PATIENCE), [])

    def test_without_a_limit_they_are_waited_for(self) -> None:
        self.machine = AdaptiveMachine(Adaptation(0, 8), 0.0)
        load = cluster_load(waiting=1)
        self.assertEqual(self.look(load, units(0, starting=True)), [])
        self.assertEqual(self.look(load, units(0, starting=True), after=10 * PATIENCE), [])

    def test_one_that_cannot_be_ended_is_tried_again(self) -> None:
        load, hung = cluster_load(waiting=1), units(0, starting=True)
        self.look(load, hung)
        (remove,) = self.look(load, hung, after=PATIENCE)
        assert isinstance(remove, Remove)
        self.machine.removal_failed(self.now, remove.keys, "scancel failed")
        self.assertEqual(self.look(load, hung), [])
        self.assertEqual(self.ended(self.look(load, hung, after=FIRST_PAUSE)), (0,))

    def test_engines_of_a_job_are_used_without_those_that_do_not_come_up(self) -> None:
        self.want(0, 4, idle=60.0)
        job = [UnitSeen("job", (0, 1, 2), starting=True)]
        load = cluster_load(waiting=9, engines=engines(0, 1, tasks=1))
        self.assertEqual(self.grown(load, job), 1, "three of four are coming")
        self.machine.start_requested()
        more = [*job, *units(3)]
        load = replace(load, engines=engines(0, 1, 3, tasks=1))
        self.assertEqual(self.look(load, more, after=PATIENCE - 1), [])
        said, grow = self.look(load, more)
        what = "no longer waiting for engine 2: running, but not usable within 60 s (start_timeout)"
        self.assertEqual(said, Say(what))
        self.assertEqual(grow, Grow(1, "starting 1 engine: 9 tasks wait"))
        self.assertEqual(self.look(load, more), [], "it is said once")
        idle = engines(0, 1, idle=61.0) + engines(3, idle=1.0)
        self.assertEqual(self.look(cluster_load(engines=idle), more), [Drain((0, 1))])
        idle = engines(0, 1, idle=61.0, draining=True) + engines(3, idle=1.0)
        self.assertEqual(self.ended(self.look(cluster_load(engines=idle), more)), (0, 1, 2))


class QueueTests(AdaptiveCase):
    def test_what_waits_in_a_batch_queue_is_cancelled_when_nothing_needs_it(self) -> None:
        queued = units(0, 1, 2, queued=True)
        self.assertEqual(self.grown(cluster_load(waiting=3)), 3)
        self.machine.start_requested()
        self.assertEqual(self.look(cluster_load(waiting=3), queued, after=600.0), [])
        self.assertEqual(self.look(cluster_load(), queued), [])
        self.assertEqual(self.look(cluster_load(), queued, after=59.0), [])
        todo = self.look(cluster_load(), queued)
        self.assertEqual(
            todo,
            [
                Remove(
                    ("engine 2", "engine 1", "engine 0"),
                    (0, 1, 2),
                    "cancelling engines 0-2: no task waits for them",
                )
            ],
        )

    def test_tasks_that_come_again_keep_it(self) -> None:
        queued = units(0, queued=True)
        self.assertEqual(self.look(cluster_load(), queued), [])
        self.assertEqual(self.look(cluster_load(waiting=1), queued, after=59.0), [])
        self.assertEqual(self.look(cluster_load(), queued, after=30.0), [])

    def test_what_is_being_started_here_is_waited_for(self) -> None:
        self.assertEqual(self.look(cluster_load(), units(0)), [])
        self.assertEqual(self.look(cluster_load(), units(0), after=600.0), [])

    def test_a_smaller_maximum_cancels_at_once_what_waits(self) -> None:
        self.want(0, 2)
        load = cluster_load(waiting=9, engines=engines(0, tasks=1))
        todo = self.look(load, [*units(0), *units(1, 2, queued=True)])
        self.assertEqual(
            todo, [Remove(("engine 2",), (2,), "cancelling engine 2: more than 2 engines")]
        )


@dataclass
class World:
    """A cluster of simulated engines, whose tasks take some time.

    :ivar hanging: the engines that will never be usable.
    :ivar hung: those of them that run; of each, since when.
    """

    chance: random.Random
    want: Adaptation
    now: float = 0.0
    waiting: int = 0
    ended: int = 0
    coming: dict[int, float] = field(default_factory=dict)
    hanging: set[int] = field(default_factory=set)
    hung: dict[int, float] = field(default_factory=dict)
    idle_since: dict[int, float] = field(default_factory=dict)
    done_at: dict[int, float] = field(default_factory=dict)
    draining: set[int] = field(default_factory=set)
    holding: set[int] = field(default_factory=set)
    durations: list[float] = field(default_factory=list)
    next_id: int = 0

    def load(self) -> ClusterLoad:
        recent = self.durations[-50:]
        return cluster_load(
            waiting=self.waiting,
            running=len(self.done_at),
            seconds=sum(recent) / len(recent) if recent else 0.0,
            engines=tuple(
                engine_load(
                    each,
                    tasks=int(each in self.done_at),
                    idle=0.0 if each in self.done_at else self.now - since,
                    holds=each in self.holding,
                    draining=each in self.draining,
                )
                for each, since in self.idle_since.items()
            ),
        )

    def seen(self) -> list[UnitSeen]:
        return [
            *units(*self.idle_since),
            *units(*self.coming, queued=True),
            *units(*self.hung, starting=True),
        ]

    def step(self, seconds: float) -> None:
        """Let engines come, and tasks begin and end."""
        self.now += seconds
        for each, due in list(self.coming.items()):
            if due <= self.now:
                del self.coming[each]
                (self.hung if each in self.hanging else self.idle_since)[each] = self.now
        for each, due in list(self.done_at.items()):
            if due <= self.now:
                del self.done_at[each]
                self.idle_since[each] = self.now
                self.ended += 1
        for each in self.idle_since:
            if self.waiting and each not in self.done_at and each not in self.draining:
                self.waiting -= 1
                duration = self.chance.choice((0.1, 3.0, 40.0))
                self.durations.append(duration)
                self.done_at[each] = self.now + duration

    def do(self, machine: AdaptiveMachine, todo: Sequence[Instruction]) -> None:
        """Do it, with what may go wrong."""
        for each in todo:
            match each:
                case Grow():
                    self.grow(machine, each.count)
                case Drain():
                    self.draining.update(each.ids)
                case Undrain():
                    self.draining.difference_update(each.ids)
                case Remove():
                    self.remove(machine, each)

    def grow(self, machine: AdaptiveMachine, count: int) -> None:
        if self.chance.random() < 0.2:
            machine.start_settled(self.now, count, "no luck")
            return
        for _ in range(count):
            self.coming[self.next_id] = self.now + self.chance.choice((1.0, 20.0, 500.0))
            if self.chance.random() < 0.2:
                self.hanging.add(self.next_id)
            self.next_id += 1
        machine.start_requested()
        machine.start_settled(self.now, 0, "")

    def remove(self, machine: AdaptiveMachine, remove: Remove) -> None:
        if self.chance.random() < 0.1:
            self.do(machine, machine.removal_failed(self.now, remove.keys, "no luck"))
            return
        for each in remove.ids:
            self.coming.pop(each, None)
            self.hung.pop(each, None)
            self.idle_since.pop(each, None)
            self.draining.discard(each)
        machine.removed(remove.keys)

    @property
    def size(self) -> int:
        return len(self.coming) + len(self.hung) + len(self.idle_since)


class HistoryTests(unittest.SynchronousTestCase):
    """Random lives of clusters: what must hold after every look."""

    def check(self, world: World, todo: Sequence[Instruction]) -> None:
        for each in todo:
            if isinstance(each, Grow):
                self.assertGreater(each.count, 0)
                self.assertLessEqual(world.size + each.count, world.want.maximum)
            elif isinstance(each, Remove) and set(each.ids) <= world.hung.keys():
                for one in each.ids:
                    self.assertGreaterEqual(world.now - world.hung[one], PATIENCE)
            elif isinstance(each, Remove):
                self.assertFalse(set(each.ids) & set(world.done_at), "a task was cut off")
                self.assertFalse(set(each.ids) & world.holding, "somebody's data were lost")
                self.assertLessEqual(set(each.ids) & set(world.idle_since), world.draining)
                self.assertGreaterEqual(world.size - len(each.ids), world.want.minimum)
                if world.size <= world.want.maximum:
                    self.assertEqual(world.waiting, 0, "engines went while tasks waited")

    def live(self, chance: random.Random) -> None:
        minimum = chance.choice((0, 0, 1, 3))
        want = Adaptation(minimum, minimum + chance.choice((1, 5, 20)), 10.0, 30.0)
        world, machine = World(chance, want), AdaptiveMachine(want, PATIENCE)
        given = 0
        for _ in range(300):
            if chance.random() < 0.05:
                more = chance.choice((1, 4, 30))
                world.waiting += more
                given += more
            if chance.random() < 0.02 and world.idle_since:
                world.holding ^= {chance.choice(list(world.idle_since))}
            if chance.random() < 0.02:
                world.want = replace(want, maximum=want.minimum + chance.choice((1, 5, 20)))
                machine.change(world.want)
            todo = machine.observed(world.now, world.load(), world.seen())
            self.check(world, todo)
            world.do(machine, todo)
            world.step(1.0)
        self.settle(world, machine, given)

    def settle(self, world: World, machine: AdaptiveMachine, given: int) -> None:
        """Nothing more is asked for: all tasks end, and then all engines but the minimum go."""
        world.holding.clear()
        for _ in range(20_000):
            todo = machine.observed(world.now, world.load(), world.seen())
            self.check(world, todo)
            world.do(machine, todo)
            world.step(1.0)
            if world.ended == given and world.size == world.want.minimum and not world.draining:
                return
        self.fail(f"{world.ended} of {given} tasks ended, {world.size} engines are left")

    def test_random_lives(self) -> None:
        for seed in range(25):
            try:
                self.live(random.Random(seed))
            except Exception as problem:
                raise AssertionError(f"seed {seed}: {problem}") from problem

    def test_a_steady_flow_does_not_swing(self) -> None:
        """A task every two seconds, each of one: the engines that came in the beginning stay."""
        want = Adaptation(0, 8, 10.0, 30.0)
        world, machine = World(random.Random(1), want), AdaptiveMachine(want)
        starts = 0
        for second in range(600):
            world.waiting += second % 2
            todo = machine.observed(world.now, world.load(), world.seen())
            starts += sum(isinstance(each, Grow) for each in todo)
            for each in todo:
                if isinstance(each, Grow):
                    world.coming.update((world.next_id + i, world.now) for i in range(each.count))
                    world.next_id += each.count
                    machine.start_requested()
                    machine.start_settled(world.now, 0, "")
                else:
                    world.do(machine, [each])
            world.step(0.5)
            world.done_at = {each: min(due, world.now + 0.4) for each, due in world.done_at.items()}
            world.step(0.5)
        self.assertEqual(starts, 1)
