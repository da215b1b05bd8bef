"""The interfaces between a cluster and the launchers of engines and controllers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True, slots=True)
class HostInfo:
    """A host that a launcher is connected to, or wants to be.

    :ivar name: as the user named it.
    :ivar state: ``new``, ``logging in``, ``there``, ``silent`` (connected, but does not answer), ``away`` (it is tried
        again) or ``unusable`` (somebody must mend it).
    :ivar reason: why it is not there, or what is waited for.
    :ivar attempts: how many logins in a row have failed.
    :ivar retry_in: in how many seconds it is tried again, while it is away; else 0.
    :ivar silent: for how many seconds it has not answered, while it is silent; else 0.
    :ivar engines: the ids of the engines that belong there.
    """

    name: str
    state: str
    reason: str = ""
    attempts: int = 0
    retry_in: float = 0.0
    silent: float = 0.0
    engines: tuple[int, ...] = ()


class Observer(Protocol):
    """Receives reports from a launcher."""

    def say(self, text: str) -> None:
        """Show a line to the user.

        :param text: the line, without its newline.
        """

    def unit_ended(
        self, key: str, reason: str, lines: Sequence[str], asked: bool, by_system: bool = False
    ) -> None:
        """A unit without a supervised process has ended.

        :param key: the unit's name.
        :param reason: why, as the end of a sentence that begins with the name.
        :param lines: the last lines of its output.
        :param asked: whether it was to end.
        :param by_system: whether it was ended from outside (a time limit, preemption, a lost node, somebody who has
            cancelled it), so that its tasks are not to blame.
        """

    def unit_queued(self, key: str, reason: str | None) -> None:
        """A unit waits in a queue, or has left it, so that its engines are starting.

        :param reason: why it waits, in the batch system's words; empty if it does not say; None if it has left.
        """

    def unit_comes_back(self, key: str, reason: str) -> None:
        """A unit was ended from outside, and will be started again: its tasks are not to blame.

        :param reason: why it was ended, as the end of a sentence that begins with the name.
        """

    def unit_shrinks(self, rest: Unit, ends: Mapping[int, str]) -> None:
        """Some of a unit's several engines have ended by themselves.

        :param rest: what stays of the unit.
        :param ends: how each has ended, by its id, as the end of a sentence that begins with the engine.
        """

    def set_end_commands(self, key: str, commands: Sequence[Sequence[str]]) -> None:
        """Set commands to run when the cluster ends for any reason; they replace earlier ones of ``key``.

        :param key: what the commands are for (a job).
        :param commands: each as a program and its arguments; none if there is nothing to end any more.
        """

    def jobs_changed(self) -> None:
        """The launcher's ``jobs()`` have changed."""


@dataclass(frozen=True, slots=True)
class Context:
    """The objects that a launcher uses.

    :ivar config: what the user asked for.
    :ivar files: where the cluster's files are on this host.
    :ivar supervisor: starts and watches processes through nannies.
    :ivar nanny: the link to this host's nanny.
    :ivar observer: takes reports.
    :ivar scope: what a launcher appends to the names under which the supervisor knows hosts, because another launcher
        of the same cluster may have a connection of its own to the same host.
    """

    config: ClusterConfig
    files: ClusterFiles
    reactor: Any
    supervisor: ProcessSupervisor
    nanny: NannyLink
    observer: Observer
    scope: str = ""


class IEngineLauncher(Interface):
    """Starts engines.  The constructor takes a :class:`Context`.

    A launcher whose units have several engines with known ids also has a method ``shrink(rest)``: the controller ends
    some engines of a unit, and ``rest``, of the same key, is what stays.

    A launcher that decides where the controller runs also has a method ``controller_launcher()``, which returns an
    :class:`IControllerLauncher`, or None for a controller on this host.

    A launcher whose units are jobs that end as a whole has an attribute ``together``, which is True.  Such a cluster
    cannot adapt to its tasks.
    """

    kind: str = Attribute("The launcher's name, for messages.")
    early: bool = Attribute("Whether ``start`` may be called before the controller listens.")
    waits_in_queue: bool = Attribute(
        "Whether engines may wait for an unlimited time before they start."
    )

    def check() -> None:
        """Check that this can work here; called before anything starts.

        :raises ClusterError: if it cannot (a program is missing).
        """

    def default_count() -> int:
        """Return how many engines to start if the user gives no number."""

    async def prepare() -> None:
        """Prepare while the controller starts (connect to hosts), without starting engines.

        :raises ClusterError: if no engine could be started afterwards.
        """

    async def start(ids: Sequence[int]) -> Sequence[Unit]:
        """Start engines; return without waiting until they are usable.

        :param ids: one free id for each engine; a launcher may let the controller choose other ones.
        :returns: what was started.  Units that are processes have the keys of those.
        :raises ClusterError: if nothing could be started.
        """

    async def remove(unit: Unit) -> None:
        """Stop the engines of one unit; return when its process has ended, or its end was asked for.

        :raises ClusterError: if that failed; the unit is still there then.
        """

    async def restart(unit: Unit) -> None:
        """Restart the engines of one unit; return without waiting until they are usable.

        :raises ClusterError: if engines of this kind cannot be restarted.
        """

    def signal(unit: Unit, number: int) -> None:
        """Send a signal to all engines of one unit.

        :raises ClusterError: if engines of this kind cannot be signalled.
        """

    async def logs(unit: Unit, engine_id: int, lines: int) -> list[str]:
        """Return the last lines of an engine's log.

        :param engine_id: one of the unit's engines.
        :param lines: how many at most.
        :returns: none if there is no log yet.
        :raises ClusterError: if the log cannot be reached.
        """

    def jobs() -> Sequence[str]:
        """Return the ids of batch jobs, for the state file."""

    async def close(grace: float) -> None:
        """Stop what this host's nanny does not stop (processes on other hosts); return when that has ended.

        It is called again with a shorter time if the user is in a hurry.

        :param grace: seconds that processes may take to end before they are killed.
        """


class IControllerLauncher(Interface):
    """Starts the controller.  The constructor takes a :class:`Context`."""

    def check() -> None:
        """Check that this can work here; called before anything starts.

        :raises ClusterError: if it cannot.
        """

    async def start() -> None:
        """Start it; return when it listens and its FURL files are in this host's security directory.

        :raises ClusterError: if it does not come up.
        """

    async def logs(lines: int) -> list[str]:
        """Return the last lines of its log.

        :param lines: how many at most.
        """

    async def close(grace: float) -> None:
        """Stop it if this host's nanny does not; may be called again, like ``close`` of :class:`IEngineLauncher`.

        :param grace: seconds that it may take to end before it is killed.
        """
