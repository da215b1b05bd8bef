"""Notices the death of processes of this host that are not this process's children."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from ipython1.kernel.host.processstate import process_state

LOOK_EVERY: Final = 0.25
"""Seconds between looks where the system cannot tell by itself."""


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


def watch_process(
    reactor: Any, pid: int, started: float, on_dead: Callable[[], None]
) -> Callable[[], None]:
    """Call ``on_dead`` once when a process is dead, at once if it is already.

    :param started: when it started, as :mod:`~ipython1.kernel.host.processstate` has it.
    :returns: what ends the watching.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except AttributeError:
        return _look_again_and_again(reactor, pid, started, on_dead)
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
