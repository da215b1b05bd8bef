"""Rates of what is counted, and how late this process is; pure state."""

from __future__ import annotations

from collections import deque
from typing import Final

WINDOW: Final = 3.0
"""Seconds over which is averaged."""


class Rate:
    """How fast some counts grow.

    :param size: how many counts there are.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._samples: deque[tuple[float, tuple[int, ...]]] = deque()

    def clear(self) -> None:
        """Begin anew."""
        self._samples.clear()

    def sample(self, now: float, *counts: int) -> None:
        """The counts at this time."""
        samples = self._samples
        samples.append((now, counts))
        while len(samples) > 2 and samples[1][0] <= now - WINDOW:
            samples.popleft()

    def rates(self) -> tuple[float, ...]:
        """By how much each count grows in a second; 0 before there are two samples."""
        if len(self._samples) < 2:
            return (0.0,) * self._size
        (begun, first), (ended, last) = self._samples[0], self._samples[-1]
        seconds = ended - begun
        if seconds <= 0:
            return (0.0,) * self._size
        return tuple((new - old) / seconds for old, new in zip(first, last, strict=True))


class Lateness:
    """By how much calls of a timer come late, at worst, lately."""

    def __init__(self) -> None:
        self._late: deque[tuple[float, float]] = deque()

    def clear(self) -> None:
        """Begin anew."""
        self._late.clear()

    def came(self, now: float, due: float) -> None:
        """A call came that was due at some time."""
        late = self._late
        late.append((now, max(0.0, now - due)))
        while late and late[0][0] < now - WINDOW:
            late.popleft()

    @property
    def worst(self) -> float:
        """Seconds."""
        return max((seconds for _, seconds in self._late), default=0.0)
