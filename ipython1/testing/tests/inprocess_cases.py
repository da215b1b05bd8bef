"""Ordinary blocking clients on clusters in their own process.

``test_inprocess`` runs these in a process of their own, as a test runner has the reactor for itself.
"""

from __future__ import annotations

import contextlib
import io
import sys
import threading
import time
import unittest

from ipython1.kernel.engineworker import properties
from ipython1.kernel.error import (
    ClusterError,
    CompositeError,
    ConnectionError,
    EngineDied,
    InvalidEngineID,
    TaskAborted,
)
from ipython1.kernel.task import MapTask, Task
from ipython1.testing import InProcessCluster, InProcessTestCase
from ipython1.testing.inprocess import END_LIMIT

SOON = 20.0
"""Seconds within which what must happen has happened, also on a loaded machine."""

events: dict[str, threading.Event] = {}
"""Engines are threads of this process, so that tests can wait for them, and they for tests."""


def event(name: str) -> threading.Event:
    return events.setdefault(name, threading.Event())


def wait_for(name: str) -> str:
    if not event(name).wait(SOON):
        raise TimeoutError(name)
    return name


def begin_and_wait(name: str) -> str:
    event(f"{name} began").set()
    return wait_for(name)


def run_until_interrupted(began: str) -> None:
    event(began).set()
    while True:
        pass


def fail_once(name: str) -> str:
    if not event(name).is_set():
        event(name).set()
        raise OSError("the first time")
    return name


class CallTest(InProcessTestCase):
    def setUp(self) -> None:
        super().setUp()
        events.clear()

    def test_the_client_is_the_ordinary_one(self) -> None:
        self.assertEqual(self.mec.get_ids(), [0, 1])
        self.mec.push({"a": [1]})
        self.assertEqual(self.mec["a"], [[1], [1]])
        self.assertEqual(self.mec.map(lambda x: x**2, range(5)), [0, 1, 4, 9, 16])
        pending = self.mec.execute("b = a * 2", block=False)
        pending.result(SOON)
        self.assertEqual(self.mec[1].pull("b"), [1, 1])
        self.assertEqual(self.mec.scatter("c", range(4)), [None, None])
        self.assertEqual(self.mec.gather("c"), [0, 1, 2, 3])
        with self.mec.executor() as executor:
            self.assertEqual(executor.submit(pow, 2, 3).result(SOON), 8)

    def test_what_fails_raises_the_engines_exceptions(self) -> None:
        with self.assertRaises(CompositeError) as caught:
            self.mec.execute("1 / 0", targets=1)
        self.assertIsInstance(caught.exception.exceptions[0], ZeroDivisionError)
        self.assertEqual(caught.exception.elist[0][0], ZeroDivisionError)
        self.assertNotIn("testing", caught.exception.elist[0][2])
        self.assertIn("File <command>:1", caught.exception.elist[0][2])

    def test_each_engine_has_a_namespace_and_properties(self) -> None:
        self.mec.push({"a": "one"}, targets=1)
        self.assertEqual(self.mec.keys(), [[], ["a"]])
        self.mec.set_properties({"here": 1}, targets=1)
        self.assertEqual(self.mec.apply(lambda: dict(properties())), [{}, {"here": 1}])

    def test_each_engine_has_its_output_and_the_test_its_own(self) -> None:
        mine = io.StringIO()
        with contextlib.redirect_stdout(mine):
            results = self.mec.execute("import sys; print('out'); print('err', file=sys.stderr)")
            print("mine")
        self.assertEqual(
            [(each["stdout"], each["stderr"]) for each in results], [("out\n", "err\n")] * 2
        )
        self.assertEqual(mine.getvalue(), "mine\n")

    def test_what_the_test_prints_while_an_engine_runs_is_the_tests(self) -> None:
        before, mine = sys.stdout, io.StringIO()
        with contextlib.redirect_stdout(mine):
            self.mec.block = False
            pending = self.mec.apply(begin_and_wait, "go")
            wait_for("go began")
            print("mine")
            event("go").set()
            pending.result(SOON)
        self.assertEqual((mine.getvalue(), pending.stdout), ("mine\n", {}))
        self.assertIs(sys.stdout, before)

    def test_engines_run_at_the_same_time(self) -> None:
        self.mec.block = False
        first = self.mec[0].apply(wait_for, "second")
        second = self.mec[1].apply(lambda: event("second").set())
        self.assertEqual((first.result(SOON), second.result(SOON)), ("second", None))

    def test_what_runs_can_be_aborted(self) -> None:
        self.mec.block = False
        pending = self.mec[0].apply(run_until_interrupted, "began")
        wait_for("began")
        pending.abort()
        with self.assertRaises(CompositeError) as caught:
            pending.result(SOON)
        self.assertIsInstance(caught.exception.exceptions[0], KeyboardInterrupt)
        self.assertEqual(self.mec.apply(abs, -1).result(SOON), [1, 1])


