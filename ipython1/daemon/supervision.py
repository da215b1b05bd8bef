"""The supervisor's decisions without any I/O: which state each process is in, and what to do.

Events are method calls with the time, which return a list of instructions.  The states of a process:

==========  ==========================  ==========  =============================================================
state       event                       next        instructions
==========  ==========================  ==========  =============================================================
(none)      ``add``                     requested   :class:`Start`
requested   ``started``                 starting    :class:`Report` and *running* where ``ready`` came before
requested   ``ready``                   requested   (noted: it came another way than ``started``)
requested   ``failed`` at first         ended       :class:`Report`
starting    ``ready``                   running     :class:`Report`
starting    ``ended``                   ended       :class:`Report` (it was never usable, so it is not restarted,
                                                    unless it was running before an earlier restart)
running     ``ended``, as requested     ended       :class:`Report` (its exit was requested, perhaps by a client)
running     ``ended``, otherwise        waiting     :class:`Report`, :class:`WakeAt`; or *ended* if the policy's
                                                    restarts or its patience are used up
requested   ``failed``, again           waiting     likewise: it was running before, and its host may start it later
waiting     ``tick`` when due           requested   :class:`Start`
any living  ``stop``                    stopping    :class:`Deliver` SIGTERM, :class:`WakeAt` (end of its grace period)
requested   ``stop``                    stopping    SIGTERM follows when it has started
stopping    ``tick`` after the grace    stopping    :class:`Deliver` SIGKILL to its whole session
stopping    ``ended`` or ``failed``     ended       :class:`Report`
waiting     ``stop``                    ended       :class:`Report`
starting,   ``silent``, ``heard``       same        :class:`Report`; with ``stuck`` in the policy :class:`WakeAt`
running
starting,   ``tick``, silent for too    same        :class:`Deliver` SIGKILL to its whole session
running     long for the policy
any         ``host_lost``               ended       :class:`Report`
ended       ``restart``                 requested   :class:`Start`
any living  ``restart``                 stopping    like ``stop``, perhaps with another signal; when it has ended:
                                                    requested, :class:`Start`
==========  ==========================  ==========  =============================================================
"""

from __future__ import annotations

import enum
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ipython1.daemon.osprocess import signal_name
from ipython1.daemon.protocol import Spawn

_TERMINATE = int(signal.SIGTERM)
_LOOK_AGAIN = 0.5
"""Seconds after which to look again whether the process that another one needs is usable."""


class State(enum.Enum):
    """The states of a supervised process; see the table above."""

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
    restart_signal: int = _TERMINATE

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

    @property
    def alive(self) -> bool:
        """Whether the process exists or is about to."""
        return self.state not in (State.ENDED, State.WAITING)

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


@dataclass(slots=True)
class _Record:
    spec: ProcessSpec
    status: ProcessStatus
    due: float = 0.0
    restart_times: list[float] = field(default_factory=list)
    row: int = 0
    ready_at: float = 0.0
    ever_ready: bool = False
    ready_early: bool = False
    start_again: bool = False
    killed_silent: bool = False


