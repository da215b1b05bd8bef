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
waiting     ``tick`` when due           requested   :class:`Start`; or *waiting* for a process that it needs, or
                                                    while ``hold`` has its key
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
(none)      ``add``, its host is away   waiting     (its status says that it waits for its host)
any living  ``host_away``               waiting     :class:`Report`; or *ended* if it was usable and the policy does
                                                    not restart it
waiting     ``host_away``               waiting     :class:`Report`, with the new reason
waiting     ``host_back``               requested   :class:`Start`, :class:`Report`; or *waiting* as above
ended       ``restart``                 requested   :class:`Start`; *waiting* while its host is away
any living  ``restart``                 stopping    like ``stop``, perhaps with another signal; when it has ended:
                                                    requested, :class:`Start`
==========  ==========================  ==========  =============================================================
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ipython1.daemon.processes import (
    TERMINATE,
    Deliver,
    Instruction,
    ProcessSpec,
    ProcessStatus,
    Report,
    Start,
    State,
    WakeAt,
)
from ipython1.system import KILL

HOLD_LIMIT = 90.0
"""Seconds for which a restart may be held, at most."""

_LOOK_AGAIN = 0.5
"""Seconds after which to look again whether the process that another one needs is usable."""


@dataclass(slots=True)
class _Record:
    spec: ProcessSpec
    status: ProcessStatus
    due: float = 0.0
    look_at: float = 0.0
    held_until: float = 0.0
    restart_times: list[float] = field(default_factory=list)
    row: int = 0
    ready_at: float = 0.0
    ever_ready: bool = False
    ready_early: bool = False
    start_again: bool = False
    killed_silent: bool = False
    begun: bool = False


