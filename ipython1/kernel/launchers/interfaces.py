"""The interfaces between a cluster and the launchers of engines and controllers."""

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
    """Engines that start and end together: one process, one MPI job, one batch job.

    :ivar key: its name; that of its process if it has one.
    :ivar count: the number of engines.
    :ivar ids: their ids, if known in advance.
    """

    key: str
    count: int = 1
    ids: tuple[int, ...] = ()


class Observer(Protocol):
    """Receives reports from a launcher."""

    def say(self, text: str) -> None:
        """Show a line to the user."""

    def unit_ended(self, key: str, reason: str, lines: Sequence[str], asked: bool) -> None:
        """A unit without a supervised process has ended."""

    def set_end_commands(self, key: str, commands: Sequence[Sequence[str]]) -> None:
        """Set commands to run when the cluster ends for any reason; they replace earlier ones of ``key``."""

    def jobs_changed(self) -> None:
        """The launcher's ``jobs()`` have changed."""


@dataclass(frozen=True, slots=True)
class Context:
    """The objects that a launcher uses.

    :ivar nanny: the link to this host's nanny.
    """

    config: ClusterConfig
    files: ClusterFiles
    reactor: Any
    supervisor: ProcessSupervisor
    nanny: NannyLink
    observer: Observer


class IEngineLauncher(Interface):
    """Starts engines.  The constructor takes a :class:`Context`."""

    kind = Attribute("The launcher's name, for messages.")
    early = Attribute("Whether ``start`` may be called before the controller listens.")
    waits_in_queue = Attribute("Whether engines may wait for an unlimited time before they start.")

    def check() -> None:
        """Raise a ClusterError if this cannot work here (a program is missing); called before anything starts."""

    def default_count() -> int:
        """Return how many engines to start if the user gives no number."""

    async def prepare() -> None:
        """Prepare while the controller starts (connect to hosts), without starting engines."""

    async def start(ids: Sequence[int]) -> Sequence[Unit]:
        """Start one engine for each of ``ids`` (which a launcher may ignore), or raise a ClusterError."""

    async def remove(unit: Unit) -> None:
        """Stop the engines of one unit."""

    async def restart(unit: Unit) -> None:
        """Restart the engines of one unit, or raise a ClusterError."""

    def signal(unit: Unit, number: int) -> None:
        """Send a signal to the engines of one unit, or raise a ClusterError."""

    async def logs(unit: Unit, engine_id: int, lines: int) -> list[str]:
        """Return the last lines of an engine's log."""

    def jobs() -> Sequence[str]:
        """Return the ids of batch jobs, for the state file."""

    async def close(grace: float) -> None:
        """Stop what this host's nanny does not stop (processes on other hosts), within ``grace`` seconds.

        It is called again with a shorter time if the user is in a hurry.
        """


class IControllerLauncher(Interface):
    """Starts the controller.  The constructor takes a :class:`Context`."""

    def check() -> None:
        """Raise a ClusterError if this cannot work here."""

    async def start() -> None:
        """Start it; return when it listens and its FURL files are in this host's security directory."""

    async def logs(lines: int) -> list[str]:
        """Return the last lines of its log."""

    async def close(grace: float) -> None:
        """Stop it if this host's nanny does not; may be called again, like ``close`` of :class:`IEngineLauncher`."""
