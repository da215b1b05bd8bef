"""Starting the process of ``ipcluster`` from Python, as something that belongs to this process."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from ipython1.checks import check_bool
from ipython1.core.texts import did_you_mean
from ipython1.daemon.handover import Handover
from ipython1.daemon.pythoncommand import python_command
from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.host.security import ClusterFiles
from ipython1.kernel.launchers.clusterconfig import VARIABLE
from ipython1.kernel.launchers.hostlist import host_words
from ipython1.system import after_fork_in_child

_ARGUMENTS = ("n", "kind", "cluster_id", "ipython_dir", "detach", "restore")
"""What a cluster takes besides its options."""

MODULE = "ipython1.kernel.scripts.ipcluster"

_WORD_OPTIONS = {
    "mpi": "--mpi",
    "cluster_file": "--cluster-file",
    "batch_file": "--batch-file",
    "queue": "--queue",
    "account": "--account",
    "time": "--time",
    "batch_python": "--batch-python",
    "engines_per_job": "--engines-per-job",
    "notice": "--notice",
    "image": "--image",
    "namespace": "--namespace",
    "context": "--context",
    "cpu": "--cpu",
    "memory": "--memory",
    "pod_template": "--pod-template",
    "cwd": "--cwd",
    "python": "--python",
    "restart": "--restart-engines",
    "restart_engines": "--restart-engines",
    "restart_stuck": "--restart-stuck",
    "start_timeout": "--start-timeout",
    "idle_timeout": "--idle-timeout",
    "client_ip": "--client-ip",
    "interface": "--interface",
    "client_port": "--client-port",
    "client_location": "--client-location",
    "engine_ip": "--engine-ip",
    "engine_port": "--engine-port",
    "engine_location": "--engine-location",
    "journal": "--journal",
    "log_file": "--logfile",
    "log_level": "--log-level",
}
_COMMAND_OPTIONS = {"mpiexec": "--mpiexec", "ssh": "--ssh"}
_LIST_OPTIONS = {
    "batch_options": "--batch-option",
    "setup": "--setup",
    "engine_arguments": "--engine-argument",
}
_PATHS = (
    *("cluster_file", "batch_file", "pod_template", "log_file", "batch_python", "cwd", "python"),
)

_ALSO_ALONE = ("restart", "restart_engines")
"""Those that stand alone on the command line if they are just True."""

_FLAGS = {"reuse_furls": "--reuse-furls", "tunnel": "--tunnel", "resubmit": "--resubmit"}
_OPPOSITES = {"resubmit": "--no-resubmit", "tunnel": "--no-tunnel"}
"""What a flag is on the command line that is False; others are left out."""

_ELSEWHERE = {
    "engines": "; n is their number, and kind how they are started",
    **dict.fromkeys(("n_jobs", "n_workers", "num_cpus", "processes"), "; use n"),
    "profile": "; use cluster_id",
}
"""What other packages have, and what to use instead."""

OPTIONS = (*_WORD_OPTIONS, *_COMMAND_OPTIONS, *_LIST_OPTIONS, *_FLAGS, "env", "hosts")


def command_options(options: Mapping[str, Any]) -> list[str]:
    """The command line for keyword arguments.

    :raises TypeError: for a keyword that there is not, and a value of the wrong type.
    :raises ValueError: for a name that no environment variable can have.
    """
    found = []
    for name, value in options.items():
        if name not in OPTIONS:
            meant = _ELSEWHERE.get(name) or did_you_mean(name, [*_ARGUMENTS, *OPTIONS])
            raise TypeError(
                f"a cluster has no option {name!r}"
                + (meant or f"; there are: {', '.join([*_ARGUMENTS, *sorted(OPTIONS)])}")
            )
        if value is None or (value is False and name in _ALSO_ALONE):
            continue
        if value is True and name in _ALSO_ALONE:
            found.append(_WORD_OPTIONS[name])
        elif name in _WORD_OPTIONS:
            found.append(f"{_WORD_OPTIONS[name]}={os.fspath(value) if name in _PATHS else value}")
        elif name in _COMMAND_OPTIONS:
            words = value if isinstance(value, str) else shlex.join(value)
            found.append(f"{_COMMAND_OPTIONS[name]}={words}")
        elif name == "env":
            found += [f"--env={variable}={text}" for variable, text in environment(value).items()]
        elif name == "hosts":
            found += [f"--hosts={word}" for word in host_words(value)]
        elif name in _LIST_OPTIONS:
            items = [value] if isinstance(value, str) else value
            found += [f"{_LIST_OPTIONS[name]}={item}" for item in items]
        elif check_bool(name, value):
            found.append(_FLAGS[name])
        elif name in _OPPOSITES:
            found.append(_OPPOSITES[name])
    return found


def environment(env: Any) -> dict[str, str]:
    """Return environment variables as text.

    :param env: a mapping of names to values; these may be numbers or paths, too.
    :raises TypeError: if it is something else.
    :raises ValueError: if a name or a value is not possible in an environment.
    """
    if not isinstance(env, Mapping):
        raise TypeError(f"env must be a dict of environment variables, not {env!r}")
    found = {}
    for name, value in env.items():
        if not isinstance(name, str) or not VARIABLE.fullmatch(name):
            raise ValueError(f"env: {name!r} cannot be the name of an environment variable")
        if isinstance(value, (bool, bytes)) or not isinstance(
            value, (str, int, float, os.PathLike)
        ):
            raise TypeError(f"env: {name} must be a str, a number or a path, not {value!r}")
        text = os.fspath(value) if isinstance(value, os.PathLike) else str(value)
        if "\0" in text:
            raise ValueError(f"env: {name} contains a null character")
        found[name] = text
    return found


def new_cluster_id() -> str:
    """An id that no other cluster has."""
    return f"py-{os.getpid()}-{secrets.token_hex(3)}"


def files_of(files: ClusterFiles) -> list[Path]:
    """The keys, FURLs and the like of a cluster that has an id."""
    return sorted(files.dirs.security.glob(f"ip*-{files.cluster_id}[-.]*"))


def remove_files(files: ClusterFiles) -> None:
    """Remove what nobody will need of a cluster whose id was made up for it."""
    from ipython1.kernel.config import config_manager

    for path in files_of(files):
        path.unlink(missing_ok=True)
    settings = config_manager.get_config(files.dirs.ipython_dir)["journal"]
    shutil.rmtree(files.journal(settings["directory"]), ignore_errors=True)


# A forked child holds copies of our connections, and would keep clusters alive that way.
_connections: weakref.WeakSet[socket.socket] = weakref.WeakSet()


def _close_in_child() -> None:
    for connection in list(_connections):
        with contextlib.suppress(OSError):
            os.close(connection.detach())


after_fork_in_child(_close_in_child)


class OwnedProcess:
    """A process of ``ipcluster`` that ends when this process does.

    :param arguments: its command line.
    :ivar connection: over which it takes orders.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        handover = Handover(spare_low=True)
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        options = [*arguments, f"--owner-fd={handover.number}"]
        try:
            # A Ctrl-C is for the program that uses the cluster; it decides what ends.
            self.process: subprocess.Popen[bytes] = handover.start(
                python_command(MODULE, ["ipcluster", *options]),
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
            )
            self.connection: socket.socket = handover.connection(self.process)
        except BaseException:
            handover.close()
            raise
        _connections.add(self.connection)

    def error(self) -> ClusterError:
        """Why it ended: what it said last."""
        self.process.wait()
        if self._errors.closed:
            return ClusterError("the cluster is gone")
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        words = [line.removeprefix("ipcluster: ") for line in lines]
        return ClusterError(
            "\n".join(words) or f"ipcluster ended with exit status {self.process.returncode}"
        )

    def wait(self, timeout: float) -> bool:
        """Wait for its end; false when it has not in time."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        self._errors.close()
        return True

    @property
    def was_killed(self) -> bool:
        """Whether a signal has ended it, so that it has not waited for what it had started."""
        return (self.process.returncode or 0) < 0

    def detach(self) -> None:
        """Let it go on: it is nobody's child that would have to be waited for."""
        self.process.returncode = 0
        self._errors.close()
