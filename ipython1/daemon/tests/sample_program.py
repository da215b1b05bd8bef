"""Small programs for the nanny's tests, run in the same way as engines and controllers."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence

from ipython1.daemon.ready import NannyPipe, take_pipe


def main(argv: Sequence[str]) -> int:
    """Run the program named by the first argument."""
    what, *rest = argv
    pipe = take_pipe()
    if what == "say":
        print(*rest)
        pipe.ready(" ".join(rest))
        return 0
    if what == "fail":
        print("first line of output")
        print("a problem: " + " ".join(rest), file=sys.stderr)
        return 3
    if what == "random":
        pipe.ready(str(random.random()))
        return 0
    if what == "main-module":
        pipe.ready(repr(sorted(name for name in vars(sys.modules["__main__"]) if name[0] != "_")))
        return 0
    if what == "parents":
        _make_grandchildren(pipe)
    if what == "beats":
        _beat(pipe, float(rest[0]))
    if what == "stubborn":
        import signal

        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pipe.ready(str(os.getpid()))
    time.sleep(120)
    return 0


def _beat(pipe: NannyPipe, interval: float) -> None:
    """Give signs of life until standard input has something to say, which it never has."""
    pipe.ready(str(os.getpid()))
    while True:
        pipe.beat()
        time.sleep(interval)


def _make_grandchildren(pipe: NannyPipe) -> None:
    """Start one in this session, one in its own session, and one orphaned in its own session."""
    pids = [subprocess.Popen(["sleep", "120"]).pid]
    pids.append(subprocess.Popen(["sleep", "120"], start_new_session=True).pid)
    shell = subprocess.run(
        ["setsid", "sh", "-c", "sleep 120 >/dev/null 2>&1 & echo $!"],
        capture_output=True,
        check=True,
    )
    pids.append(int(shell.stdout))
    pipe.ready(" ".join(map(str, [os.getpid(), *pids])))
