"""What follows from what a batch system says of a job array; no input and output.

=========  ============================================  =========  =================================================
member     event                                         next       change
=========  ============================================  =========  =================================================
submitted  it waits in the queue                         queued     :class:`Queued`
submitted  it runs                                       running    :class:`Started`
queued     it waits for another reason                   same       :class:`Queued`
queued     it runs                                       running    :class:`Started`
running    it waits in the queue: the batch system has   queued     :class:`PutBack`
           put it back there
any        it has ended, or is not listed any more       ended      :class:`Ended`
any        it is held after an error or its time limit   ended      :class:`Ended`, to be cancelled
running    some of its several engines have ended        same       :class:`Shrunk`
=========  ============================================  =========  =================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ipython1.daemon.jobmember import ended_engines
from ipython1.kernel.launchers.batchsystem import BatchSystem, End, TaskState
from ipython1.kernel.launchers.interfaces import Unit

QUICK: Final = 30.0
"""A member that ran for fewer seconds before the batch system ended it did not get far."""

MOST_QUICK: Final = 3
"""How often in a row a member may not get far before it is not submitted any more."""


@dataclass(frozen=True, slots=True)
class Change:
    """Base of what happens to a member's engines."""

    unit: Unit


@dataclass(frozen=True, slots=True)
class Queued(Change):
    """They wait in the queue."""

    reason: str


@dataclass(frozen=True, slots=True)
class Started(Change):
    """They have left the queue."""


@dataclass(frozen=True, slots=True)
class PutBack(Change):
    """The batch system has ended them, and will start them again by itself."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ended(Change):
    """They have ended.

    :ivar reason: why, as the end of a sentence.
    :ivar lines: the last lines of their output.
    :ivar end: who has ended them.
    :ivar index: the member's.
    :ivar ran: for how many seconds they ran.
    :ivar asked: whether they were to end.
    :ivar held: whether the batch system still has the member, so that it must be cancelled.
    """

    reason: str
    lines: tuple[str, ...]
    end: End
    index: int
    ran: float
    asked: bool = False
    held: bool = False


@dataclass(frozen=True, slots=True)
class Shrunk(Change):
    """Some of a member's several engines have ended by themselves; the unit is what stays.

    :ivar ends: how each has ended, by its id.
    """

    ends: Mapping[int, str]


@dataclass(slots=True)
class Member:
    """A member that has not ended.

    :ivar reason: why it waits in the queue; None if it does not, as far as is known.
    :ivar since: when it was first seen running; None before that.
    :ivar removed: whether it was cancelled on request.
    """

    unit: Unit
    reason: str | None = None
    since: float | None = None
    removed: bool = False


class JobArray:
    """A submitted job array; see the module's text.

    :param name: the job's name.
    :param job_id: by which the batch system knows it.
    :param stem: the beginning of the names of its output files.
    :param units: what its members start, in the order of their indices.
    :ivar members: those that have not ended, by index.
    :ivar over: whether the batch system has nothing of it any more.
    """

    def __init__(
        self, system: BatchSystem, name: str, job_id: str, stem: str, units: Iterable[Unit]
    ) -> None:
        self.name = name
        self.job_id = job_id
        self.stem = stem
        self.members: dict[int, Member] = {
            index: Member(unit) for index, unit in enumerate(units, system.first)
        }
        self.over: bool = False
        self._system = system
        self._seen = False

    @property
    def waiting(self) -> list[tuple[str, int]]:
        """Why members wait in the queue, each with its number of engines."""
        return [
            (member.reason, member.unit.count)
            for member in self.members.values()
            if member.reason is not None
        ]

    def index_of(self, key: str) -> int | None:
        """Return the index of the member that starts a unit; None if it has ended."""
        found = (index for index, member in self.members.items() if member.unit.key == key)
        return next(found, None)

    def is_held(self, states: Mapping[int, TaskState]) -> bool:
        """Return whether a member is held after an error."""
        return any(index in states and states[index].error for index in self.members)

    def take(
        self,
        states: Mapping[int, TaskState],
        now: float,
        lines: Callable[[int], Sequence[str]],
        young: bool = False,
        why_held: str = "",
    ) -> list[Change]:
        """Take what the batch system says; return what has changed.

        :param states: the states of those members that it lists, by index.
        :param now: the time, in seconds.
        :param lines: gives the last lines of a member's output.
        :param young: whether the job may not be listed yet.
        :param why_held: what the batch system says of members that are held after an error.
        """
        if young and not states and not self._seen:
            return []
        self._seen = True
        self.over = all(state.end is not None and not state.error for state in states.values())
        changes: list[Change] = []
        for index, member in list(self.members.items()):
            state = states.get(index)
            if state is None or state.error or state.end is not None:
                del self.members[index]
                changes.append(self._ended(index, member, state, now, lines(index), why_held))
            elif state.waiting:
                changes += self._waits(member, state.reason)
            elif member.since is None or member.reason is not None:
                member.since, member.reason = now, None
                changes.append(Started(member.unit))
            elif member.unit.count > 1:
                changes += self._shrinks(member, ended_engines(lines(index)))
        return changes

    def _shrinks(self, member: Member, ended: Mapping[int, str]) -> list[Change]:
        ends = {each: ended[each] for each in member.unit.ids if each in ended}
        stay = tuple(each for each in member.unit.ids if each not in ends)
        if not ends or not stay:  # soon, the member has ended
            return []
        member.unit = replace(member.unit, ids=stay, count=len(stay))
        return [Shrunk(member.unit, ends)]

    def _waits(self, member: Member, reason: str) -> list[Change]:
        if member.since is not None:
            member.since, member.reason = None, reason
            return [PutBack(member.unit, reason)]
        if reason == member.reason:
            return []
        member.reason = reason
        return [Queued(member.unit, reason)]

    def _ended(
        self,
        index: int,
        member: Member,
        state: TaskState | None,
        now: float,
        lines: Sequence[str],
        why_held: str,
    ) -> Ended:
        ran = 0.0 if member.since is None else now - member.since
        if state is not None and state.error:
            why = self._system.explanation(why_held, index)
            said = (why,) if why else ()
            end, reason = End.ITSELF, "is held by the batch system after an error"
            if state.end is not None:
                end, reason = state.end, state.reason
            return Ended(
                member.unit, reason, said, end, index, ran, asked=member.removed, held=True
            )
        end, reason = End.ITSELF, "ended"
        if state is not None and state.end is not None:
            end, reason = state.end, state.reason
        told = self._system.told_end(lines) if end is End.ITSELF else ""
        if told:
            end, reason = End.SYSTEM, told
        return Ended(member.unit, reason, tuple(lines), end, index, ran, asked=member.removed)


class Patience:
    """Whether to submit engines again that the batch system has ended: not if that happens at once, again and again."""

    def __init__(self) -> None:
        self._quick: dict[str, int] = {}

    def lasts(self, ended: Ended) -> bool:
        """Return whether the engines of a member are to be submitted again."""
        key = ended.unit.key
        if ended.ran >= QUICK:
            self._quick.pop(key, None)
            return True
        self._quick[key] = self._quick.get(key, 0) + 1
        if self._quick[key] < MOST_QUICK:
            return True
        del self._quick[key]
        return False
