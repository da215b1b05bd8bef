"""Runs test cases in a process of their own: there the reactor's thread and signals are theirs alone."""

from __future__ import annotations

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase


def run_apart(test: SynchronousTestCase, module: str) -> None:
    """Run the test cases of a module of this folder with ``unittest``, and fail with their output if one does."""
    result = subprocess.run(
        [sys.executable, "-m", "unittest", "-v", f"ipython1.testing.tests.{module}"],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    test.assertEqual(result.returncode, 0, result.stdout + result.stderr)
    test.assertIn("OK", result.stderr)
