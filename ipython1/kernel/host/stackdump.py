"""The stacks of a process whose interpreter does not answer, told by a signal handler that runs no Python.

An engine offers it with :func:`offer_stack_dump`: on SIGUSR1 its stacks are written into a file in memory.  Another
process of the same user on the same Linux host asks for it with :func:`stack_dump` and reads that file by way of
``/proc``.  Elsewhere neither does anything.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

_FILE: Final = "ipython1-stacks"
_LOOKS: Final = 15
_BETWEEN_LOOKS: Final = 0.02
_MAX_BYTES: Final = 64 << 10


def offer_stack_dump() -> None:
    """Have this process write its stacks on SIGUSR1."""
    from ipython1.core.lowlevel import open_memory_file
    from ipython1.core.stacks import enable_c_dump

    with suppress(OSError):
        file = open_memory_file(_FILE)
        enable_c_dump(f"/proc/self/fd/{file}")


def _dump_file(pid: int) -> str | None:
    """The path of the file that process ``pid`` writes its stacks to; None when it offers none."""
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
    """Whether SIGUSR1 would not simply end the process."""
    try:
        with open(f"/proc/{pid}/status") as file:
            for line in file:
                if line.startswith("SigCgt:"):
                    return bool(int(line.split()[1], 16) >> (signal.SIGUSR1 - 1) & 1)
    except (OSError, ValueError, AttributeError):
        pass
    return False


async def stack_dump(pid: int, clock: IReactorTime) -> str:
    """All stacks of process ``pid`` of this host, as ``faulthandler`` writes them; empty when it offers none."""
    path = _dump_file(pid)
    if path is None or not _catches_the_signal(pid):
        return ""
    try:
        before = os.stat(path).st_size
        os.kill(pid, signal.SIGUSR1)
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
