"""Running a cluster in the foreground."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipython1 import system

if TYPE_CHECKING:
    from ipython1.daemon.starting import NewNanny
    from ipython1.kernel.host.lockfile import LockFile
    from ipython1.kernel.host.security import ClusterFiles
    from ipython1.kernel.launchers.clusterconfig import ClusterConfig
    from ipython1.kernel.scripts.clusteroptions import ClusterCommand

LOCK_WAIT = 5.0
"""Seconds to wait for the processes of a cluster that was killed a moment ago to be gone."""


def start(command: ClusterCommand, nanny: NewNanny | None = None) -> int:
    """Run a cluster in the foreground.

    :param nanny: the one of this cluster, if it was started already; it is not set up.
    """
    from ipython1.daemon.ready import SILENCE
    from ipython1.daemon.starting import NewNanny
    from ipython1.daemon.titles import NANNY, process_title

    config = command.config
    files = config.files()
    files.dirs.prepare()
    lock = take_lock(config, files) if config.with_controller else None
    config = tell_engines(config, files)
    log = config.log_file or str(files.cluster_log)
    nanny = nanny or NewNanny()
    nanny.set_up(
        keep=[lock.fileno()] if lock else (),
        watch=SILENCE,
        log="" if log == "-" else log,
        title=process_title(NANNY, config.cluster_id),
    )
    connection = nanny.connection
    additions = Additions(files)
    try:
        from ipython1.daemon.processes import Start
        from ipython1.daemon.protocol import Warm, encode
        from ipython1.daemon.supervision import Supervision
        from ipython1.kernel.launchers.programs import ENGINE_MODULE, request_controller

        supervision = Supervision()
        with contextlib.suppress(ConnectionError):  # it was killed, which run_cluster() notices
            if config.with_controller and starts_controller_here(config):
                for instruction in request_controller(supervision, config, files):
                    assert isinstance(instruction, Start)
                    connection.sendall(encode(instruction.spawn))
            if config.kind == "local":
                connection.sendall(encode(Warm((ENGINE_MODULE,))))
        from ipython1.kernel.clusters.process import run_cluster

        return run_cluster(config, files, connection, supervision, command.owner, additions.like)
    finally:
        wait_for_nanny(nanny.process)
        additions.remove_files()
        _tidy(config, files)


def _tidy(config: ClusterConfig, files: ClusterFiles) -> None:
    """Remove the files that only a running cluster needs."""
    if config.restore_file:
        Path(config.restore_file).unlink(missing_ok=True)
    if config.temporary:
        from ipython1.kernel.clusters.launch import remove_files

        # The program that would do this may have been killed.
        remove_files(files)


class Additions:
    """Engines that are added while the cluster runs."""

    def __init__(self, files: ClusterFiles) -> None:
        self._files = files
        self._restore_files: dict[str, Path] = {}

    def like(self, base: ClusterConfig, words: Sequence[str], directory: str) -> ClusterConfig:
        """Return how they are started; see :func:`ipython1.kernel.scripts.clusteroptions.engines_like`.

        :raises ClusterError: after wrong usage.
        """
        from ipython1.kernel.host.restorefile import SOURCE, write_restore
        from ipython1.kernel.scripts.clusteroptions import engines_like

        config = engines_like(base, words, directory)
        if config.restore == base.restore:
            return config
        path = self._restore_files.get(config.restore)
        if path is None:
            number = len(self._restore_files) + 1
            path = self._files.security_file(f"ipcluster-engines{os.getpid()}-{number}.restore")
            write_restore(path, SOURCE, config.restore.encode())
            self._restore_files[config.restore] = path
        return replace(config, restore_file=str(path))

    def remove_files(self) -> None:
        """Remove the files by which they were told what to run before they could be used."""
        for path in self._restore_files.values():
            path.unlink(missing_ok=True)


def tell_engines(config: ClusterConfig, files: ClusterFiles) -> ClusterConfig:
    """Write the file by which engines are told what to run before they can be used, and return its path with the rest.

    It is removed when this process ends.
    """
    if not config.restore:
        return config
    from ipython1.kernel.host.restorefile import RESTORE_FILE, SOURCE, write_restore

    # Engines that are added to a controller have a file besides that of its cluster.
    name = RESTORE_FILE if config.with_controller else f"ipcluster-engines{os.getpid()}.restore"
    path = files.security_file(name)
    write_restore(path, SOURCE, config.restore.encode())
    return replace(config, restore_file=str(path))


def starts_controller_here(config: ClusterConfig) -> bool:
    """Whether the controller certainly runs on this host."""
    return config.kind == "local"


def wait_for_nanny(process: Any) -> None:
    """End the nanny, unless that is done, and wait until nothing is left; another Ctrl-C does not wait."""
    # Elsewhere it might not be able to end anything, and the end of the connection tells it the same.
    if system.LINUX and process.poll() is None:
        process.terminate()
    with contextlib.suppress(KeyboardInterrupt):
        process.wait()


def take_lock(config: ClusterConfig, files: ClusterFiles) -> LockFile:
    """The lock that there is one cluster of this id.

    It is held by the nanny too, so it is free only when nothing of the cluster is left.

    :raises ClusterError: when there is a living one.
    """
    from ipython1.kernel.host.lockfile import LockFile

    lock = LockFile(files.security_file("ipcluster.lock"))
    if not lock.acquire():
        _wait_for_lock(lock, config, files)
    return lock


def _wait_for_lock(lock: LockFile, config: ClusterConfig, files: ClusterFiles) -> None:
    from ipython1.kernel.basics.error import ClusterError
    from ipython1.kernel.clusters.status import read_state
    from ipython1.kernel.launchers.clusterconfig import title_of

    until = time.monotonic() + LOCK_WAIT
    while not lock.acquire():
        state = read_state(files.state)
        option = f" --cluster-id={config.cluster_id}" if config.cluster_id else ""
        alive = state is not None and (not state.is_here or state.is_alive)
        if alive and state is not None:
            host = "" if state.is_here else f" on {state.host}"
            raise ClusterError(
                f"{title_of(config.cluster_id)} is already running (process {state.pid}{host}); "
                f"end it with: ipcluster stop{option}, or choose another --cluster-id"
            )
        if time.monotonic() > until:
            raise ClusterError(
                f"{title_of(config.cluster_id)} is being started or stopped "
                f"by process {lock.holder() or 'unknown'}; "
                "try again, or choose another --cluster-id"
            )
        time.sleep(0.02)
