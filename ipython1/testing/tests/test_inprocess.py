"""Clusters in the test's own process, with ordinary blocking clients."""

from __future__ import annotations

import sys

from twisted.trial.unittest import SynchronousTestCase

from ipython1.testing.tests.apart import run_apart
from ipython1.testing.threadoutput import ThreadOutput


class InProcessTest(SynchronousTestCase):
    def test_in_a_process_of_its_own(self) -> None:
        """The cases of ``inprocess_cases``."""
        run_apart(self, "inprocess_cases")


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
