"""When engines are told which outcomes are safe: with their next commands, or else after a while, all together."""

from __future__ import annotations

from typing import Any, Final, Protocol

from twisted.internet.interfaces import IReactorTime

CONFIRM_AFTER: Final = 0.4
"""Seconds for which confirmations wait at most for a command that they can go along with; half of it at least."""


class Confirming(Protocol):
    """Has something to confirm to an engine."""

    def send_confirms(self) -> None:
        """Send it now."""


class Confirmations:
    """One timer for all engines, since most of them have told it before it is due that there is nothing left to send.

    ==========  ==========================================  ==========
    an engine   event                                       becomes
    ==========  ==========================================  ==========
    (unknown)   :meth:`ask`                                 new
    new         half of the time is over                    old
    old         half of the time is over                    (unknown), and its confirmations are sent
    any         :meth:`done`, :meth:`leave`                 (unknown)
    ==========  ==========================================  ==========
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._new: dict[Confirming, None] = {}
        self._old: dict[Confirming, None] = {}
        self._call: Any = None

    def ask(self, sender: Confirming) -> None:
        """``sender`` has something to confirm."""
        if sender not in self._old:
            self._new[sender] = None
        if self._call is None:
            self._call = self._clock.callLater(CONFIRM_AFTER / 2, self._half)

    def done(self, sender: Confirming) -> None:
        """``sender`` has nothing to confirm any more."""
        if self._new.pop(sender, self) is self:
            self._old.pop(sender, None)

    def leave(self, sender: Confirming) -> None:
        """``sender`` will not ask again."""
        self.done(sender)
        if self._call is not None and not self._new and not self._old:
            self._call.cancel()
            self._call = None

    def _half(self) -> None:
        self._call = None
        due, self._old, self._new = self._old, self._new, {}
        for sender in due:
            sender.send_confirms()
        if self._call is None and self._old:
            self._call = self._clock.callLater(CONFIRM_AFTER / 2, self._half)
