"""Clusters of processes that are lent to one test after the other.

``test_lending`` runs these in a process of their own, as a test runner has the reactor for itself.
"""

from __future__ import annotations

import os
import signal
import unittest
from unittest import mock

from ipython1.kernel.client import MultiEngineClient
from ipython1.kernel.error import ClusterError
from ipython1.testing import ClusterLender, ClusterTestCase, InProcessTestCase, TemporaryCluster
from ipython1.testing.cases import LOG_TITLE

STUBBORN = """
import time
while True:
    try:
        time.sleep(100)
    except BaseException:
        pass
"""


class LenderTest(unittest.TestCase):
    def setUp(self) -> None:
        self.lender = ClusterLender()
        self.addCleanup(self.lender.close)

    def test_a_cluster_is_for_one_at_a_time(self) -> None:
        before = os.environ.get("IPYTHONDIR")
        with self.lender.lend(1) as cluster:
            with self.assertRaisesRegex(RuntimeError, "the cluster of 1 engines is lent already"):
                with self.lender.lend(1):
                    pass
            mec = MultiEngineClient()
            mec.push({"a": 1})
            self.assertEqual(cluster.multiengine().pull("a"), [1])
        self.assertEqual(os.environ.get("IPYTHONDIR"), before)
        with self.lender.lend(1) as again:
            self.assertIs(again, cluster)
        self.lender.close()
        self.assertFalse(cluster.ipython_dir.exists())

    def test_what_cannot_be_reset_is_replaced(self) -> None:
        for end in ("lent", "idle"):
            with self.lender.lend(1) as cluster:
                pid = cluster.status().pid
                if end == "lent":
                    os.kill(pid, signal.SIGKILL)
            if end == "idle":
                cluster.stop()
            with self.lender.lend(1) as other:
                self.assertIsNot(other, cluster)
                self.assertEqual(other.multiengine().apply(abs, -1), [1])
            self.assertFalse(cluster.ipython_dir.exists())

    def test_code_that_does_not_end_is_ended(self) -> None:
        with mock.patch("ipython1.testing.temporary.RESET_LIMIT", 0.5):
            with self.lender.lend(1) as cluster:
                mec = cluster.multiengine()
                pid = mec.apply(os.getpid)
                mec.execute(STUBBORN, block=False)
            with self.lender.lend(1) as again:
                self.assertIs(again, cluster)
                self.assertNotEqual(again.multiengine().apply(os.getpid), pid)

    def test_a_controller_that_does_not_answer_is_not_waited_for(self) -> None:
        with mock.patch("ipython1.testing.temporary.RESET_LIMIT", 0.5):
            with self.lender.lend(1) as cluster:
                controller = cluster.status().controller
                assert controller is not None and controller.pid is not None
                os.kill(controller.pid, signal.SIGSTOP)
        with self.lender.lend(1) as other:
            self.assertIsNot(other, cluster)


class LogTest(unittest.TestCase):
    def test_an_error_shows_what_the_cluster_logged_during_its_test(self) -> None:
        class Case(ClusterTestCase):
            def test_a_failure(self) -> None:
                self.cluster.kill_engine(0)
                self.assertEqual(self.cluster.ids, [0, 1])

            def test_subtests(self) -> None:
                for engine_id in range(2):
                    with self.subTest(engine_id):
                        self.cluster.kill_engine(engine_id)
                        self.fail()

            def test_success(self) -> None:
                self.cluster.kill_engine(1)

        result = unittest.TestResult()
        for name in ("test_success", "test_a_failure", "test_subtests"):
            Case(name).run(result)
        self.assertEqual(result.errors, [])
        first, *subtests = [text for _, text in result.failures]
        for text, killed in ((first, [0]), (subtests[0], [0]), (subtests[1], [0, 1])):
            self.assertEqual(text.count(LOG_TITLE), 1, text)
            for engine_id in range(2):
                line = f"engine {engine_id} is gone"
                self.assertEqual(line in text, engine_id in killed, text)
            self.assertNotIn("cases.py", text.replace("lending_cases.py", ""))


class MistakeTest(unittest.TestCase):
    def test_wrong_numbers(self) -> None:
        for wrong in (0, "2", True):
            with self.assertRaisesRegex(ValueError, "n must be a whole number of 1 or more"):
                TemporaryCluster(wrong)  # type: ignore[arg-type]
            for base in (InProcessTestCase, ClusterTestCase):
                case = type("Case", (base,), {"engines": wrong, "test": lambda self: None})("test")
                result = unittest.TestResult()
                case.run(result)
                self.assertIn("ValueError: engines must be a whole number", result.errors[0][1])

    def test_a_start_that_fails_leaves_nothing(self) -> None:
        with self.assertRaises(TypeError):
            TemporaryCluster(1, no_such_option=1)
        cluster = TemporaryCluster(1, python="/no/such/python")
        self.assertRaises(ClusterError, cluster.start)
        self.assertFalse(cluster.ipython_dir.exists())
