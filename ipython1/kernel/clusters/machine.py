"""What follows from what happens to a running cluster; no input and output.

What happens is told by method calls; each answers with a list of instructions.  Processes are the business of
:mod:`ipython1.daemon.supervision`; here, an engine is usable when the controller lists it, and only then.

=========  ==============================================  =========  ================================================
phase      event                                           next       instructions
=========  ==============================================  =========  ================================================
starting   ``start_settled``                               running
any        ``units_started``                               same       :class:`MarkUsable` for those that are listed
any        ``ids_listed``                                  same       :class:`MarkUsable` for units whose engines are
                                                                      all listed
not s.     the controller waits to be started again        same       :class:`Say`, unless it was said a moment ago
not s.     the controller runs again                       same       :class:`Say`
not s.     the controller gives no sign of life, or does   same       :class:`SaySilent`, :class:`Say`
           again
starting   the controller has ended and never listened     same       (its launcher reports it, and the start fails)
not s.     the controller has ended, and was told to       same       :class:`GiveUp` with status 0
not s.     the controller has ended for good               same       :class:`GiveUp` with status 1
not s.     an engine waits to be started again             same       :class:`Say`
not s.     an engine waits for its host                    same       (its launcher says so once for the host; a start
                                                                      counts it as failed)
not s.     its host is there after all                     same       (a start waits for it again)
not s.     a usable engine is lost with its host           same       also :class:`TellEnded`
not s.     an engine or a job has ended                    same       :class:`Say`, unless a start that is not settled
                                                                      reports it; :class:`TellEnded` if it was ended
                                                                      from outside
not s.     some engines of a job have ended                same       :class:`Say`, as above
not s.     a job was ended from outside, and comes back    same       :class:`TellEnded`
any        ``unit_removed``                                same       (no start waits for it any more)
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

from ipython1.daemon.processes import ProcessStatus, State
from ipython1.kernel.clusters.engines import Engines
from ipython1.kernel.clusters.outage import Outage
from ipython1.kernel.clusters.progress import StartProgress
from ipython1.kernel.launchers.failures import describe_failure, reason_and_lines
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
class SaySilent(Instruction):
    """Tell the user that the controller gives no sign of life."""

    status: ProcessStatus


@dataclass(frozen=True, slots=True)
class MarkUsable(Instruction):
    """All engines of a unit are listed: its process runs."""

    key: str


@dataclass(frozen=True, slots=True)
class Reconnect(Instruction):
    """Connect to the controller again, a moment later."""


@dataclass(frozen=True, slots=True)
class TellEnded(Instruction):
    """The controller does not know yet that these engines are dead, and that their tasks are not to blame."""

    ids: tuple[int, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp(Instruction):
    """The cluster cannot go on: say why, and end what is left with this exit status."""

    text: str
    status: int


class ClusterMachine:
    """See the module's text.

    :param processes: gives what the supervision knows of each process, by key.
    :param own_controller: whether the controller belongs to the cluster; else it has engines only.
    :ivar engines: what is known of the engines.
    :ivar warnings: what is wrong with the controller, one line each, as it told last.
    :ivar progresses: the starts that are not settled, oldest first.
    """

    def __init__(
        self, processes: Callable[[], Mapping[str, ProcessStatus]], own_controller: bool = True
    ) -> None:
        self.phase: Phase = Phase.STARTING
        self.engines: Engines = Engines(processes)
        self.warnings: tuple[str, ...] = ()
        self.progresses: list[StartProgress] = []
        self._processes = processes
        self._own_controller = own_controller
        self._outage = Outage()
        self._said_silent = False

    # -- starts

    def begin_start(self) -> StartProgress:
        """Engines are about to be started."""
        progress = StartProgress(self.engines.ids)
        self.progresses.append(progress)
        return progress

    def units_started(
        self, progress: StartProgress, units: Sequence[Unit], ids: Sequence[int] = ()
    ) -> list[Instruction]:
        """Everything that ``progress`` was begun for was asked for.

        :param ids: the ids that were reserved for it.
        """
        self.engines.add(units, ids)
        progress.add(units)
        self._tell_ids(progress)
        progress.all_added()
        for unit in units:
            status = self._processes().get(unit.key)
            if status is not None and (status.state is State.ENDED or _waits_for_host(status)):
                progress.unit_ended(unit.key, *reason_and_lines(status))
        return self._usable_units()

    def _tell_ids(self, progress: StartProgress) -> None:
        # With a thousand engines that have their ids beforehand, this would be slow and of no use.
        nameless = any(not unit.ids for unit in progress.units)
        claimed = self.engines.claimed(progress.units) if nameless else ()
        progress.ids_changed(self.engines.fresh, claimed)

    def end_start(self, progress: StartProgress) -> None:
        """Nobody waits for ``progress`` any more."""
        self.progresses.remove(progress)
        if len(progress.units) == 1:
            self.engines.learn_job(progress.units[0], progress.usable)

    def start_settled(self) -> None:
        """The first start is over, well or not."""
        if self.phase is Phase.STARTING:
            self.phase = Phase.RUNNING

    def stop(self) -> None:
        """The cluster is being ended."""
        self.phase = Phase.STOPPING

    # -- what happens

    def process_reported(self, status: ProcessStatus) -> list[Instruction]:
        """The supervision reports a change of a process."""
        if status.key == CONTROLLER_KEY:
            return self._controller_reported(status)
        return self._engine_reported(status)

    def _controller_reported(self, status: ProcessStatus) -> list[Instruction]:
        if self.phase is Phase.STOPPING:
            return []
        if status.silent_since is not None or self._said_silent:
            return self._controller_silent(status)
        if status.state is State.WAITING:
            text = self._outage.waits(status)
            return [Say(text)] if text else []
        if status.state is State.RUNNING and status.restarts:
            return [Say("the controller is back")]
        if status.state is not State.ENDED or status.asked:
            return []
        listened = status.was_ready or status.restarts
        if self.phase is Phase.STARTING and not listened:
            return []
        if status.status == 0:
            return [GiveUp("the controller was told to end", 0)]
        return [GiveUp(self._outage.over(status), 1)]

    def _controller_silent(self, status: ProcessStatus) -> list[Instruction]:
        if status.silent_since is not None:
            self._said_silent = True
            return [SaySilent(status)]
        self._said_silent = False
        if status.state in (State.STARTING, State.RUNNING):
            return [Say("the controller answers again")]
        return self._controller_reported(status)

    def _engine_reported(self, status: ProcessStatus) -> list[Instruction]:
        if status.state in (State.ENDED, State.WAITING):
            self.engines.process_ended(status.key)
        if self.phase is Phase.STOPPING or status.asked:
            return []
        if status.lost_with_host:
            told = self._blameless(status.key, f"ended with the connection to {status.host}")
            return [*told, *self._engine_missing(status)]
        return self._engine_missing(status)

    def _engine_missing(self, status: ProcessStatus) -> list[Instruction]:
        if status.state is State.REQUESTED:
            for progress in self.progresses:
                progress.comes_after_all(status.key)
        if status.host_away:
            if _waits_for_host(status):
                for progress in self.progresses:
                    progress.unit_ended(status.key, status.reason)
            return []
        if status.state is State.WAITING:
            return [Say(f"{describe_failure(status)}; restarting it")]
        if status.state is State.ENDED:
            return self._lost(status.key, *reason_and_lines(status), describe_failure(status))
        return []

    def _lost(self, key: str, reason: str, lines: Sequence[str], text: str) -> list[Instruction]:
        # All of them are told: a generator would stop at the first.
        expected = [each for each in self.progresses if each.unit_ended(key, reason, lines)]
        unit = self.engines.units.get(key)
        if unit is not None and not unit.ids:
            self.engines.forget(key)
        return [Say(text)] if unit is not None and not expected else []

    def ids_listed(self, ids: Iterable[int]) -> list[Instruction]:
        """The controller lists its engines."""
        self.engines.listed(ids)
        for progress in self.progresses:
            self._tell_ids(progress)
        return self._usable_units()

    def _usable_units(self) -> list[Instruction]:
        usable = self.engines.usable_units
        self.engines.came_up(usable)
        return [MarkUsable(unit.key) for unit in usable]

    def warned(self, lines: Sequence[str]) -> list[Instruction]:
        """The controller tells what is wrong with it now."""
        before, self.warnings = self.warnings, tuple(lines)
        return [Say(line) for line in self.warnings if line not in before]

    def controller_lost(self, reason: str) -> list[Instruction]:
        """The connection to the controller is gone."""
        self.warnings = ()
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
        self, key: str, reason: str, lines: Sequence[str], asked: bool, by_system: bool = False
    ) -> list[Instruction]:
        """A unit that is no process of this cluster came to its end."""
        told = self._blameless(key, reason) if by_system else []
        said: list[Instruction] = []
        unit = self.engines.units.get(key)
        if not asked and self.phase is not Phase.STOPPING:
            last = f": {lines[-1]}" if lines else ""
            said = self._lost(key, reason, lines, f"{key} {reason}{last}")
        self.unit_removed(key)
        if unit is not None and not asked:
            self.engines.remember_end(unit, reason, lines)
        return [*told, *said]

    def job_shrinks(self, rest: Unit, ends: Mapping[int, str]) -> list[Instruction]:
        """Some engines of a unit have ended by themselves, and the rest stays."""
        if rest.key not in self.engines.units or self.phase is Phase.STOPPING:
            return []
        self.engines.shrink(rest)
        expected = [each for each in self.progresses if each.shrinks(rest, ends)]
        said: list[Instruction] = []
        for engine_id, reason in ends.items():
            self.engines.remember_end(Unit(rest.key, 1, (engine_id,)), reason, ())
            if not expected:
                said.append(Say(f"engine {engine_id} {reason}"))
        return said

    def job_comes_back(self, key: str, reason: str) -> list[Instruction]:
        """A unit that is no process of this cluster was ended from outside, and is started again."""
        told = self._blameless(key, reason)
        self.engines.set_queued(key, "")
        return told

    def _blameless(self, key: str, reason: str) -> list[Instruction]:
        unit = self.engines.units.get(key)
        dead = tuple(sorted(set(unit.ids) & set(self.engines.ids))) if unit is not None else ()
        if not dead or self.phase is Phase.STOPPING:
            return []
        return [TellEnded(dead, reason)]

    def unit_removed(self, key: str) -> None:
        """A unit has ended because it was to end."""
        self.engines.forget(key)
        for progress in self.progresses:
            progress.withdraw(key)

    # -- questions

    @property
    def more_to_come(self) -> bool:
        """Whether engines are being started, or wait for that."""
        return bool(self.progresses) or self.engines.coming


def _waits_for_host(status: ProcessStatus) -> bool:
    """Whether it is known that the host is not there."""
    return status.host_away and bool(status.error)
