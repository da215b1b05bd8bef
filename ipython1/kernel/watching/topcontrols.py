"""How a user looks at engines in the terminal: the order, what is shown, and how far it is scrolled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from ipython1.kernel.wire.monitoring import EngineInfo

ORDERS: Final[dict[str, tuple[str, Callable[[EngineInfo], Any], bool]]] = {
    "i": ("id", lambda engine: engine.id, False),
    "h": ("host", lambda engine: engine.host, False),
    "c": ("CPU", lambda engine: engine.cpu or 0.0, True),
    "m": ("memory", lambda engine: engine.memory or 0, True),
    "n": ("queue", lambda engine: engine.queued + engine.tasks, True),
    "t": ("time", lambda engine: -(engine.since or float("inf")), True),
}
"""By key: the name of an order, what it compares, and whether the largest comes first."""

PAGE: Final = 10
"""Rows by which a page is scrolled at least."""


@dataclass(frozen=True, slots=True)
class Controls:
    """What a user has chosen.

    :ivar order: a key of :data:`ORDERS`.
    :ivar reverse: whether the order is turned around.
    :ivar first: how many engines are scrolled past.
    :ivar busy_only: whether idle engines are left out.
    :ivar done_work: whether work that is done is shown, too.
    """

    order: str = "i"
    reverse: bool = False
    first: int = 0
    busy_only: bool = False
    done_work: bool = True

    def after(self, key: str, rows: int) -> Controls:
        """Return what is chosen after a key was pressed.

        :param key: a character, or ``up``, ``down``, ``page up``, ``page down``, ``home``, ``end``.
        :param rows: how many engines fit.
        """
        if key in ORDERS:
            if key == self.order:
                return replace(self, reverse=not self.reverse, first=0)
            return replace(self, order=key, reverse=False, first=0)
        if key == "b":
            return replace(self, busy_only=not self.busy_only, first=0)
        if key == "d":
            return replace(self, done_work=not self.done_work)
        page = max(rows, PAGE)
        steps = {
            "up": -1,
            "k": -1,
            "down": 1,
            "j": 1,
            "page up": -page,
            "page down": page,
            " ": page,
        }
        if key in steps:
            return replace(self, first=max(0, self.first + steps[key]))
        if key in ("home", "g"):
            return replace(self, first=0)
        return replace(self, first=10**9) if key in ("end", "G") else self

    def chosen(self, engines: dict[int, EngineInfo]) -> list[EngineInfo]:
        """Return the engines to show, in their order."""
        _name, key, largest = ORDERS[self.order]
        found = [each for each in engines.values() if not self.busy_only or each.since is not None]
        found.sort(key=lambda engine: engine.id)
        found.sort(key=key, reverse=largest != self.reverse)
        return found

    def scrolled(self, count: int, rows: int) -> int:
        """Return how many of ``count`` engines to leave out at the top, if so many ``rows`` fit."""
        return max(0, min(self.first, count - rows))
