"""How long a party waits before each attempt to reach the controller again."""

from __future__ import annotations

from collections.abc import Iterator
from random import uniform
from typing import Final

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 15.0
"""Seconds."""

FACTOR: Final = 1.3
"""How much longer each pause is; so the last one is at most a third of the time that the controller was away."""


def pauses() -> Iterator[float]:
    """Yield seconds: none, then longer and longer ones, each somewhat random, so that not all come at once."""
    yield 0.0
    pause = FIRST_PAUSE
    while True:
        yield uniform(0.7 * pause, pause)
        pause = min(FACTOR * pause, LONGEST_PAUSE)
