"""A member of a batch job: its engines, and the announcement of its end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from twisted.trial import unittest

from ipython1.daemon.jobmember import LEAVE, ended_engines, parse
from ipython1.daemon.pythoncommand import python_command

LIMIT = 30.0

CODE = """
import os, signal, sys
os.write(1, ('up ' + sys.argv[1] + '\\n').encode())
{body}
"""
UNTIL_TERM = """
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
os.write(1, b'ready\\n')
while True:
    signal.pause()
"""


class MemberTests(unittest.SynchronousTestCase):
    def member(self, body: str, *options: str) -> subprocess.Popen[str]:
        engine = [sys.executable, "-c", CODE.format(body=body)]
        argv = python_command(
            "ipython1.daemon.jobmember", ["ipengine-job", *options, "--", *engine]
        )
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.addCleanup(self.end, process)
        return process

    def end(self, process: subprocess.Popen[str]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its engines, too
        process.wait()
        assert process.stdout is not None
        process.stdout.close()

    def lines(self, process: subprocess.Popen[str], count: int) -> list[str]:
        assert process.stdout is not None
        return sorted(process.stdout.readline().rstrip() for _ in range(count))

    def rest(self, process: subprocess.Popen[str]) -> list[str]:
        assert process.stdout is not None
        return process.stdout.read().splitlines()

    def test_which_engines_it_starts(self) -> None:
        def ids(*options: str) -> Sequence[int]:
            found: Sequence[int] = parse([*options, "--", "ipengine"]).ids
            return found

        self.assertEqual(ids("--ids=0-2,7", "--member=3"), [7])
        self.assertEqual(ids("--ids=0-2,7", "--first=1", "--member=1"), [0])
        self.assertEqual(ids("--groups=0-1/4,6-7", "--member=1"), [4, 6, 7])

    def test_engines_get_their_ids_and_their_statuses_count(self) -> None:
        body = "sys.exit(3 if sys.argv[1].endswith('1') else 0)"
        process = self.member(body, "--groups=0-1", "--member=0")
        self.assertEqual(process.wait(LIMIT), 3)
        self.assertEqual(
            sorted(self.rest(process)),
            [
                "ipengine-job: engine 0 exited with status 0",
                "ipengine-job: engine 1 exited with status 3",
                "up --engine-id=0",
                "up --engine-id=1",
            ],
        )

    def test_which_engines_have_ended(self) -> None:
        lines = ["up", "ipengine-job: engine 3 was killed by signal 9", "ipengine-job: engine x y"]
        self.assertEqual(ended_engines(lines), {3: "was killed by signal 9"})

    def test_the_announcement_ends_all_engines_in_good_order(self) -> None:
        process = self.member(UNTIL_TERM, "--groups=0-1", "--member=0", "--notice=SIGURG")
        self.assertEqual(self.lines(process, 4)[:2], ["ready", "ready"])
        process.send_signal(signal.SIGURG)
        self.assertEqual(process.wait(LIMIT), 0)
        self.assertEqual(self.rest(process), [LEAVE])

    def test_what_reaches_the_engines_anyway_does_not_end_it(self) -> None:
        """A batch system sends SIGTERM to all processes of a job: the engines may finish their work."""
        process = self.member(UNTIL_TERM, "--ids=0", "--member=0")
        self.lines(process, 2)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            process.send_signal(number)
        self.assertRaises(subprocess.TimeoutExpired, process.wait, 0.2)

    def test_an_announcement_to_all_processes_of_the_job_does_not_kill_the_engines(self) -> None:
        body = "print(signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN, flush=True); os.kill(os.getpid(), 10)"
        process = self.member(body, "--ids=0", "--member=0", "--notice=SIGUSR1")
        self.assertEqual(process.wait(LIMIT), 0)
        self.assertIn("True", self.rest(process))
