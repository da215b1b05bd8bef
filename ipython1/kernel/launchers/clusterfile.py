"""The file that says what runs on which host: Python, or an ini file with the same content.

As Python::

    controller = dict(host='myhost', engine_port=None, control_port=None)
    engines = dict(node1=2, node2=dict(n=4, python='/opt/python/bin/python3'))
    defaults = dict(env=dict(OMP_NUM_THREADS='1'))

As an ini file (its name ends in ``.ini``)::

    [controller]
    host = myhost
    [engines]
    node1 = 2
    [[node2]]
    n = 4
    python = /opt/python/bin/python3
    [defaults]
    [[env]]
    OMP_NUM_THREADS = 1

If the controller is missing, or its host is empty or ``localhost``, the controller runs on the host of ``ipcluster``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ipython1.checks import is_int
from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.launchers.clusterconfig import ClusterConfig
from ipython1.regularfiles import read_regular_text

LOCAL = ("", "localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class HostSpec:
    """A host that is reached over ssh.

    :ivar host: an argument of ``ssh``: a name, ``user@name``, or a ``Host`` in ``~/.ssh/config``.
    :ivar n: the number of engines.
    :ivar python: the interpreter there; empty for the same path as here if it exists there, else ``python3``.
    :ivar ipython_dir: the IPython directory there; empty for the same path as here, relative to the home directory.
    :ivar cwd: the working directory of the engines.
    :ivar env: environment variables for the engines.
    :ivar setup: shell commands to run before Python starts (``module load python``).
    :ivar tunnel: whether connections between this host and the controller go through ssh.
    """

    host: str
    n: int = 1
    python: str = ""
    ipython_dir: str = ""
    cwd: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    setup: tuple[str, ...] = ()
    tunnel: bool = False


@dataclass(frozen=True, slots=True)
class ControllerSpec:
    """The controller's host.

    :ivar host: how it is reached over ssh; None for this host.
    :ivar engine_port: the port where it listens for engines; None for any port.
    :ivar control_port: the port where it listens for clients; None for any port.
    :ivar location: the address at which engines and clients reach it, if it is not its primary address.
    """

    host: HostSpec | None = None
    engine_port: int | None = None
    control_port: int | None = None
    location: str = ""


@dataclass(frozen=True, slots=True)
class ClusterFile:
    """The content of the file."""

    controller: ControllerSpec
    engines: tuple[HostSpec, ...]

    @property
    def count(self) -> int:
        """The number of engines."""
        return sum(host.n for host in self.engines)


_HOST_FIELDS = tuple(each.name for each in fields(HostSpec) if each.name != "host")


class _Wrong(Exception):
    """The content of the file is invalid."""


def cluster_hosts(config: ClusterConfig) -> ClusterFile:
    """Return the hosts that a cluster's options name, or else its file; what the file says of a host goes first.

    :raises ClusterError: if the file cannot be read or is invalid.
    """
    if config.ssh.hosts:
        hosts = tuple(HostSpec(name, n) for name, n in config.ssh.hosts)
        found = ClusterFile(ControllerSpec(), hosts)
    else:
        found = read_cluster_file(config.ssh.cluster_file)
    return replace(
        found,
        engines=tuple(
            replace(
                host,
                env={**dict(config.env), **host.env},
                cwd=host.cwd or config.cwd,
                python=host.python or config.python,
            )
            for host in found.engines
        ),
    )


def read_cluster_file(path: str) -> ClusterFile:
    """Read a cluster file.

    :raises ClusterError: if it cannot be read or is invalid; the message says what is wrong.
    """
    try:
        text = read_regular_text(path)
    except OSError as problem:
        raise ClusterError(f"cannot read the cluster file {path}: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise ClusterError(f"the cluster file {path} is not a UTF-8 text file") from None
    try:
        content = _from_ini(text) if path.endswith(".ini") else _from_python(text, path)
        return _cluster_file(content)
    except _Wrong as problem:
        raise ClusterError(f"error in the cluster file {path}: {problem}") from None


def _from_python(text: str, path: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    try:
        exec(compile(text, path, "exec"), namespace)
    except SyntaxError as problem:
        raise _Wrong(f"line {problem.lineno}: {problem.msg}") from None
    except Exception as problem:
        line = problem.__traceback__
        while line is not None and line.tb_next is not None:
            line = line.tb_next
        where = f"line {line.tb_lineno}: " if line is not None else ""
        raise _Wrong(f"{where}{type(problem).__name__}: {problem}") from None
    return {
        name: namespace[name] for name in ("controller", "engines", "defaults") if name in namespace
    }


def _from_ini(text: str) -> dict[str, Any]:
    from configobj import ConfigObj, ConfigObjError

    try:
        content = ConfigObj(text.splitlines(), interpolation=False).dict()
    except ConfigObjError as problem:
        raise _Wrong(str(problem)) from None
    unknown = set(content) - {"controller", "engines", "defaults"}
    if unknown:
        raise _Wrong(
            f"unknown section {sorted(unknown)[0]!r}; the sections are controller, engines, defaults"
        )
    return dict(content)


def _cluster_file(content: dict[str, Any]) -> ClusterFile:
    defaults = _options(content.get("defaults", {}), "defaults", _HOST_FIELDS)
    engines = content.get("engines")
    if not isinstance(engines, Mapping) or not engines:
        raise _Wrong("engines must give the number per host: engines = dict(node1=2, node2=2)")
    hosts = tuple(_host(str(name), value, defaults) for name, value in engines.items())
    return ClusterFile(_controller(content.get("controller"), defaults), hosts)


def _controller(value: Any, defaults: dict[str, Any]) -> ControllerSpec:
    own = ("engine_port", "control_port", "location")
    known = ("host", *own, *_HOST_FIELDS)
    options = _options({} if value is None else value, "controller", known)
    host = str(options.pop("host", None) or "")
    mine = {name: options.pop(name) for name in own if options.get(name) not in (None, "", "None")}
    for name in ("engine_port", "control_port"):
        options.pop(name, None)
        if name in mine:
            mine[name] = _number(mine[name], f"controller: {name}", 65535)
    options.pop("location", None)
    where = None if host in LOCAL else _host(host, {**options, "n": 0}, defaults)
    return ControllerSpec(where, **mine)


def _host(name: str, value: Any, defaults: dict[str, Any]) -> HostSpec:
    if not name or name.startswith("-") or any(c.isspace() for c in name):
        raise _Wrong(f"{name!r} is not a valid host")
    given = value if isinstance(value, Mapping) else {"n": value}
    options = {**defaults, **_options(given, f"engines: {name}", _HOST_FIELDS)}
    n = _number(options.pop("n", 1), f"engines: {name}: n", 100_000)
    env = options.pop("env", {})
    if not isinstance(env, Mapping):
        raise _Wrong(f"engines: {name}: env must be a dict of environment variables")
    setup = options.pop("setup", ())
    lines = (setup,) if isinstance(setup, str) else tuple(map(str, setup))
    variables = {str(key): str(each) for key, each in env.items()}
    tunnel = _yes_or_no(options.pop("tunnel", False), f"engines: {name}: tunnel")
    plain = {key: "" if each is None else str(each) for key, each in options.items()}
    return HostSpec(name, n, env=variables, setup=lines, tunnel=tunnel, **plain)


def _options(value: Any, where: str, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _Wrong(f"{where} must be a dict")
    unknown = [name for name in value if name not in known]
    if unknown:
        raise _Wrong(f"{where} has no option {unknown[0]!r}; the options are {', '.join(known)}")
    return dict(value)


def _yes_or_no(value: Any, where: str) -> bool:
    found = {"True": True, "False": False}.get(str(value))
    if found is None:
        raise _Wrong(f"{where} must be True or False, not {value!r}")
    return found


def _number(value: Any, where: str, most: int) -> int:
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if not is_int(value) or not 0 <= value <= most:
        raise _Wrong(f"{where} must be a number from 0 to {most}, not {value!r}")
    return value
