"""How the units of an adaptive cluster come up, and how long they live; no input and output."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from typing import Final

from ipython1.kernel.wire.loads import EngineLoad

FIRST_PAUSE: Final = 5.0
LAST_PAUSE: Final = 300.0
"""Seconds until the next try after engines could not be started; the pause doubles each time."""

YOUNG: Final = 10.0
"""Seconds after which an engine that ends is no failed start."""


@dataclass(frozen=True, slots=True)
class UnitSeen:
    """Engines that start and end together, and have not ended.

    :ivar queued: whether a batch system has it and may not have begun it.
    :ivar starting: whether it is known to run, and has not been usable since it was started.
    """

    key: str
    ids: tuple[int, ...]
    queued: bool = False
    starting: bool = False


@dataclass(frozen=True, slots=True)
class UnitState:
    """A unit, with what the controller says of its engines; ``loads`` is empty while it is coming.

    :ivar partial: whether it is used without those of its engines that do not come.
    """

    seen: UnitSeen
    loads: tuple[EngineLoad, ...]
    partial: bool = False

    @property
    def key(self) -> str:
        return self.seen.key

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(each.id for each in self.loads) if self.partial else self.seen.ids

    @property
    def missing(self) -> list[int]:
        there = {each.id for each in self.loads}
        return [each for each in self.seen.ids if each not in there]

    @property
    def size(self) -> int:
        return len(self.ids)

    @property
    def usable(self) -> bool:
        return len(self.loads) == self.size

    @property
    def busy(self) -> int:
        return sum(each.tasks + each.commands for each in self.loads)

    @property
    def idle(self) -> float:
        return 0.0 if self.busy else min(each.idle for each in self.loads)

    @property
    def holds(self) -> bool:
        return any(each.holds for each in self.loads)

    @property
    def draining(self) -> bool:
        return all(each.draining for each in self.loads)


class Pause:
    """Pauses after failures, longer and longer."""

    def __init__(self) -> None:
        self.until: float = 0.0
        self._next = FIRST_PAUSE

    def failed(self, now: float) -> float:
        """Engines could not be started; return for how many seconds no others are."""
        length, self._next = self._next, min(2 * self._next, LAST_PAUSE)
        self.until = now + length
        return length

    def over(self) -> None:
        """Engines could be started."""
        self.until = 0.0
        self._next = FIRST_PAUSE


class Lives:
    """How long units live, to notice those that end as soon as they are usable, again and again."""

    def __init__(self) -> None:
        self.pause: Pause = Pause()
        self._since: dict[str, tuple[UnitState, float]] = {}
        self._died_at = 0.0

    def observed(
        self, now: float, units: Mapping[str, UnitState], lost: Container[int]
    ) -> list[int]:
        """Take which units there are; return the ids of engines that have died young.

        :param lost: engines that have ended though nobody asked for it.
        """
        died: list[int] = []
        for key in [key for key in self._since if key not in units]:
            unit, since = self._since.pop(key)
            if now - since < YOUNG:
                died += [each for each in unit.seen.ids if each in lost]
        for key, unit in units.items():
            if unit.usable:
                _, since = self._since.setdefault(key, (unit, now))
                if since > self._died_at and now - since >= YOUNG:
                    self.pause.over()
        if died:
            self._died_at = now
        return died


class Arrivals:
    """Which units run and do not come up, though they have had time enough.

    :param patience: seconds that a unit may take from when it is seen to run until all its engines are registered;
        0 for any time.
    """

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.pause: Pause = Pause()
        self._since: dict[str, float] = {}
        self._usable: set[str] = set()

    def observed(
        self, now: float, units: Mapping[str, UnitState]
    ) -> tuple[dict[str, UnitState], list[str]]:
        """Take which units there are.

        :returns: the units, of which those that are late and have some of their engines are partial; and the keys of
            those that are late and have none.
        """
        usable = {key for key, unit in units.items() if unit.usable}
        if usable - self._usable:
            self.pause.over()
        self._usable = usable
        starting = [key for key, unit in units.items() if unit.seen.starting and key not in usable]
        self._since = {key: self._since.get(key, now) for key in starting}
        taken, late = dict(units), []
        for key in starting:
            if not self.patience or now - self._since[key] < self.patience:
                continue
            if units[key].loads:
                taken[key] = replace(units[key], partial=True)
            else:
                late.append(key)
        return taken, late

    def interrupted(self) -> None:
        """The controller is away, so that no engine can register: all have their whole time again."""
        self._since.clear()
