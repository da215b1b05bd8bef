"""What is known of a running cluster, as it is kept in its state file and told over its control socket."""

from __future__ import annotations

import dataclasses
import json
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ipython1.daemon import osprocess
from ipython1.daemon.processes import ProcessStatus, State
from ipython1.kernel.basics.error import ClusterError, ResultNotCompleted
from ipython1.kernel.host.control import connect_control
from ipython1.kernel.host.lockfile import LockFile
from ipython1.kernel.host.private_files import read_private_if_there, write_private
from ipython1.kernel.host.processstate import ProcessState, process_state
from ipython1.kernel.host.security import ClusterFiles
from ipython1.kernel.launchers.adaptation import Adaptation
from ipython1.kernel.launchers.clusterconfig import option_of, title_of
from ipython1.kernel.launchers.interfaces import HostInfo
from ipython1.kernel.launchers.programs import CONTROLLER_HOST


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessInfo:
    """The controller, or what an engine has in common with it.

    :ivar state: ``queued`` (in a batch system), ``starting``, ``running``, ``stopping``, ``waiting`` (to be started
        again) or ``ended``.
    :ivar pid: 0 where it is not known.
    :ivar host: empty for the host of ``ipcluster``.
    :ivar restarts: how often it was started again.
    :ivar reason: why it ended.
    :ivar lines: the last lines of its output, when it has ended.
    :ivar away: for how many seconds it has not been usable, while it is restarted; else 0.
    :ivar restart_in: in how many seconds it is started again, while it waits for that; else 0.
    :ivar silent: for how many seconds it has given no sign of life, if that is long; else 0.
    :ivar stopped: whether a signal has stopped it.
    :ivar pid_started: what tells the process from a later one with its number; 0 where it is not known.
    """

    state: str
    pid: int = 0
    host: str = ""
    restarts: int = 0
    reason: str = ""
    lines: tuple[str, ...] = ()
    away: float = 0.0
    restart_in: float = 0.0
    silent: float = 0.0
    stopped: bool = False
    pid_started: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo(ProcessInfo):
    """One engine."""

    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingInfo:
    """What a cluster does by itself.

    :ivar adaptation: when engines come and go; None if they do not by themselves.
    :ivar last: what was done last, as a line.
    :ivar ago: how many seconds ago that was.
    :ivar idle_timeout: seconds without use after which the cluster ends; 0 for never.
    :ivar unused: for how many seconds nobody has used it.
    """

    adaptation: Adaptation | None = None
    last: str = ""
    ago: float = 0.0
    idle_timeout: float = 0.0
    unused: float = 0.0


