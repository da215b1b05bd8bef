"""Looking at a real cluster with the monitor's client."""

from __future__ import annotations

from pathlib import Path

from twisted.trial import unittest

from ipython1.testing import RealCluster

PROGRAM = Path(__file__).parent / "programs" / "monitor_news.py"


class MonitorNewsTests(unittest.SynchronousTestCase):
    def test_what_happens_is_seen(self) -> None:
        with RealCluster(4) as cluster:
            result = cluster.run_program(PROGRAM)
        self.assertEqual(result.stdout.splitlines()[-1], "it sees what happens")
