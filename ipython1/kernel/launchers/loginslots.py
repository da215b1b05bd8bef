"""How many hosts are logged in to at a time."""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.defer import Deferred

FIRST = 10
"""As many as sshd accepts by default, as all logins may go through one jump host."""

MOST = 64
LEAST = 6


class LoginSlots:
    """Begins with :data:`FIRST` logins at a time.

    Each login that is accepted allows one more, up to :data:`MOST`; one that an sshd refuses because there are too many
    halves their number, and from then on it does not grow.

    Starting ``ssh`` takes a while on a busy computer, so only one slot is given away per turn of the reactor.

    :ivar limit: how many there may be now.
    :ivar taken: how many there are.
    """

    def __init__(self, reactor: Any) -> None:
        self.limit: int = FIRST
        self.taken: int = 0
        self._reactor = reactor
        self._serving = False
        self._was_refused = False
        self._waiting: deque[Deferred[Slot]] = deque()

    def acquire(self) -> Deferred[Slot]:
        """Wait for a slot; those who ask first have theirs first."""
        waiter: Deferred[Slot] = Deferred(self._waiting.remove)
        self._waiting.append(waiter)
        self._serve()
        return waiter

    def accepted(self) -> None:
        """A login went well."""
        if not self._was_refused:
            self.limit = min(MOST, self.limit + 1)

    def refused(self) -> None:
        """An sshd has refused a login because there were too many."""
        self._was_refused = True
        self.limit = max(LEAST, min(self.limit, self.taken) // 2)

    def give_back(self) -> None:
        """A slot is free again."""
        self.taken -= 1
        self._serve()

    def _serve(self) -> None:
        if not self._serving and self._waiting and self.taken < self.limit:
            self._serving = True
            self._reactor.callLater(0, self._serve_one)

    def _serve_one(self) -> None:
        self._serving = False
        if self._waiting and self.taken < self.limit:
            self.taken += 1
            self._waiting.popleft().callback(Slot(self))
        self._serve()


class Slot:
    """One login; it may be released any number of times."""

    def __init__(self, slots: LoginSlots) -> None:
        self._slots: LoginSlots | None = slots

    def release(self) -> None:
        """Let another login begin."""
        slots, self._slots = self._slots, None
        if slots is not None:
            slots.give_back()
