"""The cluster's decisions, event by event, and its invariants after each of them."""

from __future__ import annotations

import contextlib
import random
from dataclasses import replace

from twisted.trial import unittest

from ipython1.daemon.processes import ProcessStatus, State
from ipython1.kernel.basics.error import ClusterError, InvalidEngineID
from ipython1.kernel.clusters.engines import Removal
from ipython1.kernel.clusters.machine import (
    ClusterMachine,
    GiveUp,
    Instruction,
    MarkUsable,
    Phase,
    Reconnect,
    Say,
    SaySilent,
    TellEnded,
)
from ipython1.kernel.launchers.interfaces import Unit


class World:
    """A machine, and a supervision that says what a test wants."""

    def __init__(self, own_controller: bool = True) -> None:
        self.processes: dict[str, ProcessStatus] = {}
        self.machine = ClusterMachine(lambda: self.processes, own_controller)

    def check(self) -> None:
        """What must hold between any two events."""
        machine = self.machine
        assert machine.engines.ids == sorted(set(machine.engines.ids)), machine.engines.ids
        own = [each for unit in machine.engines.units.values() for each in unit.ids]
        assert len(own) == len(set(own)), own
        assert machine.engines._stale <= set(machine.engines.ids)
        assert set(machine.engines._job_ids) <= set(machine.engines.units)
        assert not any(machine.engines.units[key].ids for key in machine.engines._job_ids)
        assert machine.engines._removing <= set(machine.engines.units)
        for progress in machine.progresses:
            awaited = {unit.key for unit in progress.units} - set(progress.failures)
            assert awaited <= set(machine.engines.units), awaited
        infos = [info.id for info in machine.engines.infos(0.0)]
        assert infos == sorted(set(infos)) and set(machine.engines.ids) <= set(infos), infos
        free = machine.engines.reserve_ids(3)
        assert not set(free) & {*machine.engines.ids, *own}
        machine.engines.release_ids(free)
        jobs = [each for ids in machine.engines._job_ids.values() for each in ids]
        assert len(jobs) == len(set(jobs)), jobs

    def start(self, *ids: int, state: State = State.STARTING) -> None:
        """Engines with a process each are asked for, and start."""
        progress = self.machine.begin_start()
        for each in ids:
            key = f"engine-{each}"
            self.processes[key] = ProcessStatus(key, f"engine {each}", state=state)
        self.machine.units_started(progress, [Unit(f"engine-{each}", 1, (each,)) for each in ids])
        self.check()

    def report(self, key: str, state: State, **what: object) -> list[Instruction]:
        """The supervision reports a process."""
        title = key.replace("engine-", "engine ").replace("controller", "the controller")
        before = self.processes.get(key, ProcessStatus(key, title))
        self.processes[key] = replace(before, state=state, **what)  # type: ignore[arg-type]
        told = self.machine.process_reported(self.processes[key])
        self.check()
        return told

    def list(self, *ids: int) -> list[Instruction]:
        """The controller lists engines."""
        told = self.machine.ids_listed(ids)
        self.check()
        return told

    def up(self, *ids: int) -> None:
        """The cluster runs with these engines."""
        self.report("controller", State.RUNNING)
        self.start(*ids)
        for told in self.list(*ids):
            assert isinstance(told, MarkUsable)
            self.report(told.key, State.RUNNING)
        self.machine.end_start(self.machine.progresses[0])
        self.machine.start_settled()


