"""A cluster that adapts, and one that ends when nobody uses it, without processes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial import unittest

from ipython1.daemon.protocol import Signal, Spawn
from ipython1.kernel.basics.error import ClusterError, ConnectionError
from ipython1.kernel.clusters.adapting import scaling_lines
from ipython1.kernel.clusters.service import ClusterService
from ipython1.kernel.clusters.status import ClusterStatus, ScalingInfo
from ipython1.kernel.clusters.tests.loads import cluster_load, engine_load
from ipython1.kernel.clusters.tests.test_clusterservice import FakeController, ServiceCase
from ipython1.kernel.clusters.unused import Unused
from ipython1.kernel.launchers.adaptation import Adaptation
from ipython1.kernel.scripts.statusaction import status_lines
from ipython1.kernel.wire.loads import ClusterLoad


class BusyController(FakeController):
    """Tells how busy it is, and drains engines at once.

    :ivar idle: for how many seconds engines have had no work.
    :ivar slow: fires when engines are drained.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = cluster_load(clients=1)
        self.idle: dict[int, float] = {}
        self.drained: set[int] = set()
        self.away = False
        self.slow: Deferred[Any] = succeed(None)

    def load(self) -> Deferred[ClusterLoad]:
        if self.away:
            return fail(ConnectionError("the controller is away"))
        engines = tuple(
            engine_load(each, idle=self.idle.get(each, 0.1), draining=each in self.drained)
            for each in self.ids
        )
        return succeed(replace(self.now, engines=engines))

    def drain(self, targets: list[int]) -> Deferred[Any]:
        self.drained.update(targets)
        return self.slow

    def undrain(self, targets: list[int]) -> Deferred[Any]:
        self.drained.difference_update(targets)
        return succeed(None)


class ScalingCase(ServiceCase):
    def setUp(self) -> None:
        super().setUp()
        self.controller: BusyController = BusyController()

    def spawned(self) -> list[str]:
        return [each.key for each in self.sent() if isinstance(each, Spawn)]

    def come(self, *ids: int) -> None:
        """Engines that were started are usable."""
        for each in ids:
            self.started(f"engine-{each}")
        self.controller.set_ids(*self.controller.ids, *ids)

    def pass_time(self, seconds: float) -> None:
        self.clock.pump([0.5] * int(2 * seconds))


