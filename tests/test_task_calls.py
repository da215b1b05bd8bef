"""Programs on a real cluster of four engines: calls of the task client, and dask."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path

from twisted.trial import unittest

from ipython1.testing import RealCluster

PROGRAMS = Path(__file__).parent / "programs"


class TaskCallsTests(unittest.SynchronousTestCase):
    def test_submit_map_and_imap(self) -> None:
        """Futures, maps item by item and lazy maps, with Ctrl-C, dying engines, and loops that are left."""
        directory = Path(self.mktemp())
        directory.mkdir()
        with RealCluster(4) as cluster:
            result = cluster.run_program(PROGRAMS / "task_calls.py", str(directory.absolute()))
        self.assertEqual(result.stdout.splitlines()[-1], "every call gave what it should")

    def test_dask(self) -> None:
        """Graphs of all kinds through executors and on workers, which nobody else reaches, and which leave nothing."""
        if importlib.util.find_spec("distributed") is None:
            raise unittest.SkipTest("distributed is not installed")
        before = set(Path(tempfile.gettempdir()).glob("*dask*"))
        with RealCluster(4) as cluster:
            result = cluster.run_program(PROGRAMS / "task_dask.py")
        self.assertEqual(
            result.stdout.splitlines()[-1], "dask gives on engines what it gives elsewhere"
        )
        self.assertEqual(set(Path(tempfile.gettempdir()).glob("*dask*")) - before, set())