class MachineTests(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World()
        self.machine = self.world.machine

    def test_a_start(self) -> None:
        world, machine = self.world, self.machine
        world.start(0, 1)
        self.assertTrue(machine.more_to_come)
        free = [machine.engines.reserve_ids(2) for _ in range(2)]
        self.assertEqual(free, [[2, 3], [4, 5]])  # two may be starting some at the same time
        for ids in free:
            machine.engines.release_ids(ids)
        self.assertEqual(world.list(1), [MarkUsable("engine-1")])
        (progress,) = machine.progresses
        self.assertEqual((progress.outcome, progress.usable), ("waiting", [1]))
        self.assertEqual(world.list(0, 1), [MarkUsable("engine-0"), MarkUsable("engine-1")])
        self.assertTrue(progress.settled)
        machine.end_start(progress)
        machine.start_settled()
        self.assertEqual((machine.phase, machine.engines.wanted), (Phase.RUNNING, 2))

    def test_an_engine_that_dies_while_it_starts_is_the_start_s_to_tell(self) -> None:
        self.world.start(0, 1)
        self.assertEqual(self.world.report("engine-0", State.ENDED, status=1), [])
        self.world.list(1)
        (progress,) = self.machine.progresses
        self.assertEqual(progress.outcome, "partial")
        self.assertFalse([unit for unit in progress.failures if unit != "engine-0"])

    def test_an_engine_that_died_before_its_start_was_noted(self) -> None:
        self.world.start(0, state=State.ENDED)
        (progress,) = self.machine.progresses
        self.assertEqual(progress.outcome, "failed")

    def test_an_engine_whose_host_may_come_in_a_moment_is_waited_for(self) -> None:
        key, waiting = "engine-0", {"host_away": True}
        self.world.processes[key] = ProcessStatus(
            key, "engine 0", state=State.WAITING, host_away=True
        )
        progress = self.machine.begin_start()
        self.machine.units_started(progress, [Unit(key, 1, (0,))])
        self.assertEqual(progress.outcome, "waiting")
        self.assertEqual(self.world.report(key, State.WAITING, **waiting, error="waits"), [])
        self.assertEqual(progress.outcome, "failed")
        self.assertEqual(self.machine.engines.there, "0 engines were usable (others waits)")
        self.world.report(key, State.REQUESTED, host_away=False, error="")
        self.assertEqual(progress.outcome, "waiting")
        self.world.list(0)
        self.assertEqual(progress.outcome, "complete")

    def test_an_engine_whose_host_was_away_before_its_start_was_noted(self) -> None:
        key = "engine-0"
        self.world.processes[key] = ProcessStatus(
            key, "engine 0", state=State.WAITING, host_away=True, error="waits"
        )
        progress = self.machine.begin_start()
        self.machine.units_started(progress, [Unit(key, 1, (0,))])
        self.assertEqual(progress.outcome, "failed")
        self.assertTrue(self.machine.more_to_come)

    def test_an_engine_that_waits_for_its_host_is_not_told_for_itself(self) -> None:
        """Its launcher tells once that the host is gone, and not for each of its engines."""
        self.world.up(0, 1)
        lost = {"was_ready": True, "host": "node1"}
        told = self.world.report("engine-0", State.WAITING, host_away=True, error="waits", **lost)
        # Its tasks are not to blame.
        self.assertEqual(told, [TellEnded((0,), "ended with the connection to node1")])
        self.assertEqual(self.machine.engines.fresh, {1})
        self.world.list(1)
        told = self.world.report("engine-0", State.WAITING, host_away=True, error="waits longer")
        self.assertEqual(told, [])

    def test_an_engine_that_has_crashed_is_not_lost_with_its_host(self) -> None:
        self.world.up(0, 1)
        told = self.world.report("engine-0", State.ENDED, was_ready=True, signal=11)
        self.assertNotIn(TellEnded, list(map(type, told)))

    def test_an_engine_that_registers_before_its_start_was_noted(self) -> None:
        """With MPI ranks may be there before the launcher has returned."""
        progress = self.machine.begin_start()
        self.assertEqual(self.world.list(0), [])
        told = self.machine.units_started(progress, [Unit("engine-0", 1, (0,))])
        self.assertEqual(told, [MarkUsable("engine-0")])
        self.assertEqual(progress.outcome, "complete")

    def test_an_engine_that_died_later_is_told(self) -> None:
        self.world.up(0, 1)
        self.assertEqual(
            self.world.report("engine-1", State.ENDED, signal=11),
            [Say("engine 1 was killed by signal SIGSEGV")],
        )
        self.assertEqual(
            [each.state for each in self.machine.engines.infos(0.0)], ["running", "ended"]
        )

    def test_one_that_comes_back_counts_when_the_controller_has_noticed_both(self) -> None:
        self.world.up(0, 1)
        (said,) = self.world.report("engine-1", State.WAITING, signal=9)
        self.assertEqual(said, Say("engine 1 was killed by signal SIGKILL; restarting it"))
        self.world.report("engine-1", State.STARTING)
        self.assertEqual(self.world.list(0, 1), [MarkUsable("engine-0")])  # still the old one
        self.assertEqual(self.world.list(0), [MarkUsable("engine-0")])
        self.assertIn(MarkUsable("engine-1"), self.world.list(0, 1))

    def test_a_removal_that_was_asked_for_is_not_told(self) -> None:
        self.world.up(0, 1)
        unit = Unit("engine-1", 1, (1,))
        self.assertEqual(self.machine.engines.begin_removal([1]), Removal((unit,), ()))
        self.assertEqual(self.world.report("engine-1", State.ENDED, asked=True), [])
        self.machine.unit_removed("engine-1")
        self.machine.engines.forget_end(1)
        self.world.list(0)
        self.assertRaises(InvalidEngineID, self.machine.engines.begin_removal, [1])
        self.assertEqual([each.id for each in self.machine.engines.infos(0.0)], [0])

    def test_a_removal_during_a_restart(self) -> None:
        self.world.up(0)
        self.world.report("engine-0", State.WAITING, signal=9)
        self.assertTrue(self.machine.more_to_come)
        self.assertEqual(
            self.machine.engines.begin_removal([0]).units, (Unit("engine-0", 1, (0,)),)
        )
        self.machine.unit_removed("engine-0")
        self.world.list()
        self.assertFalse(self.machine.more_to_come)

    def test_one_that_is_being_removed_cannot_be_restarted(self) -> None:
        self.world.up(0, 1)
        unit = Unit("engine-1", 1, (1,))
        removal = self.machine.engines.begin_removal([1])
        self.world.check()
        problem = self.assertRaises(ClusterError, self.machine.engines.check_stays, unit)
        self.assertIn("engine 1 is being removed", str(problem))
        self.machine.engines.check_stays(Unit("engine-0", 1, (0,)))
        self.machine.engines.keep(removal.units)
        self.machine.engines.check_stays(unit)

    def test_a_start_does_not_wait_for_what_was_removed(self) -> None:
        self.world.start(0, 1)
        self.world.list(0)
        (progress,) = self.machine.progresses
        self.machine.engines.begin_removal([1])
        self.assertEqual(self.world.report("engine-1", State.ENDED, asked=True), [])
        self.assertEqual(progress.outcome, "waiting")
        self.machine.unit_removed("engine-1")
        self.world.check()
        self.assertEqual((progress.outcome, progress.wanted), ("complete", 1))

    def test_an_engine_that_comes_after_its_start_was_given_up(self) -> None:
        self.world.start(0, 1)
        self.world.list(0)
        (progress,) = self.machine.progresses
        self.machine.end_start(progress)
        self.machine.start_settled()
        self.assertTrue(self.machine.more_to_come)
        self.assertIn(MarkUsable("engine-1"), self.world.list(0, 1))
        self.assertEqual(progress.usable, [0])
        self.world.report("engine-0", State.RUNNING)
        self.world.report("engine-1", State.RUNNING)
        self.assertFalse(self.machine.more_to_come)

    def test_stopping_while_it_starts(self) -> None:
        self.world.start(0, 1)
        self.machine.stop()
        self.assertEqual(self.world.list(0, 1), [MarkUsable("engine-0"), MarkUsable("engine-1")])
        self.machine.start_settled()
        self.assertEqual(self.machine.phase, Phase.STOPPING)

    def test_engines_of_others(self) -> None:
        self.world.up(0)
        self.world.list(0, 7)
        self.assertEqual(self.machine.engines.begin_removal([7]), Removal((), (7,)))
        self.assertEqual(self.machine.engines.reserve_ids(1), [1])

    def test_a_job_has_its_engines_from_the_controller(self) -> None:
        world, machine = self.world, self.machine
        world.list(0)  # somebody else's
        progress = machine.begin_start()
        machine.units_started(progress, [Unit("mpi-1", 2)])
        world.list(0, 1, 2)
        self.assertEqual(progress.usable, [1, 2])
        machine.end_start(progress)
        problem = self.assertRaises(ClusterError, machine.engines.begin_removal, [2])
        self.assertIn("cannot be removed without 1", str(problem))
        self.assertEqual(machine.engines.begin_removal([1, 2]), Removal((Unit("mpi-1", 2),), ()))
        self.assertEqual(machine.engines.job_of(2), Unit("mpi-1", 2))

    def test_a_batch_job_waits_in_its_queue_and_ends(self) -> None:
        world, machine = self.world, self.machine
        progress = machine.begin_start()
        machine.units_started(progress, [Unit("job.0", 1, (0,)), Unit("job.1", 1, (1,))])
        self.assertEqual([each.state for each in machine.engines.infos(0.0)], ["queued", "queued"])
        world.list(0)
        self.assertEqual([each.state for each in machine.engines.infos(0.0)], ["running", "queued"])
        self.assertEqual(machine.job_ended("job.1", "ran out of time", ["x"], False), [])
        world.check()
        self.assertEqual(progress.outcome, "partial")
        machine.end_start(progress)
        self.assertEqual(
            machine.job_ended("job.0", "was preempted", ["bye"], False),
            [Say("job.0 was preempted: bye")],
        )
        self.assertEqual(machine.engines.last_failure, "engine 0 was preempted")
        self.assertEqual(machine.job_ended("job.0", "was preempted", [], False), [])

    def test_a_controller_that_fails_at_the_start_is_its_starter_s_to_tell(self) -> None:
        self.assertEqual(self.world.report("controller", State.ENDED, status=1), [])

    def test_a_controller_that_is_lost_while_engines_start(self) -> None:
        """Nobody else would tell: its launcher was done when it listened."""
        for restarts, was_ready in ((0, True), (1, False)):
            world = World()
            world.report("controller", State.RUNNING, was_ready=True)
            world.start(0)
            (told,) = world.report(
                "controller", State.ENDED, signal=9, was_ready=was_ready, restarts=restarts
            )
            assert isinstance(told, GiveUp)
            self.assertEqual(told.status, 1)

    def test_a_controller_that_dies_and_comes_back(self) -> None:
        self.world.up(0)
        (said,) = self.world.report("controller", State.WAITING, signal=9, was_ready=True)
        self.assertIn("restarting it", getattr(said, "text", ""))
        self.assertEqual(self.machine.controller_lost("it was killed"), [Reconnect()])
        self.world.check()
        self.assertEqual(self.machine.engines.ids, [])
        self.assertEqual(
            self.world.report("controller", State.RUNNING, restarts=1),
            [Say("the controller is back")],
        )
        self.world.list(0)
        self.assertEqual([each.state for each in self.machine.engines.infos(0.0)], ["running"])

    def test_a_silent_controller_is_told_once_and_that_it_answers_again(self) -> None:
        self.world.up(0)
        (told,) = self.world.report("controller", State.RUNNING, silent_since=5.0, stopped=True)
        assert isinstance(told, SaySilent)
        self.assertTrue(told.status.stopped)
        self.assertEqual(
            self.world.report("controller", State.RUNNING, silent_since=None, stopped=False),
            [Say("the controller answers again")],
        )
        self.world.report("controller", State.RUNNING, silent_since=9.0)
        (said,) = self.world.report(
            "controller", State.WAITING, silent_since=None, signal=9, was_ready=True
        )
        self.assertIn("restarting it", getattr(said, "text", ""))
        self.assertEqual(
            self.world.report("controller", State.RUNNING, restarts=1, signal=None),
            [Say("the controller is back")],
        )

    def test_silent_engines_are_busy_and_nobody_is_told(self) -> None:
        self.world.up(0)
        self.assertEqual(self.world.report("engine-0", State.RUNNING, silent_since=5.0), [])

    def test_a_controller_that_is_gone_for_good(self) -> None:
        self.world.up(0)
        self.assertEqual(
            self.world.report("controller", State.ENDED, status=0),
            [GiveUp("the controller was told to end", 0)],
        )
        (told,) = self.world.report("controller", State.ENDED, status=None, signal=9)
        assert isinstance(told, GiveUp)
        self.assertEqual(told.status, 1)

    def test_somebody_else_s_controller(self) -> None:
        world = World(own_controller=False)
        world.start(0)
        said = world.machine.controller_lost("it was killed")
        self.assertEqual(
            said, [Reconnect(), Say("the connection to the controller is lost (it was killed)")]
        )

    def test_nothing_is_told_while_it_stops(self) -> None:
        self.world.up(0, 1)
        self.machine.stop()
        for told in (
            self.world.report("engine-0", State.ENDED, signal=9),
            self.world.report("controller", State.ENDED, signal=9),
            self.machine.controller_lost("it ended"),
            self.machine.nanny_lost(),
            self.machine.job_ended("engine-1", "ended", [], False),
        ):
            self.assertEqual(told, [])
        self.machine.start_settled()
        self.assertEqual(self.machine.phase, Phase.STOPPING)

    def test_a_killed_nanny_ends_the_cluster(self) -> None:
        self.world.up(0)
        (told,) = self.machine.nanny_lost()
        assert isinstance(told, GiveUp)
        self.assertEqual(told.status, 1)

    def test_any_order_of_events_keeps_the_invariants(self) -> None:
        for seed in range(200):
            self._random_life(random.Random(seed))

    def _random_life(self, chance: random.Random) -> None:
        world = World()
        machine = world.machine
        states = [State.STARTING, State.RUNNING, State.WAITING, State.STOPPING, State.ENDED]
        for _ in range(60):
            keys = list(machine.engines.units)
            match chance.randrange(9):
                case 0:
                    ids = machine.engines.reserve_ids(chance.randint(1, 3))
                    world.start(*ids)
                    machine.engines.release_ids(ids)
                case 1 if machine.progresses:
                    machine.end_start(chance.choice(machine.progresses))
                case 2 if keys:
                    world.report(chance.choice(keys), chance.choice(states), asked=False)
                case 3:
                    world.list(*chance.sample(range(6), chance.randint(0, 6)))
                case 4 if keys:
                    machine.job_ended(chance.choice(keys), "ended", [], chance.random() < 0.5)
                case 5:
                    machine.controller_lost("it was killed")
                case 6 if machine.engines.ids:
                    with contextlib.suppress(ClusterError):  # those of a job end together
                        removal = machine.engines.begin_removal(
                            [chance.choice(machine.engines.ids)]
                        )
                        for unit in removal.units if chance.random() < 0.5 else ():
                            machine.unit_removed(unit.key)
                        if chance.random() < 0.5:
                            machine.engines.keep(removal.units)
                case 7:
                    progress = machine.begin_start()
                    machine.units_started(progress, [Unit(f"mpi-{chance.random()}", 2)])
                case 8 if chance.random() < 0.2:
                    machine.stop()
            world.check()


class BatchTests(unittest.SynchronousTestCase):
    """Units that a batch system has."""

    def setUp(self) -> None:
        self.world = World()
        self.machine = self.world.machine
        self.progress = self.machine.begin_start()
        self.units = [Unit("job 0", 2, (0, 1)), Unit("job 1", 1, (2,))]
        self.machine.units_started(self.progress, self.units)

    def up(self) -> None:
        for unit in self.units:
            self.machine.engines.set_queued(unit.key, None)
        self.machine.ids_listed([0, 1, 2])
        self.machine.end_start(self.progress)
        self.machine.start_settled()

    def states(self) -> list[tuple[int, str, str]]:
        self.world.check()
        return [(each.id, each.state, each.reason) for each in self.machine.engines.infos(0.0)]

    def test_the_state_of_the_queue(self) -> None:
        self.machine.engines.set_queued("job 0", "Resources")
        self.machine.engines.set_queued("job 1", None)
        self.machine.engines.set_queued("job 7", "nobody knows it")
        self.assertEqual(
            self.states(),
            [(0, "queued", "Resources"), (1, "queued", "Resources"), (2, "starting", "")],
        )
        self.assertEqual(self.machine.engines.queue_text, "2 (Resources)")
        self.machine.ids_listed([2])
        self.assertEqual(self.states()[2], (2, "running", ""))

    def test_one_that_comes_back_keeps_its_place(self) -> None:
        self.up()
        todo = self.machine.job_comes_back("job 0", "was preempted")
        self.assertEqual(todo, [TellEnded((0, 1), "was preempted")])
        self.machine.ids_listed([2])
        self.assertEqual(self.states()[:2], [(0, "queued", ""), (1, "queued", "")])
        self.assertEqual(self.machine.engines.wanted, 3)
        self.assertTrue(self.machine.more_to_come)
        self.assertEqual(self.machine.job_comes_back("job 0", "was preempted"), [])

    def test_what_runs_and_is_not_usable_yet(self) -> None:
        def starting() -> list[str]:
            engines = self.machine.engines
            return [unit.key for unit in self.units if engines.is_starting(unit)]

        engines = self.machine.engines
        self.assertEqual(starting(), [])
        engines.set_queued("job 0", "Resources")
        self.machine.ids_listed([2])
        engines.set_queued("job 1", None)  # it is told late
        engines.set_queued("job 0", None)
        self.assertEqual(starting(), ["job 0"])
        self.machine.ids_listed([0, 2])
        self.assertEqual(starting(), ["job 0"])
        self.machine.ids_listed([0, 1, 2])
        self.machine.ids_listed([0])
        self.assertEqual(starting(), [], "they were usable")
        self.machine.job_comes_back("job 0", "was preempted")
        self.machine.ids_listed([0, 1])  # the controller does not know yet
        self.machine.ids_listed([])
        self.assertEqual(starting(), [])
        engines.set_queued("job 0", None)
        self.assertEqual(starting(), ["job 0"])

    def test_a_start_waits_for_one_that_comes_back(self) -> None:
        self.machine.job_comes_back("job 0", "was preempted")
        self.machine.ids_listed([2])
        self.assertEqual(self.progress.outcome, "waiting")
        self.machine.ids_listed([0, 1, 2])
        self.assertEqual(self.progress.outcome, "complete")

    def test_the_controller_is_told_that_tasks_are_not_to_blame(self) -> None:
        self.up()
        todo = self.machine.job_ended("job 1", "lost its node", [], asked=False, by_system=True)
        self.assertEqual(todo, [TellEnded((2,), "lost its node"), Say("job 1 lost its node")])
        self.machine.stop()
        self.assertEqual(self.machine.job_ended("job 0", "x", [], False, True), [])

    def test_one_of_several_engines_ends(self) -> None:
        self.up()
        self.machine.ids_listed([0, 2])
        rest = Unit("job 0", 1, (0,))
        self.assertEqual(
            self.machine.job_shrinks(rest, {1: "exited with status 3"}),
            [Say("engine 1 exited with status 3")],
        )
        self.assertEqual(self.states()[1], (1, "ended", "exited with status 3"))
        self.assertEqual(self.machine.engines.wanted, 2)

    def test_one_of_several_engines_that_fails_to_start(self) -> None:
        self.machine.ids_listed([0, 2])
        self.machine.job_shrinks(Unit("job 0", 1, (0,)), {1: "exited with status 3"})
        self.assertEqual(self.progress.outcome, "partial")
        self.world.check()

    def test_some_of_several_engines_are_removed(self) -> None:
        self.up()
        removal = self.machine.engines.begin_removal([1, 2])
        self.assertEqual(removal, Removal((self.units[1],), (1,), (Unit("job 0", 1, (0,)),)))
        self.machine.engines.shrink(removal.rest[0])
        removal = self.machine.engines.begin_removal([0])
        self.assertEqual(removal, Removal((Unit("job 0", 1, (0,)),), ()))

    def test_engines_that_start_together_are_not_removed_apart(self) -> None:
        with self.assertRaisesRegex(ClusterError, "engines of job 0 start together: 1 can be"):
            self.machine.engines.begin_removal([1])
        self.assertEqual(self.machine.engines.begin_removal([0, 1]).units, (self.units[0],))

    def test_engines_that_share_a_job_are_signalled_together(self) -> None:
        self.up()
        with self.assertRaisesRegex(ClusterError, "engine 1 shares a job with 0: they are"):
            self.machine.engines.whole_units([1, 2])
        self.assertEqual(self.machine.engines.whole_units([1, 2, 0]), self.units)