class AdaptTests(ScalingCase):
    def test_engines_come_with_the_tasks_and_go_when_they_are_idle(self) -> None:
        service = self.up()
        service.scaling.adapt(Adaptation(0, 4))
        self.controller.now = cluster_load(waiting=7, clients=1)
        self.pass_time(1)
        self.assertEqual(self.spawned(), ["engine-2", "engine-3"])
        self.assertEqual(self.said, ["starting 2 engines: 7 tasks wait"])
        self.come(2, 3)
        self.controller.now = cluster_load(clients=1)
        self.controller.idle = {1: 61.0, 3: 62.0}
        self.pass_time(2)
        self.assertEqual(self.sent(), [Signal("engine-1", 15)])
        self.assertEqual(self.controller.drained, {1, 3})
        self.ended("engine-1", None, 15)
        self.assertEqual(self.sent(), [Signal("engine-3", 15)])
        self.ended("engine-3", None, 15)
        self.controller.set_ids(0, 2)
        self.assertEqual(self.said[1:], ["ending engines 1,3: without work for 60 s"])
        self.assertEqual(service.status().ids, (0, 2))
        self.pass_time(5)
        self.assertEqual(len(self.said), 2)

    def test_only_engines_that_end_by_themselves_delay_others(self) -> None:
        service = self.up()
        service.scaling.adapt(Adaptation(2, 4))
        self.pass_time(1)
        removed = Deferred.fromCoroutine(service.remove_engines([1], 0))
        self.ended("engine-1", None, 15)
        self.controller.set_ids(0)
        self.sent()
        self.pass_time(1)
        self.successResultOf(removed)
        self.assertEqual(self.spawned(), ["engine-1"])
        self.come(1)
        self.pass_time(1)
        self.ended("engine-1", None, 9)
        self.controller.set_ids(0)
        self.pass_time(1)
        self.assertEqual(self.spawned(), [])
        self.assertIn("engine 1 ended within 10 s of the start", self.said[-1])
        self.pass_time(5)
        self.assertEqual(self.spawned(), ["engine-1"])

    def test_an_engine_that_hangs_before_it_is_usable_is_replaced(self) -> None:
        service = self.up()
        service.scaling.adapt(Adaptation(0, 3))
        self.controller.now = cluster_load(waiting=7, clients=1)
        self.pass_time(1)
        self.assertEqual(self.spawned(), ["engine-2"])
        self.started("engine-2")
        self.pass_time(50)
        self.controller.away = True
        self.pass_time(100)
        self.controller.away = False
        self.pass_time(60)
        self.assertEqual(self.sent(), [])
        self.pass_time(2)
        self.assertEqual(self.sent(), [Signal("engine-2", 15)])
        self.assertEqual(
            self.said[1:],
            [
                "ending engine 2: running, but not usable within 60 s (start_timeout); others start in 5 s at the "
                "earliest"
            ],
        )
        self.ended("engine-2", None, 15)
        self.pass_time(2)
        self.assertEqual(self.spawned(), [])
        self.pass_time(4)
        self.assertEqual(self.spawned(), ["engine-2"])
        self.come(2)
        self.pass_time(70)
        self.assertEqual((self.sent(), service.status().ids), ([], (0, 1, 2)))

    def test_it_is_told_in_the_status(self) -> None:
        service = self.up(idle_timeout=7200.0)
        service.scaling.adapt(Adaptation(0, 3, keep_data=False))
        self.controller.now = cluster_load(waiting=3)
        self.pass_time(1)
        self.clock.advance(30.0)
        status = service.status()
        self.assertEqual(ClusterStatus.from_json(status.to_json()), status)
        lines = [line.strip() for line in status_lines(status)]
        for line in (
            "adapts to its tasks: 0 to 3 engines, one goes after 60 s without work, even if it holds data; "
            "30 s ago: starting 1 engine: 3 tasks wait",
            "ends when unused for 2 h",
        ):
            self.assertIn(line, lines)
        service.scaling.adapt(None)
        self.assertEqual(scaling_lines(service.status().scaling), ["ends when unused for 2 h"])

    def test_engines_that_cannot_be_started(self) -> None:
        service = self.up()
        service.scaling.adapt(Adaptation(0, 3))
        self.controller.now = cluster_load(waiting=3)
        self.pass_time(1)
        self.started("engine-2")
        self.ended("engine-2", 1)
        self.assertEqual(
            self.said[1],
            "1 engine could not be started: exited with status 1; the next try is in 5 s",
        )
        self.sent()
        self.pass_time(4)
        self.assertEqual(self.spawned(), [])
        self.pass_time(2)
        self.assertEqual(self.spawned(), ["engine-2"])

    def test_nothing_changes_any_more(self) -> None:
        service = self.up()
        service.scaling.adapt(Adaptation(0, 4))
        self.controller.idle = {0: 61.0}
        self.controller.slow = Deferred()
        self.clock.advance(0.0)
        self.assertEqual(self.controller.drained, {0})
        service.scaling.adapt(None)
        self.controller.now = cluster_load(waiting=5)
        self.pass_time(5)
        self.assertEqual((self.sent(), self.controller.drained), ([], set()))

    def test_a_controller_that_is_away(self) -> None:
        service = self.up()
        service.scaling.adapt(Adaptation(0, 4))
        self.controller.now = cluster_load(waiting=5)
        self.controller.away = True
        self.pass_time(3)
        self.controller.lose()
        self.reachable = False
        self.pass_time(3)
        self.assertEqual(self.spawned(), [])
        self.controller.away, self.reachable = False, True
        self.controller.ids = [0, 1]
        self.pass_time(3)
        self.assertEqual(self.spawned(), ["engine-2", "engine-3"])

    def test_waiting_for_engines_that_tasks_may_bring(self) -> None:
        service = self.up()
        service.scaling.adapt(Adaptation(0, 3))
        waiting = self.run_it(service.wait_for_engines(3, None))
        self.assertNoResult(waiting)
        self.failureResultOf(self.run_it(service.wait_for_engines(4, None)), ClusterError)
        self.controller.now = cluster_load(waiting=3)
        self.pass_time(1)
        self.come(2)
        self.assertEqual(self.successResultOf(waiting), [0, 1, 2])

    def test_a_cluster_that_is_being_stopped(self) -> None:
        service = self.up()
        service.scaling.adapt(Adaptation(0, 4))
        service.stop()
        self.controller.now = cluster_load(waiting=5)
        self.pass_time(3)
        self.assertEqual(self.spawned(), [])
        self.assertRaises(ClusterError, service.scaling.adapt, Adaptation(0, 4))

    def test_mpi_is_refused(self) -> None:
        service = self.make(kind="mpiexec")
        with self.assertRaisesRegex(ClusterError, "^engines of kind 'mpiexec' end together, so "):
            service.scaling.adapt(Adaptation(0, 4))


