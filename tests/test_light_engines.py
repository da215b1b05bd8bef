"""Many engines on one controller: real processes, and engines that run nothing."""

from __future__ import annotations

import sys
from pathlib import Path

from twisted.trial import unittest

from ipython1.testing.processes import private_environ

PROGRAM = Path(__file__).parent / "programs" / "many_engines.py"


class ManyEnginesTests(unittest.SynchronousTestCase):
    def run_part(self, part: str) -> None:
        import subprocess

        directory = Path(self.mktemp())
        directory.mkdir()
        done = subprocess.run(
            [sys.executable, str(PROGRAM), part],
            env=private_environ(directory),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_they_register_and_are_called(self) -> None:
        self.run_part("figures")

    def test_where_few_files_may_be_opened_clients_still_get_in(self) -> None:
        self.run_part("few_files")
