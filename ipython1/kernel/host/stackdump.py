"""The stacks of a process whose interpreter does not respond, written by a signal handler without running Python.

An engine calls :func:`offer_stack_dump`, so that it writes its stacks to an in-memory file on SIGUSR1.  Another
process of the same user on the same Linux host calls :func:`stack_dump`, which reads that file through ``/proc``.
On other platforms neither does anything.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from ipython1.system import STACKS

_FILE: Final = "ipython1-stacks"
_LOOKS: Final = 15
_BETWEEN_LOOKS: Final = 0.02
_MAX_BYTES: Final = 64 << 10


def offer_stack_dump() -> None:
    """Make this process write its stacks on SIGUSR1."""
    from ipython1.core.lowlevel import open_memory_file
    from ipython1.core.stacks import enable_c_dump

    with suppress(OSError):
        file = open_memory_file(_FILE)
        enable_c_dump(f"/proc/self/fd/{file}")


def _dump_file(pid: int) -> str | None:
    """Return the path of the file to which process ``pid`` writes its stacks; None if there is none."""
    folder = f"/proc/{pid}/fd"
    try:
        for name in os.listdir(folder):
            with suppress(OSError):
                if _FILE in os.readlink(f"{folder}/{name}"):
                    return f"{folder}/{name}"
    except OSError:
        pass
    return None


def _catches_the_signal(pid: int) -> bool:
    """Return whether the process handles SIGUSR1, which would end it otherwise."""
    if STACKS is None:
        return False
    try:
        with open(f"/proc/{pid}/status") as file:
            for line in file:
                if line.startswith("SigCgt:"):
                    return bool(int(line.split()[1], 16) >> (STACKS - 1) & 1)
    except (OSError, ValueError, AttributeError):
        pass
    return False


async def stack_dump(pid: int, clock: IReactorTime) -> str:
    """Return all stacks of process ``pid`` on this host, as ``faulthandler`` writes them; empty if unavailable."""
    path = _dump_file(pid)
    if path is None or STACKS is None or not _catches_the_signal(pid):
        return ""
    try:
        before = os.stat(path).st_size
        os.kill(pid, STACKS)
        size = before
        for _ in range(_LOOKS):
            await deferLater(clock, _BETWEEN_LOOKS)
            last, size = size, os.stat(path).st_size
            if size > before and size == last:
                break
        with open(path, "rb") as file:
            file.seek(before)
            return file.read(_MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
