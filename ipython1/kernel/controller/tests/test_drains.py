"""Engines that get no more tasks, because somebody wants to end them or because they leave."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.controller.multiengine import IMultiEngine
from ipython1.kernel.controller.scheduling.instructions import Retract
from ipython1.kernel.controller.tests.taskdesk import Desk, WireClient, WireEngine
from ipython1.kernel.controller.tests.test_task_machine import Desk as MachineDesk
from ipython1.kernel.wire import frames
from ipython1.kernel.wire.loads import ClusterLoad, leaves_data
from ipython1.kernel.wire.taskwire import Status

OK = Status.OK


class MachineTests(SynchronousTestCase):
    """What the scheduler does."""

    def test_what_has_not_begun_is_handed_back_and_runs_elsewhere(self) -> None:
        desk = MachineDesk(1)
        ids = desk.submit(4)
        desk.begin(0)
        given = list(desk.sent[0])
        desk.machine.drain(0, True)
        desk.settle()
        self.assertEqual(desk.other, [Retract(0, tuple(given[:0:-1]))])
        desk.machine.retracted(0, given[1:], desk.now)
        del desk.sent[0][1:]
        desk.settle()
        self.assertEqual(desk.sent[0], given[:1], "nothing more is given to it")
        desk.join(1)
        while desk.sent[1]:
            desk.end(1)
        desk.end(0)
        self.assertEqual(sorted(desk.done), ids)
        self.assertEqual({desk.done[each].engine for each in ids[1:]}, {1})

    def test_one_that_is_used_again_gets_tasks_again(self) -> None:
        desk = MachineDesk(1)
        desk.machine.drain(0, True)
        [task] = desk.submit()
        self.assertEqual(desk.sent[0], [])
        [(_, why)] = desk.machine.survey.stuck()
        self.assertEqual(why, "all engines are being ended")
        desk.machine.drain(0, False)
        desk.settle()
        self.assertEqual([run[0] for run in desk.sent[0]], [task])

    def test_a_task_that_is_meant_for_it_says_why_it_waits(self) -> None:
        desk = MachineDesk(2)
        desk.machine.drain(0, True)
        desk.submit(targets=frozenset((0,)))
        [(_, why)] = desk.machine.survey.stuck()
        self.assertEqual(why, "engine 0 is about to end")

    def test_the_death_of_one_that_is_ended_costs_no_retry(self) -> None:
        desk = MachineDesk(1)
        [task] = desk.submit()
        desk.begin(0)
        del desk.sent[0]
        desk.machine.worker_lost(0, desk.now, "its time was up", blameless=True)
        desk.join(1)
        self.assertEqual([run[0] for run in desk.sent[1]], [task])
        record = desk.machine.tasks[task]
        self.assertEqual((record.in_trouble().used, record.in_trouble().killed), (0, []))

    def test_one_that_was_away_hands_back_when_it_is_there(self) -> None:
        desk = MachineDesk(1)
        desk.submit(2)
        runs = list(desk.sent[0])
        desk.machine.worker_away(0)
        desk.machine.drain(0, True)
        desk.settle()
        self.assertEqual(desk.other, [])
        desk.machine.worker_back(0, runs, [], desk.now)
        desk.settle()
        self.assertEqual(desk.other, [Retract(0, tuple(reversed(runs)))])


class ControllerTests(SynchronousTestCase):
    """What a controller does."""

    def setUp(self) -> None:
        self.desk = Desk()
        self.engine = WireEngine(self.desk)
        self.client = WireClient(self.desk)
        self.multiengine = IMultiEngine(self.desk.service)
        self.drained: list[Any] = []

    def drain(self, *ids: int) -> None:
        self.multiengine.drain(list(ids)).addCallback(self.drained.append)
        self.desk.pump.run()

    def test_it_is_drained_when_its_last_task_has_ended(self) -> None:
        first, second = self.client.submit([b"a", b"b"])
        self.engine.begin()
        self.drain(0)
        self.assertEqual([key[0] for key in self.engine.runs], [first])
        self.assertEqual(self.drained, [])
        self.engine.end()
        self.assertEqual(self.drained, [None])
        other = WireEngine(self.desk)
        self.assertEqual([key[0] for key in other.runs], [second])

    def test_it_is_drained_when_its_last_command_has_ended(self) -> None:
        self.multiengine.engine(0).execute("1")
        self.drain(0)
        self.assertEqual(self.drained, [])
        self.engine.cut()
        self.desk.wait(11)
        self.assertEqual(self.drained, [None], "there is nothing left to wait for")

    def test_one_that_is_idle_or_not_there_is_drained_at_once(self) -> None:
        self.drain(0, 7)
        self.assertEqual(self.drained, [None])

    def test_one_that_leaves_is_stopped_when_it_is_idle(self) -> None:
        [task] = self.client.submit([b"a"])
        self.engine.begin()
        self.engine.send(frames.LEAVING)
        self.desk.pump.run()
        self.assertEqual(self.engine.killed, 0)
        self.multiengine.undrain([0])
        self.client.submit([b"b"])
        self.assertEqual([key[0] for key in self.engine.runs], [task], "it leaves all the same")
        self.engine.end()
        self.assertEqual(self.engine.killed, 1)
        self.assertEqual(self.client.results[task][0], OK)

    def test_a_task_that_its_system_ended_with_the_engine_runs_again(self) -> None:
        for leaves in (True, False):
            self.setUp()
            [task] = self.client.submit([b"a"])
            self.engine.begin()
            if leaves:
                self.engine.send(frames.LEAVING)
                self.desk.pump.run()
                self.engine.cut()
                self.desk.wait(11)
            else:
                self.multiengine.told_ended([0], "its job was preempted")
            other = WireEngine(self.desk)
            other.end()
            self.assertEqual(self.client.results[task], (OK, b"result of a"))

    def test_the_load(self) -> None:
        self.client.submit([b"a"] * 5)
        self.engine.end(number=2)
        WireEngine(self.desk)
        self.desk.wait(0.5)
        load = self.load()
        self.assertEqual((load.waiting + load.running, load.quiet), (3, 0.0))
        self.assertAlmostEqual(load.seconds, 0.01, 3)
        self.drain(1)
        self.multiengine.engine(1).execute("a = 1")
        first, second = self.load().engines
        self.assertEqual((first.draining, first.holds, first.idle), (False, False, 0.0))
        self.assertEqual((second.draining, second.holds, second.commands), (True, True, 1))

    def test_the_quiet_of_a_cluster_that_nobody_uses(self) -> None:
        self.desk.wait(100)
        load = self.load()
        self.assertEqual((load.waiting, load.running), (0, 0))
        self.assertGreaterEqual(load.quiet, 99)
        self.assertGreaterEqual(load.engines[0].idle, 99)

    def load(self) -> ClusterLoad:
        return ClusterLoad.from_json(self.multiengine.load())


class DataTests(SynchronousTestCase):
    def test_what_commands_leave(self) -> None:
        self.assertFalse(leaves_data("pull", False))
        self.assertTrue(leaves_data("keys", True))
        self.assertTrue(leaves_data("push", False))
        self.assertTrue(leaves_data("something_of_another_package", False))
        self.assertFalse(leaves_data("reset", True))
