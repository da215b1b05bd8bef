"""Which engines a cluster has, and which were started together; no input and output.

An engine is known by one of these, or by several:

==================  ===============================================================================================
known by            until
==================  ===============================================================================================
its id is reserved  its unit was started, or could not be
its unit            the unit has ended for good, or was removed; one with a process of its own stays with its last
                    state
the controller      the controller does not list it any more.  Where its process has ended before that, it is *stale*
                    and not usable: the next of that id is another engine
its end             it is removed, or started again (for those whose end nobody else remembers)
==================  ===============================================================================================

Engines of a job that takes its ids from the controller are known by the controller alone.  They ask for the ids that
were reserved for them; which of them are the job's is learned when its start has settled.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ipython1.core.texts import compress_ids
from ipython1.daemon.processes import ProcessStatus, State
from ipython1.kernel.basics.error import ClusterError, InvalidEngineID
from ipython1.kernel.clusters.status import EngineInfo, engine_info
from ipython1.kernel.launchers.interfaces import Unit
from ipython1.kernel.launchers.queuetexts import reasons_text

MOST_AT_ONCE: Final = 100_000
"""Engines that can be started at once."""


@dataclass(frozen=True, slots=True)
class Removal:
    """How engines are to be removed.

    :ivar units: what is to end.
    :ivar foreign: ids of engines that the controller is to end: this cluster did not start them, or together with
        others that stay.
    :ivar rest: what stays of the units of those.
    """

    units: tuple[Unit, ...]
    foreign: tuple[int, ...]
    rest: tuple[Unit, ...] = ()


class Engines:
    """See the module's text.

    :param processes: gives what the supervision knows of each process, by key.
    :ivar ids: the engines that the controller lists, sorted.
    :ivar units: what was started and has not ended for good, by key.
    """

    def __init__(self, processes: Callable[[], Mapping[str, ProcessStatus]]) -> None:
        self.ids: list[int] = []
        self.units: dict[str, Unit] = {}
        self._processes = processes
        self._reserved: set[int] = set()
        self._stale: set[int] = set()
        self._job_ids: dict[str, frozenset[int]] = {}
        self._hoped: dict[str, frozenset[int]] = {}
        self._ends: dict[int, EngineInfo] = {}
        self._removing: set[str] = set()
        self._queued: dict[str, str | None] = {}
        self._came_up: set[str] = set()

    # -- coming and going

    def reserve_ids(self, count: int) -> list[int]:
        """The lowest ids that no engine has or is about to get; reserved until :meth:`release_ids`.

        :raises ClusterError: when nobody can mean so many.
        """
        if count > MOST_AT_ONCE:
            raise ClusterError(
                f"{count:,} engines are too many: at most {MOST_AT_ONCE:,} can be started at once"
            )
        hoped = itertools.chain.from_iterable(self._hoped.values())
        taken = {*self.ids, *self._ids_of_units(), *self._reserved, *hoped}
        free = (each for each in itertools.count() if each not in taken)
        found = list(itertools.islice(free, count))
        self._reserved.update(found)
        return found

    def take_lost(self, count: int) -> list[Unit]:
        """Units that have ended for good and unasked, whose ids are free for ``count`` engines; lowest ids first.

        Nobody else is given them; each is to be forgotten, unless :meth:`keep` says otherwise.
        """
        processes = self._processes()
        listed = set(self.ids)
        found: list[Unit] = []
        for unit in sorted(self.units.values(), key=lambda unit: unit.ids):
            status = processes.get(unit.key)
            ended = status is not None and status.state is State.ENDED
            if count <= 0:
                break
            if ended and unit.ids and not listed & set(unit.ids) and unit.key not in self._removing:
                found.append(unit)
                count -= len(unit.ids)
        self._removing.update(unit.key for unit in found)
        return found

    def release_ids(self, ids: Iterable[int]) -> None:
        """Units have reserved ids now, or will not have them."""
        self._reserved.difference_update(ids)

    def add(self, units: Iterable[Unit], ids: Iterable[int] = ()) -> None:
        """Units were started.

        :param ids: those that were reserved for them.
        """
        reserved = list(ids)
        free = (each for each in reserved if each not in {i for unit in units for i in unit.ids})
        for unit in units:
            self.units[unit.key] = unit
            for engine_id in unit.ids:
                self._ends.pop(engine_id, None)
            if not unit.ids:
                self._hoped[unit.key] = frozenset(itertools.islice(free, unit.count))
        self.release_ids(reserved)

    def learn_job(self, unit: Unit, ids: Iterable[int]) -> None:
        """The engines of a unit that has their ids from the controller."""
        if unit.key in self.units and not unit.ids:
            others = itertools.chain.from_iterable(self._job_ids.values())
            self._job_ids[unit.key] = frozenset(ids) - frozenset(others)
            self._hoped.pop(unit.key, None)

    def listed(self, ids: Iterable[int]) -> None:
        """The controller lists its engines."""
        self.ids = sorted(ids)
        self._stale &= set(self.ids)

    def process_ended(self, key: str) -> None:
        """The process of a unit has ended, for good or not."""
        unit = self.units.get(key)
        if unit is not None:
            self._stale |= set(unit.ids) & set(self.ids)

    def forget(self, key: str) -> None:
        """A unit is gone."""
        self._job_ids.pop(key, None)
        self._hoped.pop(key, None)
        self.units.pop(key, None)
        self._removing.discard(key)
        self._queued.pop(key, None)
        self._came_up.discard(key)

    def set_queued(self, key: str, reason: str | None) -> None:
        """A unit waits in a batch system's queue.

        :param reason: why; None if it has left the queue.
        """
        unit = self.units.get(key)
        if unit is None:
            return
        self._queued[key] = reason
        if reason is not None:
            self._came_up.discard(key)
        elif self._is_usable(unit, self.fresh):
            self._came_up.add(key)

    def came_up(self, units: Iterable[Unit]) -> None:
        """Units are usable; of those in a queue, the engines that were there before are still listed."""
        self._came_up.update(unit.key for unit in units if not self.may_be_queued(unit))

    def remember_end(self, unit: Unit, reason: str, lines: Sequence[str]) -> None:
        """Why the engines of a unit have ended that is no process of this cluster."""
        for engine_id in unit.ids:
            self._ends[engine_id] = EngineInfo(
                id=engine_id, state="ended", reason=reason, lines=tuple(lines)
            )

    def forget_end(self, engine_id: int) -> None:
        """How an engine ended does not matter any more: it is removed, or started again."""
        self._ends.pop(engine_id, None)

    # -- removing

    def begin_removal(self, ids: Iterable[int]) -> Removal:
        """Engines are about to be removed; gives how.  Each unit is to be forgotten when it has ended.

        :raises InvalidEngineID: when there is no such engine.
        :raises ClusterError: when they end only together with others.
        """
        chosen = [self.checked_id(each) for each in ids]
        found = []
        for key in [key for key, engines in self._job_ids.items() if engines & set(chosen)]:
            left = (self._job_ids[key] & set(self.ids)) - set(chosen)
            if left:
                raise ClusterError(
                    f"the engines of {key} end together: they cannot be removed without {compress_ids(left)}"
                )
            chosen = [each for each in chosen if each not in self._job_ids[key]]
            found.append(self.units[key])
        units = {each: self.unit_of(each) for each in chosen}
        rest = []
        for unit in self.units.values():
            stays = tuple(each for each in unit.ids if each not in units)
            if stays and stays != unit.ids:
                rest.append(replace(unit, ids=stays, count=len(stays)))
        self._check_apart(rest, units)
        shared = {unit.key for unit in rest}
        whole = {unit.key: unit for unit in units.values() if unit and unit.key not in shared}
        found += whole.values()
        self._removing.update(unit.key for unit in found)
        foreign = [
            each
            for each, unit in units.items()
            if (unit is None or unit.key in shared) and each in self.ids
        ]
        return Removal(tuple(found), tuple(foreign), tuple(rest))

    def _check_apart(self, rest: Iterable[Unit], chosen: Iterable[int]) -> None:
        for unit in rest:
            early = set(self.units[unit.key].ids) & set(chosen) - set(self.ids)
            if early:
                raise ClusterError(
                    f"the engines of {unit.key} start together: {compress_ids(early)} can be removed without "
                    f"{compress_ids(unit.ids)} only when usable"
                )

    def shrink(self, rest: Unit) -> None:
        """Some engines of a unit are gone, and the rest stays."""
        if rest.key in self.units:
            self.units[rest.key] = rest

    def keep(self, units: Iterable[Unit]) -> None:
        """Units that were to be removed stay."""
        self._removing.difference_update(unit.key for unit in units)

    def check_stays(self, unit: Unit) -> None:
        """Check that a unit is not being removed.

        :raises ClusterError: when it is.
        """
        if unit.key in self._removing:
            ids = compress_ids(unit.ids)
            raise ClusterError(f"engine {ids} is being removed, so it cannot be restarted")

    # -- questions

    @property
    def fresh(self) -> set[int]:
        """The engines that are listed and not stale."""
        return set(self.ids) - self._stale

    def claimed(self, units: Iterable[Unit]) -> set[int]:
        """The ids that engines of other units have, or are about to get."""
        own = {unit.key for unit in units}
        found = set(self._reserved)
        for key, unit in self.units.items():
            if key not in own:
                found.update(unit.ids)
                found.update(self._job_ids.get(key, ()), self._hoped.get(key, ()))
        return found

    @property
    def usable_units(self) -> list[Unit]:
        """The units whose engines are all listed."""
        fresh = self.fresh
        return [unit for unit in self.units.values() if self._is_usable(unit, fresh)]

    def _is_usable(self, unit: Unit, fresh: set[int]) -> bool:
        if unit.ids:
            return set(unit.ids) <= fresh
        engines = self._job_ids.get(unit.key)
        return (
            len(fresh - self.claimed([unit]) if engines is None else fresh & engines) >= unit.count
        )

    @property
    def in_the_way(self) -> frozenset[str]:
        """The units that wait for a restart while the controller still lists an engine with their id.

        It may not know yet that the engine is dead; another one could not have the id.
        """
        processes = self._processes()
        listed = set(self.ids)
        return frozenset(
            key
            for key, unit in self.units.items()
            if set(unit.ids) & listed and key in processes and processes[key].state is State.WAITING
        )

    @property
    def living_units(self) -> list[Unit]:
        """The units that have not ended for good; what waits to be started again lives."""
        processes = self._processes()
        return [
            unit
            for key, unit in self.units.items()
            if key not in processes or processes[key].state is not State.ENDED
        ]

    @property
    def lost_ids(self) -> set[int]:
        """The engines that have ended for good though nobody asked for it, and were not started again."""
        living = {unit.key for unit in self.living_units}
        ended = [unit for key, unit in self.units.items() if key not in living | self._removing]
        return {*self._ends, *(each for unit in ended for each in unit.ids)}

    def may_be_queued(self, unit: Unit) -> bool:
        """Whether a batch system has a unit, and is not known to have begun it."""
        return unit.key not in self._processes() and self._queued.get(unit.key, "") is not None

    def is_starting(self, unit: Unit) -> bool:
        """Whether a unit is known to run, and has not been usable since it was started."""
        status = self._processes().get(unit.key)
        if status is not None:
            return status.state is State.STARTING
        return self._queued.get(unit.key, "") is None and unit.key not in self._came_up

    @property
    def wanted(self) -> int:
        """How many engines were asked for."""
        return sum(unit.count for unit in self.units.values())

    @property
    def coming(self) -> bool:
        """Whether an engine is being started, or waits for that, that is not usable yet."""
        return any(map(self._is_coming, self.units.values()))

    def _is_coming(self, unit: Unit) -> bool:
        status = self._processes().get(unit.key)
        if status is None:  # a batch system has it
            return not set(unit.ids) <= set(self.ids)
        return status.state in (State.REQUESTED, State.STARTING, State.WAITING)

    @property
    def there(self) -> str:
        """How many engines are usable, and what others wait for, in words about the past."""
        known = self._processes()
        waiting = (known[key] for key in self.units if key in known and known[key].host_away)
        reasons = dict.fromkeys(status.error for status in waiting if status.error)
        why = f" (others {', '.join(reasons)})" if reasons else ""
        return f"{len(self.ids)} engines were usable{why}"

    @property
    def last_failure(self) -> str:
        """Why the engine that ended last is not there, as a sentence; empty if none has."""
        reasons = [info for info in self._ends.values() if info.reason]
        return f"engine {reasons[-1].id} {reasons[-1].reason}" if reasons else ""

    def checked_id(self, engine_id: int) -> int:
        """The id of an engine that is known, alive or not.

        :raises InvalidEngineID: when there is none.
        """
        known = {*self.ids, *self._ends, *self._ids_of_units()}
        if engine_id not in known:
            there = compress_ids(known) or "none"
            raise InvalidEngineID(
                f"there is no engine {engine_id} in this cluster; there are: {there}"
            )
        return engine_id

    def _ids_of_units(self) -> set[int]:
        return {each for unit in self.units.values() for each in unit.ids}

    def whole_units(self, ids: Sequence[int]) -> list[Unit]:
        """The units of these engines, for what can be done to all engines of a unit only.

        :raises InvalidEngineID: when there is no such engine.
        :raises ClusterError: when one was not started by this cluster, or shares its process with others.
        """
        found: dict[str, Unit] = {}
        for each in ids:
            unit = self.unit_of(self.checked_id(each))
            if unit is None:
                raise ClusterError(
                    f"engine {each} was not started as a separate process and cannot be signalled individually"
                )
            others = set(unit.ids) - set(ids)
            if others:
                raise ClusterError(
                    f"engine {each} shares a job with {compress_ids(others)}: they are signalled together or not at all"
                )
            found[unit.key] = unit
        return list(found.values())

    def unit_of(self, engine_id: int) -> Unit | None:
        """The unit that was started for an engine."""
        return next((unit for unit in self.units.values() if engine_id in unit.ids), None)

    def job_of(self, engine_id: int) -> Unit | None:
        """The unit of an engine that has its id from the controller."""
        found = (key for key, engines in self._job_ids.items() if engine_id in engines)
        return next((self.units[key] for key in found), None)

    def _elsewhere_info(self, unit: Unit, engine_id: int) -> EngineInfo:
        """What is known of an engine that a batch system has and the controller has not."""
        reason = self._queued.get(unit.key, "")
        if reason is None:
            return EngineInfo(id=engine_id, state="starting")
        return EngineInfo(id=engine_id, state="queued", reason=reason)

    @property
    def queue_text(self) -> str:
        """How many engines wait in a queue and why, as ``3 (Resources), 1``; empty if none does."""
        return reasons_text(
            (reason, self.units[key].count)
            for key, reason in self._queued.items()
            if reason is not None
        )

    def infos(self, now: float) -> list[EngineInfo]:
        """What is known of each engine, by id, at a time of the supervisor's clock."""
        processes = self._processes()
        found = dict(self._ends)
        for unit in self.units.values():
            for engine_id in unit.ids:
                status = processes.get(unit.key)
                if status is not None:
                    found[engine_id] = engine_info(engine_id, status, now)
                elif engine_id not in self.ids:
                    found[engine_id] = self._elsewhere_info(unit, engine_id)
        for engine_id in self.ids:
            found.setdefault(engine_id, EngineInfo(id=engine_id, state="running"))
        return [found[engine_id] for engine_id in sorted(found)]
