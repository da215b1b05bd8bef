"""A real cluster for tests reports what went wrong, and leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ipython1.testing import RealCluster
from ipython1.testing.folders import temporary_path


class RealClusterTest(SynchronousTestCase):
    def program(self, source: str) -> Path:
        path = Path(temporary_path(self)).with_suffix(".py").absolute()
        path.write_text(source)
        return path

    def test_a_cluster_that_does_not_come_up(self):
        cluster = RealCluster(options=["--no-such-option"])
        error = self.assertRaises(RuntimeError, cluster.start)
        self.assertIn("--no-such-option", str(error))
        self.assertFalse(cluster.ipython_dir.exists())
        self.assertIsNotNone(cluster.process.poll())
        cluster.stop()

    def test_programs_find_the_cluster_and_what_they_print_is_kept(self):
        cluster = RealCluster(environ={"MINE": "kept"})
        self.addCleanup(cluster.stop)
        result = cluster.run_program(
            self.program(
                "import os, sys; print(os.environ['IPYTHONDIR'], os.environ['MINE'], sys.argv[1:])"
            ),
            "one",
            "two",
        )
        self.assertEqual(result.stdout, f"{cluster.ipython_dir} kept ['one', 'two']\n")
        self.assertNotEqual(os.environ.get("IPYTHONDIR"), str(cluster.ipython_dir))

    def test_a_program_that_fails_shows_all_that_it_printed(self):
        cluster = RealCluster()
        self.addCleanup(cluster.stop)
        path = self.program(
            "import sys; print('to out'); print('to err', file=sys.stderr); sys.exit(3)"
        )
        error = str(self.assertRaises(AssertionError, cluster.run_program, path))
        for text in (f"{path.name} exited with 3", "to out", "to err"):
            self.assertIn(text, error)

    def test_a_program_that_does_not_end_is_ended(self):
        cluster = RealCluster()
        self.addCleanup(cluster.stop)
        path = self.program("import time; print('begun', flush=True); time.sleep(100)")
        error = str(self.assertRaises(AssertionError, cluster.run_program, path, timeout=0.5))
        self.assertIn("did not exit within 0.5 s", error)
        self.assertIn("begun", error)
