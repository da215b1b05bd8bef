"""Processor time, instructions and memory of processes.

Peers import this in environments that hold nothing of this project: standard library only.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

MARK = "IPYTHON1_BENCHMARK_MARK"
"""The variable in the environment of all processes of a measurement; its value is unique."""

PERF_READY = 10.0
"""Seconds that ``perf`` has to attach itself or to print."""


def processor_seconds(pid: int) -> float:
    """The processor time that a process has used, all threads, user and system; 0 for one that is gone."""
    try:
        # The clock of another process, as clock_getcpuclockid() tells it; /proc counts in ticks of 10 ms.
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def resident_megabytes(pid: int) -> float:
    """The resident memory of a process, in MB; 0 for one that is gone."""
    return _kilobytes(pid, "status", "VmRSS:") / 1e3


def own_megabytes(pid: int) -> float:
    """The same with only its share of what it shares with others, such as the process that it was forked from."""
    return _kilobytes(pid, "smaps_rollup", "Pss:") / 1e3


def _kilobytes(pid: int, name: str, field: str) -> float:
    try:
        for line in Path(f"/proc/{pid}/{name}").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1.024
    except OSError:
        pass
    return 0.0


def command_line(pid: int) -> str:
    try:
        return (
            Path(f"/proc/{pid}/cmdline")
            .read_bytes()
            .replace(b"\0", b" ")
            .decode("utf-8", "replace")
        )
    except OSError:
        return ""


def parents() -> dict[int, int]:
    """The parent of every process."""
    found = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                text = (path / "stat").read_text()
            except OSError:
                continue
            found[int(path.name)] = int(text.rpartition(")")[2].split()[1])
    return found


def descendants(pid: int) -> set[int]:
    """The processes that a process has started, and theirs."""
    above = parents()
    found = {pid}
    while more := {each for each, parent in above.items() if parent in found} - found:
        found |= more
    return found - {pid}


def marked(mark: str) -> set[int]:
    """The processes with this mark in their environment, but this one."""
    sought = f"{MARK}={mark}".encode()
    found = set()
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and int(path.name) != os.getpid():
            try:
                if sought in (path / "environ").read_bytes().split(b"\0"):
                    found.add(int(path.name))
            except OSError:
                pass
    return found


@functools.cache
def instructions_counted() -> bool:
    """Whether this machine counts instructions; virtual ones often do not."""
    if shutil.which("perf") is None:
        return False
    command = ["perf", "stat", "-x", ",", "-e", "instructions", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return read_perf(done.stderr) is not None


def read_perf(output: str) -> float | None:
    """The number of instructions in the output of ``perf stat -x ,``; None if it has none."""
    for line in output.splitlines():
        value, _, rest = line.partition(",")
        if "instructions" in rest and value.isdigit():
            return float(value)
    return None


class Meter:
    """Counts what processes use from its making to :meth:`stop`.

    :param roles: the processes by what they are, such as ``client`` and ``engines``.
    """

    def __init__(self, roles: Mapping[str, Iterable[int]]) -> None:
        self._roles = {role: list(pids) for role, pids in roles.items()}
        self._perfs: dict[str, subprocess.Popen[str]] = {}
        if instructions_counted():
            for role, pids in self._roles.items():
                if pids:
                    self._perfs[role] = self._start_perf(pids)
        self._before = self._seconds()

    def stop(self, operations: int) -> tuple[dict[str, float], dict[str, float]]:
        """Processor time in microseconds, and instructions where they are counted, per operation and role."""
        after = self._seconds()
        used = {role: (after[role] - self._before[role]) * 1e6 / operations for role in self._roles}
        instructions = {}
        for role, perf in self._perfs.items():
            perf.send_signal(signal.SIGINT)
            _, told = perf.communicate(timeout=PERF_READY)
            counted = read_perf(told)
            if counted is not None:
                instructions[role] = counted / operations
        return used, instructions

    def _seconds(self) -> dict[str, float]:
        return {role: sum(map(processor_seconds, pids)) for role, pids in self._roles.items()}

    @staticmethod
    def _start_perf(pids: Iterable[int]) -> subprocess.Popen[str]:
        command = ["perf", "stat", "-x", ",", "-e", "instructions", "-p", ",".join(map(str, pids))]
        perf = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + PERF_READY
        events = Path(f"/proc/{perf.pid}/fd")
        while time.monotonic() < deadline and not any(
            "perf_event" in os.path.realpath(each) for each in events.iterdir()
        ):
            time.sleep(0.005)
        return perf
