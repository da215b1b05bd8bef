"""One engine's commands in the controller, in order; pure state, no I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

Key: TypeAlias = tuple[bytes, int]
"""What names a command for ever: the uuid of its client, and the number that the client gave it."""

LOOK_AHEAD: Final = 16 * 2**20
"""Bytes of commands' data that an engine gets before their turn has come."""

MOST_AHEAD: Final = 100
"""Commands whose data an engine gets before their turn has come."""


class Queued(Protocol):
    """A command, as a queue knows it."""

    @property
    def key(self) -> Key: ...

    @property
    def size(self) -> int:
        """Bytes of its data."""

    @property
    def ready(self) -> bool:
        """Whether it can be sent now: its data is here, or on its way through here to the engine."""


C = TypeVar("C", bound=Queued)


@dataclass(frozen=True, slots=True)
class Return(Generic[C]):
    """What follows from an engine's return.

    :ivar fetch: commands that it has finished, and whose outcomes may not have come.
    :ivar unwanted: what it has finished and nobody will ask for.
    :ivar again: commands that were sent and did not arrive; they wait again.
    """

    fetch: list[C] = field(default_factory=list)
    unwanted: list[Key] = field(default_factory=list)
    again: list[C] = field(default_factory=list)


class CommandQueue(Generic[C]):
    """One engine's commands in order.

    ==========  ==========================================  ============================================
    a command   event                                       becomes
    ==========  ==========================================  ============================================
    (new)       :meth:`add`                                 waiting; or sent or ended, if a stranger was it
    waiting     :meth:`next_to_send`                        sent
    waiting     :meth:`remove`                              gone (the caller fails it)
    sent        :meth:`unreceived`: its data stopped        waiting
    sent        :meth:`finished`                            ended
    ended       :meth:`confirmed`: its outcome is safe      gone
    waiting     :meth:`back`: the engine has it, or has     sent, ended
                finished it
    sent        :meth:`back`: the engine has finished it,   ended, waiting
                or has never had it
    any         :meth:`drain` (the engine is gone)          gone
    ==========  ==========================================  ============================================

    One command at a time is sent.  The commands of one client go out in the order of their numbers.  One that cannot
    go yet holds back the later ones of its client, and nobody else's.

    A *stranger* is a command that the engine has from before the controller's restart, and that nobody here knows:
    its client has not come back.  Nothing is sent before a stranger has ended.

    :param may_go: whether a command of this name may be sent, as far as its client is concerned.
    :param may_claim: whether a client may still come and name a command as its own.
    """

    def __init__(
        self,
        may_go: Callable[[Key], bool] = lambda key: True,
        may_claim: Callable[[Key], bool] = lambda key: False,
    ) -> None:
        self._may_go = may_go
        self._may_claim = may_claim
        self._waiting: deque[C] = deque()
        self._highest: dict[bytes, int] = {}
        self._sent: C | None = None
        self._ended: dict[Key, C] = {}
        self._strangers: dict[Key, None] = {}
        self._finished_strangers: dict[Key, None] = {}

    # -- what there is

    @property
    def running(self) -> C | None:
        """The command that was sent and is not done."""
        return self._sent

    @property
    def running_key(self) -> Key | None:
        """What names the command that the engine has, a stranger perhaps."""
        if self._strangers:
            return next(iter(self._strangers))
        return None if self._sent is None else self._sent.key

    @property
    def waiting(self) -> tuple[C, ...]:
        """The commands that were not sent, in order."""
        return tuple(self._waiting)

    @property
    def strangers(self) -> tuple[Key, ...]:
        """The strangers that are not done."""
        return tuple(self._strangers)

    def has(self, key: Key) -> bool:
        """Whether the engine has this command, and it is not done."""
        return key in self._strangers or (self._sent is not None and self._sent.key == key)

    def ended(self, key: Key) -> C | None:
        """The command of this name, if it is done and its outcome is not confirmed."""
        return self._ended.get(key)

    def __len__(self) -> int:
        """How many commands were not sent."""
        return len(self._waiting)

    def __bool__(self) -> bool:
        return bool(self._waiting or self._sent is not None or self._strangers)

    # -- the course of things

    def add(self, command: C) -> bool:
        """A command has come; returns whether the engine has finished it already and has its outcome."""
        key = command.key
        if key in self._strangers and self._sent is None:
            del self._strangers[key]
            self._sent = command
        elif key in self._finished_strangers:
            del self._finished_strangers[key]
            self._ended[key] = command
            return True
        else:
            self._insert(command)
        return False

    def _insert(self, command: C, first: bool = False) -> None:
        """Put a command before the later ones of its client, else at the end, or at the front."""
        origin, number = command.key
        if number < self._highest.get(origin, 0):
            for index, other in enumerate(self._waiting):
                if other.key[0] == origin and other.key[1] > number:
                    self._waiting.insert(index, command)
                    return
        else:
            self._highest[origin] = number
        if first:
            self._waiting.appendleft(command)
        else:
            self._waiting.append(command)

    def next_to_send(self) -> C | None:
        """The command to send now, if the engine has none."""
        if self._sent is not None or self._strangers or not self._waiting:
            return None
        first = self._waiting[0]
        if first.ready and self._may_go(first.key):
            self._sent = self._waiting.popleft()
            return first
        unready: set[bytes] = set()
        for command in self._going():
            if command.key[0] in unready:
                continue
            if command.ready:
                self._waiting.remove(command)
                self._sent = command
                return command
            unready.add(command.key[0])
        return None

    def _going(self) -> Iterator[C]:
        """The waiting commands that may go."""
        held: set[bytes] = set()
        for command in self._waiting:
            if command.key[0] in held:
                continue
            if self._may_go(command.key):
                yield command
            else:
                held.add(command.key[0])

    def near(self) -> list[C]:
        """The commands whose data should be on its way, as their turn is near."""
        found: list[C] = []
        room = LOOK_AHEAD
        is_free = self._sent is None and not self._strangers
        for command in self._going():
            if len(found) == MOST_AHEAD or (command.size > room and (found or not is_free)):
                break
            room -= command.size
            found.append(command)
        return found

    def unreceived(self, key: Key) -> C | None:
        """The data of a command that was sent stopped coming; it waits again."""
        command = self._sent
        if command is None or command.key != key:
            return None
        self._sent = None
        self._insert(command, first=True)
        return command

    def finished(self, key: Key) -> C | None:
        """The engine is done with ``key``.

        :returns: the command; None if that is known already, or it is a stranger.
        """
        if key in self._strangers:
            del self._strangers[key]
            self._finished_strangers[key] = None
        command = self._sent
        if command is None or command.key != key:
            return None
        self._sent = None
        self._ended[key] = command
        return command

    def confirmed(self, key: Key) -> C | None:
        """The outcome of a command that ended is safe; returns the command, None if that is known already."""
        return self._ended.pop(key, None)

    def forget_strangers(self, wanted: Callable[[Key], bool]) -> list[Key]:
        """Nobody will name these strangers; returns those that have ended."""
        found = [key for key in self._finished_strangers if wanted(key)]
        for key in found:
            del self._finished_strangers[key]
        return found

    def remove(self, wanted: Callable[[C], bool]) -> list[C]:
        """Take out the waiting commands that are ``wanted``."""
        removed = [command for command in self._waiting if wanted(command)]
        if removed:
            self._waiting = deque(command for command in self._waiting if not wanted(command))
        return removed

    # -- the engine

    def back(self, held: Sequence[Key], finished: Sequence[Key]) -> Return[C]:
        """The engine is back.

        :param held: the commands that wait or run there.
        :param finished: those that it has finished, and whose outcomes were not confirmed.
        """
        result: Return[C] = Return()
        before, self._sent = self._sent, None
        known = {command.key: command for command in self._waiting}
        if before is not None:
            known[before.key] = before
        self._strangers = {}
        self._finished_strangers = {}
        for key in finished:
            if key in known:
                self._ended[key] = self._take(known.pop(key), before)
            if key in self._ended:
                result.fetch.append(self._ended[key])
            elif self._may_claim(key):
                self._finished_strangers[key] = None
            else:
                result.unwanted.append(key)
        for key in held:
            if key in finished:
                continue  # it ended while the engine told of it
            if key not in known:
                self._strangers[key] = None
            elif self._sent is None:
                self._sent = self._take(known.pop(key), before)
        if before is not None and before.key in known:
            self._insert(before, first=True)
            result.again.append(before)
        return result

    def _take(self, command: C, before: C | None) -> C:
        """Take a command out of those that wait, unless it is the one that was sent."""
        if command is not before:
            self._waiting.remove(command)
        return command

    def drain(self) -> tuple[list[C], list[C], list[C]]:
        """Take out everything; returns what was sent, what waited, and what had ended."""
        sent = [] if self._sent is None else [self._sent]
        waiting, ended = list(self._waiting), list(self._ended.values())
        self._sent = None
        self._ended = {}
        self._strangers = {}
        self._finished_strangers = {}
        self._waiting.clear()
        self._highest.clear()
        return sent, waiting, ended
