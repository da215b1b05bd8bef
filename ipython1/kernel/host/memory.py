"""Giving memory that is not used any more back to the operating system.

The C library keeps what a program frees for its next use.  A process that lives for weeks and once held much for a slow
party would keep its size for ever.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime

from ipython1.system import PAGE_SIZE

INTERVAL: Final = 10.0
"""Seconds between looks."""

WORTH_IT: Final = 16 * 2**20
"""Bytes above the smallest size so far with which the C library is asked."""

_CONTAINER_FILES: Final = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
"""The limit of a container's memory and what it uses, in the two versions of control groups."""


def resident_size() -> int:
    """Return the bytes of memory that this process has; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * PAGE_SIZE


def available_memory() -> int:
    """Return the bytes of memory that can be had on this host, or within the limit of this container; 0 if it is not
    told."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        table = dict(line.split(":", 1) for line in lines)
        available = int(table["MemAvailable"].split()[0]) * 1024
    except (OSError, LookupError, ValueError):
        return 0
    for limit, used in _CONTAINER_FILES:
        try:
            left = int(Path(limit).read_text()) - int(Path(used).read_text())
        except (OSError, ValueError):
            continue  # there is no such file, or it says "max"
        available = min(available, max(0, left))
    return available


def give_back() -> None:
    """Ask the C library to give back what is freed, which takes it less than a millisecond for some 100 MiB."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


class FreedMemory:
    """Gives memory back every now and then, when the process has grown; has a timer until :meth:`stop`."""

    def __init__(
        self,
        clock: IReactorTime,
        size: Callable[[], int] = resident_size,
        give_back: Callable[[], None] = give_back,
    ) -> None:
        self._clock = clock
        self._size = size
        self._give_back = give_back
        self._smallest = size()
        self._timer: Any = None
        self._wait()

    def _wait(self) -> None:
        self._timer = self._clock.callLater(INTERVAL, self._look)

    def _look(self) -> None:
        if self._size() > self._smallest + WORTH_IT:
            self._give_back()
        self._smallest = min(self._smallest, self._size())
        self._wait()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
