"""Keeps looking at how busy a cluster is, and does what follows: engines come and go, and an unused cluster ends.

The shell around :mod:`ipython1.kernel.clusters.adaptive` and :mod:`ipython1.kernel.clusters.unused`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ipython1.kernel.basics.error import ClusterError, KernelError
from ipython1.kernel.clusters.adaptive import (
    AdaptiveMachine,
    Drain,
    Grow,
    Instruction,
    Remove,
    Say,
    Undrain,
)
from ipython1.kernel.clusters.adaptiveunits import UnitSeen
from ipython1.kernel.clusters.engines import Engines
from ipython1.kernel.clusters.engineview import EnginesView
from ipython1.kernel.clusters.progress import StartProgress
from ipython1.kernel.clusters.status import ScalingInfo
from ipython1.kernel.clusters.unused import Unused
from ipython1.kernel.launchers.adaptation import Adaptation
from ipython1.kernel.watching.amounts import duration_text

INTERVAL: Final = 1.0
"""Seconds between two looks at a cluster that adapts."""

LEAST_INTERVAL: Final = 0.2
MOST_INTERVAL: Final = 30.0
"""Seconds between two looks at a cluster that only ends when it is unused, at least and at most."""

LOOKS: Final = 20
"""Looks within the time after which it ends."""


class Scaled(Protocol):
    """A cluster, as its scaling sees it."""

    @property
    def view(self) -> EnginesView | None:
        """The connection to the controller; None while there is none."""

    async def add_engines(
        self, count: int, *, requested: Callable[[], object] = ...
    ) -> StartProgress:
        """Start engines; return what became of them.

        :param requested: called once their start was asked for.
        """

    async def remove_engines(self, ids: Iterable[int]) -> None:
        """End engines; return when they are gone."""

    def say(self, text: str) -> None:
        """Show a line to the user."""

    def give_up(self, text: str, status: int) -> None:
        """Say why the cluster does not go on, and end it with this exit status."""

    def changed(self) -> None:
        """Tell everybody that something has changed."""


class Scaling:
    """See the module's text.

    :param reactor: for the time.
    :param engines: what is known of the cluster's engines.
    :param launcher: the one that starts more of them.
    :param idle_timeout: seconds without use after which the cluster ends; 0 for never.
    :param start_timeout: seconds that engines may take to come up once they run; 0 for any time.
    """

    log: Logger = Logger()

    def __init__(
        self,
        reactor: Any,
        cluster: Scaled,
        engines: Engines,
        launcher: Any,
        idle_timeout: float = 0.0,
        start_timeout: float = 0.0,
    ) -> None:
        self._reactor = reactor
        self._cluster = cluster
        self._engines = engines
        self._launcher = launcher
        self._unused = Unused(idle_timeout)
        self._start_timeout = start_timeout
        self._machine: AdaptiveMachine | None = None
        self._want: Adaptation | None = None
        self._call: Any = None
        self._looking = False
        self._again = False
        self._began = False
        self._over = False
        self._last = ""
        self._last_at = 0.0

    # -- what users ask

    def begin(self) -> None:
        """The cluster has started: look at it from now on."""
        self._began = True
        self._look_in(0.0)

    def adapt(self, want: Adaptation | None) -> None:
        """Have engines come and go; None for no more changes.

        :raises ClusterError: if the engines cannot come and go one by one.
        """
        if self._over:
            raise ClusterError("the cluster is being stopped")
        if want is not None and getattr(self._launcher, "together", False):
            raise ClusterError(
                f"engines of kind {self._launcher.kind!r} end together, so their number cannot adapt to the tasks"
            )
        self._want = want
        if want is None:
            if self._machine is not None:
                self._follow(self._machine.stop())
        elif self._machine is None:
            self._machine = AdaptiveMachine(want, self._start_timeout)
        else:
            self._machine.change(want)
        self._last = ""
        self._cluster.changed()
        self._look_in(0.0)

    def may_bring(self, count: int) -> bool:
        """Whether there may be so many engines without anybody starting them by hand."""
        return self._want is not None and count <= self._want.maximum

    def close(self) -> None:
        """The cluster is being ended: change nothing any more."""
        self._over = True
        if self._call is not None and self._call.active():
            self._call.cancel()

    def info(self) -> ScalingInfo | None:
        """What users are told; None if engines do not come and go by themselves, and the cluster does not end."""
        limit = self._unused.limit
        if self._want is None and not limit:
            return None
        now = self._reactor.seconds()
        return ScalingInfo(
            adaptation=self._want,
            last=self._last,
            ago=round(now - self._last_at, 1) if self._last else 0.0,
            idle_timeout=limit,
            unused=round(self._unused.seconds(now), 1) if limit else 0.0,
        )

    # -- looking

    @property
    def _interval(self) -> float:
        """Seconds until the next look; 0 for none."""
        if self._want is not None:
            return INTERVAL
        if not self._unused.limit:
            return 0.0
        return min(max(self._unused.limit / LOOKS, LEAST_INTERVAL), MOST_INTERVAL)

    def _look_in(self, seconds: float) -> None:
        if self._over or not self._began or not self._interval:
            return
        if self._looking:
            self._again = self._again or not seconds
            return
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = self._reactor.callLater(seconds, self._look)

    def _look(self) -> None:
        view = self._cluster.view
        if view is None:
            self._interrupted()
            self._look_in(self._interval)
            return
        self._looking = True

        def failed(failure: Any) -> None:
            self._interrupted()
            if not failure.check(KernelError):  # else the controller is away
                self.log.failure("cannot look at the cluster", failure)

        def done(_: Any) -> None:
            self._looking = False
            again, self._again = self._again, False
            self._look_in(0.0 if again else self._interval)

        Deferred.fromCoroutine(self._look_once(view)).addErrback(failed).addBoth(done)

    def _interrupted(self) -> None:
        if self._machine is not None:
            self._machine.interrupted()

    async def _look_once(self, view: EnginesView) -> None:
        load = await view.load()
        if self._over:
            return
        now = self._reactor.seconds()
        if self._unused.observed(now, load, self._engines.coming):
            limit = duration_text(self._unused.limit)
            self._cluster.give_up(f"nobody has used the cluster for {limit}, so it ends", 0)
        elif self._want is not None and self._machine is not None:
            seen, lost = units_seen(self._engines), self._engines.lost_ids
            self._follow(self._machine.observed(now, load, seen, lost))

    # -- doing

    def _follow(self, instructions: Iterable[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case Grow():
                    self._say(instruction.why)
                    self._run(self._start(instruction.count))
                case Drain():
                    self._run(self._drain(instruction.ids))
                case Undrain():
                    self._run(self._undrain(instruction.ids))
                case Remove():
                    self._say(instruction.why)
                    self._run(self._remove(instruction.keys))
                case Say():
                    self._say(instruction.text)

    def _say(self, text: str) -> None:
        self._last, self._last_at = text, self._reactor.seconds()
        self._cluster.say(text)
        self._cluster.changed()

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        Deferred.fromCoroutine(coroutine).addErrback(
            lambda failure: self.log.failure("cannot change the engines", failure)
        )

    async def _start(self, count: int) -> None:
        machine = self._machine
        assert machine is not None
        try:
            progress = await self._cluster.add_engines(count, requested=machine.start_requested)
        except Exception as problem:
            failed, reason = count, self._reason(problem)
        else:
            failures = list(progress.failures.values())
            failed, reason = progress.failed, failures[-1].reason if failures else ""
        if not self._over:
            self._follow(machine.start_settled(self._reactor.seconds(), failed, reason))

    async def _remove(self, keys: Sequence[str]) -> None:
        machine, units = self._machine, self._engines.units
        assert machine is not None
        reason = ""
        try:
            await self._cluster.remove_engines(
                sorted(each for key in keys if key in units for each in units[key].ids)
            )
        except Exception as problem:
            reason = self._reason(problem)
        left = [key for key in keys if key in units] if reason else []
        machine.removed(key for key in keys if key not in left)
        if left and not self._over:
            self._follow(machine.removal_failed(self._reactor.seconds(), left, reason))

    async def _drain(self, ids: Sequence[int]) -> None:
        view = self._cluster.view
        if view is not None:
            try:
                await view.drain(list(ids))
            except KernelError:
                return  # an engine or the controller is gone, as the next look shows
            self._look_in(0.0)

    async def _undrain(self, ids: Sequence[int]) -> None:
        view = self._cluster.view
        usable = [each for each in ids if each in self._engines.ids]
        if view is not None and usable:
            try:
                await view.undrain(usable)
            except KernelError as problem:
                self.log.warn("engines {ids}: {problem}", ids=usable, problem=problem)

    def _reason(self, problem: Exception) -> str:
        if not isinstance(problem, KernelError):
            self.log.failure("cannot change the engines")
            return f"{type(problem).__name__}: {problem}"
        return str(problem)


def units_seen(engines: Engines) -> list[UnitSeen]:
    """The units that can be ended and have not ended."""
    return [
        UnitSeen(unit.key, unit.ids, engines.may_be_queued(unit), engines.is_starting(unit))
        for unit in engines.living_units
        if unit.ids
    ]
