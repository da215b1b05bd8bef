"""Carries out the decisions of :mod:`ipython1.daemon.supervision`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from ipython1.daemon.processes import (
    Deliver,
    Instruction,
    ProcessSpec,
    ProcessStatus,
    Report,
    Start,
    State,
    WakeAt,
)
from ipython1.daemon.protocol import (
    Ended,
    Failed,
    Heard,
    Message,
    Ready,
    Signal,
    Silent,
    Spawn,
    Started,
)
from ipython1.daemon.supervision import Supervision


class Host(Protocol):
    """The part of a nanny's link that the supervisor uses."""

    def send(self, message: Message) -> None:
        """Send a request."""


class ProcessSupervisor:
    """Supervises processes on any number of hosts, each with its own nanny.

    :param clock: for restart delays and grace periods.
    :param supervision: the state from before the reactor was imported, to continue from.
    """

    log: Logger = Logger()

    def __init__(self, clock: IReactorTime, supervision: Supervision | None = None) -> None:
        self._clock = clock
        self._supervision = supervision or Supervision()
        self._hosts: dict[str, Host] = {}
        self._lost_hosts: dict[str, str] = {}
        self._observers: list[Callable[[ProcessStatus], object]] = []
        self._calls: set[IDelayedCall] = set()
        self._end_waiters: dict[str, list[Deferred[ProcessStatus]]] = {}

    # -- hosts

    def add_host(self, name: str, host: Host) -> None:
        """Register a nanny's link under the name that specs use; the empty name is this host."""
        self._hosts[name] = host
        self._lost_hosts.pop(name, None)
        self._carry_out(self._supervision.host_back(name, self._clock.seconds()))

    def host_lost(self, name: str, error: str) -> None:
        """Handle a lost or failed link to a nanny; ``error`` is reported for all its processes."""
        self._hosts.pop(name, None)
        self._lost_hosts[name] = error
        self._carry_out(self._supervision.host_lost(name, error))

    def host_away(self, name: str, error: str, *, lost: str = "") -> None:
        """Handle that a host is not connected, and may be later: its processes wait for :meth:`add_host`.

        :param error: why they wait, worded to follow their titles; empty if it may come in a moment.
        :param lost: why those have ended that were usable and are not restarted.
        """
        self._hosts.pop(name, None)
        self._lost_hosts.pop(name, None)
        now = self._clock.seconds()
        self._carry_out(self._supervision.host_away(name, error, now, lost=lost))

    def on_event(self, message: Message) -> None:
        """Handle an event from a nanny."""
        now = self._clock.seconds()
        match message:
            case Started():
                todo = self._supervision.started(message.key, message.pid, message.started, now)
            case Ready():
                todo = self._supervision.ready(message.key, now)
            case Failed():
                todo = self._supervision.failed(message.key, message.error, now)
            case Silent():
                todo = self._supervision.silent(message.key, message.seconds, message.stopped, now)
            case Heard():
                todo = self._supervision.heard(message.key)
            case Ended():
                todo = self._supervision.ended(
                    message.key,
                    message.pid,
                    message.status,
                    message.signal,
                    message.lines,
                    now,
                    left=message.left,
                )
            case _:
                return
        self._carry_out(todo)

    # -- wishes

    def on_report(self, observer: Callable[[ProcessStatus], object]) -> None:
        """Call ``observer`` with the status of a process on every change that matters to users."""
        self._observers.append(observer)

    def add(self, spec: ProcessSpec) -> None:
        """Start a process and supervise it."""
        self._carry_out(self._supervision.add(spec))

    def decide(self, decide: Callable[[Supervision], list[Instruction]]) -> None:
        """Call ``decide`` with the supervision and carry out the instructions that it returns."""
        self._carry_out(decide(self._supervision))

    def stop(self, key: str) -> Deferred[ProcessStatus]:
        """Stop a process; the Deferred fires with its last status when it has ended."""
        waiter = self.when_ended(key)
        self._carry_out(self._supervision.stop(key, self._clock.seconds()))
        return waiter

    def restart(self, key: str) -> None:
        """Restart a process; start it if it has ended."""
        self._carry_out(self._supervision.restart(key, self._clock.seconds()))

    def signal(self, key: str, number: int) -> None:
        """Send a signal to a process."""
        self._carry_out(self._supervision.signal(key, number))

    def mark_usable(self, key: str) -> None:
        """Handle that a process which does not report it itself is ready for use."""
        self._carry_out(self._supervision.ready(key, self._clock.seconds()))

    def hold(self, keys: frozenset[str]) -> None:
        """Restart none of these processes for now."""
        self._carry_out(self._supervision.hold(keys, self._clock.seconds()))

    def forget(self, key: str) -> None:
        """Drop a process that has ended; nothing happens where that was done."""
        self._supervision.forget(key)

    def when_ended(self, key: str) -> Deferred[ProcessStatus]:
        """Return a Deferred that fires with the status of a process when it has ended for good."""
        waiter: Deferred[ProcessStatus] = Deferred()
        status = self.status()[key]
        if status.state is State.ENDED:
            waiter.callback(status)
        else:
            self._end_waiters.setdefault(key, []).append(waiter)
        return waiter

    def status(self) -> dict[str, ProcessStatus]:
        """Return the status of every process by key."""
        return self._supervision.status()

    def spec(self, key: str) -> ProcessSpec:
        """Return the specification of a process."""
        return self._supervision.specs[key]

    def close(self) -> None:
        """Cancel all timers."""
        for call in self._calls:
            if call.active():
                call.cancel()
        self._calls.clear()

    # -- carrying out

    def _carry_out(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case Start():
                    self._start(instruction.host, instruction.spawn)
                case Deliver():
                    self._send(
                        instruction.host,
                        Signal(instruction.key, instruction.number, instruction.group),
                    )
                case WakeAt():
                    self._wake_at(instruction.time)
                case Report():
                    self._report(instruction.status)

    def _start(self, host: str, spawn: Spawn) -> None:
        if host in self._hosts:
            self._hosts[host].send(spawn)
        else:
            error = self._lost_hosts.get(host) or (
                "could not be started: not connected to its host"
            )
            now = self._clock.seconds()
            self._carry_out(self._supervision.failed(spawn.key, error, now, for_good=True))

    def _send(self, host: str, message: Message) -> None:
        if host in self._hosts:
            self._hosts[host].send(message)

    def _wake_at(self, time: float) -> None:
        holder: list[Any] = []

        def wake() -> None:
            self._calls.discard(holder[0])
            self._carry_out(self._supervision.tick(self._clock.seconds()))

        holder.append(self._clock.callLater(max(0.0, time - self._clock.seconds()), wake))
        self._calls.add(holder[0])

    def _report(self, status: ProcessStatus) -> None:
        if status.state is State.ENDED:
            for waiter in self._end_waiters.pop(status.key, ()):
                waiter.callback(status)
        for observer in list(self._observers):
            try:
                observer(status)
            except Exception:
                self.log.failure("an observer of processes failed")
