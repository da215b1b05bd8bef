"""Sends what a long task writes and displays while it runs, to the client that has asked for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.logger import Logger

from ipython1.kernel.engine.liveoutput import STREAM_INTERVAL, LiveOutput
from ipython1.kernel.wire import frames, taskwire
from ipython1.kernel.wire.link import ThreadOutbox

log: Logger = Logger()

Key = tuple[int, int]


class Runner(Protocol):
    """Runs tasks in the main thread."""

    @property
    def live(self) -> bool:
        """Whether the client of the present task wants to see its output while it runs."""


class TaskWatch:
    """Looks at the output of the task that runs.

    :param output: what running code has written and displayed.
    :param runner: runs the tasks.
    :param current: returns what runs now; from any thread.
    :param outbox: sends, from any thread.
    :param reactor: calls things in its own thread.
    """

    def __init__(
        self,
        output: LiveOutput,
        runner: Runner,
        current: Callable[[], Key | None],
        outbox: ThreadOutbox,
        reactor: Any,
    ) -> None:
        self._output = output
        self._runner = runner
        self._current = current
        self._outbox = outbox
        self._reactor = reactor
        self._watched: Key | None = None

    def begin(self, run: Key | None) -> None:
        """Watch a task that takes long, until it ends; in the reactor's thread."""
        if run is not None and self._watched != run:
            self._watched = run
            self._reactor.callLater(STREAM_INTERVAL, self._look, run)

    def _look(self, run: Key) -> None:
        if self._current() != run or self._watched != run:
            return
        self._reactor.callLater(STREAM_INTERVAL, self._look, run)
        link = self._outbox.link
        if not self._runner.live or link is None or not link.has_room:
            return
        try:
            texts = self._output.look(run, lambda: self._current() == run)
        except Exception:
            log.failure("user code is in the way of its output")
            return
        for stream, data in texts:
            link.send(taskwire.TASK_OUTPUT, run[0], _meta(run, stream), data)

    def ended(self, run: Key) -> None:
        """Send what a task has displayed since the last look; in the main thread."""
        if self._runner.live:
            for stream, data in self._output.rest():
                frame = frames.pack_frame(taskwire.TASK_OUTPUT, run[0], _meta(run, stream), data)
                self._outbox.post([frame], len(frame))


def _meta(run: Key, stream: str) -> bytes:
    return taskwire.pack_attempt(run[1]) + stream.encode()
