"""Transfers that no frame has named yet, of a party that need not mean well: a few, small and young ones are kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime

MOST: Final = 64
"""Transfers that may be opened without a name at a time."""

MOST_BYTES: Final = 16 * 2**20
"""Bytes that may have come of them."""

PATIENCE: Final = 60.0
"""Seconds that a transfer may be without a name."""


class UnnamedTransfers:
    """The transfers of one link that nothing has referred to.

    ========  =========================================================  ==========
    state     event                                                      becomes
    ========  =========================================================  ==========
    --        :meth:`opened`, when there are fewer than ``MOST``         unnamed
    --        :meth:`opened`, else                                       refused
    unnamed   :meth:`named`, :meth:`clear`                               --
    unnamed   :meth:`piece`, when ``MOST_BYTES`` are exceeded            refused
    unnamed   ``PATIENCE`` seconds pass                                  refused
    ========  =========================================================  ==========

    :param refuse: called with the number of a transfer and the reason.
    """

    def __init__(self, clock: IReactorTime | None, refuse: Callable[[int, str], None]) -> None:
        self._clock = clock
        self._refuse = refuse
        self._opened: dict[int, tuple[float, int]] = {}
        self._bytes = 0
        self._timer: Any = None

    def opened(self, number: int) -> bool:
        """A transfer was opened; False if it is one too many."""
        if len(self._opened) >= MOST:
            return False
        now = 0.0 if self._clock is None else self._clock.seconds()
        self._opened[number] = (now, 0)
        self._wait(now)
        return True

    def named(self, number: int) -> None:
        """Something refers to the transfer, or it is over."""
        found = self._opened.pop(number, None)
        if found is not None:
            self._bytes -= found[1]
            if not self._opened:
                self._stop_waiting()

    def piece(self, number: int, size: int) -> bool:
        """A piece of ``size`` bytes came; False if it was refused for it."""
        found = self._opened.get(number)
        if found is None:
            return True
        if self._bytes + size > MOST_BYTES:
            self.named(number)
            self._refuse(number, "too much was sent before it was said what it is for")
            return False
        self._opened[number] = (found[0], found[1] + size)
        self._bytes += size
        return True

    def clear(self) -> None:
        """The link is lost."""
        self._opened.clear()
        self._bytes = 0
        self._stop_waiting()

    def _wait(self, now: float) -> None:
        if self._timer is None and self._clock is not None and self._opened:
            oldest = min(since for since, _ in self._opened.values())
            delay = max(0.0, oldest + PATIENCE - now)
            self._timer = self._clock.callLater(delay, self._look)

    def _stop_waiting(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _look(self) -> None:
        self._timer = None
        assert self._clock is not None
        now = self._clock.seconds()
        for number, (since, _) in list(self._opened.items()):
            if since + PATIENCE <= now:
                self.named(number)
                self._refuse(number, f"nothing referred to it for {PATIENCE:g} s")
        self._wait(now)
