"""What a cluster is to be: everything that ``ipcluster`` and ``Cluster`` can be told.

Light on imports: ``ipcluster`` reads it before it has started the process that does the long imports.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from ipython1.kernel.host.security import ClusterFiles, IPythonDirs


@dataclass(frozen=True, slots=True)
class ControllerOptions:
    """What is passed on to ``ipcontroller``; None for its own default."""

    client_ip: str | None = None
    client_port: int | None = None
    client_location: str | None = None
    engine_ip: str | None = None
    engine_port: int | None = None
    engine_location: str | None = None
    reuse_furls: bool = False

    def arguments(self) -> list[str]:
        """The command line options."""
        found = []
        for name in (
            *("client_ip", "client_port", "client_location"),
            *("engine_ip", "engine_port", "engine_location"),
        ):
            value = getattr(self, name)
            if value is not None:
                found.append(f"--{name.replace('_', '-')}={value}")
        if self.reuse_furls:
            found.append("-r")
        return found


@dataclass(frozen=True, slots=True)
class MpiOptions:
    """How engines are started by an MPI launcher.

    :ivar command: ``mpiexec`` or ``mpirun`` with options of its own.
    :ivar use: the name of a setting in the ``[mpi]`` section of the ini; empty for engines that do not initialise MPI.
    :ivar set_ups: the settings of that section: name and code.
    """

    command: tuple[str, ...] = ("mpiexec",)
    use: str = ""
    set_ups: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class SshOptions:
    """How other hosts are reached.

    :ivar command: ``ssh`` with options of its own.
    :ivar cluster_file: which host runs what.
    """

    command: tuple[str, ...] = ("ssh",)
    cluster_file: str = ""


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How jobs are submitted to a batch system.

    :ivar template: a file that replaces the built-in job script.
    :ivar options: further lines for the batch system (``--mem=4G``), without its prefix (``#SBATCH``).
    :ivar setup: shell lines before the engine (``module load python``).
    :ivar python: the interpreter on the nodes; empty for this one.
    """

    template: str = ""
    queue: str = ""
    account: str = ""
    time: str = ""
    options: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    python: str = ""


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """A cluster.

    :ivar kind: how engines are started: the name of a launcher.
    :ivar n: the number of engines; 0 for one for each core, or what the cluster file says.
    :ivar with_controller: false to start engines only, for a controller that runs already.
    :ivar restart_controller: how often within a minute a controller that died is started again.
    :ivar restart_engines: the same for each engine.
    :ivar start_timeout: seconds that engines may take to come up; 0 for no limit.
    :ivar stop_timeout: seconds that processes may take to end before they are killed.
    :ivar engine_arguments: further options for ``ipengine``.
    :ivar owned: whether the cluster ends with the process that started it.
    """

    kind: str = "local"
    n: int = 0
    ipython_dir: str = ""
    cluster_id: str = ""
    with_controller: bool = True
    controller: ControllerOptions = field(default_factory=ControllerOptions)
    mpi: MpiOptions = field(default_factory=MpiOptions)
    ssh: SshOptions = field(default_factory=SshOptions)
    batch: BatchOptions = field(default_factory=BatchOptions)
    restart_controller: int = 5
    restart_engines: int = 0
    start_timeout: float = 60.0
    stop_timeout: float = 10.0
    engine_arguments: tuple[str, ...] = ()
    log_file: str = ""
    log_level: str = ""
    log_size: int = 5 * 1024 * 1024
    owned: bool = False

    @property
    def count(self) -> int:
        """The number of engines asked for, with the default filled in."""
        return self.n or os.cpu_count() or 1

    def files(self) -> ClusterFiles:
        """Where its files are.

        :raises KernelError: when the directory or the id cannot be used.
        """
        return ClusterFiles(IPythonDirs.resolve(self.ipython_dir), self.cluster_id)

    def common_arguments(self) -> list[str]:
        """The options that controller, engines and clients have in common."""
        found = [f"--ipython-dir={self.files().dirs.ipython_dir}"]
        if self.cluster_id:
            found.append(f"--cluster-id={self.cluster_id}")
        if self.log_level:
            found.append(f"--log-level={self.log_level}")
        return found


def title_of(cluster_id: str) -> str:
    """``cluster 'X'``, or ``the cluster`` for the default one."""
    return f"cluster {cluster_id!r}" if cluster_id else "the cluster"
