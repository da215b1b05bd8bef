"""When to log in to a host, and what follows from how that goes; no input and output.

Events are method calls with the time; each returns a list of instructions.

===========  ==========================================  ===========  ================================================
state        event                                       next         instructions
===========  ==========================================  ===========  ================================================
new, away,   ``want``                                    logging in   :class:`LogIn`
unusable
logging in   ``began``                                   logging in   :class:`WakeAt` (when it is late)
logging in   ``answered``                                logging in   (noted: the host is not late)
logging in   ``tick``, no answer for :data:`LATE`        logging in   :class:`TellLate`
logging in   ``failed``, too many logins at a time       logging in   :class:`WakeAt` (the next attempt); *away* after
                                                                      :data:`BUSY_ATTEMPTS`
logging in   ``failed``, may pass                        away         :class:`TellAway`, :class:`WakeAt`
logging in   ``failed``, somebody must mend it           unusable     :class:`TellUnusable`
logging in   ``logged_in``                               set up       (files are being copied)
set up       ``ready``                                   there        :class:`TellThere`
set up,      ``failed``, somebody must mend it           unusable     :class:`TellUnusable`
there
set up,      ``lost``                                    away         :class:`TellAway`, :class:`WakeAt`
there
away         ``tick`` when due                           logging in   :class:`LogIn`
any          ``close``                                   closed       (no event does anything any more)
===========  ==========================================  ===========  ================================================

The pauses between attempts become longer, and are short again once a host has been there for :data:`STEADY` seconds.
Only an attempt that somebody waits for may ask the user for a password.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

LATE = 3.0
"""Seconds without an answer after which nobody waits for a host any more."""

BUSY_ATTEMPTS = 6
"""Logins that are refused because there are too many at a time, before the host counts as away."""

BUSY_PAUSE = 0.25
"""Seconds before the second attempt at such a host; each further pause is twice as long."""

FIRST_PAUSE = 1.0
"""Seconds before a host that is away is tried again; each further pause is twice as long."""

LONGEST_PAUSE = 60.0

STEADY = 30.0
"""Seconds after which a login counts as good, so that the pauses begin anew."""


class HostState(enum.Enum):
    """The states of a host; see the table above."""

    NEW = "new"
    LOGGING_IN = "logging in"
    SET_UP = "set up"
    THERE = "there"
    AWAY = "away"
    UNUSABLE = "unusable"
    CLOSED = "closed"


class Trouble(enum.Enum):
    """What kind of failure a login ended with."""

    BUSY = "busy"
    PASSING = "passing"
    LASTING = "lasting"


@dataclass(frozen=True, slots=True)
class Instruction:
    """Base class of all instructions."""


@dataclass(frozen=True, slots=True)
class LogIn(Instruction):
    """Log in as soon as there may be another login, and call ``began`` then.

    :ivar asks: whether it may ask the user for a password.
    """

    asks: bool


@dataclass(frozen=True, slots=True)
class WakeAt(Instruction):
    """Call ``tick`` at this time."""

    time: float


@dataclass(frozen=True, slots=True)
class TellLate(Instruction):
    """Nothing has been heard of the host for :data:`LATE` seconds."""


@dataclass(frozen=True, slots=True)
class TellThere(Instruction):
    """The host can start processes."""


@dataclass(frozen=True, slots=True)
class TellAway(Instruction):
    """The host is not there, and is tried again.

    :ivar lost: whether it was there before.
    """

    lost: bool


@dataclass(frozen=True, slots=True)
class TellUnusable(Instruction):
    """The host is not tried again unless it is wanted again.

    :ivar lost: whether it was there before.
    """

    lost: bool


class HostLogin:
    """One host; see the module's text.

    :param name: its name, for messages.
    :ivar reason: why the host is not there: the host's name and what is wrong; empty while nothing is known to be.
    :ivar due: when it is tried again, while it is away.
    :ivar late: whether it has not answered for long, in this attempt.
    :ivar attempts: how often in a row it was tried without success.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.state: HostState = HostState.NEW
        self.reason: str = ""
        self.due: float = 0.0
        self.late: bool = False
        self.attempts: int = 0
        self._answered = False
        self._begun = 0.0
        self._there_since = 0.0
        self._busy = 0

    def want(self, *, asks: bool = False) -> list[Instruction]:
        """Somebody needs the host: it is tried at once if it is not there.

        :param asks: whether this person can be asked for a password.
        """
        if self.state not in (HostState.NEW, HostState.AWAY, HostState.UNUSABLE):
            return []
        return self._log_in(asks)

    def began(self, now: float) -> list[Instruction]:
        """The attempt has begun."""
        self._begun = now
        return [WakeAt(now + LATE)]

    def answered(self) -> list[Instruction]:
        """The host has answered, so it is up; how the login ends is told later."""
        self._answered, self.late = True, False
        return []

    def logged_in(self, now: float) -> list[Instruction]:
        """There is a connection; files are copied next."""
        if self.state is HostState.LOGGING_IN:
            self.state, self.late, self._there_since = HostState.SET_UP, False, now
        return []

    def ready(self) -> list[Instruction]:
        """All that the host needs to start processes has been copied to it."""
        if self.state is not HostState.SET_UP:
            return []
        self.state, self.reason, self._busy = HostState.THERE, "", 0
        return [TellThere()]

    def failed(self, reason: str, trouble: Trouble, now: float) -> list[Instruction]:
        """The attempt has failed, or the host that was reached cannot be used."""
        if self.state not in (HostState.LOGGING_IN, HostState.SET_UP, HostState.THERE):
            return []
        lost = self.state is HostState.THERE
        self.reason = reason
        if trouble is Trouble.BUSY and self._busy < BUSY_ATTEMPTS:
            self.due = now + BUSY_PAUSE * 2**self._busy
            self._busy += 1
            return [WakeAt(self.due)]
        if trouble is Trouble.LASTING:
            self.state, self.late = HostState.UNUSABLE, False
            return [TellUnusable(lost)]
        return self._go_away(now, lost)

    def lost(self, reason: str, now: float) -> list[Instruction]:
        """The connection is lost."""
        if self.state not in (HostState.SET_UP, HostState.THERE):
            return []
        if now - self._there_since >= STEADY:
            self.attempts = 0
        self.reason = reason
        return self._go_away(now, self.state is HostState.THERE)

    def tick(self, now: float) -> list[Instruction]:
        """Time has passed."""
        if self.due and now >= self.due:
            return self._log_in(False)
        silent = self.state is HostState.LOGGING_IN and not self._answered and not self.due
        if silent and not self.late and self._begun and now - self._begun >= LATE:
            self.late = True
            return [TellLate()]
        return []

    def close(self) -> None:
        """Nothing is wanted of the host any more."""
        self.state, self.due = HostState.CLOSED, 0.0

    def _log_in(self, asks: bool) -> list[Instruction]:
        self.state = HostState.LOGGING_IN
        self.due, self.late, self._answered, self._begun = 0.0, False, False, 0.0
        return [LogIn(asks)]

    def _go_away(self, now: float, lost: bool) -> list[Instruction]:
        self.state, self.late, self._busy = HostState.AWAY, False, 0
        self.due = now + min(FIRST_PAUSE * 2 ** min(self.attempts, 10), LONGEST_PAUSE)
        self.attempts += 1
        return [TellAway(lost), WakeAt(self.due)]
