"""Notices the death of processes of this host that are not this process's children."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from ipython1 import system
from ipython1.kernel.host.processstate import process_state

LOOK_EVERY: Final = 0.25
"""Seconds between looks where the system cannot tell by itself."""

_Name: TypeAlias = tuple[int, float]
"""Its pid, and when it started."""


class _Ended:
    """What the reactor reads from when a process ends."""

    def __init__(self, descriptor: int, call: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._call = call

    def fileno(self) -> int:
        return self._descriptor

    def doRead(self) -> None:
        self._call()

    def logPrefix(self) -> str:
        return "process"

    def connectionLost(self, reason: Any) -> None:
        """The reactor gives it up."""


class ProcessWatch:
    """Watches processes.  Each costs one file descriptor, or one timer, however many wait for its end."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._waiting: dict[_Name, dict[object, Callable[[], None]]] = {}
        self._stops: dict[_Name, Callable[[], None]] = {}

    def watch(self, pid: int, started: float, on_dead: Callable[[], None]) -> Callable[[], None]:
        """Call ``on_dead`` once when a process is dead, at once if it is already.

        :param started: when it started, as :mod:`~ipython1.kernel.host.processstate` has it.
        :returns: what ends the watching.
        """
        name, who = (pid, started), object()
        waiting = self._waiting.setdefault(name, {})
        waiting[who] = on_dead
        if name not in self._stops:
            stop = _watch(self._reactor, pid, started, lambda: self._dead(name))
            if waiting:
                self._stops[name] = stop

        def stop_waiting() -> None:
            if waiting.pop(who, None) is not None and not waiting and name in self._stops:
                del self._waiting[name]
                self._stops.pop(name)()

        return stop_waiting

    def _dead(self, name: _Name) -> None:
        self._stops.pop(name, None)
        waiting = self._waiting.pop(name)
        while waiting:
            waiting.pop(next(iter(waiting)))()


def _watch(
    reactor: Any, pid: int, started: float, on_dead: Callable[[], None]
) -> Callable[[], None]:
    if not system.LINUX or not hasattr(os, "pidfd_open"):
        return _look_again_and_again(reactor, pid, started, on_dead)
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        on_dead()
        return lambda: None
    except OSError:
        return _look_again_and_again(reactor, pid, started, on_dead)
    if not process_state(pid, started).alive:
        os.close(descriptor)
        on_dead()
        return lambda: None
    over = False

    def stop() -> None:
        nonlocal over
        if not over:
            over = True
            reactor.removeReader(reader)
            os.close(descriptor)

    def ended() -> None:
        if not over:
            stop()
            on_dead()

    reader = _Ended(descriptor, ended)
    reactor.addReader(reader)
    return stop


def _look_again_and_again(
    reactor: Any, pid: int, started: float, on_dead: Callable[[], None]
) -> Callable[[], None]:
    call: Any = None

    def look() -> None:
        nonlocal call
        call = None
        if process_state(pid, started).alive:
            call = reactor.callLater(LOOK_EVERY, look)
        else:
            on_dead()

    def stop() -> None:
        if call is not None:
            call.cancel()

    look()
    return stop
