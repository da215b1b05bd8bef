"""Programs on a real ``ipcluster -n 4``: the documentation's tutorials, and bad input."""

from __future__ import annotations

from pathlib import Path

from twisted.trial import unittest

from ipython1.testing import RealCluster

PROGRAMS = Path(__file__).parent / "programs"


class SessionTests(unittest.SynchronousTestCase):
    """Each program has its own cluster, because the programs kill engines and controllers."""

    def run_on_cluster(self, program: str, last_line: str) -> None:
        with RealCluster(4) as cluster:
            result = cluster.run_program(PROGRAMS / program)
        self.assertEqual(result.stdout.splitlines()[-1], last_line)

    def test_multiengine_tutorial(self) -> None:
        """The tutorial of the MultiEngine interface works as shown."""
        self.run_on_cluster("multiengine_session.py", "every value is as documented")

    def test_multiengine_faults(self) -> None:
        """Bad input, dead engines and a dead controller cause one clear error each."""
        self.run_on_cluster("multiengine_faults.py", "every error was clear and soon")
