"""The short form of ``scripts/soak``: half a minute in which everything is killed."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.faults.common import SEED, FaultCase, limit, say

MINUTES = os.environ.get("IPYTHON1_TEST_SOAK_MINUTES", "0.35")


class SoakTests(FaultCase):
    @limit(float(MINUTES) * 60 + 400)
    def test_nothing_is_lost_or_done_twice(self) -> None:
        """Set ``IPYTHON1_TEST_SOAK_MINUTES`` for a longer one."""
        done = subprocess.run(
            [
                *(sys.executable, "-P", "-m", "tests.soak"),
                *("--minutes", MINUTES, "--seed", str(SEED)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        say(done.stdout[-6000:])
        self.assertEqual(done.returncode, 0, done.stdout[-6000:])
        self.assertIn(", lost 0, duplicated 0, wrong 0", done.stdout)
