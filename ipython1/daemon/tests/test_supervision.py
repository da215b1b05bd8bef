"""The supervisor's decisions, event by event."""

from __future__ import annotations

import random
import signal
from dataclasses import replace

from twisted.internet.task import Clock
from twisted.trial import unittest

from ipython1.daemon.processes import (
    Deliver,
    Instruction,
    ProcessSpec,
    ProcessStatus,
    Report,
    RestartPolicy,
    Start,
    State,
    WakeAt,
)
from ipython1.daemon.protocol import Ended, Failed, Message, Ready, Signal, Spawn, Started
from ipython1.daemon.supervision import HOLD_LIMIT, Supervision
from ipython1.daemon.supervisor import ProcessSupervisor

TERM = int(signal.SIGTERM)
KILL = int(signal.SIGKILL)


def spec(key: str = "e", *, limit: int = 0, grace: float = 2.0) -> ProcessSpec:
    spawn = Spawn(key, ("ipengine",))
    again = Spawn(key, ("ipengine", "--again"))
    policy = RestartPolicy(limit=limit, window=60.0, first_delay=1.0, factor=2.0, max_delay=5.0)
    return ProcessSpec(spawn, f"engine {key}", policy=policy, restart_spawn=again, grace=grace)


def running(supervision: Supervision, wanted: ProcessSpec, pid: int = 10) -> None:
    supervision.add(wanted)
    supervision.started(wanted.key, pid, 1.0, 1.0)
    supervision.ready(wanted.key, 1.0)


