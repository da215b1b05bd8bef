"""Gateways to another controller, with real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from twisted.trial import unittest

from ipython1.testing.folders import temporary_path
from ipython1.testing.processes import start_program

PROGRAM = Path(__file__).parent / "programs" / "gateway_session.py"


class GatewayTests(unittest.SynchronousTestCase):
    def run_part(self, part: str) -> str:
        directory = Path(temporary_path(self))
        directory.mkdir()
        program = start_program([sys.executable, str(PROGRAM), part, str(directory)], os.environ)
        self.addCleanup(self.end, program)
        said, _ = program.communicate(timeout=300)
        self.assertEqual(program.returncode, 0, said)
        return said

    def end(self, program: subprocess.Popen[str]) -> None:
        """Leave nothing behind, whatever it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()

    def test_all_works_through_gateways_and_nothing_is_lost_or_runs_twice_after_a_kill(
        self,
    ) -> None:
        self.run_part("session")

    def test_it_can_be_measured(self) -> None:
        said = self.run_part("measured")
        self.assertIn("1 gateways, 10 engines: registered in", said)
