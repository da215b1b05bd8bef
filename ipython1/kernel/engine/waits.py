"""The waits of an engine's main thread, told to the controller.

A wait is looked at when it has lasted for a moment, and then again and again, as what it needs may change.  What is new
is told, through the same outbox as the results of what ran before, so the controller knows these first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count
from typing import Any, Final

from twisted.logger import Logger

from ipython1.kernel.basics.error import from_wire
from ipython1.kernel.objects.enginewaits import Waited
from ipython1.kernel.wire import frames, messages
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.link import ThreadOutbox
from ipython1.kernel.wire.waits import Needs, Run, pack_wait

log: Logger = Logger()

LOOK_AFTER: Final = 0.01
"""Seconds after which a wait is told; most waits are over sooner."""

LOOK_EVERY: Final = 0.05
"""Seconds between later looks."""


class _Entry:
    """A wait.

    :ivar told: what the controller was told that it needs; None if it knows nothing of it.
    """

    __slots__ = ("run", "told", "waited")

    def __init__(self, waited: Waited, run: Run) -> None:
        self.waited = waited
        self.run = run
        self.told: Needs | None = None


class MainThreadWaits:
    """Watches the waits of an engine's main thread.

    :param running: returns what the main thread runs; None if it is no code of the user's.
    :param flush: tells the results of what ran before.
    :param reactor: calls things in its own thread (``callFromThread``, ``callLater``).
    """

    def __init__(
        self,
        running: Callable[[], Run | None],
        flush: Callable[[], None],
        outbox: ThreadOutbox,
        reactor: Any,
    ) -> None:
        self._running = running
        self._flush = flush
        self._outbox = outbox
        self._reactor = reactor
        self._lock = threading.Lock()
        self._numbers = count(1)
        self._entries: dict[int, _Entry] = {}
        self._looking = False
        self.handlers: dict[int, Callable[[int, int, Buffer, Buffer], None]] = {
            frames.WAITS_FOREVER: self._waits_forever
        }

    # -- in any thread

    def begin(self, waited: Waited) -> int:
        """See :class:`~ipython1.kernel.objects.enginewaits.Waits`."""
        if threading.current_thread() is not threading.main_thread():
            return 0
        run = self._running()
        if run is None:
            return 0
        with self._lock:
            number = next(self._numbers)
            self._entries[number] = _Entry(waited, run)
            wake = not self._looking
            self._looking = True
        if wake:
            self._reactor.callFromThread(self._reactor.callLater, LOOK_AFTER, self._look)
        return number

    def end(self, number: int) -> None:
        """See :class:`~ipython1.kernel.objects.enginewaits.Waits`."""
        with self._lock:
            entry = self._entries.pop(number, None)
        # Not under the lock, which the reactor's thread takes in its turns.
        if entry is not None and entry.told is not None:
            self._post(frames.WAITED, number)

    def _post(self, kind: int, number: int, payload: bytes = b"") -> None:
        frame = frames.pack_frame(kind, number, b"", payload)
        self._outbox.post([frame], len(frame))

    # -- in the reactor's thread

    def _look(self) -> None:
        with self._lock:
            entries = list(self._entries.items())
            self._looking = bool(entries)
        if not entries:
            return
        running = self._running()
        for number, entry in entries:
            if entry.run != running:
                self.end(number)
                continue
            try:
                self._tell(number, entry)
            except Exception:
                log.failure("what the user's code waits for is not known")
        self._reactor.callLater(LOOK_EVERY, self._look)

    def _tell(self, number: int, entry: _Entry) -> None:
        needs = entry.waited.needs()
        if needs is None or (entry.told is not None and not _is_news(needs, entry.told)):
            return
        if entry.told is None:
            self._flush()
        needs = needs.limited()
        with self._lock:
            if number in self._entries:
                entry.told = needs
                self._post(frames.WAITING, number, pack_wait(entry.run, needs))

    def _waits_forever(self, flags: int, number: int, meta: Buffer, payload: Buffer) -> None:
        """A wait will never end."""
        with self._lock:
            entry = self._entries.pop(number, None)
        if entry is not None:
            entry.waited.give_up(from_wire(*messages.unpack_json(payload)))

    def registered(self) -> None:
        """The engine has registered, perhaps again; the controller knows of no wait."""
        for entry in list(self._entries.values()):
            entry.told = None


def _is_news(needs: Needs, told: Needs) -> bool:
    """Return whether the controller must be told again: it knows by itself what has ended."""
    if needs == told:
        return False
    if not needs.every:
        return needs.limited() != told
    left = set(needs.tasks).intersection(told.tasks)
    return not left and set(needs.commands).isdisjoint(told.commands)
