"""Asking for the state of a queue repeatedly: often after a change, then less and less often."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

FIRST_PAUSE = 0.5
PAUSE_FACTOR = 1.3
"""The first pause in seconds, and by how much each is longer than the one before."""


class Polling:
    """Calls ``look`` until nothing is followed any more. One look ends before the next begins.

    :param reactor: has the time.
    :param longest: the longest pause in seconds.
    :param look: looks once.
    :param failed: is told when a look fails; looks go on.
    :param follows: whether there is something to look at.
    """

    def __init__(
        self,
        reactor: Any,
        longest: float,
        look: Callable[[], Coroutine[Any, Any, None]],
        failed: Callable[[Failure], object],
        follows: Callable[[], bool],
    ) -> None:
        self._reactor = reactor
        self._longest = longest
        self._look = look
        self._failed = failed
        self._follows = follows
        self._pause = FIRST_PAUSE
        self._changed = 0.0
        self._looking = False
        self._ended = False
        self._call: IDelayedCall | None = None

    @property
    def age(self) -> float:
        """The seconds since the last change."""
        return float(self._reactor.seconds() - self._changed)

    def changed(self) -> None:
        """Something has been started or removed: look soon, and often at first."""
        self._pause = FIRST_PAUSE
        self._changed = self._reactor.seconds()
        if not self._looking and not self._ended:
            self._cancel()
            self._look_later()

    def end(self) -> None:
        """Do not look again."""
        self._ended = True
        self._cancel()

    def _look_later(self) -> None:
        self._call = self._reactor.callLater(self._pause, self._look_now)

    def _cancel(self) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()

    def _look_now(self) -> None:
        self._looking = True
        Deferred.fromCoroutine(self._look()).addErrback(self._failed).addBoth(self._looked)

    def _looked(self, _: object) -> None:
        self._looking = False
        self._pause = min(self._pause * PAUSE_FACTOR, self._longest)
        if not self._ended and self._follows():
            self._look_later()