class Supervision:
    """All supervised processes; the methods return the instructions that follow from an event."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}

    # -- wishes

    def add(self, spec: ProcessSpec) -> list[Instruction]:
        """Start a new process.

        :raises ValueError: if there is a living process with the same key.
        """
        known = self._records.get(spec.key)
        if known is not None and known.status.state is not State.ENDED:
            raise ValueError(f"{spec.title} is already running")
        self._records[spec.key] = _Record(spec, ProcessStatus(spec.key, spec.title, spec.host))
        return [Start(spec.host, spec.spawn)]

    def stop(self, key: str, now: float) -> list[Instruction]:
        """Stop a process; do nothing if it has ended."""
        record = self._records[key]
        record.start_again = False
        return self._stop(record, now)

    def restart(self, key: str, now: float) -> list[Instruction]:
        """Restart a process; start it if it has ended."""
        record = self._records[key]
        if record.status.state in (State.ENDED, State.WAITING):
            record.row = 0
            self._set(record, away_since=now)
            return self._start_again(record)
        instructions = self._stop(record, now, record.spec.restart_signal)
        record.start_again = True
        return instructions

    def signal(self, key: str, number: int) -> list[Instruction]:
        """Send a signal to a living process."""
        record = self._records[key]
        if not record.status.alive or not record.status.pid:
            return []
        return [Deliver(record.spec.host, key, number)]

    def forget(self, key: str) -> None:
        """Drop a process that has ended; nothing happens where that was done."""
        record = self._records.get(key)
        if record is not None and record.status.state is State.ENDED:
            del self._records[key]

    # -- events

    def started(self, key: str, pid: int, started: float, now: float) -> list[Instruction]:
        """The process exists; ``started`` is what the system says of when."""
        record = self._records.get(key)
        if record is None:
            return []
        self._set(record, pid=pid, started=started)
        if record.status.state is State.STOPPING:
            return [Deliver(record.spec.host, key, signal.SIGTERM)]
        if record.status.state is State.REQUESTED:
            self._set(record, state=State.STARTING)
            if record.ready_early:
                return self.ready(key, now)
        return []

    def ready(self, key: str, now: float) -> list[Instruction]:
        """The process is ready for use."""
        record = self._records.get(key)
        if record is not None and record.status.state is State.REQUESTED:
            record.ready_early = True
        if record is None or record.status.state is not State.STARTING:
            return []
        record.ever_ready = True
        record.ready_at = now
        self._set(record, state=State.RUNNING, was_ready=True, away_since=None)
        return [Report(record.status)]

    def failed(
        self, key: str, error: str, now: float, *, for_good: bool = False
    ) -> list[Instruction]:
        """The process could not be started.

        :param for_good: whether it makes no sense to try again.
        """
        record = self._records.get(key)
        if record is None or record.status.state is State.ENDED:
            return []
        again = record.ever_ready and record.status.state is State.REQUESTED and not for_good
        self._set(record, state=State.ENDED, error=error, pid=0)
        return self._maybe_wait(record, now) if again else [Report(record.status)]

    def ended(
        self,
        key: str,
        pid: int,
        status: int | None,
        number: int | None,
        lines: tuple[str, ...],
        now: float,
        left: bool = False,
    ) -> list[Instruction]:
        """The process has ended.

        :param left: whether it reported that its exit was requested.
        """
        record = self._records.get(key)
        if record is None or record.status.pid != pid:
            return []
        stopping = record.status.state is State.STOPPING
        if record.status.was_ready:
            record.row = record.row if now < record.ready_at + record.spec.policy.steady else 0
            self._set(record, away_since=now)
        left = left or (status == 0 and not record.spec.says_when_leaving)
        error = ""
        if record.killed_silent:
            error = f"gave no sign of life for {record.spec.policy.stuck:g} s and was killed"
        self._set(
            record,
            state=State.ENDED,
            status=status,
            signal=number,
            lines=lines,
            error=error,
            asked=stopping,
            silent_since=None,
            stopped=False,
        )
        if stopping and record.start_again:
            return [Report(record.status), *self._start_again(record)]
        if stopping or left or not record.ever_ready:
            return [Report(record.status)]
        return self._maybe_wait(record, now)

    def silent(self, key: str, seconds: float, stopped: bool, now: float) -> list[Instruction]:
        """The process has given no sign of life for some seconds."""
        record = self._records.get(key)
        if record is None or record.status.state not in (State.STARTING, State.RUNNING):
            return []
        since = now - seconds
        self._set(record, silent_since=since, stopped=stopped)
        limit = record.spec.policy.stuck
        if limit:
            record.due = since + limit
        return [Report(record.status), *([WakeAt(record.due)] if limit else [])]

    def heard(self, key: str) -> list[Instruction]:
        """The process gives signs of life again."""
        record = self._records.get(key)
        if record is None or record.status.silent_since is None:
            return []
        self._set(record, silent_since=None, stopped=False)
        return [Report(record.status)]

    def host_lost(self, host: str, error: str) -> list[Instruction]:
        """A host's nanny is gone, and its processes, too."""
        instructions: list[Instruction] = []
        for record in self._records.values():
            if record.spec.host == host and record.status.state is not State.ENDED:
                asked = record.status.state is State.STOPPING
                self._set(record, state=State.ENDED, error=error, asked=asked)
                instructions.append(Report(record.status))
        return instructions

    def tick(self, now: float) -> list[Instruction]:
        """Time has passed."""
        instructions: list[Instruction] = []
        for record in self._records.values():
            state = record.status.state
            if state is State.WAITING and now >= record.due and self._lacks(record.spec.needs):
                record.due = now + _LOOK_AGAIN
                instructions.append(WakeAt(record.due))
            elif state is State.WAITING and now >= record.due:
                instructions += self._start_again(record)
            elif state is State.STOPPING and record.due and now >= record.due:
                if not record.status.pid:  # requested, but not started yet
                    record.due = now + record.spec.grace
                    instructions.append(WakeAt(record.due))
                    continue
                record.due = 0.0
                number = int(signal.SIGKILL)
                instructions.append(Deliver(record.spec.host, record.spec.key, number, group=True))
            elif self._is_stuck(record, now):
                record.killed_silent = True
                number = int(signal.SIGKILL)
                instructions.append(Deliver(record.spec.host, record.spec.key, number, group=True))
            elif state in (State.WAITING, State.STOPPING) and record.due:
                instructions.append(WakeAt(record.due))
        return instructions

    # -- questions

    def status(self) -> dict[str, ProcessStatus]:
        """Return the status of every process by key, in the order added."""
        return {key: record.status for key, record in self._records.items()}

    @property
    def specs(self) -> Mapping[str, ProcessSpec]:
        """Return the specification of every process by key."""
        return {key: record.spec for key, record in self._records.items()}

    # -- inside

    @staticmethod
    def _set(record: _Record, **changes: object) -> None:
        record.status = replace(record.status, **changes)  # type: ignore[arg-type]

    def _stop(self, record: _Record, now: float, number: int = _TERMINATE) -> list[Instruction]:
        state = record.status.state
        if state in (State.ENDED, State.STOPPING):
            return []
        if state is State.WAITING:
            self._set(record, state=State.ENDED, asked=True)
            return [Report(record.status)]
        self._set(record, state=State.STOPPING)
        record.due = now + record.spec.grace
        instructions: list[Instruction] = [WakeAt(record.due)]
        if state is not State.REQUESTED:
            instructions.insert(0, Deliver(record.spec.host, record.spec.key, number))
        return instructions

    def _start_again(self, record: _Record) -> list[Instruction]:
        record.start_again = record.ready_early = record.killed_silent = False
        record.due = 0.0
        self._set(
            record,
            state=State.REQUESTED,
            pid=0,
            was_ready=False,
            restarts=record.status.restarts + 1,
            status=None,
            signal=None,
            error="",
            lines=(),
            asked=False,
            due=0.0,
            given_up=False,
        )
        return [Start(record.spec.host, record.spec.restart_spawn or record.spec.spawn)]

    @staticmethod
    def _is_stuck(record: _Record, now: float) -> bool:
        silent = record.status.silent_since is not None and not record.killed_silent
        living = record.status.state in (State.STARTING, State.RUNNING)
        return silent and living and bool(record.spec.policy.stuck) and now >= record.due

    def _lacks(self, key: str) -> bool:
        """Return whether a process is known and not usable."""
        other = self._records.get(key)
        return other is not None and other.status.state is not State.RUNNING

    def _maybe_wait(self, record: _Record, now: float) -> list[Instruction]:
        policy = record.spec.policy
        recent = [moment for moment in record.restart_times if moment > now - policy.window]
        if policy.limit is not None and len(recent) >= policy.limit:
            return [Report(record.status)]
        away_since = now if record.status.away_since is None else record.status.away_since
        if policy.patience and now - away_since >= policy.patience:
            self._set(record, given_up=True)
            return [Report(record.status)]
        record.restart_times = [*recent, now] if policy.limit is not None else []
        record.due = now + policy.delay(record.row)
        record.row += 1
        self._set(record, state=State.WAITING, due=record.due)
        return [Report(record.status), WakeAt(record.due)]
