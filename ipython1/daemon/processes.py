"""Supervised processes as data: what is to run, what is known of it, and what is to be done about it."""

from __future__ import annotations

import enum
import signal
from dataclasses import dataclass

from ipython1.daemon.osprocess import signal_name
from ipython1.daemon.protocol import Spawn

TERMINATE = int(signal.SIGTERM)
"""The signal that asks a process to end."""


class State(enum.Enum):
    """The states of a supervised process; see :mod:`ipython1.daemon.supervision`."""

    REQUESTED = "requested"
    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"
    STOPPING = "stopping"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How many times and how soon to restart a process that died.

    :ivar limit: restarts allowed within ``window`` seconds; 0 for none, None for any number.
    :ivar first_delay: seconds before the first restart; each further one in a row waits ``factor`` times as long, up
        to ``max_delay``.
    :ivar steady: seconds for which a process must be usable, so that its next death is the first in a row.
    :ivar stuck: seconds of silence after which a process is killed, so that it is restarted; 0 for never.
    :ivar patience: seconds without a usable process after which it is not restarted any more; 0 for no limit.
    """

    limit: int | None = 0
    window: float = 60.0
    first_delay: float = 0.1
    factor: float = 2.0
    max_delay: float = 15.0
    steady: float = 2.0
    stuck: float = 0.0
    patience: float = 0.0

    def delay(self, row: int) -> float:
        """Return the seconds to wait before a restart after ``row`` restarts in a row."""
        return float(min(self.first_delay * self.factor ** min(row, 100), self.max_delay))


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A process to supervise.

    :ivar spawn: how to start it; its ``key`` names it.
    :ivar title: its name in messages (``engine 3``).
    :ivar host: the name of the nanny that starts it; empty for this host's.
    :ivar restart_spawn: how to restart it, if that differs.
    :ivar grace: seconds between SIGTERM and SIGKILL.
    :ivar says_when_leaving: whether it reports an exit that was requested, and so has died if it does not; of others an
        exit with status 0 was requested.
    :ivar restart_signal: asks it to end because it will be restarted.
    :ivar needs: the key of another process; this one is restarted only while that one is usable.
    """

    spawn: Spawn
    title: str
    host: str = ""
    policy: RestartPolicy = RestartPolicy()
    restart_spawn: Spawn | None = None
    grace: float = 2.0
    says_when_leaving: bool = False
    needs: str = ""
    restart_signal: int = TERMINATE

    @property
    def key(self) -> str:
        """The name in all messages."""
        return self.spawn.key


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """The status of a supervised process.

    :ivar was_ready: whether it has been usable since it was last started.
    :ivar restarts: how many times it was restarted.
    :ivar status: the exit status of its last run, or None.
    :ivar signal: the signal that killed it, or None.
    :ivar error: why it could not be started, or why its state is no longer known.
    :ivar lines: the last lines of its output when it ended.
    :ivar asked: whether its exit was requested.
    :ivar due: when it will be started again, while it waits for that.
    :ivar away_since: when it was usable last, until it is usable again; None if it never was.
    :ivar given_up: whether it is not restarted because the policy's patience is over.
    :ivar silent_since: since when it gives no sign of life; None if it does.
    :ivar stopped: whether it is silent because a signal has stopped it.
    :ivar host_away: whether it waits for its host; ``error`` then says why, and is empty as long as that may be over
        in a moment.
    """

    key: str
    title: str
    host: str = ""
    state: State = State.REQUESTED
    pid: int = 0
    started: float = 0.0
    was_ready: bool = False
    restarts: int = 0
    status: int | None = None
    signal: int | None = None
    error: str = ""
    lines: tuple[str, ...] = ()
    asked: bool = False
    due: float = 0.0
    away_since: float | None = None
    given_up: bool = False
    silent_since: float | None = None
    stopped: bool = False
    host_away: bool = False

    @property
    def alive(self) -> bool:
        """Whether the process exists or is about to."""
        return self.state not in (State.ENDED, State.WAITING)

    @property
    def lost_with_host(self) -> bool:
        """Whether it was usable, and nothing is known of it any more because its host is out of reach."""
        gone = self.state in (State.ENDED, State.WAITING) and not self.asked
        return gone and self.was_ready and self.status is None and self.signal is None

    @property
    def reason(self) -> str:
        """Why it ended, worded to follow its title."""
        if self.error:
            return self.error
        if self.signal is not None:
            return f"was killed by signal {signal_name(self.signal)}"
        if self.status is not None:
            return f"exited with status {self.status}"
        return "has not ended"


@dataclass(frozen=True, slots=True)
class Instruction:
    """Base class of all instructions."""


@dataclass(frozen=True, slots=True)
class Start(Instruction):
    """Start a process on a host."""

    host: str
    spawn: Spawn


@dataclass(frozen=True, slots=True)
class Deliver(Instruction):
    """Send a signal to a process, or to its whole session."""

    host: str
    key: str
    number: int
    group: bool = False


@dataclass(frozen=True, slots=True)
class WakeAt(Instruction):
    """Call ``tick`` at this time."""

    time: float


@dataclass(frozen=True, slots=True)
class Report(Instruction):
    """Report a change that matters to users."""

    status: ProcessStatus
