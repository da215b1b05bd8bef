"""Shell commands that a session runs with ``!``."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from ipython1.core.interrupt import interrupts_deferred

if TYPE_CHECKING:  # slow to import, and many sessions never start a program
    import subprocess

_CHILD_GRACE: Final = 2.0
"""Seconds that a program may take to end after an interrupt."""

_STOP_TIME: Final = 0.2
"""Seconds that the system may take to stop a program; it takes longer only if the program waits for a device."""


def run_program(command: str) -> int:
    """Run a command line in the user's shell.

    An interrupt is passed on to the whole process tree, which is killed if it does not end by itself.

    :returns: the exit status; if a signal ended it, the negative number of the signal.
    """
    import subprocess

    sys.stdout.flush()
    sys.stderr.flush()
    shell = os.environ.get("SHELL") if os.name == "posix" else None
    process: subprocess.Popen[bytes] | None = None
    try:
        with (
            interrupts_deferred()
        ):  # an interrupt in the middle of starting the program would not reach it
            process = subprocess.Popen(
                command, shell=True, executable=shell or None, stdin=subprocess.DEVNULL
            )
        if hasattr(os, "waitid"):  # wait() would delay an interrupt by a quarter of a second
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        return process.wait()
    except BaseException:
        if process is not None:
            with interrupts_deferred():
                _end_tree(process)
        raise


def _end_tree(process: subprocess.Popen[bytes]) -> None:
    import signal

    import psutil

    tree: list[Any] = []
    with suppress(psutil.Error):
        tree = [psutil.Process(process.pid)]
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
        tree = _frozen(tree)
        for each in tree:
            with suppress(psutil.Error):
                each.send_signal(number)
        for each in tree:
            with suppress(psutil.Error):
                each.resume()
        _, tree = psutil.wait_procs(tree, timeout=_CHILD_GRACE / 2)
        if not tree:
            break
    process.wait()


def _frozen(roots: list[Any]) -> list[Any]:
    """Stop processes and all their descendants one by one, so that none can start another; return them all."""
    import psutil

    tree: list[Any] = []
    waiting = list(roots)
    while waiting:
        each = waiting.pop(0)
        if each in tree:
            continue
        tree.append(each)
        with suppress(psutil.Error):
            _stop(each)
            waiting.extend(each.children())
    return tree


def _stop(process: Any) -> None:
    """Stop a process and wait until it has stopped, as until then it may be starting another one."""
    import psutil

    still = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP, psutil.STATUS_ZOMBIE)
    process.suspend()
    deadline = time.monotonic() + _STOP_TIME
    while process.status() not in still and time.monotonic() < deadline:
        time.sleep(0.0005)