class TaskTest(InProcessTestCase):
    def setUp(self) -> None:
        super().setUp()
        events.clear()
        self.tc = self.cluster.task()

    def test_tasks_and_maps(self) -> None:
        self.assertEqual(self.tc.map(lambda x: -x, range(20)), [-x for x in range(20)])
        result = self.tc.run(Task("b = a + 1", push={"a": 1}, pull=["b"]), block=True)
        self.assertEqual(result.ns.b, 2)
        with self.assertRaises(ZeroDivisionError):
            self.tc.run(Task("1 / 0"), block=True).raise_exception()

    def test_retries(self) -> None:
        self.assertEqual(self.tc.run(MapTask(fail_once, ["a"], retries=1), block=True).result, "a")
        with self.assertRaisesRegex(OSError, "the first time"):
            self.tc.run(MapTask(fail_once, ["b"]), block=True).raise_exception()

    def test_a_task_whose_engine_is_killed_runs_again_elsewhere(self) -> None:
        for retries in (0, 1):
            name = f"with {retries}"
            task_id = self.tc.run(MapTask(begin_and_wait, [name], retries=retries))
            wait_for(f"{name} began")
            running = self.tc.history()[-1].engineid
            assert running is not None
            self.cluster.kill_engine(running)
            event(name).set()
            self.tc.barrier([task_id], SOON)
            result = self.tc.get_task_result(task_id)
            assert result is not None
            if retries:
                self.assertEqual((result.result, result.engineid), (name, self.cluster.ids[0]))
            else:
                self.assertRaises(EngineDied, result.raise_exception)
                self.cluster.add_engine()

    def test_a_running_task_can_be_aborted(self) -> None:
        task_id = self.tc.run(MapTask(run_until_interrupted, ["began"]))
        wait_for("began")
        self.tc.abort(task_id)
        self.tc.barrier([task_id], SOON)
        self.assertRaises(TaskAborted, self.tc.get_task_result(task_id).raise_exception)

    def test_dependencies_see_properties(self) -> None:
        self.mec.set_properties({"big": True}, targets=1)
        task = MapTask(abs, [-1], depend=lambda found: found.get("big", False))
        self.assertEqual(self.tc.run(task, block=True).engineid, 1)


class EngineTest(InProcessTestCase):
    engines = 3

    def test_a_killed_engine_is_lost_with_what_it_runs(self) -> None:
        events.clear()
        self.mec.block = False
        pending = self.mec[0].apply(begin_and_wait, "go")
        wait_for("go began")
        self.cluster.kill_engine(0)
        self.assertEqual((self.cluster.ids, self.mec.ids), ([1, 2], [1, 2]))
        self.assertRaises(EngineDied, pending.result, SOON)
        event("go").set()
        self.assertRaisesRegex(InvalidEngineID, "there are: 1, 2", self.cluster.kill_engine, 0)

    def test_engines_come_and_end(self) -> None:
        self.assertEqual(self.cluster.add_engine(), 3)
        self.mec.kill(targets=[0, 1])
        self.assertEqual(self.cluster.ids, [2, 3])

    def test_a_client_can_end_everything(self) -> None:
        other = self.cluster.task()
        self.mec.kill(controller=True)
        self.assertRaises(ConnectionError, other.queue_status)
        for call in (self.cluster.multiengine, self.cluster.add_engine, lambda: self.cluster.ids):
            self.assertRaisesRegex(ClusterError, "controller of this cluster has ended", call)


class LifeTest(unittest.TestCase):
    def test_nothing_is_left(self) -> None:
        with InProcessCluster(2) as cluster:
            mec = cluster.multiengine()
            mec.block = False
            pending = mec.apply(run_until_interrupted, "began")
            wait_for("began")
        names = [thread.name for thread in threading.enumerate()]
        self.assertEqual([name for name in names if "engine" in name], [])
        self.assertRaises(ConnectionError, pending.result, SOON)
        self.assertRaises(ConnectionError, mec.get_ids)

    def test_threads_that_cannot_be_interrupted_are_not_waited_for_one_by_one(self) -> None:
        go_on = threading.Event()
        events["stay"] = go_on
        self.addCleanup(go_on.set)
        with InProcessCluster(8) as cluster:
            mec = cluster.multiengine()
            mec.block = False
            mec.apply(wait_for, "stay")
            while [row["pending"] for _, row in mec.queue_status(block=True)].count(None):
                pass
            begun = time.monotonic()
        self.assertLess(time.monotonic() - begun, 4 * END_LIMIT)

    def test_wrong_use(self) -> None:
        for wrong in (0, -1, "2", 1.0, True, None):
            with self.assertRaisesRegex(ValueError, "n must be a whole number of 1 or more"):
                InProcessCluster(wrong)  # type: ignore[arg-type]
        cluster = InProcessCluster(1)
        for call in (cluster.multiengine, cluster.task, cluster.add_engine, lambda: cluster.ids):
            self.assertRaisesRegex(ClusterError, "call start", call)
        cluster.stop()
        with cluster:
            self.assertRaisesRegex(ClusterError, "already started", cluster.start)
        with cluster:
            self.assertEqual(cluster.ids, [0])

    def test_clusters_know_nothing_of_each_other(self) -> None:
        with InProcessCluster(1) as one, InProcessCluster(1) as other:
            one.multiengine().push({"a": 1})
            self.assertEqual(other.multiengine().keys(), [[]])
            other.kill_engine(0)
            self.assertEqual(one.ids, [0])