class Supervision:
    """All supervised processes; the methods return the instructions that follow from an event."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}
        self._held: frozenset[str] = frozenset()
        self._away: dict[str, str] = {}

    # -- wishes

    def add(self, spec: ProcessSpec) -> list[Instruction]:
        """Start a new process.

        :raises ValueError: if there is a living process with the same key.
        """
        known = self._records.get(spec.key)
        if known is not None and known.status.state is not State.ENDED:
            raise ValueError(f"{spec.title} is already running")
        record = _Record(spec, ProcessStatus(spec.key, spec.title, spec.host))
        self._records[spec.key] = record
        if spec.host in self._away:
            self._wait_for_host(record)
            return []
        record.begun = True
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
            return [Report(record.status), *self._start_again_after_end(record, now)]
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
        self._away.pop(host, None)
        instructions: list[Instruction] = []
        for record in self._records.values():
            if record.spec.host == host and record.status.state is not State.ENDED:
                asked = record.status.state is State.STOPPING
                self._set(record, state=State.ENDED, error=error, asked=asked, host_away=False)
                instructions.append(Report(record.status))
        return instructions

    def host_away(self, host: str, error: str, now: float, *, lost: str = "") -> list[Instruction]:
        """A host cannot start anything until ``host_back``; what ran there is gone.

        :param error: why its processes wait for it, worded to follow their titles; empty if it may come in a moment.
        :param lost: why those have ended that were usable and are not restarted.
        """
        self._away[host] = error
        instructions: list[Instruction] = []
        for record in self._records.values():
            if record.spec.host == host and record.status.state is not State.ENDED:
                instructions += self._lose_host(record, lost or error, now)
        return instructions

    def host_back(self, host: str, now: float) -> list[Instruction]:
        """A host can start processes: those that wait for it are started."""
        self._away.pop(host, None)
        instructions: list[Instruction] = []
        for record in self._records.values():
            if record.spec.host == host and record.status.host_away:
                record.due = max(record.due, now)
                self._set(record, host_away=False, error="", due=record.due)
                if self._must_wait(record, now) or record.due > now:
                    instructions.append(WakeAt(record.due))
                else:
                    instructions += [*self._start_again(record), Report(record.status)]
        return instructions

    def tick(self, now: float) -> list[Instruction]:
        """Time has passed."""
        instructions: list[Instruction] = []
        for record in self._records.values():
            state = record.status.state
            if record.status.host_away:
                continue
            if state is State.WAITING and now >= record.due and self._must_wait(record, now):
                if now >= record.look_at:
                    record.look_at = now + _LOOK_AGAIN
                    instructions.append(WakeAt(record.look_at))
            elif state is State.WAITING and now >= record.due:
                instructions += self._start_again(record)
            elif state is State.STOPPING and record.due and now >= record.due:
                if not record.status.pid:  # requested, but not started yet
                    record.due = now + record.spec.grace
                    instructions.append(WakeAt(record.due))
                    continue
                record.due = 0.0
                number = KILL
                instructions.append(Deliver(record.spec.host, record.spec.key, number, group=True))
            elif self._is_stuck(record, now):
                record.killed_silent = True
                number = KILL
                instructions.append(Deliver(record.spec.host, record.spec.key, number, group=True))
            elif state in (State.WAITING, State.STOPPING) and record.due:
                instructions.append(WakeAt(record.due))
        return instructions

    def hold(self, keys: frozenset[str], now: float) -> list[Instruction]:
        """Restart none of these processes for now: what is left of their last run is still in the way."""
        released = self._held - keys
        self._held = keys
        return self.tick(now) if released else []

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

    def _stop(self, record: _Record, now: float, number: int = TERMINATE) -> list[Instruction]:
        state = record.status.state
        if state in (State.ENDED, State.STOPPING):
            return []
        if state is State.WAITING:
            self._set(record, state=State.ENDED, asked=True, host_away=False)
            return [Report(record.status)]
        self._set(record, state=State.STOPPING)
        record.due = now + record.spec.grace
        instructions: list[Instruction] = [WakeAt(record.due)]
        if state is not State.REQUESTED:
            instructions.insert(0, Deliver(record.spec.host, record.spec.key, number))
        return instructions

    def _wait_for_host(self, record: _Record) -> None:
        error = self._away[record.spec.host]
        self._set(record, state=State.WAITING, host_away=True, error=error, pid=0, due=0.0)

    def _lose_host(self, record: _Record, lost: str, now: float) -> list[Instruction]:
        """The host of a living process is away: it waits for it, or has ended."""
        state = record.status.state
        if state is State.STOPPING and not record.start_again:
            self._set(record, state=State.ENDED, error=lost, asked=True)
            return [Report(record.status)]
        was_up = record.ever_ready and state in (State.REQUESTED, State.STARTING, State.RUNNING)
        self._set(record, silent_since=None, stopped=False)
        if was_up:
            self._set(record, state=State.ENDED, error=lost, away_since=now)
            self._maybe_wait(record, now)
        if not was_up or record.status.state is State.WAITING:
            record.start_again = False
            self._wait_for_host(record)
        return [Report(record.status)]

    def _start_again(self, record: _Record) -> list[Instruction]:
        if record.spec.host in self._away:
            self._wait_for_host(record)
            return [Report(record.status)]
        spawn = record.spec.restart_spawn if record.begun else None
        restarts = record.status.restarts + record.begun
        record.start_again = record.ready_early = record.killed_silent = False
        record.begun = True
        record.due = 0.0
        self._set(
            record,
            state=State.REQUESTED,
            pid=0,
            was_ready=False,
            restarts=restarts,
            status=None,
            signal=None,
            error="",
            lines=(),
            asked=False,
            due=0.0,
            given_up=False,
            host_away=False,
        )
        return [Start(record.spec.host, spawn or record.spec.spawn)]

    @staticmethod
    def _is_stuck(record: _Record, now: float) -> bool:
        silent = record.status.silent_since is not None and not record.killed_silent
        living = record.status.state in (State.STARTING, State.RUNNING)
        return silent and living and bool(record.spec.policy.stuck) and now >= record.due

    def _start_again_after_end(self, record: _Record, now: float) -> list[Instruction]:
        """Restart a process that was ended for it: at once, unless others must have taken note of its end first."""
        if not record.spec.needs:
            return self._start_again(record)
        record.due, record.held_until = now, now + HOLD_LIMIT
        self._set(record, state=State.WAITING, due=now)
        return [Report(record.status), WakeAt(now)]

    def _must_wait(self, record: _Record, now: float) -> bool:
        """Return whether a restart that is due has to wait for something else."""
        other = self._records.get(record.spec.needs)
        lacks = other is not None and other.status.state is not State.RUNNING
        return lacks or (record.spec.key in self._held and now < record.held_until)

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
        record.held_until = record.due + HOLD_LIMIT
        record.row += 1
        self._set(record, state=State.WAITING, due=record.due)
        return [Report(record.status), WakeAt(record.due)]