class SupervisionTests(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        self.supervision = Supervision()

    def state(self, key: str = "e") -> State:
        return self.supervision.status()[key].state

    def test_a_process_comes_up(self) -> None:
        one = spec()
        self.assertEqual(self.supervision.add(one), [Start("", one.spawn)])
        self.assertEqual(self.state(), State.REQUESTED)
        self.supervision.started("e", 10, 1.5, 1.5)
        self.assertEqual(self.state(), State.STARTING)
        (report,) = self.supervision.ready("e", 1.0)
        assert isinstance(report, Report)
        self.assertEqual(report.status.state, State.RUNNING)
        self.assertEqual((report.status.pid, report.status.started), (10, 1.5))

    def test_its_use_may_be_known_before_its_start(self) -> None:
        """The nanny reports the start, and independently the controller reports a usable engine."""
        self.supervision.add(spec(limit=1))
        self.assertEqual(self.supervision.ready("e", 1.0), [])
        self.assertEqual(self.state(), State.REQUESTED)
        (report,) = self.supervision.started("e", 10, 1.5, 1.5)
        assert isinstance(report, Report)
        self.assertEqual((report.status.state, report.status.pid), (State.RUNNING, 10))
        self.supervision.ended("e", 10, None, 9, (), 2.0)
        self.supervision.tick(60.0)
        self.supervision.started("e", 11, 60.0, 60.0)
        self.assertEqual(self.state(), State.STARTING)

    def test_an_engine_that_never_came_up_is_reported_and_not_started_again(self) -> None:
        self.supervision.add(spec(limit=5))
        self.supervision.started("e", 10, 1.0, 1.0)
        (report,) = self.supervision.ended("e", 10, 1, None, ("no such file",), 3.0)
        assert isinstance(report, Report)
        self.assertEqual(report.status.state, State.ENDED)
        self.assertFalse(report.status.was_ready)
        self.assertEqual(report.status.reason, "exited with status 1")
        self.assertEqual(report.status.lines, ("no such file",))

    def test_what_could_not_be_started_is_reported(self) -> None:
        self.supervision.add(spec(limit=5))
        (report,) = self.supervision.failed("e", "there is no program", 1.0)
        assert isinstance(report, Report)
        self.assertEqual(
            (report.status.state, report.status.reason), (State.ENDED, "there is no program")
        )

    def test_a_killed_process_comes_back_later_and_later_until_the_cap(self) -> None:
        running(self.supervision, spec(limit=3))
        now = 100.0
        for pid, delay in ((10, 1.0), (11, 2.0), (12, 4.0)):
            _, wake = self.supervision.ended("e", pid, None, KILL, (), now)
            self.assertEqual(self.state(), State.WAITING)
            self.assertEqual(wake, WakeAt(now + delay))
            self.assertEqual(self.supervision.tick(now + delay / 2), [WakeAt(now + delay)])
            now += delay
            (start,) = self.supervision.tick(now)
            assert isinstance(start, Start)
            self.assertEqual(start.spawn.argv, ("ipengine", "--again"))
            self.supervision.started("e", pid + 1, now, now)
            self.supervision.ready("e", now)
        self.supervision.ended("e", 13, None, KILL, (), now)
        self.assertEqual(self.state(), State.ENDED)
        self.assertEqual(self.supervision.status()["e"].restarts, 3)

    def patient(self, **what: float) -> None:
        """A process that is restarted for as long as it takes."""
        policy = RestartPolicy(limit=None, first_delay=1.0, max_delay=15.0, **what)
        running(self.supervision, replace(spec(), policy=policy))

    def fail_again(self, now: float, pid: int) -> float:
        """The process that waits is started when it is due, and exits at once; returns when it is due again."""
        (start,) = self.supervision.tick(now)
        assert isinstance(start, Start)
        self.supervision.started("e", pid, now, now)
        self.supervision.ended("e", pid, 1, None, ("the port is taken",), now)
        return self.supervision.status()["e"].due

    def test_without_a_limit_it_is_restarted_for_as_long_as_it_takes(self) -> None:
        self.patient()
        self.supervision.ended("e", 10, None, KILL, (), 50.0)
        due, delays = 51.0, []
        for pid in range(11, 111):
            again = self.fail_again(due, pid)
            delays.append(again - due)
            due = again
        self.assertEqual(delays[:5], [2.0, 4.0, 8.0, 15.0, 15.0])
        self.assertEqual(set(delays[5:]), {15.0})
        status = self.supervision.status()["e"]
        self.assertEqual((status.state, status.away_since), (State.WAITING, 50.0))
        self.assertEqual((status.lines, status.was_ready), (("the port is taken",), False))

    def test_a_process_that_was_usable_for_a_while_starts_the_delays_anew(self) -> None:
        self.patient(steady=2.0)
        now, delays = 0.0, []
        for pid, usable in ((10, 0.5), (11, 0.5), (12, 3.0), (13, 0.5)):
            self.supervision.ready("e", now)
            now += usable
            self.supervision.ended("e", pid, None, KILL, (), now)
            due = self.supervision.status()["e"].due
            delays.append(due - now)
            now = due
            self.supervision.tick(now)
            self.supervision.started("e", pid + 1, now, now)
        self.assertEqual(delays, [1.0, 2.0, 1.0, 2.0])

    def test_patience_ends_with_the_time_without_a_usable_process(self) -> None:
        self.patient(patience=60.0)
        self.supervision.ended("e", 10, None, KILL, (), 100.0)
        due, pid = 101.0, 11
        while self.state() is State.WAITING:
            last, due, pid = due, self.fail_again(due, pid), pid + 1
        self.assertGreaterEqual(last, 160.0)
        self.assertLessEqual(last, 175.0)
        self.assertTrue(self.supervision.status()["e"].given_up)
        self.supervision.restart("e", 1000.0)  # who asks for it has patience again
        self.supervision.started("e", pid, 1000.0, 1000.0)
        self.supervision.ended("e", pid, 1, None, (), 1001.0)
        self.assertEqual(self.state(), State.WAITING)

    def test_silence_is_told_and_so_is_its_end(self) -> None:
        running(self.supervision, spec())
        (report,) = self.supervision.silent("e", 20.0, True, 100.0)
        assert isinstance(report, Report)
        self.assertEqual((report.status.state, report.status.silent_since), (State.RUNNING, 80.0))
        self.assertTrue(report.status.stopped)
        self.assertEqual(self.supervision.tick(10_000.0), [])
        (report,) = self.supervision.heard("e")
        assert isinstance(report, Report)
        self.assertIsNone(report.status.silent_since)
        self.assertEqual(self.supervision.heard("e"), [])
        self.supervision.silent("e", 20.0, False, 200.0)
        self.supervision.ended("e", 10, None, KILL, (), 201.0)
        self.assertIsNone(self.supervision.status()["e"].silent_since)
        self.assertEqual(self.supervision.silent("e", 20.0, False, 202.0), [])

    def test_a_process_that_is_stuck_for_too_long_is_killed_and_restarted(self) -> None:
        self.patient(stuck=60.0)
        _, wake = self.supervision.silent("e", 20.0, False, 100.0)
        self.assertEqual(wake, WakeAt(140.0))
        self.supervision.heard("e")
        self.assertEqual(self.supervision.tick(140.0), [])
        self.supervision.silent("e", 20.0, False, 200.0)
        self.assertEqual(self.supervision.tick(240.0), [Deliver("", "e", KILL, group=True)])
        self.assertEqual(self.supervision.tick(241.0), [])
        report, _ = self.supervision.ended("e", 10, None, KILL, (), 241.0)
        assert isinstance(report, Report)
        self.assertEqual(report.status.state, State.WAITING)
        self.assertEqual(report.status.reason, "gave no sign of life for 60 s and was killed")
        self.supervision.tick(300.0)
        self.supervision.started("e", 11, 300.0, 300.0)
        self.supervision.ended("e", 11, None, 9, (), 301.0)
        self.assertIn("SIGKILL", self.supervision.status()["e"].reason)

    def test_a_host_that_cannot_start_a_process_now_is_asked_again(self) -> None:
        self.patient()
        self.supervision.ended("e", 10, None, KILL, (), 1.0)
        self.supervision.tick(2.0)
        report, wake = self.supervision.failed("e", "cannot start another process", 2.0)
        assert isinstance(report, Report)
        self.assertEqual((report.status.state, wake), (State.WAITING, WakeAt(4.0)))
        self.supervision.tick(4.0)
        self.supervision.failed("e", "its host is gone", 4.0, for_good=True)
        self.assertEqual(self.state(), State.ENDED)

    def test_a_restart_is_held_while_something_is_in_the_way(self) -> None:
        running(self.supervision, spec(limit=3))
        self.supervision.hold(frozenset({"e"}), 10.0)
        self.supervision.ended("e", 10, None, KILL, (), 10.0)
        self.assertEqual(self.supervision.tick(11.0), [WakeAt(11.5)])
        self.assertEqual(self.supervision.tick(11.5), [WakeAt(12.0)])
        self.assertEqual(self.supervision.hold(frozenset({"e", "x"}), 11.6), [])
        (start,) = self.supervision.hold(frozenset(), 12.0)
        self.assertIsInstance(start, Start)

    def test_a_restart_is_not_held_for_ever(self) -> None:
        running(self.supervision, spec(limit=3))
        self.supervision.hold(frozenset({"e"}), 10.0)
        self.supervision.ended("e", 10, None, KILL, (), 10.0)
        (start,) = self.supervision.tick(11.0 + HOLD_LIMIT)
        self.assertIsInstance(start, Start)

    def test_a_restart_on_demand_is_held_too(self) -> None:
        running(self.supervision, replace(spec(), needs="controller"))
        self.supervision.restart("e", 5.0)
        first, second, wake = self.supervision.ended("e", 10, None, TERM, (), 5.2)
        assert isinstance(first, Report) and isinstance(second, Report)
        self.assertEqual((first.status.state, second.status.state), (State.ENDED, State.WAITING))
        self.assertEqual(wake, WakeAt(5.2))
        self.supervision.hold(frozenset({"e"}), 5.2)
        self.assertEqual(self.supervision.tick(5.2), [WakeAt(5.7)])
        (start,) = self.supervision.hold(frozenset(), 5.3)
        self.assertIsInstance(start, Start)

    def test_a_process_is_restarted_only_while_the_one_it_needs_is_usable(self) -> None:
        running(self.supervision, spec("c", limit=1), pid=5)
        running(self.supervision, replace(spec(limit=1), needs="c"))
        self.supervision.ended("c", 5, None, KILL, (), 10.0)
        self.supervision.ended("e", 10, None, KILL, (), 10.0)
        (start,) = (each for each in self.supervision.tick(11.0) if isinstance(each, Start))
        self.assertEqual(start.spawn.key, "c")
        self.assertEqual(self.state(), State.WAITING)
        self.supervision.started("c", 6, 12.0, 12.0)
        self.supervision.ready("c", 12.0)
        (start,) = (each for each in self.supervision.tick(12.5) if isinstance(each, Start))
        self.assertEqual(start.spawn.key, "e")

    def test_what_says_when_it_leaves_has_died_if_it_does_not(self) -> None:
        """User code can end an engine with any status."""
        for status, left, state in (
            (0, True, State.ENDED),
            (0, False, State.WAITING),
            (86, False, State.WAITING),
        ):
            self.supervision = Supervision()
            running(self.supervision, replace(spec(limit=1), says_when_leaving=True))
            self.supervision.ended("e", 10, status, None, (), 5.0, left=left)
            self.assertEqual(self.state(), state)
            self.assertEqual(self.supervision.status()["e"].status, status)

    def test_restarts_long_ago_do_not_count(self) -> None:
        running(self.supervision, spec(limit=1))
        for pid, now in ((10, 0.0), (11, 100.0), (12, 200.0)):
            self.supervision.ended("e", pid, None, KILL, (), now)
            self.assertEqual(self.state(), State.WAITING)
            self.supervision.tick(now + 1)
            self.supervision.started("e", pid + 1, now + 1, now + 1)

    def test_a_process_that_ended_itself_stays_ended(self) -> None:
        running(self.supervision, spec(limit=3))
        self.supervision.ended("e", 10, 0, None, (), 1.0)
        self.assertEqual(self.state(), State.ENDED)

    def test_stopping_is_polite_first(self) -> None:
        running(self.supervision, spec(limit=3, grace=2.0))
        self.assertEqual(self.supervision.stop("e", 5.0), [Deliver("", "e", TERM), WakeAt(7.0)])
        self.assertEqual(self.supervision.stop("e", 5.5), [])
        self.assertEqual(self.supervision.tick(6.0), [WakeAt(7.0)])
        self.assertEqual(self.supervision.tick(7.0), [Deliver("", "e", KILL, group=True)])
        (report,) = self.supervision.ended("e", 10, None, KILL, (), 7.1)
        assert isinstance(report, Report)
        self.assertEqual((report.status.state, report.status.asked), (State.ENDED, True))

    def test_stopping_before_it_exists(self) -> None:
        self.supervision.add(spec())
        self.assertEqual(self.supervision.stop("e", 5.0), [WakeAt(7.0)])
        self.assertEqual(self.supervision.started("e", 10, 5.1, 5.1), [Deliver("", "e", TERM)])

    def test_stopping_while_it_waits_to_be_restarted(self) -> None:
        running(self.supervision, spec(limit=3))
        self.supervision.ended("e", 10, None, KILL, (), 1.0)
        self.supervision.stop("e", 1.5)
        self.assertEqual(self.state(), State.ENDED)
        self.assertEqual(self.supervision.tick(50.0), [])

    def test_restart_on_demand(self) -> None:
        running(self.supervision, spec())
        self.assertEqual(self.supervision.restart("e", 5.0)[0], Deliver("", "e", TERM))
        _, start = self.supervision.ended("e", 10, None, TERM, (), 5.2)
        self.assertIsInstance(start, Start)
        self.supervision.started("e", 11, 6.0, 6.0)
        self.supervision.ready("e", 1.0)
        self.supervision.ended("e", 11, None, KILL, (), 7.0)
        (start,) = self.supervision.restart("e", 8.0)
        self.assertIsInstance(start, Start)

    def test_a_restart_may_have_a_signal_of_its_own(self) -> None:
        running(self.supervision, replace(spec(), restart_signal=12))
        self.assertEqual(self.supervision.restart("e", 5.0)[0], Deliver("", "e", 12))
        self.supervision.ended("e", 10, 0, None, (), 5.2)
        self.assertEqual(self.state(), State.REQUESTED)
        self.supervision.started("e", 11, 6.0, 6.0)
        self.assertEqual(self.supervision.stop("e", 7.0)[0], Deliver("", "e", TERM))

    def test_the_end_of_an_earlier_life_is_ignored(self) -> None:
        running(self.supervision, spec(), pid=10)
        self.assertEqual(self.supervision.ended("e", 9, 1, None, (), 1.0), [])
        self.assertEqual(self.state(), State.RUNNING)

    def test_a_lost_host_ends_its_processes_only(self) -> None:
        running(self.supervision, spec("a"))
        far = ProcessSpec(Spawn("b", ("x",)), "engine b", host="node1")
        running(self.supervision, far)
        (report,) = self.supervision.host_lost("node1", "its connection ended")
        assert isinstance(report, Report)
        self.assertEqual((report.status.key, report.status.reason), ("b", "its connection ended"))
        self.assertEqual(self.state("a"), State.RUNNING)

    def far(self, key: str = "b", limit: int = 0) -> ProcessSpec:
        spawn = Spawn(key, ("x",))
        return ProcessSpec(
            spawn,
            f"engine {key}",
            host="node1",
            policy=RestartPolicy(limit=limit, first_delay=1.0),
            restart_spawn=replace(spawn, argv=("x", "--again")),
        )

    def test_a_process_waits_for_its_host_and_is_started_once(self) -> None:
        self.supervision.host_away("node1", "", 0.0)
        self.assertEqual(self.supervision.add(self.far()), [])
        status = self.supervision.status()["b"]
        self.assertEqual((status.state, status.host_away), (State.WAITING, True))
        (report,) = self.supervision.host_away("node1", "cannot start yet: refused", 1.0)
        assert isinstance(report, Report)
        self.assertEqual(report.status.reason, "cannot start yet: refused")
        self.assertEqual(self.supervision.tick(1000.0), [])
        start, report = self.supervision.host_back("node1", 1000.0)
        assert isinstance(report, Report)
        self.assertEqual(start, Start("node1", Spawn("b", ("x",))))
        self.assertEqual(
            (report.status.state, report.status.restarts, report.status.error),
            (State.REQUESTED, 0, ""),
        )
        self.assertEqual(self.supervision.host_back("node1", 1001.0), [])

    def test_what_ran_on_a_host_that_is_away_is_restarted_if_it_may_be(self) -> None:
        running(self.supervision, self.far("b"))
        running(self.supervision, self.far("c", limit=1), pid=11)
        self.supervision.host_away("node1", "cannot start yet: gone", 5.0, lost="ended with it")
        b, c = (self.supervision.status()[key] for key in "bc")
        self.assertEqual((b.state, b.reason, b.host_away), (State.ENDED, "ended with it", False))
        self.assertEqual((c.state, c.reason, c.pid), (State.WAITING, "cannot start yet: gone", 0))
        self.assertEqual(self.supervision.host_back("node1", 5.5), [WakeAt(6.0)])
        (start,) = self.supervision.tick(6.0)
        self.assertEqual(start, Start("node1", Spawn("c", ("x", "--again"))))
        self.assertEqual(self.supervision.status()["c"].restarts, 1)

    def test_a_start_that_was_cut_short_is_made_up_for(self) -> None:
        """It is not a restart of a process that was usable, so no policy forbids it."""
        self.supervision.add(self.far())
        self.supervision.started("b", 10, 1.0, 1.0)
        self.supervision.host_away("node1", "cannot start yet: gone", 2.0)
        self.assertEqual(self.supervision.ended("b", 10, None, KILL, (), 2.1), [])
        start, _ = self.supervision.host_back("node1", 3.0)
        self.assertIsInstance(start, Start)

    def test_a_stop_while_the_host_is_away(self) -> None:
        running(self.supervision, self.far("b"))
        self.supervision.stop("b", 1.0)
        self.supervision.host_away("node1", "cannot start yet: gone", 1.0, lost="ended with it")
        self.supervision.add(self.far("c"))
        (report,) = self.supervision.stop("c", 2.0)
        assert isinstance(report, Report)
        for key in "bc":
            status = self.supervision.status()[key]
            self.assertEqual((status.state, status.asked), (State.ENDED, True))
        self.assertEqual(self.supervision.host_back("node1", 3.0), [])

    def test_a_host_that_cannot_be_used_any_more(self) -> None:
        self.supervision.host_away("node1", "", 0.0)
        self.supervision.add(self.far())
        (report,) = self.supervision.host_lost("node1", "could not be started: old Python")
        assert isinstance(report, Report)
        self.assertEqual((report.status.state, report.status.host_away), (State.ENDED, False))

    def test_a_restart_waits_for_the_host_too(self) -> None:
        running(self.supervision, self.far("b"))
        self.supervision.host_away("node1", "cannot start yet: gone", 1.0, lost="ended with it")
        (report,) = self.supervision.restart("b", 2.0)
        assert isinstance(report, Report)
        self.assertEqual((report.status.state, report.status.host_away), (State.WAITING, True))
        start, _ = self.supervision.host_back("node1", 3.0)
        self.assertEqual(start, Start("node1", Spawn("b", ("x", "--again"))))
        self.assertEqual(self.supervision.status()["b"].restarts, 1)

    def test_a_key_is_used_once_at_a_time(self) -> None:
        running(self.supervision, spec())
        self.assertRaises(ValueError, self.supervision.add, spec())
        self.supervision.ended("e", 10, 0, None, (), 1.0)
        self.assertEqual(len(self.supervision.add(spec())), 1)

    def test_any_order_of_events_keeps_the_invariants(self) -> None:
        """At most one process at a time, and after a stop only its end."""
        for seed in range(200):
            self._random_walk(random.Random(seed))

    def _random_walk(self, chance: random.Random) -> None:
        supervision = Supervision()
        pid, now, alive, stopped = 9, 0.0, False, False
        spawned = len(supervision.add(spec(limit=2)))
        for _ in range(40):
            now += chance.random()
            todo: list[Instruction] = []
            match chance.randrange(8):
                case 0 if spawned and not alive:
                    pid, alive, spawned = pid + 1, True, 0
                    todo = supervision.started("e", pid, now, now)
                case 1 if alive:
                    todo = supervision.ready("e", now)
                case 2 if alive:
                    alive = False
                    todo = supervision.ended("e", pid, None, KILL, (), now)
                case 6:
                    todo = supervision.silent("e", 20.0, chance.random() < 0.5, now)
                case 7:
                    todo = supervision.heard("e")
                case 3 if not stopped and chance.random() < 0.2:
                    stopped = True
                    todo = supervision.stop("e", now)
                case 4 if not stopped and chance.random() < 0.2:
                    todo = supervision.restart("e", now)
                case _:
                    todo = supervision.tick(now)
            for instruction in todo:
                if isinstance(instruction, Start):
                    self.assertFalse(alive or spawned or stopped)
                    spawned = 1
                if isinstance(instruction, Deliver):
                    self.assertTrue(alive)
            status = supervision.status()["e"]
            if stopped:
                self.assertIn(status.state, (State.STOPPING, State.ENDED))
            self.assertEqual(status.state in (State.STARTING, State.RUNNING) and not alive, False)


class RecordingHost:
    def __init__(self) -> None:
        self.sent: list[Message] = []

    def send(self, message: Message) -> None:
        self.sent.append(message)


class ProcessSupervisorTests(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.host = RecordingHost()
        self.supervisor = ProcessSupervisor(self.clock)
        self.supervisor.add_host("", self.host)
        self.reports: list[ProcessStatus] = []
        self.supervisor.on_report(self.reports.append)
        self.addCleanup(self.supervisor.close)

    def up(self, wanted: ProcessSpec, pid: int = 10) -> None:
        self.supervisor.add(wanted)
        self.supervisor.on_event(Started(wanted.key, pid, 1.0))
        self.supervisor.on_event(Ready(wanted.key))

    def test_a_crash_is_healed_after_the_back_off(self) -> None:
        self.up(spec(limit=1))
        self.supervisor.on_event(Ended("e", 10, None, KILL, ("last words",)))
        self.assertEqual(self.reports[-1].lines, ("last words",))
        self.assertEqual(len(self.host.sent), 1)
        self.clock.advance(1.0)
        self.assertEqual(self.host.sent[1], Spawn("e", ("ipengine", "--again")))

    def test_a_stop_escalates_and_fires_when_it_ended(self) -> None:
        self.up(spec(grace=2.0))
        done = self.supervisor.stop("e")
        self.assertEqual(self.host.sent[-1], Signal("e", TERM))
        self.clock.advance(2.0)
        self.assertEqual(self.host.sent[-1], Signal("e", KILL, True))
        self.assertNoResult(done)
        self.supervisor.on_event(Ended("e", 10, None, KILL))
        self.assertEqual(self.successResultOf(done).state, State.ENDED)
        self.assertEqual(self.successResultOf(self.supervisor.stop("e")).state, State.ENDED)

    def test_an_unknown_host_is_a_failed_start(self) -> None:
        self.supervisor.add(ProcessSpec(Spawn("b", ("x",)), "engine b", host="node1"))
        self.assertIn("not connected to its host", self.reports[-1].reason)
        self.supervisor.host_lost("node1", "could not be started: node1: Permission denied")
        self.supervisor.restart("b")
        self.assertIn("Permission denied", self.reports[-1].reason)

    def test_a_failing_observer_does_not_stop_the_others(self) -> None:
        def bad(status: ProcessStatus) -> None:
            raise RuntimeError("observer")

        self.supervisor.on_report(bad)
        seen: list[ProcessStatus] = []
        self.supervisor.on_report(seen.append)
        self.supervisor.add(spec())
        self.supervisor.on_event(Failed("e", "no"))
        self.assertEqual(len(seen), 1)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
