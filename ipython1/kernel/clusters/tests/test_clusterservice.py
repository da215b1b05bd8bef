"""A cluster without processes: what it makes of what nanny and controller say."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial import unittest

from ipython1.daemon.link import NannyLink
from ipython1.daemon.protocol import (
    AtEnd,
    End,
    Ended,
    LineBuffer,
    Message,
    Ready,
    Signal,
    Spawn,
    Started,
    decode,
)
from ipython1.daemon.supervisor import ProcessSupervisor
from ipython1.kernel.basics.error import (
    ClusterError,
    ConnectionError,
    InvalidEngineID,
    ResultNotCompleted,
)
from ipython1.kernel.clusters.progress import StartProgress
from ipython1.kernel.clusters.service import ClusterService
from ipython1.kernel.clusters.status import ClusterStatus, read_state, write_state
from ipython1.kernel.launchers.clusterconfig import ClusterConfig, MpiOptions
from ipython1.kernel.launchers.interfaces import Unit
from ipython1.kernel.scripts.statusaction import status_lines
from ipython1.kernel.wire.loads import ClusterLoad
from ipython1.testing.folders import temporary_path


class FakeController:
    """What the service sees of a controller."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.killed: list[Any] = []
        self.drained: list[list[int]] = []
        self.busy: list[Deferred[None]] = []
        self.is_busy = False
        self._changed: list[Callable[[list[int]], None]] = []
        self._lost: list[Callable[[str], None]] = []

    def get_ids(self) -> Deferred[list[int]]:
        return succeed(list(self.ids))

    def on_engines_changed(self, callback: Callable[[list[int]], None]) -> None:
        self._changed.append(callback)

    def on_warnings(self, callback: Callable[[list[str]], None]) -> None:
        self.warn = callback
        callback([])

    def on_connection_lost(self, callback: Callable[[str], None]) -> None:
        self._lost.append(callback)

    def kill(self, controller: bool = False, targets: Any = None) -> Deferred[Any]:
        self.killed.append(targets)
        return succeed(None)

    def drain(self, targets: Sequence[int]) -> Deferred[None]:
        self.drained.append(list(targets))
        busy: Deferred[None] = Deferred()
        self.busy.append(busy)
        return busy if self.is_busy else succeed(None)

    def undrain(self, targets: Sequence[int]) -> Deferred[None]:
        self.drained.remove(list(targets))
        return succeed(None)

    def told_ended(self, targets: Sequence[int], reason: str) -> Deferred[None]:
        return succeed(None)

    def load(self) -> Deferred[ClusterLoad]:
        return succeed(ClusterLoad(0, 0, 0.0, 0, 0.0, ()))

    def close(self) -> Deferred[Any]:
        return succeed(None)

    def set_ids(self, *ids: int) -> None:
        self.ids = list(ids)
        for callback in list(self._changed):
            callback(list(ids))

    def lose(self) -> None:
        lost, self._lost, self._changed = self._lost, [], []
        for callback in lost:
            callback("it was killed")


