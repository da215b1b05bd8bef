"""What is said about a controller that died and is restarted, again and again if it must be; no input and output.

A controller that was usable is told each time it dies.  What then keeps it from starting (a taken port, a full disk)
is told once, again when the reason changes, and otherwise once in :data:`REMINDER` seconds.
"""

from __future__ import annotations

from ipython1.daemon.processes import ProcessStatus
from ipython1.kernel.launchers.failures import describe_failure

REMINDER = 60.0
"""Seconds between two lines about the same trouble."""


class Outage:
    """See the module's text."""

    def __init__(self) -> None:
        self._said = ""
        self._said_at = 0.0

    def waits(self, status: ProcessStatus) -> str:
        """The controller has ended and will be restarted; return the line to show, or nothing."""
        text = describe_failure(status)
        if status.was_ready:
            self._said = ""
            return f"{text}; restarting it"
        if text == self._said and status.due < self._said_at + REMINDER:
            return ""
        self._said, self._said_at = text, status.due
        away = "" if status.away_since is None else f" for {status.due - status.away_since:.0f} s"
        return (
            f"{text}; it has been away{away}, and is restarted again and again while the engines wait for it; "
            "to end everything: ipcluster stop"
        )

    @staticmethod
    def over(status: ProcessStatus) -> str:
        """The controller has ended for good, and nobody asked for it; return why."""
        text = describe_failure(status)
        if status.given_up:
            return f"{text}; it has been away for longer than engines wait for it (reconnect_timeout in [engine])"
        return f"{text}; the log tells more"
