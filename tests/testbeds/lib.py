"""The code that all testbeds share: their requirements, processes, ports, and the hosts that they run on."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import ClassVar

MARK = "IPYTHON1_TESTBED"
"""The variable in the environment of a testbed's processes that holds its directory."""

HOSTS_FILE = "hosts.json"
"""The file in which the testbed ``netns`` describes its hosts."""

_SYSTEM_PROGRAMS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_ERROR = re.compile(
    r"fatal|error|cannot|failed|no such|bind to|not allowed|refused|denied", re.IGNORECASE
)
_COMMAND_LIMIT = 30.0


class Missing(Exception):
    """A testbed is not available here; the text names what is missing, and what to do about it."""


class Failed(Exception):
    """A testbed did not start, although everything that it needs is installed."""


@dataclass(frozen=True, slots=True)
class Needs:
    """A program, and the Debian packages that provide it."""

    command: str
    packages: tuple[str, ...]


def search_path() -> str:
    """``PATH`` with the directories of daemons, which only root may have in it by default."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *_SYSTEM_PROGRAMS])


def is_root() -> bool:
    """Whether this process runs as root; False on systems without such a user."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def missing(needs: Iterable[Needs]) -> list[Needs]:
    """The programs that are not installed."""
    return [each for each in needs if not shutil.which(each.command, path=search_path())]


@dataclass(frozen=True, slots=True)
class Host:
    """Where a part of a testbed runs: this machine, or a host of the testbed ``netns``.

    :ivar name: its host name.
    :ivar address: its IPv4 address.
    :ivar address6: its IPv6 address; empty if there is no IPv6.
    :ivar pid: a process that keeps its namespaces alive; 0 for this machine.
    :ivar unprivileged: whether its namespaces are in a user namespace, as for a user other than root.
    """

    name: str
    address: str = "127.0.0.1"
    address6: str = "::1"
    pid: int = 0
    unprivileged: bool = False

    def command(self, *command: str) -> list[str]:
        """The command line that runs a command there; the pid stays the same, so you can signal it."""
        if not self.pid:
            return list(command)
        user = ("--user", "--preserve-credentials") if self.unprivileged else ()
        enter = ["nsenter", f"--target={self.pid}", *user, "--net", "--uts", "--mount", "--"]
        # A process that enters a mount namespace starts in its root directory.
        return [*enter, "sh", "-c", 'cd "$0" && exec "$@"', os.getcwd(), *command]


def read_hosts(directory: Path) -> dict[str, Host]:
    """The hosts of the testbed ``netns`` whose directory this is, by name.

    :raises Missing: if it is not up.
    """
    try:
        described = json.loads((directory / HOSTS_FILE).read_text())
    except FileNotFoundError:
        raise Missing(f"there are no hosts in {directory}: the testbed netns is not up") from None
    return {each["name"]: Host(**each) for each in described}


def write_hosts(directory: Path, hosts: Iterable[Host]) -> None:
    """Write the file that :func:`read_hosts` reads."""
    (directory / HOSTS_FILE).write_text(json.dumps([asdict(host) for host in hosts]))


def free_ports(count: int) -> int:
    """The first of ``count`` consecutive ports that nobody uses now, not even another testbed.

    :raises Failed: if there are none.
    """
    for _ in range(200):
        # Stay below the ports that Linux uses for outgoing connections.
        first = random.randrange(20000, 30000)
        try:
            for number in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("", number))
        except OSError:
            continue
        return first
    raise Failed(f"there are no {count} free ports in a row")


@dataclass(frozen=True, slots=True)
class Daemon:
    """A process of a testbed, and the files to which it may write errors."""

    name: str
    process: subprocess.Popen[bytes]
    logs: tuple[Path, ...]

    def trouble(self) -> str:
        """The most informative lines of its logs."""
        lines = [
            line.strip()
            for log in self.logs
            if log.exists()
            for line in log.read_text(errors="replace").splitlines()
            if line.strip()
        ]
        return " / ".join(([line for line in lines if _ERROR.search(line)] or lines)[-3:])


def wait_for(
    what: str, condition: Callable[[], object], daemons: Sequence[Daemon] = (), limit: float = 30.0
) -> None:
    """Wait until something is true.

    :param what: what to name in the error if it does not become true.
    :param daemons: the daemons that must keep running meanwhile.
    :param limit: seconds.
    :raises Failed: if one of them ends, or the time is over.
    """
    end = time.monotonic() + limit
    while not condition():
        for daemon in daemons:
            if daemon.process.poll() is not None:
                raise Failed(f"{daemon.name} ended: {daemon.trouble()}")
        if time.monotonic() > end:
            told = "".join(f"; {each.name}: {each.trouble()}" for each in daemons[:2])
            raise Failed(f"{what} did not come up within {limit:g} s{told}")
        time.sleep(0.05)