class ServiceCase(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.controller = FakeController()
        self.reachable = True
        self.said: list[str] = []
        self.pid = 100

    def make(self, **options: Any) -> ClusterService:
        directory = str(Path(temporary_path(self)).absolute())
        config = ClusterConfig(
            **{"ipython_dir": directory, "n": 2, "start_timeout": 60.0, **options}
        )
        self.supervisor = ProcessSupervisor(self.clock)
        self.nanny = NannyLink(self.supervisor.on_event)
        self.nanny.hello.addErrback(lambda failure: None)
        self.transport = StringTransport()
        self.nanny.makeConnection(self.transport)
        self.supervisor.add_host("", self.nanny)
        self.service = ClusterService(
            config,
            config.files(),
            self.clock,
            self.supervisor,
            self.nanny,
            connect=self.connect,
            say=self.said.append,
        )
        return self.service

    def connect(self, furl_file: str, timeout: float) -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred()
        if self.reachable:
            deferred.callback(self.controller)
        else:
            deferred.errback(ConnectionError("nobody listens"))
        return deferred

    def run_it(self, coroutine: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        return Deferred.fromCoroutine(coroutine)

    def sent(self) -> list[Message]:
        lines = list(LineBuffer().feed(self.transport.value()))
        self.transport.clear()
        return [decode(line) for line in lines]

    def started(self, key: str, ready: bool = False) -> int:
        self.pid += 1
        self.supervisor.on_event(Started(key, self.pid, 1.0))
        if ready:
            self.supervisor.on_event(Ready(key))
        return self.pid

    def ended(
        self, key: str, status: int | None = 1, number: int | None = None, *lines: str
    ) -> None:
        pid = self.supervisor.status()[key].pid
        self.supervisor.on_event(Ended(key, pid, status, number, lines))

    def up(self, **options: Any) -> ClusterService:
        """A running cluster of two engines."""
        service = self.make(**options)
        result = self.run_it(service.start())
        self.started("controller", ready=True)
        self.started("engine-0")
        self.started("engine-1")
        self.controller.set_ids(0, 1)
        self.assertEqual(self.successResultOf(result).outcome, "complete")
        self.sent()
        return service


class StartTests(ServiceCase):
    def test_a_good_start(self) -> None:
        service = self.make()
        result = self.run_it(service.start())
        keys = [each.key for each in self.sent() if isinstance(each, Spawn)]
        self.assertEqual(keys, ["controller", "engine-0", "engine-1"])
        self.started("controller", ready=True)
        self.started("engine-0", ready=True)
        self.controller.set_ids(0)
        self.assertNoResult(result)
        self.started("engine-1")
        self.controller.set_ids(0, 1)
        progress = self.successResultOf(result)
        self.assertEqual((progress.usable, progress.outcome), ([0, 1], "complete"))
        status = service.status()
        self.assertEqual((status.state, status.ids, status.n), ("running", (0, 1), 2))
        self.assertEqual([each.state for each in status.engines], ["running", "running"])

    def test_an_engine_that_fails_settles_the_start_at_once(self) -> None:
        service = self.make()
        result = self.run_it(service.start())
        self.started("controller", ready=True)
        self.started("engine-0")
        self.started("engine-1")
        self.controller.set_ids(1)
        self.ended("engine-0", 1, None, "no such package")
        progress = self.successResultOf(result)
        self.assertEqual((progress.outcome, progress.usable), ("partial", [1]))
        (failure,) = progress.failures.values()
        self.assertEqual(failure.reason, "exited with status 1")
        self.assertEqual(failure.lines, ("no such package",))
        self.assertEqual(self.said, [])  # it is the start's to tell

    def test_all_engines_fail(self) -> None:
        service = self.make()
        result = self.run_it(service.start())
        self.started("controller", ready=True)
        for key in ("engine-0", "engine-1"):
            self.started(key)
            self.ended(key)
        self.assertEqual(self.successResultOf(result).outcome, "failed")

    def test_a_controller_that_fails(self) -> None:
        service = self.make()
        result = self.run_it(service.start())
        self.started("controller")
        self.ended(
            "controller", 1, None, "2026-01-01T00:00:00+0000 [-] log", "ipcontroller: no port"
        )
        problem = self.failureResultOf(result, ClusterError).value
        self.assertEqual(str(problem), "the controller exited with status 1: ipcontroller: no port")

    def test_a_controller_that_dies_as_soon_as_it_listens(self) -> None:
        service = self.make()
        result = self.run_it(service.start())
        self.reachable = False
        self.started("controller", ready=True)
        self.started("engine-0")
        self.started("engine-1")
        self.ended("controller", None, 9)
        self.clock.advance(0.1)
        self.started("controller", ready=True)
        self.assertNoResult(result)
        self.reachable = True
        self.clock.pump([0.5, 0.5])
        self.controller.set_ids(0, 1)
        self.assertEqual(self.successResultOf(result).outcome, "complete")

    def test_engines_that_take_too_long(self) -> None:
        service = self.make(start_timeout=5.0)
        result = self.run_it(service.start())
        self.started("controller", ready=True)
        self.started("engine-0")
        self.controller.set_ids(0)
        self.clock.advance(5.0)
        progress = self.successResultOf(result)
        self.assertEqual((progress.outcome, progress.usable), ("waiting", [0]))

    def test_a_controller_that_is_gone_for_good_while_engines_start(self) -> None:
        service = self.make(restart_controller=False)
        result = self.run_it(service.start())
        self.started("controller", ready=True)
        self.started("engine-0")
        self.ended("controller", None, 9)
        why = "the controller was killed by signal SIGKILL; the log tells more"
        self.assertEqual(str(self.failureResultOf(result, ClusterError).value), why)
        self.assertEqual(self.said, [why])
        self.assertEqual(self.successResultOf(service.finished), 1)

    def test_an_engine_that_is_removed_while_it_starts_is_not_waited_for(self) -> None:
        service = self.make()
        result = self.run_it(service.start())
        self.started("controller", ready=True)
        self.started("engine-0")
        self.started("engine-1")
        self.controller.set_ids(0)
        removing = self.run_it(service.remove_engines([1]))
        self.ended("engine-1", None, 15)
        self.successResultOf(removing)
        progress = self.successResultOf(result)
        self.assertEqual((progress.outcome, progress.usable), ("complete", [0]))

    def test_stopping_while_it_starts(self) -> None:
        service = self.make()
        result = self.run_it(service.start())
        self.started("controller", ready=True)
        service.stop()
        self.failureResultOf(result, ClusterError)


class ChangeTests(ServiceCase):
    def test_added_engines_get_free_ids(self) -> None:
        service = self.up()
        self.controller.set_ids(0, 1, 2)  # somebody else's engine
        result = self.run_it(service.add_engines(2))
        keys = [each.key for each in self.sent() if isinstance(each, Spawn)]
        self.assertEqual(keys, ["engine-3", "engine-4"])
        self.started("engine-3")
        self.started("engine-4")
        self.controller.set_ids(0, 1, 2, 3, 4)
        self.assertEqual(self.successResultOf(result).usable, [3, 4])

    def test_engines_finish_what_they_run_before_they_are_ended(self) -> None:
        service = self.up()
        self.controller.is_busy = True
        removing = self.run_it(service.remove_engines([1], 5.0))
        self.assertEqual(self.controller.drained, [[1]])
        self.clock.advance(4.9)
        self.assertEqual([each for each in self.sent() if isinstance(each, Signal)], [])
        self.controller.busy[0].callback(None)
        self.ended("engine-1", None, 15)
        self.controller.set_ids(0)
        self.successResultOf(removing)
        restarting = self.run_it(service.restart_engine(0, 5.0))
        self.clock.advance(5.1)
        self.ended("engine-0", None, 15)
        self.controller.set_ids()
        self.started("engine-0")
        self.controller.set_ids(0)
        self.successResultOf(restarting)

    def test_engines_that_others_remove_meanwhile(self) -> None:
        service = self.up()
        self.controller.is_busy = True
        first = self.run_it(service.remove_engines([0], 5.0))
        second = self.run_it(service.remove_engines([0, 1], 5.0))
        self.controller.busy[0].callback(None)
        self.ended("engine-0", None, 15)
        self.controller.set_ids(1)
        self.successResultOf(first)
        self.controller.busy[1].callback(None)
        self.ended("engine-1", None, 15)
        self.controller.set_ids()
        self.successResultOf(second)

    def test_engines_that_cannot_be_ended_are_used_again(self) -> None:
        service = self.up()
        service._launchers.first.remove = lambda unit: fail(ClusterError("no"))
        self.failureResultOf(self.run_it(service.remove_engines([1])), ClusterError)
        self.assertEqual(self.controller.drained, [])

    def test_added_engines_get_the_ids_of_lost_ones_first(self) -> None:
        service = self.up()
        self.ended("engine-1", None, 9)
        self.controller.set_ids(0)
        result = self.run_it(service.add_engines(2))
        keys = [each.key for each in self.sent() if isinstance(each, Spawn)]
        self.assertEqual(keys, ["engine-1", "engine-2"])
        self.started("engine-1")
        self.started("engine-2")
        self.controller.set_ids(0, 1, 2)
        self.assertEqual(self.successResultOf(result).usable, [1, 2])
        self.assertEqual([each.state for each in service.status().engines], ["running"] * 3)

    def test_an_engine_that_the_controller_still_lists_is_not_replaced(self) -> None:
        service = self.up()
        self.ended("engine-1", None, 9)
        self.run_it(service.add_engines(1))
        keys = [each.key for each in self.sent() if isinstance(each, Spawn)]
        self.assertEqual(keys, ["engine-2"])

    def test_two_that_add_engines_at_the_same_time_get_different_ids(self) -> None:
        service = self.up()
        slow: Deferred[None] = Deferred()
        launcher = service._launchers.first
        start = launcher.start

        async def start_slowly(ids: Sequence[int]) -> Sequence[Unit]:
            await slow
            return cast(Sequence[Unit], await start(ids))

        self.patch(launcher, "start", start_slowly)
        adding = [self.run_it(service.add_engines(1)) for _ in range(2)]
        slow.callback(None)
        keys = [each.key for each in self.sent() if isinstance(each, Spawn)]
        self.assertEqual(keys, ["engine-2", "engine-3"])
        self.started("engine-2")
        self.started("engine-3")
        self.controller.set_ids(0, 1, 3)
        self.assertNoResult(adding[0])  # that one is not the one it waits for
        self.assertEqual(self.successResultOf(adding[1]).usable, [3])
        self.controller.set_ids(0, 1, 2, 3)
        self.assertEqual(self.successResultOf(adding[0]).usable, [2])

    def test_a_removed_engine_is_ended_and_forgotten(self) -> None:
        service = self.up()
        result = self.run_it(service.remove_engines([1]))
        self.assertEqual(self.sent(), [Signal("engine-1", 15)])
        self.ended("engine-1", None, 15)
        self.assertNoResult(result)  # the controller still lists it
        self.controller.set_ids(0)
        self.successResultOf(result)
        self.assertEqual([each.id for each in service.status().engines], [0])
        self.assertEqual(self.said, [])

    def test_somebody_else_s_engine_is_removed_through_the_controller(self) -> None:
        service = self.up()
        self.controller.set_ids(0, 1, 7)
        result = self.run_it(service.remove_engines([7]))
        self.assertEqual(self.controller.killed, [[7]])
        self.controller.set_ids(0, 1)
        self.successResultOf(result)

    def test_a_restarted_engine_is_usable_only_when_it_has_come_back(self) -> None:
        service = self.up()
        result = self.run_it(service.restart_engine(1))
        self.ended("engine-1", None, 15)
        self.controller.set_ids(0, 1)  # still the old one
        self.clock.advance(5.0)
        self.assertEqual(self.sent(), [Signal("engine-1", 15)])
        self.controller.set_ids(0)
        self.assertEqual([type(each) for each in self.sent()], [Spawn])
        self.started("engine-1")
        self.assertNoResult(result)
        self.controller.set_ids(0, 1)
        self.successResultOf(result)

    def test_a_restart_that_fails(self) -> None:
        service = self.up()
        result = self.run_it(service.restart_engine(1))
        self.controller.set_ids(0)
        self.ended("engine-1", None, 15)
        self.clock.advance(0.0)
        self.started("engine-1")
        self.ended("engine-1", 1, None, "ipengine: no disk")
        problem = self.failureResultOf(result, ClusterError).value
        self.assertEqual(str(problem), "engine 1 exited with status 1: ipengine: no disk")

    def test_a_removal_ends_a_restart(self) -> None:
        service = self.up()
        restarting = self.run_it(service.restart_engine(1))
        removing = self.run_it(service.remove_engines([1]))
        self.ended("engine-1", None, 15)
        self.controller.set_ids(0)
        self.successResultOf(removing)
        problem = self.failureResultOf(restarting, ClusterError).value
        self.assertEqual(str(problem), "engine 1 was removed before it was usable again")
        self.assertEqual([each.id for each in service.status().engines], [0])

    def test_an_engine_that_is_being_removed_is_not_started_again(self) -> None:
        service = self.up()
        removing = self.run_it(service.remove_engines([1]))
        self.failureResultOf(self.run_it(service.restart_engine(1)), ClusterError)
        self.sent()
        self.ended("engine-1", None, 15)
        self.assertEqual(self.sent(), [])
        self.controller.set_ids(0)
        self.successResultOf(removing)

    def test_two_may_remove_the_same_engine(self) -> None:
        service = self.up()
        removing = [self.run_it(service.remove_engines([1])) for _ in range(2)]
        self.ended("engine-1", None, 15)
        self.controller.set_ids(0)
        for each in removing:
            self.successResultOf(each)

    def test_a_removal_that_fails_leaves_the_engine_as_it_was(self) -> None:
        service = self.up()
        removing = self.run_it(service.remove_engines([1]))
        removing.cancel()
        self.failureResultOf(removing, CancelledError)
        self.ended("engine-1", None, 15)
        restarting = self.run_it(service.restart_engine(1))
        self.started("engine-1")
        self.controller.set_ids(0)
        self.controller.set_ids(0, 1)
        self.successResultOf(restarting)

    def test_waiting(self) -> None:
        service = self.up()
        self.assertEqual(
            self.successResultOf(self.run_it(service.wait_for_engines(2, 1.0))), [0, 1]
        )
        self.failureResultOf(self.run_it(service.wait_for_engines(3, None)), ClusterError)
        adding = self.run_it(service.add_engines(1))
        waiting = self.run_it(service.wait_for_engines(3, 1.0))
        later = self.run_it(service.wait_for_engines(None, 9.0))
        self.clock.advance(1.0)
        self.failureResultOf(waiting, ResultNotCompleted)
        self.started("engine-2")
        self.controller.set_ids(0, 1, 2)
        self.assertEqual(self.successResultOf(later), [0, 1, 2])
        self.successResultOf(adding)

    def test_a_wait_that_makes_no_sense_leaves_nothing_behind(self) -> None:
        service = self.up()
        nonsense: Any = "many"
        self.failureResultOf(self.run_it(service.wait_for_engines(nonsense, None)), TypeError)
        self.controller.set_ids(0, 1, 7)
        self.assertEqual(service.ids, [0, 1, 7])

    def test_unknown_engines(self) -> None:
        service = self.up()
        problem = self.failureResultOf(self.run_it(service.remove_engines([9])), InvalidEngineID)
        self.assertIn("there are: 0-1", str(problem.value))
        self.assertRaises(InvalidEngineID, service.signal, [9], 15)
        service.signal(None, 10)
        self.assertEqual(self.sent(), [Signal("engine-0", 10), Signal("engine-1", 10)])


class JobTests(ServiceCase):
    """Engines of MPI jobs, which have their ids from the controller."""

    def up(self, **options: Any) -> ClusterService:
        # Any program will do, as nothing is started.
        service = self.make(kind="mpiexec", mpi=MpiOptions(("sh",)), **options)
        result = self.run_it(service.start())
        self.started("controller", ready=True)
        self.started("sh-1")
        self.controller.set_ids(0, 1)
        self.assertEqual(self.successResultOf(result).outcome, "complete")
        self.sent()
        return service

    def test_they_are_removed_together(self) -> None:
        service = self.up()
        adding = self.run_it(service.add_engines(2))
        self.started("sh-2")
        self.controller.set_ids(0, 1, 2, 3)
        self.successResultOf(adding)
        self.sent()
        problem = self.failureResultOf(self.run_it(service.remove_engines([0, 2])), ClusterError)
        self.assertEqual(
            str(problem.value), "the engines of sh-1 end together: they cannot be removed without 1"
        )
        self.assertEqual((self.sent(), self.controller.killed), ([], []))
        removing = self.run_it(service.remove_engines([3, 2]))
        self.assertEqual(self.sent(), [Signal("sh-2", 15)])
        self.ended("sh-2", None, 15)
        self.assertNoResult(removing)
        self.controller.set_ids(0, 1)
        self.successResultOf(removing)
        self.assertEqual((service.status().n, self.said), (2, []))

    def test_each_of_those_who_add_engines_gets_its_own(self) -> None:
        """Jobs and other engines are started at the same time, and come up and fail in any order."""
        service = self.up()
        local = replace(service.config, kind="local")
        jobs = [self.run_it(service.add_engines(2)) for _ in range(3)]
        others = [self.run_it(service.add_engines(1, local)) for _ in range(2)]
        spawned = [each for each in self.sent() if isinstance(each, Spawn)]
        ids = [word for each in spawned for word in each.argv if "-of-ranks" in word]
        self.assertEqual(ids, [f"--ids-of-ranks={each}" for each in ("2-3", "4-5", "6-7")])
        self.assertEqual(
            [each.key for each in spawned], ["sh-2", "sh-3", "sh-4", "engine-8", "engine-9"]
        )
        for each in spawned:
            self.started(each.key)
        self.controller.set_ids(0, 1, 5, 8)
        self.ended("sh-4", 1, None, "no such option")
        self.ended("engine-9", 1, None, "no memory")
        self.controller.set_ids(0, 1, 2, 3, 4, 5, 8)
        outcomes = [self.successResultOf(each) for each in (*jobs, *others)]
        self.assertEqual([each.usable for each in outcomes], [[2, 3], [4, 5], [], [8], []])
        failures = [[unit.lines for unit in each.failures.values()] for each in outcomes]
        self.assertEqual(failures, [[], [], [("no such option",)], [], [("no memory",)]])
        self.assertEqual(self.said, [])
        problem = self.failureResultOf(self.run_it(service.remove_engines([4])), ClusterError)
        self.assertIn("the engines of sh-3 end together", str(problem.value))

    def test_lost_engines_are_replaced_once(self) -> None:
        service = self.up()
        local = replace(service.config, kind="local")
        adding = self.run_it(service.add_engines(4, local))
        for each in (2, 3, 4, 5):
            self.started(f"engine-{each}")
        self.controller.set_ids(*range(6))
        self.successResultOf(adding)
        for each in (2, 3, 4, 5):
            self.ended(f"engine-{each}", None, 9)
        self.controller.set_ids(0, 1)
        self.sent()
        both = [self.run_it(service.add_engines(2, local)) for _ in range(2)]
        keys = [each.key for each in self.sent() if isinstance(each, Spawn)]
        self.assertEqual(keys, ["engine-2", "engine-3", "engine-4", "engine-5"])
        self.controller.set_ids(*range(6))
        self.assertEqual([self.successResultOf(each).usable for each in both], [[2, 3], [4, 5]])

    def test_one_cannot_be_restarted(self) -> None:
        service = self.up()
        problem = self.failureResultOf(self.run_it(service.restart_engine(1)), ClusterError)
        self.assertIn("cannot be restarted individually", str(problem.value))

    def test_what_a_job_says_last_is_told(self) -> None:
        service = self.up()
        self.ended("sh-1", 1, None, "rank 1 has aborted", "-----")
        self.controller.set_ids()
        self.assertEqual(self.said, ["sh-1 exited with status 1: rank 1 has aborted"])
        self.assertEqual(service.status().n, 0)

    def test_somebody_else_s_engine_can_be_removed(self) -> None:
        service = self.up()
        self.controller.set_ids(0, 1, 7)
        self.run_it(service.remove_engines([7]))
        self.assertEqual(self.controller.killed, [[7]])


class LossTests(ServiceCase):
    def test_a_dead_engine_is_told(self) -> None:
        service = self.up()
        self.ended("engine-1", None, 11, "Segmentation fault")
        self.controller.set_ids(0)
        self.assertEqual(self.said, ["engine 1 was killed by signal SIGSEGV: Segmentation fault"])
        engine = service.status().engines[1]
        self.assertEqual((engine.state, engine.lines), ("ended", ("Segmentation fault",)))

    def test_a_dead_engine_is_started_again_when_its_id_is_free(self) -> None:
        self.up(restart_engines=1)
        self.ended("engine-1", None, 11)
        self.assertIn("restarting it", self.said[0])
        self.clock.advance(5.0)
        self.assertEqual(self.sent(), [])  # the controller may still wait for the dead one
        self.controller.set_ids(0)
        self.assertEqual([type(each) for each in self.sent()], [Spawn])

    def test_a_controller_with_a_full_disk(self) -> None:
        service = self.up()
        self.said.clear()
        for _ in range(2):
            self.controller.warn(["the disk is full"])
        self.assertEqual(self.said, ["the disk is full"])
        status = ClusterStatus.from_json(service.status().to_json())
        self.assertEqual(status.warnings, ("the disk is full",))
        self.assertIn("  warning: the disk is full", status_lines(status))
        self.controller.warn([])
        self.assertEqual(service.status().warnings, ())
        self.controller.warn(["the disk is full"])
        self.reachable = False
        self.controller.lose()
        self.assertEqual(service.status().warnings, ())

    def test_a_controller_that_comes_back(self) -> None:
        service = self.up()
        self.reachable = False
        self.ended("controller", None, 9)
        self.controller.lose()
        self.assertEqual(service.ids, [])
        self.clock.advance(0.1)
        (spawn,) = self.sent()
        assert isinstance(spawn, Spawn)
        self.assertEqual(spawn.argv[-1], "-r")
        self.started("controller", ready=True)
        self.clock.pump([0.5, 0.5])
        self.reachable = True
        self.clock.advance(0.5)
        self.assertEqual(service.ids, [0, 1])
        self.assertEqual(self.said[-1], "the controller is back")

    def test_a_controller_that_was_told_to_end_ends_the_cluster(self) -> None:
        service = self.up()
        self.ended("controller", 0)
        self.assertEqual(self.successResultOf(service.finished), 0)
        self.assertEqual(self.sent(), [End(10.0)])

    def test_a_controller_is_restarted_for_as_long_as_engines_wait(self) -> None:
        service = self.up(reconnect_timeout=600.0)
        died = self.clock.seconds()
        self.ended("controller", None, 9)
        last = died
        while not service.finished.called:
            controller = service.status().controller
            assert controller is not None
            self.assertGreater(controller.restart_in, 0.0)
            self.clock.advance(controller.restart_in)
            (spawn,) = self.sent()
            assert isinstance(spawn, Spawn)
            self.started("controller")
            last = self.clock.seconds()
            self.ended("controller", 1, None, "ipcontroller: cannot listen at port 7: in use")
        self.assertEqual(self.successResultOf(service.finished), 1)
        self.assertTrue(600.0 <= last - died <= 615.0, last - died)
        self.assertEqual(self.said[0], "the controller was killed by signal SIGKILL; restarting it")
        self.assertIn("port 7: in use; it has been away for", self.said[1])
        self.assertIn("longer than engines wait", self.said[-1])
        # Its reason is said once, and then once a minute.
        self.assertTrue(10 <= len(self.said) <= 13, self.said)

    def test_a_controller_that_is_not_to_be_restarted_ends_the_cluster(self) -> None:
        service = self.up(restart_controller=False)
        self.ended("controller", None, 9)
        self.assertEqual(self.successResultOf(service.finished), 1)
        self.assertRegex(self.said[-1], "the controller was killed by signal SIGKILL")

    def test_what_is_restarted_is_told_with_how_long_it_has_been_away(self) -> None:
        service = self.up()
        self.ended("controller", None, 9)
        self.clock.advance(0.1)
        self.started("controller")
        self.clock.advance(4.9)
        self.ended("controller", 1, None, "no space left on the disk")
        controller = service.status().controller
        assert controller is not None
        self.assertEqual((controller.state, controller.away), ("waiting", 5.0))
        self.assertEqual(
            (controller.restart_in, controller.lines[-1]), (0.2, "no space left on the disk")
        )

    def test_stopping_waits_for_the_nanny_and_can_be_hurried(self) -> None:
        service = self.up()
        done = service.stop()
        service.stop(0.0)
        self.assertEqual(self.sent(), [Signal("controller", 15), End(0.0)])
        self.ended("engine-0", None, 15)
        self.ended("controller", None, 9)
        self.assertEqual(self.said, [])
        self.assertNoResult(done)
        self.nanny.connectionLost()
        self.successResultOf(done)
        self.assertEqual(self.successResultOf(service.finished), 0)

    def test_the_controller_is_ended_first(self) -> None:
        """So that clients hear that it was stopped, before its engines are gone."""
        self.up().stop()
        self.assertEqual(self.sent(), [Signal("controller", 15)])
        self.ended("controller", 0)
        self.assertEqual(self.sent(), [End(10.0)])

    def test_a_controller_that_does_not_end_holds_nothing_up(self) -> None:
        self.up().stop()
        self.clock.advance(2.0)
        self.assertEqual(self.sent(), [Signal("controller", 15), End(10.0)])

    def test_end_commands_reach_the_nanny(self) -> None:
        service = self.up()
        service.set_end_commands("a", [["scancel", "1"]])
        service.set_end_commands("b", [["scancel", "2"]])
        service.set_end_commands("a", [])
        self.assertEqual(self.sent()[-1], AtEnd((("scancel", "2"),)))
        self.assertEqual(service.status().end_commands, (("scancel", "2"),))


class ProgressTests(unittest.SynchronousTestCase):
    def test_engines_without_ids_known_beforehand(self) -> None:
        progress = StartProgress(foreign=[0])
        progress.add([Unit("mpiexec-1", 3)])
        progress.ids_changed([0, 1])
        self.assertEqual((progress.usable, progress.outcome), ([1], "waiting"))
        progress.all_added()
        self.assertEqual(progress.outcome, "waiting")
        progress.ids_changed([0, 1, 2, 5])
        self.assertEqual(progress.outcome, "complete")

    def test_a_job_that_ends_halfway(self) -> None:
        progress = StartProgress()
        progress.add([Unit("mpiexec-1", 3)])
        progress.all_added()
        progress.ids_changed([0])
        self.assertTrue(progress.unit_ended("mpiexec-1", "ended", ["x"]))
        self.assertFalse(progress.unit_ended("mpiexec-1", "ended", ["x"]))
        self.assertEqual((progress.failed, progress.outcome), (2, "partial"))


STATE_FILE = """
{
 "cluster_id": "x", "kind": "ssh", "state": "running", "host": "here", "pid": 20, "pid_started": 1.5, "started": 2.5,
 "ipython_dir": "/d", "socket": "/d/ipcluster.sock", "n": 2, "ids": [0],
 "controller": {"state": "running", "pid": 21, "host": "node1", "restarts": 1, "reason": "", "lines": []},
 "engines": [{"id": 3, "state": "ended", "pid": 22, "host": "", "restarts": 0, "reason": "exited with status 1",
              "lines": ["ipengine: no disk"]}],
 "jobs": ["7"], "end_commands": [["qdel", "7"]]
}
"""


class StateFileTests(ServiceCase):
    def test_it_survives_writing_and_reading(self) -> None:
        service = self.up(cluster_id="x")
        files = service.files
        files.dirs.prepare()
        write_state(files.state, service.status())
        self.assertEqual(files.state.stat().st_mode & 0o777, 0o600)
        self.assertEqual(read_state(files.state), service.status())
        self.assertTrue(service.status().is_here)
        self.assertTrue(service.status().is_alive)

    def test_an_engine_is_told_with_its_id_first(self) -> None:
        engines = self.up().status().to_json()["engines"]
        self.assertEqual([list(each)[:3] for each in engines], [["id", "state", "pid"]] * 2)

    def test_a_damaged_one_is_refused(self) -> None:
        service = self.make()
        files = service.files
        files.dirs.prepare()
        self.assertIsNone(read_state(files.state))
        for text in ("{", "[]", '{"pid": 1}'):
            files.state.write_text(text)
            files.state.chmod(0o600)
            self.assertRaises(ClusterError, read_state, files.state)

    def test_what_a_later_version_adds_is_ignored(self) -> None:
        content = self.up().status().to_json()
        for each in (content, content["controller"], *content["engines"]):
            each["colour"] = "red"
        self.assertEqual(ClusterStatus.from_json(content).state, "running")

    def test_names_and_values_are_those_of_earlier_versions(self) -> None:
        """A cluster may have been started by another version than the one that stops it."""
        content = json.loads(STATE_FILE)
        status = ClusterStatus.from_json(content)
        again = json.loads(json.dumps(status.to_json()))
        for before, after in (
            (content, again),
            (content["controller"], again["controller"]),
            (content["engines"][0], again["engines"][0]),
        ):
            for name in before.keys() - {"controller", "engines"}:
                self.assertEqual(after[name], before[name], name)
        self.assertEqual(status.end_commands, (("qdel", "7"),))
        (ended,) = status.engines
        self.assertEqual((ended.id, ended.lines), (3, ("ipengine: no disk",)))
        assert status.controller is not None
        self.assertEqual((status.controller.host, status.controller.restarts), ("node1", 1))
