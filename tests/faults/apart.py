"""Run one fault test in a process of its own, and see that nothing of it is left.

A blocking client runs the reactor in a thread, but trial runs that same reactor; a fault test also kills, stops and
orphans processes.  So each test runs in a child process (see :class:`tests.faults.common.FaultCase`)::

    python -m tests.faults.apart 60 /tmp/folder tests.faults.test_tasks.TaskFaults.test_10_exit

This process adopts whatever the test starts.  It ends all of it after the time limit, on ``SIGTERM``, and when its
standard input ends, which happens when the process that runs the tests is killed.  A test that passes and leaves a
process behind has failed.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import select
import signal
import sys
import time
import unittest
from dataclasses import asdict, dataclass
from pathlib import Path

from ipython1.daemon import osprocess

OUTCOME_FILE = "outcome.json"
GRACE = 15.0
"""Seconds that what a test has started may take to end after it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a test ended.

    :ivar kind: ``passed``, ``failed`` or ``skipped``.
    :ivar text: why.
    """

    kind: str
    text: str = ""

    def write(self, folder: Path) -> None:
        (folder / OUTCOME_FILE).write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> Outcome:
        """What :meth:`write` wrote; without a file, a failure."""
        try:
            return cls(**json.loads((folder / OUTCOME_FILE).read_text()))
        except FileNotFoundError:
            return cls("failed", "the process of the test ended without an outcome")


def run_test(name: str) -> Outcome:
    """Run a test in this process.

    :param name: ``package.module.Class.method``.
    """
    place, _, method = name.rpartition(".")
    module, _, cls = place.rpartition(".")
    case: unittest.TestCase = getattr(importlib.import_module(module), cls)(method)
    result = unittest.TestResult()
    case.run(result)
    if broken := [*result.errors, *result.failures]:
        return Outcome("failed", "\n".join(text for _, text in broken))
    if result.skipped:
        return Outcome("skipped", result.skipped[0][1])
    return Outcome("passed")


def _in_child(name: str, folder: Path, supervisor: int) -> None:
    osprocess.end_with_parent(supervisor)
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    try:
        run_test(name).write(folder)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # A client's thread that hangs must not keep the process.
        os._exit(0)


def _wait(child: int, limit: float) -> bool:
    """Wait for the end of the test; False when something else came first."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    end = time.monotonic() + limit
    while (left := end - time.monotonic()) > 0:
        if not _reap(child):
            return True
        ready, _, _ = select.select([reader, 0], [], [], left)
        if 0 in ready and not os.read(0, 4096):
            return False
        if reader in ready and set(os.read(reader, 4096)) - {signal.SIGCHLD}:
            return False
    return False


def _reap(child: int) -> bool:
    """Collect what has ended; returns whether the child lives."""
    living = True
    with contextlib.suppress(ChildProcessError):
        while ended := os.waitpid(-1, os.WNOHANG)[0]:
            living &= ended != child
    return living and osprocess.is_alive(child)


def _command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return "?"


def _left_behind() -> list[str]:
    """What still lives some seconds after the test, which is then ended."""
    end = time.monotonic() + GRACE
    left = osprocess.descendants(os.getpid())
    while left and time.monotonic() < end:
        time.sleep(0.02)
        _reap(0)
        left = osprocess.descendants(os.getpid())
    return [f"{pid} {_command_of(pid)}" for pid in left]


def main() -> int:
    """Run the test that the command line names, and write its outcome into the folder."""
    limit, folder, name = float(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    osprocess.adopt_orphans()
    mine = os.getpid()
    child = os.fork()
    if not child:
        _in_child(name, folder, mine)
    if _wait(child, limit):
        if Outcome.read(folder).kind != "failed" and (left := _left_behind()):
            Outcome("failed", "the test left processes behind:\n" + "\n".join(left)).write(folder)
    else:
        # Where it hangs is printed, and so is in the report.
        osprocess.send_signal(child, signal.SIGUSR1)
        time.sleep(0.2)
        Outcome("failed", f"the test did not end within {limit:g} s, or was interrupted").write(
            folder
        )
    osprocess.kill_descendants()
    _reap(0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
