"""Executors, joblib, and modules for engines, on real clusters, in programs as users write them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from twisted.trial import unittest

from ipython1.testing import RealCluster

PROGRAMS = Path(__file__).parent / "programs"


class ExecutorProgramsTests(unittest.SynchronousTestCase):
    def run_on(self, cluster: RealCluster, program: str, *args: str) -> list[str]:
        result = cluster.run_program(PROGRAMS / program, *args)
        return result.stdout.splitlines()

    def test_programs_that_leave_the_cluster_as_it_was(self) -> None:
        with RealCluster(4) as cluster:
            for kind in ("mec", "tc"):
                self.check_executor(cluster, kind)
            if importlib.util.find_spec("joblib"):
                for kind in ("mec", "tc"):
                    self.check_joblib(cluster, kind)
            *sources, last = self.run_on(cluster, "modules_session.py")
        # Engines get the modules that they lack, and leave nothing behind when they end.
        self.assertEqual(last, "engines have the modules they need")
        self.assertEqual(len(sources), 4)
        self.assertEqual([path for path in sources if Path(path).parent.exists()], [])

    def check_executor(self, cluster: RealCluster, kind: str) -> None:
        """It works as the documentation of ``concurrent.futures`` says."""
        lines = self.run_on(cluster, "executors_session.py", kind)
        self.assertEqual(lines[-1], f"the {kind} executor keeps its promises")
        lines = self.run_on(cluster, "executors_ended.py", kind, "end")
        self.assertEqual(lines, [f"the {kind} executor refuses what cannot run"])
        lines = self.run_on(cluster, "executors_ended.py", kind, "stop")
        self.assertEqual(lines, [f"the {kind} executor says that the reactor has stopped"])

    def check_joblib(self, cluster: RealCluster, kind: str) -> None:
        """Programs that use joblib return the same on engines as on threads."""
        lines = self.run_on(cluster, "joblib_session.py", kind)
        self.assertEqual(lines[-1], "joblib on engines gives what it gives on threads")

    def test_multiengine_executor_in_trouble(self) -> None:
        """Dead engines and controllers fail only the calls that they must."""
        with RealCluster(4) as cluster:
            lines = self.run_on(cluster, "executors_faults.py", "mec")
        self.assertEqual(lines[-1], "the mec executor survives, or says why not")

    def test_task_executor_in_trouble(self) -> None:
        """The same for the executor on tasks."""
        with RealCluster(4) as cluster:
            lines = self.run_on(cluster, "executors_faults.py", "tc")
        self.assertEqual(lines[-1], "the tc executor survives, or says why not")
