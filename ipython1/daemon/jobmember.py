"""One member of a batch job: it starts its engines, and tells them when the batch system is about to end it.

A batch system announces the end of a job by a signal that may mean anything to a program; here, it becomes ``SIGTERM``
for the engines, which then leave in good order.  The line :data:`LEAVE` in the job's output tells the launcher later
why they have ended.  Other signals that a batch system or a user sends to all processes of a job are for the engines.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Sequence
from types import FrameType

from ipython1.core.texts import expand_ids

LEAVE = "ipengine: the batch system is about to end this job; its engines leave"
"""What is written into the job's output when the batch system has announced the end of the job."""

ENDED = "ipengine-job: engine"
"""The beginning of the line that tells of the end of one of several engines; its id and how it has ended follow."""

FOR_ENGINES = ("SIGTERM", "SIGHUP", "SIGINT", "SIGUSR1", "SIGUSR2", "SIGALRM")
"""Signals that do not end this process, because the engines get them, too."""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("ipengine-job")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--ids", help="the ids of all members' engines, one for each (0-3,7)")
    which.add_argument("--groups", help="the ids of each member's engines (0-3/4,6,7)")
    parser.add_argument("--first", type=int, default=0, help="the index of the first member")
    parser.add_argument("--member", type=int, required=True, help="the index of this member")
    parser.add_argument("--notice", action="append", default=[], help="a signal before the end")
    parser.add_argument("engine", nargs=argparse.REMAINDER, help="the command for an engine")
    given = parser.parse_args(argv)
    if given.groups is None:
        groups = [[each] for each in expand_ids(given.ids)]
    else:
        groups = [expand_ids(group) for group in given.groups.split("/")]
    given.ids = groups[given.member - given.first]
    given.engine = [word for at, word in enumerate(given.engine) if at or word != "--"]
    return given


def main(argv: Sequence[str]) -> int:
    """Run the engines of one member.

    :returns: 0, or the status of an engine that did not end well; 128 and its number after a signal.
    """
    given = parse(argv)
    return run([[*given.engine, f"--engine-id={each}"] for each in given.ids], given.notice)


def run(commands: Sequence[Sequence[str]], notices: Sequence[str]) -> int:
    """Run commands until all have ended; see :func:`main`.

    :param notices: names of signals (``SIGURG``) that announce the end of the job.
    """
    children: list[subprocess.Popen[bytes]] = []
    received: set[int] = set()

    def leave(number: int, frame: FrameType | None) -> None:
        if number in received:  # a second SIGTERM would end them at once
            return
        received.add(number)
        os.write(1, f"{LEAVE}\n".encode())
        for child in children:
            child.terminate()

    # They reach the engines of some batch systems, too, where they would end them.
    for name in notices:
        signal.signal(signal.Signals[name], signal.SIG_IGN)
    for name in FOR_ENGINES:
        if name not in notices:
            signal.signal(signal.Signals[name], lambda number, frame: received.add(number))
    children += map(subprocess.Popen, commands)
    for name in notices:
        signal.signal(signal.Signals[name], leave)
    ends = {signal.SIGTERM, *(signal.Signals[name] for name in notices)}
    return _wait(children, lambda: bool(ends & received))


def _wait(children: Sequence[subprocess.Popen[bytes]], ending: Callable[[], bool]) -> int:
    """Wait until all engines have ended; return the first status that is not 0.

    :param ending: tells whether all of them are to end; before that, the end of one of several is told.
    """
    left = {child.pid: child for child in children}
    worst = 0
    while left:
        pid, status = os.wait()
        child = left.pop(pid, None)
        if child is None:  # an orphan of somebody else, if this is process 1
            continue
        code = child.returncode = os.waitstatus_to_exitcode(status)
        worst = worst or (code if code >= 0 else 128 - code)
        if len(children) > 1 and not ending():
            assert isinstance(child.args, list)
            os.write(1, f"{ENDED} {child.args[-1].partition('=')[2]} {describe(code)}\n".encode())
    return worst


def describe(code: int) -> str:
    """Return how a process has ended, by what :mod:`subprocess` says."""
    return f"was killed by signal {-code}" if code < 0 else f"exited with status {code}"


def ended_engines(lines: Iterable[str]) -> dict[int, str]:
    """Return which of a member's several engines have ended, and how, from the lines of its output."""
    found = {}
    for line in lines:
        if line.startswith(f"{ENDED} "):
            engine_id, _, how = line.removeprefix(f"{ENDED} ").partition(" ")
            if engine_id.isdecimal():
                found[int(engine_id)] = how.rstrip()
    return found
