"""The configuration of a cluster: all options of ``ipcluster`` and ``Cluster``.

Light on imports: ``ipcluster`` uses it before it has started the process that does the slow imports.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Final

from ipython1.kernel.host.security import ClusterFiles, IPythonDirs
from ipython1.kernel.launchers.adaptation import Adaptation

NOTICE = 60.0
"""Seconds before its time limit at which a batch job is told, by default."""

VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
"""The names of environment variables that every way of starting engines can set."""


@dataclass(frozen=True, slots=True)
class ControllerOptions:
    """The options for ``ipcontroller``; None for its defaults."""

    client_ip: str | None = None
    client_port: int | None = None
    client_location: str | None = None
    engine_ip: str | None = None
    engine_port: int | None = None
    engine_location: str | None = None
    reuse_furls: bool = False
    journal: bool | None = None

    def arguments(self) -> list[str]:
        """Return the command-line options."""
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
        if self.journal is not None:
            found.append(f"--journal={'on' if self.journal else 'off'}")
        return found


@dataclass(frozen=True, slots=True)
class MpiOptions:
    """How engines are started by an MPI launcher.

    :ivar command: ``mpiexec`` or ``mpirun`` with its options.
    :ivar use: a setting in the ``[mpi]`` section of the ini file; empty for engines that do not initialise MPI.
    :ivar set_ups: the settings in this section: name and code.
    """

    command: tuple[str, ...] = ("mpiexec",)
    use: str = ""
    set_ups: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class SshOptions:
    """How other hosts are reached.

    :ivar command: ``ssh`` with its options.
    :ivar cluster_file: the path of the file that says what runs on which host.
    :ivar hosts: the hosts, with the number of engines, in place of a file.
    :ivar tunnel: whether connections to the controller go through ssh, from and to all hosts.
    """

    command: tuple[str, ...] = ("ssh",)
    cluster_file: str = ""
    hosts: tuple[tuple[str, int], ...] = ()
    tunnel: bool = False


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How jobs are submitted to a batch system.

    :ivar template: the path of a file that replaces the built-in job script.
    :ivar queue: the queue or partition.
    :ivar account: the account or project to charge.
    :ivar time: the time limit, in the batch system's format.
    :ivar options: additional options for the batch system (``--mem=4G``), without the prefix (``#SBATCH``).
    :ivar setup: shell commands to run before the engine (``module load python``).
    :ivar python: the interpreter on the nodes; empty for that of other engines.
    :ivar notice: how many seconds before its time limit a job is told, so that its engines leave; 0 for never.
    :ivar resubmit: whether engines are submitted again when the batch system has ended them.
    :ivar engines_per_job: how many engines each member of the job array starts.
    """

    template: str = ""
    queue: str = ""
    account: str = ""
    time: str = ""
    options: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    python: str = ""
    notice: float = NOTICE
    resubmit: bool = True
    engines_per_job: int = 1


