"""Programs that a session starts with ``!``."""

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
"""How long a program may take to end after an interrupt, in seconds."""

_STOP_TIME: Final = 0.2
"""How long the system may take to stop a program, in seconds; longer only where the program waits for a device."""


def run_program(command: str) -> int:
    """Run a command line in the user's shell; returns its exit status, negative for the signal that ended it.

    An interrupt is passed on to the whole tree of programs, which is killed if it does not end by itself.
    """
    import subprocess

    sys.stdout.flush()
    sys.stderr.flush()
    shell = os.environ.get("SHELL") if os.name == "posix" else None
    process: subprocess.Popen[bytes] | None = None
    try:
        with (
            interrupts_deferred()
        ):  # one that arrived in the middle of it would leave the program alone
            process = subprocess.Popen(
                command, shell=True, executable=shell or None, stdin=subprocess.DEVNULL
            )
        if hasattr(os, "waitid"):  # wait() would sit on an interrupt for a quarter of a second
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
    """Processes with all their descendants, stopped one after the other so that none can start another meanwhile."""
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
    """Return when the process stands still: until then it may be in the middle of starting another one."""
    import psutil

    still = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP, psutil.STATUS_ZOMBIE)
    process.suspend()
    deadline = time.monotonic() + _STOP_TIME
    while process.status() not in still and time.monotonic() < deadline:
        time.sleep(0.0005)
