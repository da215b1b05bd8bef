"""Controller and engines on this host, forked from the warm process."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from twisted.internet.defer import Deferred
from zope.interface import implementer

from ipython1.daemon.link import NannyError, NannyLink
from ipython1.daemon.processes import ProcessStatus, State
from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.launchers.failures import describe_failure
from ipython1.kernel.launchers.interfaces import (
    Context,
    IControllerLauncher,
    IEngineLauncher,
    Unit,
)
from ipython1.kernel.launchers.programs import (
    CONTROLLER_KEY,
    engine_key,
    engine_spec,
    request_controller,
)

LEAST_MEMORY: Final = 4 << 20
"""Bytes of memory that an engine of this host needs in any case."""

LEAST_MOST: Final = 1000
"""Engines that may be started at once, however little memory there is."""


class ControllerLauncher:
    """Base class for controllers that a nanny starts and reports as ready when they listen."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._listens: Deferred[None] = Deferred()
        context.supervisor.on_report(self._on_report)

    def check(self) -> None:
        """Do nothing: nothing can be missing."""

    async def listens(self) -> None:
        """Wait until it listens.

        :raises ClusterError: if it ends before.
        """
        status = self.context.supervisor.status().get(CONTROLLER_KEY)
        if status is not None:
            self._on_report(status)
        await self._listens

    def _on_report(self, status: ProcessStatus) -> None:
        if status.key != CONTROLLER_KEY or self._listens.called:
            return
        if status.state is State.RUNNING:
            self._listens.callback(None)
        elif status.state is State.ENDED:
            self._listens.errback(ClusterError(describe_failure(status)))


@implementer(IControllerLauncher)
class LocalController(ControllerLauncher):
    """The controller on this host."""

    async def start(self) -> None:
        """Start it unless it was already started before the reactor was imported; return when it listens."""
        config, files = self.context.config, self.context.files
        self.context.supervisor.decide(partial(request_controller, config=config, files=files))
        await self.listens()

    async def close(self, grace: float) -> None:
        """Do nothing: this host's nanny stops it."""

    async def logs(self, lines: int) -> list[str]:
        """Return the last lines of its log."""
        return await read_log(self.context.nanny, str(self.context.files.controller_log), lines)


async def read_log(nanny: NannyLink, path: str, lines: int) -> list[str]:
    """Return the last lines of a log file on a nanny's host; empty if the file does not exist yet."""
    try:
        return (await nanny.read_file(path, lines=lines)).splitlines()
    except NannyError:
        return []


@implementer(IEngineLauncher)
class HostedEngines:
    """Engines that are one supervised process each, on hosts with a nanny."""

    kind = "local"
    early = False
    waits_in_queue = False

    def __init__(self, context: Context) -> None:
        self.context = context

    def check(self) -> None:
        """Do nothing: nothing can be missing."""

    def default_count(self) -> int:
        """Return the configured number, by default one per core."""
        return self.context.config.count

    async def prepare(self) -> None:
        """Do nothing."""

    async def start(self, ids: Sequence[int]) -> Sequence[Unit]:
        """Start one engine for each of ``ids``."""
        units = []
        for engine_id in ids:
            self.start_one(engine_id)
            units.append(Unit(engine_key(engine_id), 1, (engine_id,)))
        return units

    def start_one(self, engine_id: int) -> None:
        """Start one engine; the subclass decides where."""
        raise NotImplementedError

    def nanny_of(self, unit: Unit) -> NannyLink:
        """Return the link to the nanny of a unit's process."""
        raise NotImplementedError

    async def remove(self, unit: Unit) -> None:
        """Stop one engine and forget it."""
        await self.context.supervisor.stop(unit.key)
        self.context.supervisor.forget(unit.key)

    async def restart(self, unit: Unit) -> None:
        """Restart one engine."""
        self.context.supervisor.restart(unit.key)

    def signal(self, unit: Unit, number: int) -> None:
        """Send a signal to one engine."""
        self.context.supervisor.signal(unit.key, number)

    async def logs(self, unit: Unit, engine_id: int, lines: int) -> list[str]:
        """Return the last lines of its log."""
        log = self.context.supervisor.spec(unit.key).spawn.log
        return await read_log(self.nanny_of(unit), log, lines)

    def jobs(self) -> Sequence[str]:
        """Return nothing: there are no batch jobs."""
        return ()

    async def close(self, grace: float) -> None:
        """Do nothing: this host's nanny stops the engines."""


class LocalEngines(HostedEngines):
    """Engines on this host."""

    early = True

    async def start(self, ids: Sequence[int]) -> Sequence[Unit]:
        """Start one engine for each of ``ids``.

        :raises ClusterError: if they are far more than this host's memory could hold.
        """
        memory = _memory()
        most = max(LEAST_MOST, memory // LEAST_MEMORY)
        if len(ids) > most:
            raise ClusterError(
                f"{len(ids):,} engines are too many for this host, whose memory of {memory / 1e9:.0f} GB is enough for "
                f"{most:,} at the very most; give a smaller number, or start them on several hosts (ssh, slurm, ...)"
            )
        return await super().start(ids)

    def start_one(self, engine_id: int) -> None:
        """Start one engine on this host once the controller listens."""
        spec = engine_spec(
            self.context.config,
            engine_id,
            self.context.files.engine_log(engine_id),
            after=CONTROLLER_KEY if self.controller_is_coming() else "",
        )
        self.context.supervisor.add(spec)

    def controller_is_coming(self) -> bool:
        """Return whether the controller is starting on this host and does not listen yet."""
        controller = self.context.supervisor.status().get(CONTROLLER_KEY)
        return controller is not None and controller.state in (State.REQUESTED, State.STARTING)

    def nanny_of(self, unit: Unit) -> NannyLink:
        """Return the link to this host's nanny."""
        return self.context.nanny


def _memory() -> int:
    """How many bytes of memory this host has."""
    import psutil

    return int(psutil.virtual_memory().total)
