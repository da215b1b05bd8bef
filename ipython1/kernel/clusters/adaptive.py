"""How many engines a cluster is to have, and which of them go; no input and output.

The machine is shown the cluster again and again (:meth:`AdaptiveMachine.observed`) and answers with instructions.
It looks at *units*, the engines that start and end together:

=========  ====================================================  ==========================================  ==========
state      event                                                 next state                                  instruction
=========  ====================================================  ==========================================  ==========
(none)     tasks wait, or there are fewer than the minimum       coming, once its start was asked for        Grow
coming     all its engines are usable                            usable
coming     it runs, and has not come up within the time for      ending                                      Remove
           a start; none of its engines has
coming     the same, and some of its engines have                usable, without the others                  Say
coming     nothing has waited for ``idle`` seconds, and the      ending                                      Remove
           batch system has not begun it
usable     nothing waits, it has had no work for ``idle``        retiring                                    Drain
           seconds, and it holds nothing
usable     there are more engines than the maximum, and it       retiring                                    Drain
           holds nothing
retiring   it is drained, has no work, and holds nothing         ending                                      Remove
retiring   tasks wait, a command came, or it holds something     usable                                      Undrain
ending     it is gone                                            (none)
ending     it could not be ended                                 usable                                      Undrain
=========  ====================================================  ==========================================  ==========

A unit that is coming counts as an engine, so nothing is asked for twice.  All that is missing is asked for at once.
After engines that could not be started, did not come up, or ended at once, the next ones wait, longer and longer.

How many engines are needed follows from the tasks that wait and run, and their mean duration: as many as are done
with them in ``target_duration``.  While the duration is not known, that is one for each task.  When no task ends for
some time, those that run take at least so long.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

from ipython1.kernel.clusters.adaptiveunits import (
    YOUNG,
    Arrivals,
    Lives,
    Pause,
    UnitSeen,
    UnitState,
)
from ipython1.kernel.launchers.adaptation import Adaptation
from ipython1.kernel.watching.amounts import count_text, duration_text, named_engines
from ipython1.kernel.wire.loads import ClusterLoad


@dataclass(frozen=True, slots=True)
class Instruction:
    """Base of what the machine wants done."""


@dataclass(frozen=True, slots=True)
class Grow(Instruction):
    """Start engines, all in one go.

    :ivar why: a line for the user.
    """

    count: int
    why: str


@dataclass(frozen=True, slots=True)
class Drain(Instruction):
    """Give these engines no more tasks."""

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Undrain(Instruction):
    """Give these engines tasks again."""

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Remove(Instruction):
    """End these units.

    :ivar why: a line for the user.
    """

    keys: tuple[str, ...]
    ids: tuple[int, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Say(Instruction):
    """Show a line to the user."""

    text: str


class _Demand:
    """How many engines the tasks need."""

    def __init__(self) -> None:
        self._moved_at = 0.0
        self._last = (0.0, 0)
        self._quiet_since: float | None = None

    def observed(self, now: float, load: ClusterLoad) -> None:
        """Take what the controller says."""
        tasks = load.waiting + load.running
        seconds, before = self._last
        if not load.running or load.seconds != seconds or tasks < before:
            self._moved_at = now
        self._last = (load.seconds, tasks)
        if load.waiting:
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = now

    def engines(self, now: float, load: ClusterLoad, target_duration: float) -> int:
        """How many are needed."""
        tasks = load.waiting + load.running
        # Those with a command alone run no tasks.
        others = sum(1 for each in load.engines if each.commands and not each.tasks)
        if not load.seconds:
            return tasks + others
        seconds = max(load.seconds, now - self._moved_at)
        return min(tasks, math.ceil(tasks * seconds / target_duration)) + others

    def quiet(self, now: float) -> float:
        """For how many seconds no task has waited."""
        return 0.0 if self._quiet_since is None else now - self._quiet_since


class AdaptiveMachine:
    """See the module's text.

    :param patience: seconds that engines may take to come up once they run; 0 for any time.
    :ivar want: what the user asks for.
    """

    def __init__(self, want: Adaptation, patience: float = 0.0) -> None:
        self.want: Adaptation = want
        self._demand = _Demand()
        self._growth = Pause()
        self._removal = Pause()
        self._lives = Lives()
        self._arrivals = Arrivals(patience)
        self._partial: set[str] = set()
        self._starting = False
        self._retiring: dict[str, bool] = {}  # whether because there are too many
        self._ending: dict[str, tuple[int, ...]] = {}
        self._units: dict[str, UnitState] = {}

    # -- what happens

    def change(self, want: Adaptation) -> None:
        """The user asks for something else."""
        self.want = want
        self._demand = _Demand()
        self._growth.over()
        self._removal.over()
        self._lives.pause.over()
        self._arrivals.pause.over()

    def stop(self) -> list[Instruction]:
        """The user wants no more changes."""
        self._arrivals.interrupted()
        return self._undrain(list(self._retiring))

    def start_requested(self) -> None:
        """What the last :class:`Grow` is about was asked for: the units are seen from now on."""
        self._starting = False

    def start_settled(self, now: float, failed: int, reason: str) -> list[Instruction]:
        """It is known what became of engines that were started, or they could not even be asked for.

        :param failed: how many will not come.
        :param reason: why.
        """
        self._starting = False
        if not failed:
            self._growth.over()
            return []
        pause = self._growth.failed(now)
        what = f"{count_text(failed, 'engine')} could not be started: {reason}"
        return [Say(f"{what}; the next try is in {duration_text(pause)}")]

    def interrupted(self) -> None:
        """The cluster cannot be looked at, because the controller is away."""
        self._arrivals.interrupted()

    def removed(self, keys: Iterable[str]) -> None:
        """Units are gone."""
        self._removal.over()
        for key in keys:
            self._ending.pop(key, None)

    def removal_failed(self, now: float, keys: Iterable[str], reason: str) -> list[Instruction]:
        """Units could not be ended."""
        pause = self._removal.failed(now)
        ids = tuple(each for key in keys for each in self._ending.pop(key, ()))
        what = f"{named_engines(ids)} could not be ended: {reason}"
        return [Undrain(ids), Say(f"{what}; the next try is in {duration_text(pause)}")]

    def observed(
        self,
        now: float,
        load: ClusterLoad,
        seen: Sequence[UnitSeen],
        lost: Container[int] = (),
    ) -> list[Instruction]:
        """The cluster is looked at.

        :param now: seconds of any clock that does not jump.
        :param seen: the units that can be ended; engines of no unit count, and stay.
        :param lost: engines that have ended though nobody asked for it.
        """
        changed = self._take(now, load, seen, lost)
        self._demand.observed(now, load)
        needed = self._demand.engines(now, load, self.want.target_duration)
        todo = [*changed, *self._keep(load), *self._finish()]
        present = self._present(load)
        wanted = max(min(needed, self.want.maximum) if load.waiting else 0, self.want.minimum)
        if present < wanted:
            return todo + self._grow(now, wanted - present, load)
        return todo + self._shrink(now, present, load)

    def _take(
        self, now: float, load: ClusterLoad, seen: Sequence[UnitSeen], lost: Container[int]
    ) -> list[Instruction]:
        loads = {each.id: each for each in load.engines}
        units = {
            each.key: UnitState(each, tuple(loads[i] for i in each.ids if i in loads))
            for each in seen
        }
        self._units, late = self._arrivals.observed(now, units)
        died = self._lives.observed(now, self._units, lost)
        for keys in (self._retiring, self._ending):
            for key in [key for key in keys if key not in self._units]:
                del keys[key]
        todo = self._go_without() + self._give_up(now, late)
        if died:
            pause = duration_text(self._lives.pause.failed(now))
            what = f"{named_engines(died)} ended within {duration_text(YOUNG)} of the start"
            todo.append(Say(f"{what}; others start in {pause} at the earliest"))
        return todo

    # -- what does not come up

    def _give_up(self, now: float, late: Iterable[str]) -> list[Instruction]:
        """End units that run and have not come up."""
        late = [key for key in late if key not in self._ending]
        if not late or now < self._removal.until:
            return []
        pause = duration_text(self._arrivals.pause.failed(now))
        limit = duration_text(self._arrivals.patience)
        why = f"running, but not usable within {limit} (start_timeout); others start in {pause} at the earliest"
        return self._end(late, "ending", why)

    def _go_without(self) -> list[Instruction]:
        """Say of which units only some engines have come up; the others are not waited for any more."""
        partial = {key for key, unit in self._units.items() if unit.partial}
        new, self._partial = partial - self._partial, partial
        missing = sorted(each for key in new for each in self._units[key].missing)
        if not missing:
            return []
        limit = duration_text(self._arrivals.patience)
        what = f"running, but not usable within {limit} (start_timeout)"
        return [Say(f"no longer waiting for {named_engines(missing)}: {what}")]

    def _present(self, load: ClusterLoad) -> int:
        """How many engines there are, with those that are coming and without those that go."""
        own = {each for unit in self._units.values() for each in unit.seen.ids}
        foreign = sum(1 for each in load.engines if each.id not in own)
        going = {*self._retiring, *self._ending}
        return foreign + sum(unit.size for key, unit in self._units.items() if key not in going)

    # -- what retires

    def _keep(self, load: ClusterLoad) -> list[Instruction]:
        """Let units stay that were to go, but are needed, in use, or hold something now."""
        present = self._present(load)
        room, missing = self.want.maximum - present, self.want.minimum - present
        kept = []
        for key, surplus in self._retiring.items():
            unit = self._units[key]
            needed = surplus or missing > 0 or load.waiting or unit.busy
            if (needed and unit.size <= room) or not self._may_go(unit):
                kept.append(key)
                room -= unit.size
                missing -= unit.size
        return self._undrain(kept)

    def _may_go(self, unit: UnitState) -> bool:
        return unit.usable and not (unit.holds and self.want.keep_data)

    def _undrain(self, keys: Iterable[str]) -> list[Instruction]:
        ids = [each for key in keys for each in self._units[key].ids]
        for key in keys:
            del self._retiring[key]
        return [Undrain(tuple(ids))] if ids else []

    def _finish(self) -> list[Instruction]:
        """End units that are drained, and drain those again of which a new controller does not know that."""
        forgotten = [key for key in self._retiring if not self._units[key].draining]
        ids = tuple(each for key in forgotten for each in self._units[key].ids)
        todo: list[Instruction] = [Drain(ids)] if ids else []
        for surplus in (True, False):
            ready = [k for k, s in self._retiring.items() if s is surplus and self._may_end(k)]
            why = self._too_many if surplus else f"without work for {duration_text(self.want.idle)}"
            todo += self._end(ready, "ending", why)
        return todo

    def _may_end(self, key: str) -> bool:
        unit = self._units[key]
        return unit.draining and not unit.busy

    @property
    def _too_many(self) -> str:
        return f"more than {count_text(self.want.maximum, 'engine')}"

    def _end(self, keys: Sequence[str], doing: str, why: str) -> list[Instruction]:
        units = [self._units[key] for key in keys]
        for unit in units:
            self._retiring.pop(unit.key, None)
            self._ending[unit.key] = unit.seen.ids
        ids = tuple(sorted(each for unit in units for each in unit.seen.ids))
        if not ids:
            return []
        return [Remove(tuple(keys), ids, f"{doing} {named_engines(ids)}: {why}")]

    # -- more, and fewer

    def _grow(self, now: float, count: int, load: ClusterLoad) -> list[Instruction]:
        pauses = self._growth, self._lives.pause, self._arrivals.pause
        if self._starting or now < max(pause.until for pause in pauses):
            return []
        self._starting = True
        why = (
            f"{count_text(load.waiting, 'task waits', 'tasks wait')}"
            if load.waiting
            else f"at least {count_text(self.want.minimum, 'engine')}"
        )
        return [Grow(count, f"starting {count_text(count, 'engine')}: {why}")]

    def _shrink(self, now: float, present: int, load: ClusterLoad) -> list[Instruction]:
        if now < self._removal.until:
            return []
        surplus = present - self.want.maximum
        if surplus > 0:
            queued = self._chosen(surplus, self._queued())
            surplus -= sum(self._units[key].size for key in queued)
            todo = self._end(queued, "cancelling", self._too_many)
            return todo + self._drain(self._chosen(surplus, self._spare(-1.0)), True)
        surplus = present - self.want.minimum
        if load.waiting or surplus <= 0:
            return []
        queued = self._queued() if self._demand.quiet(now) >= self.want.idle else []
        queued = self._chosen(surplus, queued)
        surplus -= sum(self._units[key].size for key in queued)
        todo = self._end(queued, "cancelling", "no task waits for them")
        return todo + self._drain(self._chosen(surplus, self._spare(self.want.idle)), False)

    def _queued(self) -> list[str]:
        """The units that can be cancelled, the last first."""
        staying = {*self._retiring, *self._ending}
        return [
            key
            for key, unit in reversed(self._units.items())
            if unit.seen.queued and not unit.loads and key not in staying
        ]

    def _spare(self, idle: float) -> list[str]:
        """The units that can be drained, those with the least work and the longest idleness first.

        :param idle: for how many seconds they have had no work; less than 0 for any.
        """
        going = {*self._retiring, *self._ending}
        units = [
            unit
            for key, unit in self._units.items()
            if key not in going and self._may_go(unit) and unit.idle >= idle
        ]
        if idle >= 0:
            units = [unit for unit in units if not unit.busy]
        units.sort(key=lambda unit: (unit.busy, -unit.idle, -max(unit.seen.ids)))
        return [unit.key for unit in units]

    def _chosen(self, count: int, keys: Iterable[str]) -> list[str]:
        """The first units that have not more than so many engines together."""
        found = []
        for key in keys:
            if self._units[key].size <= count:
                found.append(key)
                count -= self._units[key].size
        return found

    def _drain(self, keys: Sequence[str], surplus: bool) -> list[Instruction]:
        self._retiring.update(dict.fromkeys(keys, surplus))
        ids = tuple(each for key in keys for each in self._units[key].ids)
        return [Drain(ids)] if ids else []
