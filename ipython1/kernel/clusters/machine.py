"""What is known of a running cluster, and what follows from what happens to it.  No input and output.

What happens is told by method calls; each answers with a list of instructions.  Processes are the business of
:mod:`ipython1.daemon.supervision`; here, an engine is usable when the controller lists it, and only then.

=========  ==============================================  =========  ================================================
phase      event                                           next       instructions
=========  ==============================================  =========  ================================================
starting   ``start_settled``                               running
any        ``units_started``                               same       :class:`MarkUsable` for those that are listed
any        ``ids_listed``                                  same       :class:`MarkUsable` for units whose engines are
                                                                      all listed
not s.     the controller waits to be started again        same       :class:`Say`
not s.     the controller runs again                       same       :class:`Say`
starting   the controller has ended and never listened     same       (its launcher reports it, and the start fails)
not s.     the controller has ended, and was told to       same       :class:`GiveUp` with status 0
not s.     the controller has ended for good               same       :class:`GiveUp` with status 1
not s.     an engine waits to be started again             same       :class:`Say`
not s.     an engine or a job has ended                    same       :class:`Say`, unless a start that is not settled
                                                                      reports it
any        ``begin_removal``                               same       (a :class:`Removal` says what is to be done)
any        ``forget_unit``: it has ended, or will soon     same       (no start waits for it any more)
not s.     ``controller_lost``                             same       :class:`Reconnect`; nothing is usable meanwhile
not s.     ``nanny_lost``                                  same       :class:`GiveUp` with status 1
any        ``stop``                                        stopping
=========  ==============================================  =========  ================================================

*not s.* is any phase but stopping, in which nothing is said any more and which does not end.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ipython1.core.texts import compress_ids
from ipython1.daemon.supervision import ProcessStatus, State
from ipython1.kernel.basics.error import ClusterError, InvalidEngineID
from ipython1.kernel.clusters.progress import StartProgress
from ipython1.kernel.clusters.status import EngineInfo, engine_info
from ipython1.kernel.launchers.failures import describe_failure
from ipython1.kernel.launchers.interfaces import Unit
from ipython1.kernel.launchers.programs import CONTROLLER_KEY


class Phase(enum.Enum):
    """The phases of a cluster; see the table above."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Instruction:
    """Base of what the machine wants done."""


@dataclass(frozen=True, slots=True)
class Say(Instruction):
    """Show a line to the user."""

    text: str


@dataclass(frozen=True, slots=True)
class MarkUsable(Instruction):
    """All engines of a unit are listed: its process runs."""

    key: str


@dataclass(frozen=True, slots=True)
class Reconnect(Instruction):
    """Connect to the controller again, a moment later."""


@dataclass(frozen=True, slots=True)
class GiveUp(Instruction):
    """The cluster cannot go on: say why, and end what is left with this exit status."""

    text: str
    status: int


@dataclass(frozen=True, slots=True)
class Removal:
    """How engines are to be removed.

    :ivar units: what is to end.
    :ivar foreign: ids of engines that this cluster did not start: the controller is to end them.
    """

    units: tuple[Unit, ...]
    foreign: tuple[int, ...]


