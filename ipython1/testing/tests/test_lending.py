"""Clusters of processes that are lent to one test after the other."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ipython1.testing.tests.apart import run_apart


class LendingTest(SynchronousTestCase):
    def test_in_a_process_of_its_own(self) -> None:
        """The cases of ``lending_cases``."""
        run_apart(self, "lending_cases")
