"""Ending a cluster whose own processes may be stopped, stuck or dead: everything is killed, and nothing is left.

The state file names the processes by pid and start, so no process of anybody else is ever killed.  With them go all
their descendants, and whatever carries the mark in its environment by which the nanny finds its orphans.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from ipython1 import system
from ipython1.daemon import osprocess
from ipython1.daemon.children import OWNER_VARIABLE
from ipython1.daemon.osprocess import ProcessEntry
from ipython1.kernel.basics.error import ResultNotCompleted, SecurityError
from ipython1.kernel.clusters.launch import remove_files
from ipython1.kernel.clusters.status import ClusterStatus, wait_until_gone
from ipython1.kernel.host.control import find_socket, remove_socket
from ipython1.kernel.host.lockfile import LockFile
from ipython1.kernel.host.restorefile import RESTORE_FILE
from ipython1.kernel.host.security import CONTROL_SOCKET, ClusterFiles
from ipython1.kernel.launchers.clusterconfig import title_of

LIMIT = 20.0
"""Seconds that killed processes may take to be gone."""

COMMAND_LIMIT = 30.0
"""Seconds that a command which ends a batch job may take."""


def end_by_force(files: ClusterFiles, state: ClusterStatus) -> int:
    """Kill all processes of a cluster of this host, and remove what they would have removed.

    :returns: how many processes were killed.
    :raises ResultNotCompleted: if some do not end (in a system call, or because they are another user's).
    """
    killed: set[int] = set()
    until = time.monotonic() + LIMIT
    while found := processes_of(state):
        if time.monotonic() > until:
            raise ResultNotCompleted(
                f"processes of {title_of(files.cluster_id)} do not end: {', '.join(map(str, found))}"
            )
        for pid in found:
            if osprocess.send_signal(pid, system.KILL):
                killed.add(pid)
        time.sleep(0.01)
    tidy_up(files, state)
    return len(killed)


def processes_of(state: ClusterStatus) -> list[int]:
    """Return the pids of all living processes of a cluster of this host; not that of this process."""
    table = osprocess.process_table()
    found = set()
    for root in _roots(state, table):
        found |= {root, *osprocess.descendants(root, table)}
    found |= set(_marked(state, table))
    return sorted(pid for pid in found if pid != os.getpid() and table[pid].state != "Z")


def _roots(state: ClusterStatus, table: Mapping[int, ProcessEntry]) -> list[int]:
    infos = (info for info in (state.nanny, state.controller, *state.engines) if info is not None)
    known = [(info.pid, info.pid_started) for info in infos if not info.host]
    return [
        pid
        for pid, started in [(state.pid, state.pid_started), *known]
        if pid and started and pid in table and table[pid].started_at(started)
    ]


def _marked(state: ClusterStatus, table: Mapping[int, ProcessEntry]) -> list[int]:
    """Return what the cluster's nanny or processes below it have started, wherever it is now."""
    nanny = state.nanny
    if nanny is None or not nanny.pid_started:
        return []
    namesake = table.get(nanny.pid)
    if namesake is not None and not namesake.started_at(nanny.pid_started):
        return []  # the mark may be that of a later nanny with the same pid
    mark = f"{nanny.pid}/"
    return [
        pid
        for pid, entry in table.items()
        if entry.started >= nanny.pid_started
        and osprocess.environment_of(pid).get(OWNER_VARIABLE, "").startswith(mark)
    ]


def tidy_up(files: ClusterFiles, state: ClusterStatus) -> None:
    """Do what a cluster that was killed could not do: cancel its jobs, remove its files.

    :raises ResultNotCompleted: if it is not gone.
    """
    wait_until_gone(files, LIMIT)
    for command in state.end_commands:
        try:
            subprocess.run(command, check=False, timeout=COMMAND_LIMIT, capture_output=True)
        except (OSError, subprocess.TimeoutExpired) as problem:
            print(f"ipcluster: {' '.join(command)}: {problem}", file=sys.stderr)
    usual = files.security_file("ipcluster.sock")
    for path in {Path(state.socket or usual), usual}:
        remove_socket(path, usual)
    _remove_controllers_socket(files)
    files.security_file(RESTORE_FILE).unlink(missing_ok=True)
    files.state.unlink(missing_ok=True)
    if state.temporary:
        remove_files(files)


def _remove_controllers_socket(files: ClusterFiles) -> None:
    """Remove the socket of a controller that was killed, unless another one has come in its place."""
    lock = LockFile(files.security_file("ipcontroller.lock"))
    until = time.monotonic() + LIMIT
    while not lock.acquire():
        holder = lock.holder()
        if holder is None or osprocess.is_alive(holder) or time.monotonic() > until:
            return
        time.sleep(0.01)  # it has been killed, and the last of its threads still holds its files
    usual = files.security_file(CONTROL_SOCKET)
    with contextlib.suppress(SecurityError):
        remove_socket(find_socket(usual), usual)
    lock.release()
