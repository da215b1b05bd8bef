"""Standard streams that are closed when a program starts."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile

from twisted.trial.unittest import SynchronousTestCase

from ipython1.daemon.pythoncommand import package_root

PROGRAM = """
import os, sys
sys.path.append({root!r})
from ipython1.daemon.streams import open_standard_streams
report = os.open({report!r}, os.O_WRONLY | os.O_CREAT)
high = os.dup2(report, 50)
os.close(report)
open_standard_streams()
next_one = os.open(os.devnull, os.O_RDONLY)
print("text")
print("text", file=sys.stderr, flush=True)
read = sys.stdin.read()
os.write(high, repr((next_one > 2, read, sys.stdout is sys.__stdout__)).encode())
"""


class ClosedStreamsTests(SynchronousTestCase):
    def test_every_combination(self) -> None:
        with tempfile.TemporaryDirectory(prefix="ipython1-test-") as folder:
            for closed in itertools.product((False, True), repeat=3):
                report = os.path.join(folder, f"report-{closed}")
                redirections = " ".join(f"{number}>&-" for number, one in enumerate(closed) if one)
                program = PROGRAM.format(root=package_root(), report=report)
                done = subprocess.run(
                    [
                        "/bin/sh",
                        "-c",
                        f'exec "$@" {redirections}',
                        "sh",
                        sys.executable,
                        "-c",
                        program,
                    ],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=60,
                    check=False,
                )
                self.assertEqual(done.returncode, 0, (closed, done.stderr))
                with open(report) as file:
                    self.assertEqual(file.read(), "(True, '', True)", closed)
                for is_closed, written in zip(closed[1:], (done.stdout, done.stderr), strict=True):
                    self.assertEqual(written, b"" if is_closed else b"text\n")
