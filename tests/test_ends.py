"""``ipcluster`` without standard streams or a working directory, and engines that user code has troubled."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from tests.test_ipcluster import LIMIT, IpclusterCase, until

PROGRAM = Path(__file__).parent / "programs" / "ends_session.py"

LEAVES_ORPHANS = """
from ipython1.kernel.client import MultiEngineClient
mec = MultiEngineClient()
mec.wait_for_engines(1, timeout=30)
mec.execute('''
import os, psutil, subprocess, time
subprocess.run("true & true &", shell=True)
limit = time.monotonic() + 10
while (orphans := [each for each in psutil.Process(1).children() if each.pid != os.getpid()]):
    if time.monotonic() > limit:
        break
    time.sleep(0.01)
parent, left = os.getppid(), len(orphans)
''')
print(mec.pull("parent")[0], mec.pull("left")[0])
"""


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

    def test_an_engine_that_is_process_1(self) -> None:
        """As in a container: it leaves at SIGTERM, and processes that lose their parents do not stay as zombies."""
        enter = ["unshare", "--pid", "--fork", "--mount-proc"]
        if subprocess.run([*enter, "true"], capture_output=True, check=False).returncode:
            self.skipTest("this user or system cannot make a namespace of processes")
        self.start_controller()
        process = self.start_program(
            [*enter, self.python, "-P", "-m", "ipython1.kernel.scripts.ipengine"]
        )
        printed = self.run_to_end([self.python, "-c", LEAVES_ORPHANS]).stdout
        self.assertEqual(printed, "1 0\n")
        (first,) = psutil.Process(process.pid).children()
        first.terminate()
        self.assertEqual(process.wait(LIMIT), 0, "it leaves in good order")

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