class ClusterMachine:
    """See the module's text.

    :param processes: gives what the supervision knows of each process, by key.
    :param own_controller: whether the controller belongs to the cluster; else it has engines only.
    :ivar ids: the engines that are usable now, sorted.
    :ivar units: what was started and has not ended for good, by key.
    :ivar progresses: the starts that are not settled, oldest first.
    """

    def __init__(
        self, processes: Callable[[], Mapping[str, ProcessStatus]], own_controller: bool = True
    ) -> None:
        self.phase = Phase.STARTING
        self.ids: list[int] = []
        self.units: dict[str, Unit] = {}
        self.progresses: list[StartProgress] = []
        self._processes = processes
        self._own_controller = own_controller
        self._stale_ids: set[int] = set()
        """Ids of processes that have ended and are listed all the same, until the controller notices."""
        self._job_ids: dict[str, frozenset[int]] = {}
        """The engines of units that have their ids from the controller."""
        self._ended: dict[int, EngineInfo] = {}
        self._removing: set[str] = set()
        """Units that are told to end and have not, by key."""

    # -- starts

    def begin_start(self) -> StartProgress:
        """Engines are about to be started."""
        progress = StartProgress(self.ids)
        self.progresses.append(progress)
        return progress

    def units_started(self, progress: StartProgress, units: Sequence[Unit]) -> list[Instruction]:
        """Everything that ``progress`` was begun for was asked for."""
        self.units.update((unit.key, unit) for unit in units)
        for unit in units:
            for engine_id in unit.ids:
                self._ended.pop(engine_id, None)
        progress.add(units)
        progress.all_added()
        for unit in units:
            status = self._processes().get(unit.key)
            if status is not None and status.state is State.ENDED:
                progress.unit_ended(unit.key, status.reason, status.lines)
        return self._usable_units()

    def end_start(self, progress: StartProgress) -> None:
        """Nobody waits for ``progress`` any more."""
        self.progresses.remove(progress)
        units = progress.units
        if len(units) == 1 and not units[0].ids and units[0].key in self.units:
            self._job_ids[units[0].key] = frozenset(progress.usable)

    def start_settled(self) -> None:
        """The first start is over, well or not."""
        if self.phase is Phase.STARTING:
            self.phase = Phase.RUNNING

    def stop(self) -> None:
        """The cluster is being ended."""
        self.phase = Phase.STOPPING

    def free_ids(self, count: int) -> list[int]:
        """The lowest ids that no engine has."""
        taken = self._known_units_ids() | set(self.ids)
        found: list[int] = []
        candidate = 0
        while len(found) < count:
            if candidate not in taken:
                found.append(candidate)
            candidate += 1
        return found

    # -- what happens

    def process_reported(self, status: ProcessStatus) -> list[Instruction]:
        """The supervision reports a change of a process."""
        if status.key == CONTROLLER_KEY:
            return self._controller_reported(status)
        return self._engine_reported(status)

    def _controller_reported(self, status: ProcessStatus) -> list[Instruction]:
        if self.phase is Phase.STOPPING:
            return []
        if status.state is State.WAITING:
            return [Say(f"{describe_failure(status)}; it is started again")]
        if status.state is State.RUNNING and status.restarts:
            return [Say("the controller is back")]
        if status.state is not State.ENDED or status.asked:
            return []
        listened = status.was_ready or status.restarts
        if self.phase is Phase.STARTING and not listened:
            return []
        if status.status == 0:
            return [GiveUp("the controller was told to end", 0)]
        return [GiveUp(f"{describe_failure(status)}; the log tells more", 1)]

    def _engine_reported(self, status: ProcessStatus) -> list[Instruction]:
        unit = self.units.get(status.key)
        ids = set(unit.ids) if unit is not None else set()
        if status.state in (State.ENDED, State.WAITING):
            self._stale_ids |= ids & set(self.ids)
        if self.phase is Phase.STOPPING or status.asked:
            return []
        if status.state is State.WAITING:
            return [Say(f"{describe_failure(status)}; it is started again")]
        if status.state is State.ENDED:
            return self._lost(status.key, status.reason, status.lines, describe_failure(status))
        return []

    def _lost(self, key: str, reason: str, lines: Sequence[str], text: str) -> list[Instruction]:
        # All of them are told: a generator would stop at the first.
        expected = [each for each in self.progresses if each.unit_ended(key, reason, lines)]
        said: list[Instruction] = [Say(text)] if not expected and key in self.units else []
        unit = self.units.get(key)
        if unit is not None and not unit.ids:
            self.forget_unit(key)
        return said

    def ids_listed(self, ids: Iterable[int]) -> list[Instruction]:
        """The controller lists its engines."""
        self.ids = sorted(ids)
        self._stale_ids &= set(self.ids)
        fresh = self._fresh()
        for progress in self.progresses:
            progress.ids_changed(fresh)
        return self._usable_units()

    def _fresh(self) -> set[int]:
        return set(self.ids) - self._stale_ids

    def _usable_units(self) -> list[Instruction]:
        fresh = self._fresh()
        return [
            MarkUsable(unit.key)
            for unit in self.units.values()
            if (unit.ids and set(unit.ids) <= fresh) or (not unit.ids and len(fresh) >= unit.count)
        ]

    def controller_lost(self, reason: str) -> list[Instruction]:
        """The connection to the controller is gone."""
        if self.phase is Phase.STOPPING:
            return []
        todo = [*self.ids_listed([]), Reconnect()]
        if not self._own_controller:
            todo.append(Say(f"the connection to the controller is lost ({reason})"))
        return todo

    def nanny_lost(self) -> list[Instruction]:
        """This host's nanny is gone, and its processes with it."""
        if self.phase is Phase.STOPPING:
            return []
        return [GiveUp("the process that supervises this host's processes was killed", 1)]

    def job_ended(
        self, key: str, reason: str, lines: Sequence[str], asked: bool
    ) -> list[Instruction]:
        """A unit that is no process of this cluster came to its end."""
        said: list[Instruction] = []
        unit = self.units.get(key)
        if not asked and self.phase is not Phase.STOPPING:
            last = f": {lines[-1]}" if lines else ""
            said = self._lost(key, reason, lines, f"{key} {reason}{last}")
        self.forget_unit(key)
        if unit is not None and not asked:
            for engine_id in unit.ids:
                self._ended[engine_id] = EngineInfo(
                    id=engine_id, state="ended", reason=reason, lines=tuple(lines)
                )
        return said

    # -- removing and restarting

    def begin_removal(self, ids: Iterable[int]) -> Removal:
        """Engines are about to be removed; gives how.  Each unit's end is told by ``forget_unit``.

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
        found += [unit for unit in units.values() if unit is not None]
        self._removing.update(unit.key for unit in found)
        foreign = [each for each, unit in units.items() if unit is None and each in self.ids]
        return Removal(tuple(found), tuple(foreign))

    def removal_failed(self, removal: Removal) -> None:
        """What is left of the units that were to be removed stays."""
        self._removing.difference_update(unit.key for unit in removal.units)

    def check_stays(self, unit: Unit) -> None:
        """Check that a unit is not being removed.

        :raises ClusterError: when it is.
        """
        if unit.key in self._removing:
            ids = compress_ids(unit.ids)
            raise ClusterError(f"engine {ids} is being removed, so it cannot be restarted")

    def forget_unit(self, key: str) -> None:
        """A unit is gone."""
        self._job_ids.pop(key, None)
        self.units.pop(key, None)
        self._removing.discard(key)
        for progress in self.progresses:
            progress.withdraw(key)

    def forget_end(self, engine_id: int) -> None:
        """How an engine ended does not matter any more: it is removed, or started again."""
        self._ended.pop(engine_id, None)

    # -- questions

    @property
    def wanted(self) -> int:
        """How many engines were asked for."""
        return sum(unit.count for unit in self.units.values())

    @property
    def coming(self) -> bool:
        """Whether an engine is being started, or waits for that, that is not usable yet."""
        return bool(self.progresses) or any(map(self._is_coming, self.units.values()))

    def _is_coming(self, unit: Unit) -> bool:
        status = self._processes().get(unit.key)
        if status is None:  # a batch system has it
            return not set(unit.ids) <= set(self.ids)
        return status.state in (State.REQUESTED, State.STARTING, State.WAITING)

    @property
    def last_failure(self) -> str:
        """Why the engine that ended last is not there, as a sentence; empty if none has."""
        reasons = [info for info in self._ended.values() if info.reason]
        return f"engine {reasons[-1].id} {reasons[-1].reason}" if reasons else ""

    def checked_id(self, engine_id: int) -> int:
        """The id of an engine that is known, alive or not.

        :raises InvalidEngineID: when there is none.
        """
        known = {*self.ids, *self._ended, *self._known_units_ids()}
        if engine_id not in known:
            there = compress_ids(known) or "none"
            raise InvalidEngineID(
                f"there is no engine {engine_id} in this cluster; there are: {there}"
            )
        return engine_id

    def _known_units_ids(self) -> set[int]:
        return {each for unit in self.units.values() for each in unit.ids}

    def unit_of(self, engine_id: int) -> Unit | None:
        """The unit that was started for an engine."""
        return next((unit for unit in self.units.values() if engine_id in unit.ids), None)

    def job_of(self, engine_id: int) -> Unit | None:
        """The unit of an engine that has its id from the controller."""
        found = (key for key, engines in self._job_ids.items() if engine_id in engines)
        return next((self.units[key] for key in found), None)

    def engine_infos(self) -> list[EngineInfo]:
        """What is known of each engine, by id."""
        processes = self._processes()
        found = dict(self._ended)
        for unit in self.units.values():
            for engine_id in unit.ids:
                status = processes.get(unit.key)
                if status is not None:
                    found[engine_id] = engine_info(engine_id, status)
                elif engine_id not in self.ids:
                    found[engine_id] = EngineInfo(id=engine_id, state="queued")
        for engine_id in self.ids:
            found.setdefault(engine_id, EngineInfo(id=engine_id, state="running"))
        return [found[engine_id] for engine_id in sorted(found)]
