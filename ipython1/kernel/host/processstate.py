"""What a process of this host is doing, as the operating system sees it: running, stopped, a zombie or gone.

A pid alone does not name a process, because it is used again; a pid and the time at which that process started do.
Ask only about processes of this host (:func:`~ipython1.kernel.host.hosts.host_identity`).
"""

from __future__ import annotations

import enum
import os
from typing import NamedTuple

from ipython1.daemon import osprocess


class ProcessState(enum.Enum):
    """The states of a process that make a difference to those who wait for it."""

    RUNNING = "running"
    """It runs or sleeps: what it does not answer, it may answer later."""
    STOPPED = "stopped"
    """SIGSTOP, Ctrl-Z or a debugger stopped it: it does nothing until SIGCONT."""
    ZOMBIE = "zombie"
    """It has ended, and its parent has not noticed yet."""
    GONE = "gone"
    """It does not exist; another process may have its pid."""

    @property
    def alive(self) -> bool:
        """Whether the process can still do anything."""
        return self in (ProcessState.RUNNING, ProcessState.STOPPED)


class ProcessName(NamedTuple):
    """Names one process of this host for ever.

    :ivar started: when it started, in a unit of the system.
    """

    pid: int
    started: float

    @property
    def state(self) -> ProcessState:
        """What the process does now."""
        return process_state(self.pid, self.started)


def name_process(pid: int) -> ProcessName | None:
    """Return the name of the process that has this pid now; None if there is none."""
    entry = osprocess.process_entry(pid)
    return None if entry is None else ProcessName(pid, entry.started)


def this_process() -> ProcessName:
    """Return the name of this process."""
    return name_process(os.getpid()) or ProcessName(os.getpid(), 0.0)


def process_state(pid: int, started: float | None = None) -> ProcessState:
    """Return what a process does now.

    :param started: when it started; without it, the answer is about whichever process has this pid.
    """
    entry = osprocess.process_entry(pid)
    if entry is None or (started is not None and not entry.started_at(started)):
        return ProcessState.GONE
    if entry.state in ("Z", "X", "x"):
        return ProcessState.ZOMBIE
    return ProcessState.STOPPED if entry.is_stopped else ProcessState.RUNNING
