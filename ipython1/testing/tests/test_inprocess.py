"""Clusters in the test's own process, with ordinary blocking clients."""

from __future__ import annotations

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from ipython1.testing.threadoutput import ThreadOutput


class InProcessTest(SynchronousTestCase):
    def test_in_a_process_of_its_own(self) -> None:
        """The cases of ``inprocess_cases``."""
        result = subprocess.run(
            [sys.executable, "-m", "unittest", "-v", "ipython1.testing.tests.inprocess_cases"],
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertIn("OK", result.stderr)


class OutputTest(SynchronousTestCase):
    def test_looking_does_not_take(self) -> None:
        output, before = ThreadOutput(), sys.stdout
        with output.capture():
            print("one")
            self.assertEqual(output.peek(), ("one\n", ""))
            print("two", file=sys.stderr)
            self.assertEqual(output.peek(), ("", "two\n"))
        self.assertEqual(output.take(), ("one\n", "two\n"))
        self.assertEqual(output.take(), ("", ""))
        self.assertIs(sys.stdout, before)
