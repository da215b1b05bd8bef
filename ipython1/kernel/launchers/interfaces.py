"""What the cluster asks of the ways to start engines and controllers, and what it offers them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from zope.interface import Attribute, Interface

from ipython1.daemon.link import NannyLink
from ipython1.daemon.supervisor import ProcessSupervisor
from ipython1.kernel.host.security import ClusterFiles
from ipython1.kernel.launchers.clusterconfig import ClusterConfig


@dataclass(frozen=True, slots=True)
class Unit:
    """Engines that live and die together: one process, one MPI job, one batch job.

    :ivar key: its name; that of its process where it has one.
    :ivar count: how many engines it is.
    :ivar ids: their ids where those are known beforehand.
    """

    key: str
    count: int = 1
    ids: tuple[int, ...] = ()


class Observer(Protocol):
    """What a launcher may tell the cluster."""

    def say(self, text: str) -> None:
        """Show a line to the user."""

    def unit_ended(self, key: str, reason: str, lines: Sequence[str], asked: bool) -> None:
        """A unit that has no supervised process came to its end."""

    def set_end_commands(self, key: str, commands: Sequence[Sequence[str]]) -> None:
        """Commands to run when the cluster ends, in whatever way; they replace the earlier ones of ``key``."""

    def jobs_changed(self) -> None:
        """The launcher's ``jobs()`` give something else now."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a launcher works with.

    :ivar nanny: the link to this host's nanny.
    """

    config: ClusterConfig
    files: ClusterFiles
    reactor: Any
    supervisor: ProcessSupervisor
    nanny: NannyLink
    observer: Observer


class IEngineLauncher(Interface):
    """A way to start engines.  Made with a :class:`Context`."""

    kind = Attribute("The name of the way, for messages.")
    early = Attribute("Whether ``start`` may be called before the controller listens.")
    waits_in_queue = Attribute("Whether it may take any time before engines begin to come up.")

    def check() -> None:
        """Raise a ClusterError when this cannot work here (a program is missing); nothing has been started yet."""

    def default_count() -> int:
        """How many engines to start when the user did not say."""

    async def prepare() -> None:
        """Get ready while the controller starts (connect to hosts); no engine is started yet."""

    async def start(ids: Sequence[int]) -> Sequence[Unit]:
        """Start one engine for each of ``ids`` (which a launcher may ignore); raise a ClusterError when that fails."""

    async def remove(unit: Unit) -> None:
        """End the engines of one unit."""

    async def restart(unit: Unit) -> None:
        """End and start again the engines of one unit, or raise a ClusterError."""

    def signal(unit: Unit, number: int) -> None:
        """Send a signal to the engines of one unit, or raise a ClusterError."""

    async def logs(unit: Unit, engine_id: int, lines: int) -> list[str]:
        """The last lines that an engine has logged."""

    def jobs() -> Sequence[str]:
        """The ids of batch jobs, for the state file."""

    async def close(grace: float) -> None:
        """End what this host's nanny does not end: processes on other hosts, within ``grace`` seconds.

        It is called again, with a shorter time, when the user is in a hurry.
        """


class IControllerLauncher(Interface):
    """A way to start the controller.  Made with a :class:`Context`."""

    def check() -> None:
        """Raise a ClusterError when this cannot work here."""

    async def start() -> None:
        """Start it; fires when it listens and its FURL files are in this host's security directory."""

    async def logs(lines: int) -> list[str]:
        """The last lines that it has logged."""

    async def close(grace: float) -> None:
        """End it where this host's nanny does not; may be called again, as that of engines."""
