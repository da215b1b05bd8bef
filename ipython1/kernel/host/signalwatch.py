"""Hears of a signal in the reactor's thread, also while the main thread runs code that lets no handler run.

Python runs handlers in the main thread, between two of its instructions, but writes to the wakeup descriptor at once.
Code of users may take that descriptor for itself (an event loop does).  So both ways are watched, and a signal that
comes by both counts once.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

from ipython1.system import after_fork_in_child, connected_pair


@implementer(IReadDescriptor)
class SignalWatch:
    """Watches for one signal; make it in the main thread.

    :param reactor: one that runs in another thread.
    :param call: called in its thread for each signal.
    """

    def __init__(self, number: int, reactor: Any, call: Callable[[], None]) -> None:
        self._number = number
        self._reactor = reactor
        self._call = call
        self._written = self._handled = self._told = 0
        self._reader, self._writer = connected_pair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.signal(number, self._handle)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        after_fork_in_child(self._forked)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._handled += 1
        self._reactor.callFromThread(self._tell)

    def _forked(self) -> None:
        """A child is ended by the signal as any other process, and its signals are no concern of this process."""
        if signal.getsignal(self._number) == self._handle:
            signal.set_wakeup_fd(-1)
            signal.signal(self._number, signal.SIG_DFL)

    def begin(self) -> None:
        """Watch, in the reactor's thread."""
        self._reactor.addReader(self)

    def fileno(self) -> int:
        return self._reader.fileno()

    def logPrefix(self) -> str:
        return "signals"

    def doRead(self) -> None:
        try:
            data = self._reader.recv(4096)
        except BlockingIOError:
            return
        self._written += data.count(self._number)
        self._tell()

    def connectionLost(self, reason: Any) -> None:
        """Nothing is watched any more."""

    def _tell(self) -> None:
        came = max(self._written, self._handled)
        while self._told < came:
            self._told += 1
            self._call()
