"""How long a party waits before each attempt to reach the controller again."""

from __future__ import annotations

from random import uniform
from typing import Final

from twisted.internet.interfaces import IReactorTime

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 15.0
"""Seconds."""

FACTOR: Final = 1.3
"""How much longer each pause is; so the last one is at most a third of the time that the controller was away."""


LASTED: Final = 1.0
"""Seconds after which a connection counts as one that was not lost as soon as it was made."""


class Pauses:
    """None before the first attempt, then longer and longer pauses, each somewhat random, so that not all come at once.

    They begin anew with a connection that lasted.  So one that is lost as soon as it is made, each time, costs the
    controller no more than one that cannot be made.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._pause = 0.0
        self._connected_at: float | None = None

    def connected(self) -> None:
        """An attempt has succeeded."""
        self._connected_at = self._clock.seconds()

    def next(self) -> float:
        """Return the seconds to wait before the next attempt."""
        since, self._connected_at = self._connected_at, None
        if since is not None and self._clock.seconds() - since >= LASTED:
            self._pause = 0.0
        pause = self._pause
        self._pause = min(max(FACTOR * pause, FIRST_PAUSE), LONGEST_PAUSE)
        return uniform(0.7 * pause, pause)
