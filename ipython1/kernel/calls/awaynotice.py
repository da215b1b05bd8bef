"""Tells a person who waits for a call that the controller is away, and when it is back."""

from __future__ import annotations

import sys
from typing import Any, Final

from ipython1.kernel.calls.clientlink import ClientEnd

FIRST: Final = 2.0
"""Seconds after which it is told; a controller that is started again is usually back before that."""

FACTOR: Final = 3.0
"""How much longer each further pause between two notices is."""


class AwayNotice:
    """Writes to the standard error, once in a while, as long as calls of one client wait for a controller."""

    def __init__(self, reactor: Any, end: ClientEnd) -> None:
        self._reactor = reactor
        self._end = end
        self._since: float | None = None
        self._reason = ""
        self._told = False
        self._pause = FIRST
        self._call: Any = None

    def begin(self, reason: str) -> None:
        """The controller is away."""
        self._reason = reason
        if self._since is None:
            self._since = self._reactor.seconds()
            self._told = False
            self._pause = FIRST
            self._call = self._reactor.callLater(FIRST, self._tell)

    def end(self) -> None:
        """The controller is back, or one does not wait for it any more."""
        if self._since is None:
            return
        if self._call is not None:
            self._call.cancel()
            self._call = None
        seconds = self._reactor.seconds() - self._since
        self._since = None
        if self._told and self._end.connected:
            write_notice(f"the controller is back after {seconds:.0f} s")

    def _tell(self) -> None:
        self._call = self._reactor.callLater(self._pause, self._tell)
        if self._since is not None and self._end.waiting:
            self._told = True
            self._pause *= FACTOR
            seconds = self._reactor.seconds() - self._since
            write_notice(
                f"the controller has been away for {seconds:.0f} s ({self._reason}); waiting; Ctrl-C stops waiting"
            )


def write_notice(text: str) -> None:
    """Tell people something, on the standard error."""
    if sys.stderr is not None:
        print(text, file=sys.stderr, flush=True)
