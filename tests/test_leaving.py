"""Engines leave, and are ended on purpose, without their tasks being to blame: tasks without retries end well."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.test_ipcluster import LIMIT, IpclusterCase

PROGRAM = str(Path(__file__).parent / "programs" / "leaving.py")


class LeavingTests(IpclusterCase):
    def start_by_hand(self, name: str) -> subprocess.Popen[str]:
        return self.start_program([sys.executable, "-P", "-m", f"ipython1.kernel.scripts.{name}"])

    def test_engines_that_are_restarted_and_removed(self) -> None:
        done = self.run_to_end([self.python, PROGRAM, "stirred"])
        self.assertEqual(done.stdout, "results True\n")
        self.nothing_is_left()

    def test_engines_that_get_sigterm(self) -> None:
        controller = self.start_by_hand("ipcontroller")
        self.assertIn("listening", controller.stdout.readline())  # type: ignore[union-attr]
        engines = [self.start_by_hand("ipengine") for _ in range(2)]
        program = self.start_program([self.python, PROGRAM, "leaving", str(self.directory)])
        self.assertEqual([engine.wait(LIMIT) for engine in engines], [0, 0])
        last = self.start_by_hand("ipengine")
        out, _ = program.communicate(timeout=LIMIT)
        self.assertEqual(out, "others True\nfinishes 1\nleft True\ncut 2\n")
        for process in (last, controller):
            process.terminate()
            self.assertEqual(process.wait(LIMIT), 0)
        self.nothing_is_left()
