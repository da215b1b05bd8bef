"""What a process of this host uses: processor time and memory."""

from __future__ import annotations

import os
from functools import cache
from time import process_time  # user code may replace the one in the module
from typing import Final, NamedTuple

from ipython1.daemon import osprocess
from ipython1.kernel.host.processstate import ProcessName
from ipython1.system import PAGE_SIZE

_UTIME: Final = 11
_STIME: Final = 12
_STARTED: Final = 19
_RSS: Final = 21


class ProcessUsage(NamedTuple):
    """What a process uses.

    :ivar cpu: seconds of processor time since it started.
    :ivar memory: bytes of resident memory; None if the system does not tell.
    """

    cpu: float
    memory: int | None


def own_usage() -> ProcessUsage:
    """What this process uses."""
    found = _usage_of(os.getpid())
    return ProcessUsage(process_time(), None if found is None else found[1].memory)


def usage_of(process: ProcessName) -> ProcessUsage | None:
    """What a process uses; None if it is gone or cannot be looked at."""
    found = _usage_of(process.pid)
    if found is None or abs(found[0] - process.started) >= 0.05:
        return None
    return found[1]


def _usage_of(pid: int) -> tuple[float, ProcessUsage] | None:
    """When the process that has this pid started, as ``ProcessName`` tells it, and what it uses."""
    return _from_proc(pid) if osprocess.is_linux() else _from_psutil(pid)


@cache
def _units() -> tuple[int, int]:
    """Ticks of processor time in a second, bytes of a page."""
    return os.sysconf("SC_CLK_TCK"), PAGE_SIZE


def _from_proc(pid: int) -> tuple[float, ProcessUsage] | None:
    fields = osprocess.stat_fields(pid)
    if fields is None:
        return None
    ticks, page = _units()
    cpu = (int(fields[_UTIME]) + int(fields[_STIME])) / ticks
    return float(fields[_STARTED]), ProcessUsage(cpu, int(fields[_RSS]) * page)


def _from_psutil(pid: int) -> tuple[float, ProcessUsage] | None:
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            memory = int(process.memory_info().rss)
            return process.create_time(), ProcessUsage(times.user + times.system, memory)
    except psutil.Error:
        return None
