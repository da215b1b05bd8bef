"""Controllers and engines that were started by hand, as a cluster that can be shown and ended."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from ipython1.daemon import osprocess
from ipython1.kernel.basics.error import ClusterError, KernelError, ResultNotCompleted
from ipython1.kernel.clusters.status import ClusterStatus, EngineInfo, ProcessInfo
from ipython1.kernel.host.byhand import CONTROLLER, ByHand, notes, notes_of
from ipython1.kernel.host.processstate import ProcessState
from ipython1.kernel.host.security import ClusterFiles, IPythonDirs
from ipython1.kernel.launchers.clusterconfig import title_of
from ipython1.system import KILL

KIND: Final = "by hand"
"""The kind of such a cluster."""

ASK_LIMIT: Final = 5.0
"""Seconds that a controller has to take the order to end."""

END_LIMIT: Final = 20.0
"""Seconds that its processes may take to end."""


def status_by_hand(files: ClusterFiles) -> ClusterStatus | None:
    """Return what was started by hand under a cluster id; None if there is nothing."""
    found = notes_of(files)
    return _status_of(found, files.dirs) if found else None


def all_by_hand(dirs: IPythonDirs) -> list[ClusterStatus]:
    """Return all that was started by hand in a directory, by cluster id."""
    found: dict[str, list[ByHand]] = {}
    for note in notes(dirs):
        found.setdefault(note.cluster_id, []).append(note)
    return [
        _status_of(sorted(each, key=lambda note: note.program != CONTROLLER), dirs)
        for _, each in sorted(found.items())
    ]


def _status_of(found: Sequence[ByHand], dirs: IPythonDirs) -> ClusterStatus:
    first = found[0]
    controller = first if first.program == CONTROLLER else None
    infos: dict[int, EngineInfo] = {}
    for note in found:
        if note.program != CONTROLLER and note.engine is not None:
            infos[note.engine] = EngineInfo(id=note.engine, **_process(note, first))
    return ClusterStatus(
        cluster_id=first.cluster_id,
        kind=KIND,
        state="running",
        host=first.node,
        pid=first.pid,
        pid_started=first.pid_started,
        started=first.started,
        ipython_dir=str(dirs.ipython_dir),
        n=len(found) - (controller is not None),
        ids=tuple(sorted(infos)),
        controller=None if controller is None else ProcessInfo(**_process(controller, first)),
        engines=tuple(infos[each] for each in sorted(infos)),
    )


def _process(note: ByHand, first: ByHand) -> dict[str, Any]:
    return {
        "state": "running",
        "pid": note.pid,
        "pid_started": note.pid_started,
        "host": "" if note.node == first.node else note.node,
        "stopped": note.is_here and note.state is ProcessState.STOPPED,
    }


def stop_by_hand(
    files: ClusterFiles, ask: Callable[[ClusterFiles, float], object], force: bool
) -> int:
    """End a controller that was started by hand, with its engines, or engines alone.

    The controller is asked first, so that it ends in good order, and all of its engines with it, also those on other
    hosts.  Who does not end is told by a signal.

    :param ask: asks the controller of a cluster to end with its engines, within some seconds.
    :param force: kill the processes of this host at once.
    :returns: how many processes of this host have ended.
    :raises ClusterError: if the processes run on other hosts only.
    :raises ResultNotCompleted: if some do not end.
    """
    found = notes_of(files)
    here = [note for note in found if note.is_here]
    if not here:
        hosts = " and ".join(sorted({note.node for note in found}))
        raise ClusterError(f"{title_of(files.cluster_id)} runs on {hosts}; stop it there")
    if not force and here[0].program == CONTROLLER and here[0].state is ProcessState.RUNNING:
        try:
            ask(files, ASK_LIMIT)
        except KernelError:
            pass
        else:
            _wait(here, END_LIMIT / 4)
    for number in (KILL,) if force else (signal.SIGTERM, KILL):
        left = [note for note in here if note.state.alive]
        for note in left:
            osprocess.send_signal(note.pid, number)
        if left and _wait(here, END_LIMIT / 2):
            break
    left = [note for note in here if note.state.alive]
    if left:
        pids = ", ".join(str(note.pid) for note in left)
        raise ResultNotCompleted(f"processes do not end: {pids}")
    list(notes(files.dirs))  # removes the notes of those that could not do it
    return len(here)


def _wait(found: Sequence[ByHand], limit: float) -> bool:
    """Wait until processes have ended; False if some have not in time."""
    until = time.monotonic() + limit
    while any(note.state.alive for note in found):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True