class IdleTimeoutTests(ScalingCase):
    def is_over(self, service: ClusterService) -> bool:
        return service.finished.called

    def test_an_unused_cluster_ends(self) -> None:
        service = self.up(idle_timeout=10.0)
        self.pass_time(20)
        self.assertFalse(self.is_over(service))  # a client is connected
        self.controller.now = cluster_load(quiet=1e9)
        self.pass_time(9)
        self.assertFalse(self.is_over(service))
        self.pass_time(2)
        self.assertEqual(self.successResultOf(service.finished), 0)
        self.assertEqual(self.said, ["nobody has used the cluster for 10 s, so it ends"])

    def test_it_goes_on_by_default(self) -> None:
        service = self.up()
        self.controller.now = cluster_load(quiet=1e9)
        self.pass_time(600)
        self.assertFalse(self.is_over(service))


class UnusedTests(unittest.SynchronousTestCase):
    def test_what_is_use(self) -> None:
        for load in (
            cluster_load(waiting=1),
            cluster_load(running=1),
            cluster_load(clients=1),
            cluster_load(engines=(engine_load(0, commands=1),)),
        ):
            unused = Unused(10.0)
            unused.observed(0.0, cluster_load(quiet=99.0), False)
            self.assertFalse(unused.observed(9.0, replace(load, quiet=99.0), False))
            self.assertFalse(unused.observed(10.0, cluster_load(quiet=99.0), False))
            self.assertTrue(unused.observed(20.0, cluster_load(quiet=99.0), False))

    def test_a_client_that_came_and_went_between_two_looks(self) -> None:
        unused = Unused(10.0)
        unused.observed(0.0, cluster_load(quiet=99.0), False)
        self.assertFalse(unused.observed(10.0, cluster_load(quiet=4.0), False))
        self.assertEqual(unused.seconds(10.0), 4.0)
        self.assertTrue(unused.observed(16.0, cluster_load(quiet=10.0), False))

    def test_engines_that_start_are_waited_for(self) -> None:
        unused = Unused(10.0)
        self.assertFalse(unused.observed(0.0, cluster_load(), True))
        self.assertFalse(unused.observed(60.0, cluster_load(quiet=60.0), True))


class WordsTests(unittest.SynchronousTestCase):
    def test_numbers_that_cannot_be_meant(self) -> None:
        for arguments in ((-1, 4), (5, 4), (0, 0), (0, 4, 0), (0, 4, 10.0, float("inf"))):
            self.assertRaises(ValueError, Adaptation.checked, *arguments)
        for arguments in ((0, None), (0, 1.5), (True, 4), (0, 4, "5"), (0, 4, 10.0, 60.0, "no")):
            self.assertRaises(TypeError, Adaptation.checked, *arguments)

    def test_nothing_to_tell(self) -> None:
        self.assertEqual(scaling_lines(None), [])
        lines = scaling_lines(ScalingInfo(adaptation=Adaptation(4, 4)))
        self.assertEqual(
            lines, ["adapts to its tasks: 4 engines, one goes after 60 s without work"]
        )
