"""The page for people who come from other tools says what is so."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial import unittest

from ipython1.testing import RealCluster

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "source" / "coming_from.txt"


class ComingFromTests(unittest.SynchronousTestCase):
    def test_each_row_gives_what_it_says(self) -> None:
        with RealCluster(4) as cluster:
            result = cluster.run_program(TESTS / "programs" / "coming_from.py", str(PAGE))
        last = result.stdout.splitlines()[-1]
        match = re.fullmatch(r"(\d+) rows, 0 of them wrong", last)
        self.assertIsNotNone(match, result.stdout)
        self.assertGreaterEqual(int(match[1]), 70)
