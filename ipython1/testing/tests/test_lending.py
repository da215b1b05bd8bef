"""Clusters of processes that are lent to one test after the other."""

from __future__ import annotations

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase


class LendingTest(SynchronousTestCase):
    def test_in_a_process_of_its_own(self) -> None:
        """The cases of ``lending_cases``."""
        result = subprocess.run(
            [sys.executable, "-m", "unittest", "-v", "ipython1.testing.tests.lending_cases"],
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertIn("OK", result.stderr)