@dataclass(frozen=True, slots=True)
class KubernetesOptions:
    """How engines are started in Kubernetes.

    :ivar image: the container image; empty for that of the pod template, or else of the pod that starts them.
    :ivar namespace: empty for that of the pod that starts them, or of the kubeconfig's context.
    :ivar context: a context of the kubeconfig; empty for its current one, or the cluster that this pod is in.
    :ivar cpu: processors that each engine is guaranteed, as Kubernetes writes them (``2``, ``500m``).
    :ivar memory: memory that each engine is guaranteed and limited to (``4Gi``).
    :ivar pod_template: the path of a file with a pod that engines' pods are made from.
    """

    image: str = ""
    namespace: str = ""
    context: str = ""
    cpu: str = ""
    memory: str = ""
    pod_template: str = ""


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """The configuration of a cluster.

    :ivar kind: the name of the launcher that starts engines.
    :ivar n: the number of engines; None for one per core, or the number in the cluster file.
    :ivar env: environment variables of the engines, besides those that they inherit: name and value.
    :ivar cwd: the working directory of the engines; empty for that of ``ipcluster``, or the home directory on hosts
        that are reached over ssh.
    :ivar python: the interpreter of the engines; empty for the one in use here.
    :ivar with_controller: False to start only engines, for a controller that is already running.
    :ivar restart_controller: whether to restart a controller that died, for as long as engines wait for it.
    :ivar restart_stuck: seconds after which a controller that gives no sign of life is killed, and so restarted; 0 for
        never.
    :ivar reconnect_timeout: how many seconds engines wait for it.
    :ivar restart_engines: how many times per minute to restart an engine that died.
    :ivar start_timeout: seconds that engines may take to start; 0 for no limit.
    :ivar stop_timeout: seconds that processes may take to stop before they are killed.
    :ivar adaptation: how the number of engines adapts to the tasks; None if it does not.
    :ivar idle_timeout: seconds after which a cluster ends that nobody uses; 0 for never.
    :ivar engine_arguments: additional options for ``ipengine``.
    :ivar restore: source text that each engine runs before it can be used; empty for none.
    :ivar restore_file: the file by which engines are told that, or what is to be set there; empty for none.
    :ivar owned: whether the cluster stops when the process that started it ends.
    :ivar temporary: whether its id was made up for it, so that nobody needs its keys and FURLs later.
    """

    kind: str = "local"
    n: int | None = None
    env: tuple[tuple[str, str], ...] = ()
    cwd: str = ""
    python: str = ""
    ipython_dir: str = ""
    cluster_id: str = ""
    with_controller: bool = True
    controller: ControllerOptions = field(default_factory=ControllerOptions)
    mpi: MpiOptions = field(default_factory=MpiOptions)
    ssh: SshOptions = field(default_factory=SshOptions)
    batch: BatchOptions = field(default_factory=BatchOptions)
    kubernetes: KubernetesOptions = field(default_factory=KubernetesOptions)
    restart_controller: bool = True
    restart_stuck: float = 0.0
    reconnect_timeout: float = 600.0
    restart_engines: int = 0
    start_timeout: float = 60.0
    stop_timeout: float = 10.0
    adaptation: Adaptation | None = None
    idle_timeout: float = 0.0
    engine_arguments: tuple[str, ...] = ()
    restore: str = ""
    restore_file: str = ""
    log_file: str = ""
    log_level: str = ""
    log_size: int = 5 * 1024 * 1024
    owned: bool = False
    temporary: bool = False

    @property
    def count(self) -> int:
        """The number of engines, by default one per core."""
        return (os.cpu_count() or 1) if self.n is None else self.n

    def files(self) -> ClusterFiles:
        """The paths of the cluster's files.

        :raises KernelError: if the directory or the cluster id cannot be used.
        """
        return ClusterFiles(IPythonDirs.resolve(self.ipython_dir), self.cluster_id)

    def common_arguments(self) -> list[str]:
        """Return the options that controller, engines and clients share."""
        found = [f"--ipython-dir={self.files().dirs.ipython_dir}"]
        if self.cluster_id:
            found.append(f"--cluster-id={self.cluster_id}")
        if self.log_level:
            found.append(f"--log-level={self.log_level}")
        return found

    def engine_options(self, restore_file: str = "") -> list[str]:
        """Return the options of this cluster's engines besides the common ones.

        :param restore_file: where that file is, if not where it is on this host.
        """
        path = restore_file or self.restore_file
        return [*self.engine_arguments, *([f"--restore-file={path}"] if path else [])]


def option_of(cluster_id: str) -> str:
    """Return the option that names a cluster, with a space before it; empty for the default one."""
    return f" --cluster-id={cluster_id}" if cluster_id else ""


def title_of(cluster_id: str) -> str:
    """Return ``cluster 'X'``, or ``the cluster`` for the default one."""
    return f"cluster {cluster_id!r}" if cluster_id else "the cluster"