Info = TypeVar("Info", bound=ProcessInfo)


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """A cluster.

    :ivar state: ``starting``, ``running`` or ``stopping``; of one whose ``ipcluster`` does not answer ``stopped`` or
        ``stuck``.
    :ivar host: where its ``ipcluster`` runs.
    :ivar pid: the process of ``ipcluster``.
    :ivar pid_started: what tells that process from a later one with its number.
    :ivar started: when it was started, in seconds since 1970.
    :ivar socket: where it takes orders.
    :ivar ids: the engines that are usable now.
    :ivar jobs: ids of its batch jobs.
    :ivar end_commands: what cancels those jobs.
    :ivar n: how many engines were asked for.
    :ivar nanny: the process that has all others of this host below it; None until it is known.
    :ivar warnings: what is wrong with the controller, such as a full disk, and what to do; one line each.
    :ivar temporary: whether the cluster's files go with it.
    :ivar scaling: what it does by itself; None if it does nothing.
    :ivar hosts: the hosts that it logs in to.
    """

    cluster_id: str
    kind: str
    state: str
    host: str
    pid: int
    pid_started: float
    started: float
    ipython_dir: str
    socket: str = ""
    n: int = 0
    ids: tuple[int, ...] = ()
    controller: ProcessInfo | None = None
    engines: tuple[EngineInfo, ...] = ()
    jobs: tuple[str, ...] = ()
    end_commands: tuple[tuple[str, ...], ...] = ()
    nanny: ProcessInfo | None = None
    warnings: tuple[str, ...] = ()
    temporary: bool = False
    scaling: ScalingInfo | None = None
    hosts: tuple[HostInfo, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain lists and dicts."""
        content = dataclasses.asdict(self)
        # An engine's id first, for those who read it.
        content["engines"] = [{"id": each["id"], **each} for each in content["engines"]]
        return content

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> ClusterStatus:
        """From what :meth:`to_json` gave.

        :raises ClusterError: when it is something else.
        """
        try:
            values = _known_fields(cls, content)
            values["engines"] = tuple(_info(EngineInfo, each) for each in values.get("engines", ()))
            for name in ("controller", "nanny"):
                if values.get(name) is not None:
                    values[name] = _info(ProcessInfo, values[name])
            values["hosts"] = tuple(_host_info(each) for each in values.get("hosts", ()))
            for name in ("ids", "jobs", "warnings"):
                values[name] = tuple(values.get(name, ()))
            values["end_commands"] = tuple(map(tuple, values.get("end_commands", ())))
            if values.get("scaling") is not None:
                values["scaling"] = _scaling(values["scaling"])
            return cls(**values)
        except (TypeError, ValueError, KeyError, AttributeError) as problem:
            raise ClusterError(f"this is not the state of a cluster: {problem}") from None

    @property
    def is_here(self) -> bool:
        """Whether its ``ipcluster`` was started on this host."""
        return self.host == socket.gethostname()

    @property
    def is_alive(self) -> bool:
        """Whether its ``ipcluster`` lives; only to be asked on its host."""
        return osprocess.is_alive(self.pid, self.pid_started)

    @property
    def is_stopped(self) -> bool:
        """Whether a signal has stopped its ``ipcluster``; only to be asked on its host."""
        return process_state(self.pid, self.pid_started) is ProcessState.STOPPED

    def as_last_known(self) -> ClusterStatus:
        """This, when its ``ipcluster`` does not answer: with what the system says of its processes on this host."""
        return dataclasses.replace(self.as_seen(), state="stopped" if self.is_stopped else "stuck")

    def as_seen(self) -> ClusterStatus:
        """This, with what the system says of its processes on this host now."""
        return dataclasses.replace(
            self,
            controller=None if self.controller is None else _as_seen(self.controller),
            nanny=None if self.nanny is None else _as_seen(self.nanny),
            engines=tuple(map(_as_seen, self.engines)),
        )


def _as_seen(info: Info) -> Info:
    if info.host or not info.pid_started:
        return info
    state = process_state(info.pid, info.pid_started)
    if state.alive:
        return dataclasses.replace(info, stopped=state is ProcessState.STOPPED)
    return dataclasses.replace(info, state="ended", stopped=False, silent=0.0)


def _info(cls: Any, content: dict[str, Any]) -> Any:
    values = _known_fields(cls, content)
    return cls(**{**values, "lines": tuple(values.get("lines", ()))})


def _scaling(content: dict[str, Any]) -> ScalingInfo:
    values = _known_fields(ScalingInfo, content)
    if values.get("adaptation") is not None:
        values["adaptation"] = Adaptation(**_known_fields(Adaptation, values["adaptation"]))
    return ScalingInfo(**values)


def _host_info(content: dict[str, Any]) -> HostInfo:
    values = _known_fields(HostInfo, content)
    return HostInfo(**{**values, "engines": tuple(values.get("engines", ()))})


def _known_fields(cls: Any, content: dict[str, Any]) -> dict[str, Any]:
    known = {field.name for field in dataclasses.fields(cls)}
    return {name: value for name, value in content.items() if name in known}


def controller_info(status: ProcessStatus, now: float) -> ProcessInfo:
    """The controller, as its supervisor sees it, at a time of the supervisor's clock."""
    return ProcessInfo(**_known(status, now))


def engine_info(engine_id: int, status: ProcessStatus, now: float) -> EngineInfo:
    """An engine, as its supervisor sees it."""
    return EngineInfo(id=engine_id, **_known(status, now))


def _known(status: ProcessStatus, now: float) -> dict[str, Any]:
    waits = status.state is State.WAITING
    since = now if status.away_since is None or status.state is State.ENDED else status.away_since
    silent = now if status.silent_since is None or not status.alive else status.silent_since
    return {
        "silent": round(now - silent, 1),
        "stopped": status.alive and (_is_stopped(status) or status.stopped),
        "pid_started": status.started,
        "away": round(now - since, 1),
        "restart_in": round(max(0.0, status.due - now), 1) if waits else 0.0,
        "state": _state_name(status),
        "pid": status.pid,
        "host": status.host.removeprefix(CONTROLLER_HOST),
        "restarts": status.restarts,
        "reason": _reason(status),
        "lines": status.lines,
    }


def _is_stopped(status: ProcessStatus) -> bool:
    """Whether a process of this host is stopped now; of others the last word is that of their nanny."""
    if status.host or not status.pid:
        return False
    return process_state(status.pid, status.started) is ProcessState.STOPPED


def _state_name(status: ProcessStatus) -> str:
    return "starting" if status.state is State.REQUESTED else status.state.value


def _reason(status: ProcessStatus) -> str:
    return status.reason if status.state in (State.ENDED, State.WAITING) else ""


def write_state(path: Path, status: ClusterStatus) -> None:
    """Write the state file."""
    write_private(path, json.dumps(status.to_json(), indent=1).encode() + b"\n")


def read_state(path: Path) -> ClusterStatus | None:
    """What a state file says; None when there is none.

    :raises KernelError: when it is damaged, or open to others.
    """
    data = read_private_if_there(path, "state file")
    if data is None:
        return None
    try:
        content = json.loads(data)
    except ValueError:
        raise ClusterError(
            f"the state file {path} is damaged; remove it when that cluster is gone: rm {path}"
        ) from None
    return ClusterStatus.from_json(content)


def wait_until_gone(files: ClusterFiles, limit: float) -> None:
    """Wait until nothing is left of a cluster of this host.

    Its lock is free when neither ``ipcluster`` nor the process that has all others below it is there.

    :param limit: seconds.
    :raises ResultNotCompleted: when the time is over.
    """
    lock = LockFile(files.security_file("ipcluster.lock"))
    until = time.monotonic() + limit
    while not lock.acquire():
        if time.monotonic() > until:
            raise ResultNotCompleted(
                f"the processes of {title_of(files.cluster_id)} did not end within {limit:g} s"
            )
        time.sleep(0.02)
    lock.release()


def connect_to(files: ClusterFiles) -> socket.socket:
    """A connection to the cluster of these files.

    :raises ClusterError: when it does not run, or not on this host.
    """
    name = title_of(files.cluster_id)
    option = option_of(files.cluster_id)
    state = read_state(files.state)
    if state is None:
        raise ClusterError(
            f"there is no {name.removeprefix('the ')} in {files.dirs.ipython_dir}; "
            f"start one with: ipcluster -n 4{option}"
        )
    if not state.is_here:
        raise ClusterError(
            f"{name} was started on {state.host}; on that host it can be asked and stopped"
        )
    if not state.is_alive:
        raise ClusterError(
            f"{name} is gone: its ipcluster (process {state.pid}) was killed; tidy up with: ipcluster stop{option}"
        )
    return connect_control(state.socket)
