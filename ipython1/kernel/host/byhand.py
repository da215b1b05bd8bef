"""Notes of controllers and engines that were started by hand, by which ``ipcluster`` sees and ends them.

A process that no ``ipcluster`` and no batch system has started writes a file into the security directory, and removes
it when it ends.  The file names the process by its host, its pid and its start, so a later process with the same pid is
never taken for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ipython1.daemon.children import OWNER_VARIABLE
from ipython1.kernel.basics.error import KernelError
from ipython1.kernel.host.hosts import host_identity
from ipython1.kernel.host.private_files import read_private_if_there, write_private
from ipython1.kernel.host.processstate import ProcessState, process_state, this_process
from ipython1.kernel.host.security import ClusterFiles, IPythonDirs

CONTROLLER: Final = "ipcontroller"
ENGINE: Final = "ipengine"

JOB_VARIABLES: Final = (
    *("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"),
    *("SLURM_JOB_ID", "PBS_JOBID", "SGE_TASK_ID", "LSB_JOBID"),
)
"""Variables that a process has which MPI or a batch system has started."""


@dataclass(frozen=True, slots=True)
class ByHand:
    """A controller or an engine that was started by hand.

    :ivar program: :data:`CONTROLLER` or :data:`ENGINE`.
    :ivar node: the name of its host.
    :ivar host: identifies its host, as :func:`~ipython1.kernel.host.hosts.host_identity` does.
    :ivar pid_started: what tells the process from a later one with its number.
    :ivar started: in seconds since the epoch.
    :ivar engine: of an engine: its id; None until it has one.
    :ivar log: its log file; empty for standard error.
    :ivar path: the note.
    """

    program: str
    cluster_id: str
    node: str
    host: str
    pid: int
    pid_started: float
    started: float
    engine: int | None = None
    log: str = ""
    path: str = ""

    @property
    def is_here(self) -> bool:
        """Whether it runs on this host, as this user."""
        return self.host == host_identity()

    @property
    def state(self) -> ProcessState:
        """What the process does now; only to be asked on its host."""
        return process_state(self.pid, self.pid_started)


def is_by_hand(awaited: bool, environ: Mapping[str, str] | None = None) -> bool:
    """Return whether this process was started by hand, not by a launcher.

    :param awaited: whether a nanny has started it.
    """
    given = os.environ if environ is None else environ
    return not awaited and OWNER_VARIABLE not in given and not set(JOB_VARIABLES) & set(given)


class Note:
    """This process's note: :meth:`write` it when something is known, :meth:`remove` it at the end.

    A note that cannot be written is only missed by ``ipcluster``.
    """

    def __init__(self, files: ClusterFiles, program: str, log: Path | None) -> None:
        me = this_process()
        node = socket.gethostname()
        self._path = _note_path(files, program, node, me.pid)
        self._content = ByHand(
            program,
            files.cluster_id,
            node,
            host_identity(),
            me.pid,
            me.started,
            time.time(),
            log="" if log is None else str(log),
        )

    def write(self, engine: int | None = None) -> None:
        """Write it.

        :param engine: the engine's id.
        """
        self._content = dataclasses.replace(self._content, engine=engine)
        content = dataclasses.asdict(self._content)
        del content["path"]
        with contextlib.suppress(KernelError, OSError):
            write_private(self._path, json.dumps(content).encode() + b"\n")

    def remove(self) -> None:
        """Remove it; a process that was forked from this one does not."""
        if os.getpid() == self._content.pid:
            with contextlib.suppress(OSError):
                self._path.unlink()


def _note_path(files: ClusterFiles, program: str, node: str, pid: int) -> Path:
    if program == CONTROLLER:
        return files.security_file(f"{program}.byhand")
    # Hosts may share the directory.
    return files.security_file(f"{program}-{re.sub('[^A-Za-z0-9]', '_', node)}-{pid}.byhand")


def notes(dirs: IPythonDirs) -> Iterator[ByHand]:
    """Read the notes of all that were started by hand and are not known to be gone; other notes are removed."""
    for path in sorted(dirs.security.glob("*.byhand")):
        found = _read(path)
        if found is None:
            continue
        if found.is_here and not found.state.alive:
            with contextlib.suppress(OSError):
                path.unlink()
            continue
        yield found


def notes_of(files: ClusterFiles) -> list[ByHand]:
    """Read the notes of one cluster, the controller's first."""
    found = [note for note in notes(files.dirs) if note.cluster_id == files.cluster_id]
    return sorted(found, key=lambda note: (note.program != CONTROLLER, note.started))


def _read(path: Path) -> ByHand | None:
    try:
        data = read_private_if_there(path, "note")
        content = json.loads(data or b"null")
        return ByHand(**{**content, "path": str(path)})
    except (KernelError, OSError, ValueError, TypeError):
        return None