def succeeds(command: Sequence[str]) -> bool:
    """Whether a command ends with status 0 within a few seconds."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=5.0,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def output_of(command: Sequence[str], **more: str) -> str:
    """Run a command; returns its output.

    :param more: environment variables to add.
    :raises Failed: if it fails, with its output.
    """
    try:
        return subprocess.run(
            command,
            env={**os.environ, **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COMMAND_LIMIT,
            check=True,
        ).stdout
    except subprocess.CalledProcessError as problem:
        said = (problem.stderr.strip() or problem.stdout.strip()).splitlines()
        raise Failed(
            f"'{' '.join(command)}' failed: {said[-1] if said else 'no message'}"
        ) from None
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise Failed(f"'{' '.join(command)}' failed: {problem}") from None


@dataclass(frozen=True)
class Testbed:
    """One testbed, up or not; its fields other than the directory are its settings.

    Each subclass has its own file, and an entry in ``BEDS`` of ``tests.testbeds.supervisor``.

    :cvar name: its name.
    :cvar needs: the programs that it runs.
    :cvar install_first: programs to install first, so that the packages of the others do not bring unwanted ones.
    :cvar needs_root: whether only root can start it.
    :ivar directory: holds all its files; it is created for the testbed, and removed with it.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[Needs, ...]]
    install_first: ClassVar[tuple[Needs, ...]] = ()
    needs_root: ClassVar[bool] = False

    directory: Path

    @property
    def settings(self) -> dict[str, str]:
        """The settings as text."""
        return {
            each.name: str(getattr(self, each.name))
            for each in fields(self)
            if each.name != "directory"
        }

    @classmethod
    def make(cls, directory: Path, settings: Mapping[str, str]) -> Testbed:
        """The testbed with these settings.

        :raises ValueError: if there is no such setting, or it must be a number and is not.
        """
        kinds = {each.name: each.type for each in fields(cls) if each.name != "directory"}
        if unknown := sorted(set(settings) - set(kinds)):
            known = ", ".join(kinds) or "none"
            raise ValueError(f"{cls.name} has no setting {unknown[0]!r}; it has: {known}")
        values: dict[str, object] = dict(settings)
        for name, value in settings.items():
            if kinds[name] == "int":
                if not value.isdecimal():
                    raise ValueError(f"{name} must be a number, not {value!r}")
                values[name] = int(value)
        return cls(directory, **values)

    def check(self) -> None:
        """Make sure that it is available here.

        :raises Missing: if it is not.
        """
        if self.needs_root and not is_root():
            raise Missing(f"the testbed {self.name} needs root")
        for each in missing(self.needs):
            raise Missing(
                f"{each.command} is missing, which the testbed {self.name} needs: install the package "
                f"{each.packages[0]} ('scripts/prepare-venv test' does so as root with apt-get)"
            )

    def start(self) -> dict[str, str]:
        """Start all its processes, and wait until they can be used.

        :returns: the environment variables that lead its users to it.
        :raises Missing: if it turns out that this machine cannot run it.
        :raises Failed: if it does not come up.
        """
        raise NotImplementedError

    def processes(self) -> set[int]:
        """The pids of processes that belong to it, although it has not started them."""
        return set()

    def close(self) -> None:
        """Undo changes that do not end with its processes and its directory."""

    def spawn(
        self,
        name: str,
        command: Sequence[str],
        *logs: Path,
        environ: Mapping[str, str] | None = None,
    ) -> Daemon:
        """Start a daemon, which must stay in the foreground.

        :param logs: log files that it writes itself; another one holds its output.
        :param environ: variables to add.
        """
        log = self.directory / f"{name}.out"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env={**os.environ, **(environ or {})},
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        return Daemon(name, process, (*logs, log))


@dataclass(frozen=True)
class HostedTestbed(Testbed):
    """A testbed that runs on this machine, or on hosts of the testbed ``netns``.

    :ivar on: names of hosts, with commas between them; empty for this machine.
    :ivar netns: the directory of that testbed.
    """

    on: str = ""
    netns: str = ""

    def check(self) -> None:
        super().check()
        if self.on and not is_root():
            raise Missing(
                f"the testbed {self.name} needs root to run on hosts of the testbed netns"
            )

    def hosts(self) -> list[Host]:
        """The named hosts; empty for this machine.

        :raises Missing: if there are no such hosts.
        """
        if not self.on:
            return []
        known = read_hosts(Path(self.netns))
        for name in self.on.split(","):
            if name not in known:
                raise Missing(f"the testbed netns has no host {name!r}; it has: {', '.join(known)}")
        return [known[name] for name in self.on.split(",")]
