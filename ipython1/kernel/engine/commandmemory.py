"""What an engine remembers of the commands that came to it; pure state, no I/O.

Links break and controllers start again, so a command may come more than once.  The memory makes sure that it runs once
at most, and that its outcome is there until the controller says that it is safe.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from enum import Enum
from typing import Final, TypeAlias

from ipython1.kernel.wire.messages import Outcome
from ipython1.kernel.wire.payload import Live, total_size

Key: TypeAlias = tuple[bytes, int]
"""What names a command for ever: the uuid of its client, and the number that the client gave it."""

MOST_ORIGINS: Final = 10_000
"""Clients whose last number is remembered; of more, those are forgotten that sent nothing for the longest time."""

MOST_NUMBERS: Final = 64
"""The last numbers of a client that are remembered one by one."""


class Came(Enum):
    """What a command is that comes."""

    NEW = "it has never been here as a whole"
    HELD = "it waits or runs"
    ENDED = "it ended, and its outcome is kept"
    FORGOTTEN = (
        "it was here once, and its outcome is not kept; or a later one of its client came before it"
    )
    OVERTAKEN = "it has never been here as a whole, and a later one of its client came before it"


class CommandMemory:
    """The commands that an engine got.

    ==========  =============================================  =============================
    a command   event                                          becomes
    ==========  =============================================  =============================
    (unknown)   :meth:`came`                                   coming
    coming      :meth:`arrived`: all of its data is here       held, and its number is seen
    coming      :meth:`did_not_arrive`, :meth:`link_lost`      (unknown)
    held        :meth:`ended`                                  ended, with its outcome
    held        :meth:`drop`: it did not begin, and will not   forgotten, but seen
    ended       :meth:`confirm`, :meth:`forget_outcomes`       forgotten, but seen
    ==========  =============================================  =============================

    A client's commands come in the order of their numbers, and some go to other engines only.  So none is taken whose
    number is not higher than all before; the last numbers tell which of those were here.

    :meth:`ended` may be called in any thread, the other methods in the reactor's.
    """

    def __init__(self, most_origins: int = MOST_ORIGINS) -> None:
        self._most_origins = most_origins
        self._seen: dict[bytes, deque[int]] = {}
        self._has_forgotten = False
        self._coming: set[Key] = set()
        self._held: dict[Key, None] = {}
        self._ended: dict[Key, Outcome] = {}
        self._live: dict[Key, Live] = {}
        self._size = 0
        self._lock = threading.Lock()

    def came(self, key: Key) -> Came:
        """A command has come, perhaps without its data."""
        with self._lock:
            if key in self._held or key in self._coming:
                return Came.HELD
            if key in self._ended:
                return Came.ENDED
        numbers = self._seen.get(key[0])
        if numbers is not None and key[1] <= numbers[-1]:
            was_here = key[1] <= numbers[0] or key[1] in numbers
            return Came.FORGOTTEN if was_here else Came.OVERTAKEN
        self._coming.add(key)
        return Came.NEW

    def arrived(self, key: Key) -> bool:
        """All of it is here; False if it was given up meanwhile, so that it must not run."""
        if key not in self._coming:
            return False
        self._coming.remove(key)
        origin, number = key
        numbers = self._seen.pop(origin, None)
        if numbers is None:
            # A client that was forgotten may have sent any of the numbers before.
            numbers = deque(() if self._has_forgotten else (0,), MOST_NUMBERS)
        numbers.append(number)
        self._seen[origin] = numbers
        if len(self._seen) > self._most_origins:
            self._has_forgotten = True
            del self._seen[next(iter(self._seen))]
        with self._lock:
            self._held[key] = None
        return True

    def did_not_arrive(self, key: Key) -> bool:
        """Its data will not come; False if that is known."""
        known = key in self._coming
        self._coming.discard(key)
        return known

    def link_lost(self) -> None:
        """What was still coming was never here."""
        self._coming.clear()

    def ended(self, key: Key, outcome: Outcome) -> None:
        """It is done, with this outcome."""
        with self._lock:
            self._held.pop(key, None)
            self._ended[key] = outcome
            self._size += total_size(outcome.buffers)
            if isinstance(outcome.buffers, Live):
                self._live[key] = outcome.buffers

    def outcome(self, key: Key) -> Outcome | None:
        """The outcome of a command that ended; None if it is not kept, or not there yet."""
        return self._ended.get(key)

    def drop(self, key: Key) -> None:
        """It will not run, and nobody wants to hear of that."""
        with self._lock:
            self._held.pop(key, None)

    def is_unfinished(self, key: Key) -> bool:
        """Whether it comes, waits or runs."""
        return key in self._held or key in self._coming

    @property
    def first_unfinished(self) -> Key | None:
        """The oldest command that is not done; None if there is none."""
        with self._lock:
            return next(iter(self._held), None) or next(iter(self._coming), None)

    def confirm(self, origin: bytes, first: int, count: int = 1) -> None:
        """The outcomes of so many commands are safe elsewhere, or nobody wants them."""
        with self._lock:
            for number in range(first, first + count):
                outcome = self._ended.pop((origin, number), None)
                if outcome is not None:
                    self._size -= total_size(outcome.buffers)
                    self._live.pop((origin, number), None)

    def forget_outcomes(self) -> None:
        """Nobody wants the outcome of any command that has ended."""
        with self._lock:
            self._ended.clear()
            self._live.clear()
            self._size = 0

    @property
    def live(self) -> Sequence[tuple[Key, Live]]:
        """The outcomes that user code could still change, until the caller has secured them against that."""
        if not self._live:
            return ()
        with self._lock:
            return tuple(self._live.items())

    def secured(self, key: Key) -> None:
        """User code cannot change the outcome of a command any more."""
        with self._lock:
            self._live.pop(key, None)

    @property
    def held(self) -> tuple[Key, ...]:
        """The commands that wait or run, oldest first."""
        with self._lock:
            return tuple(self._held)

    @property
    def finished(self) -> tuple[Key, ...]:
        """The commands that ended and were not confirmed, oldest first."""
        with self._lock:
            return tuple(self._ended)

    @property
    def size(self) -> int:
        """Bytes of the outcomes that were not confirmed."""
        return self._size

    @property
    def seen(self) -> dict[bytes, int]:
        """The highest number that came of each client."""
        return {origin: numbers[-1] for origin, numbers in self._seen.items()}
