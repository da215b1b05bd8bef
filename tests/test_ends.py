"""``ipcluster`` without standard streams or a working directory, and engines that user code has troubled."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.test_ipcluster import LIMIT, IpclusterCase, until

PROGRAM = Path(__file__).parent / "programs" / "ends_session.py"


class EndsTests(IpclusterCase):
    def test_closed_standard_streams_and_troubled_engines(self) -> None:
        process = self.start_program(
            ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *self.command("-n", "1")]
        )
        status = self.directory / "security" / "ipcluster.json"
        until(lambda: process.poll() is not None or (status.exists() and self.status().engines))
        self.assertIsNone(process.poll())
        self.assertEqual(
            self.run_to_end([sys.executable, str(PROGRAM)]).stdout.splitlines()[-1:], ["done"]
        )
        process.terminate()
        self.assertEqual(process.wait(LIMIT), 0)
        self.nothing_is_left()

    def test_a_removed_working_directory(self) -> None:
        folder = tempfile.mkdtemp(prefix="ipython1-test-")
        error = self.run_to_end(
            [
                "/bin/sh",
                "-c",
                'cd "$0" && rmdir "$0" && exec "$@"',
                folder,
                *self.command("-n", "1"),
            ],
            status=1,
        ).stderr
        self.assertIn("the working directory of the engine has been removed", error)
        self.nothing_is_left()
