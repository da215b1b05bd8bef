"""Shows a waiting user how far the calls of an executor are."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final

from ipython1.kernel.calls.liveview import LIVE_AFTER, LiveView, Progress, Running
from ipython1.notebook.frontend import person_waits
from ipython1.notebook.livearea import INTERVAL, Area, open_area
from ipython1.notebook.progress import meter

LEAST_WAIT: Final = 0.25
"""Seconds of waiting for one value after which progress is shown, as it has to be wiped before the value is there."""


class MapProgress:
    """The progress of an executor's map while its next value is waited for.

    :param left: the futures whose values were not taken; the caller removes them.
    :param total: how many calls the map has; 0 if that is not known, and nothing is shown.
    :param size: returns how many calls a future stands for.
    :param running: has the last lines of the calls that run, which are shown too; None if that is not known.
    """

    def __init__(
        self,
        left: Collection[Future[Any]],
        total: int,
        size: Callable[[Future[Any]], int],
        running: Running | None = None,
    ) -> None:
        self._running = running
        self._left = left
        self._total = total
        self._size = size
        self._begun = time.monotonic()
        self._progress = Progress("map", self._count)

    def _count(self) -> tuple[int, int, int, str]:
        left = [self._size(future) for future in self._left if not future.done()]
        waited = sum(left)
        failed = sum(1 for future in self._left if future.done() and has_failed(future))
        return self._total - waited, self._total, failed, "call"

    def wait(self, future: Future[Any], timeout: float | None) -> None:
        """Show progress until a future is done, or the time is over."""
        if not self._total or future.done() or not person_waits():
            return
        end = None if timeout is None else time.monotonic() + timeout
        pause = max(LEAST_WAIT, self._begun + LIVE_AFTER - time.monotonic())
        view: LiveView | None = None
        try:
            while not _is_done(
                future, pause if end is None else min(pause, end - time.monotonic())
            ):
                if end is not None and time.monotonic() >= end:
                    return
                if view is None:
                    area = open_area()
                    if area is None:
                        return
                    view = LiveView(None, area, self._progress, running=self._running)
                view.update()
                pause = INTERVAL
        finally:
            if view is not None:
                view.rest()


def _is_done(future: Future[Any], seconds: float) -> bool:
    """Wait for some time; return whether a future is done."""
    from concurrent.futures import wait

    done, _ = wait([future], max(seconds, 0.0))
    return bool(done)


def has_failed(future: Future[Any]) -> bool:
    """Return whether a future that is done has an exception; does not decode it."""
    return future.cancelled() or future._exception is not None


class BatchProgress:
    """The progress of batches, shown from the thread that takes their results.

    :param count: returns how many calls are done, and of how many.
    """

    def __init__(self, label: str, count: Callable[[], tuple[int, int]]) -> None:
        self._label = label
        self._count = count
        self._lock = threading.Lock()
        self._area: Area | None = None
        self._over = False
        self._begun = time.monotonic()
        self._shown = self._begun + LIVE_AFTER - INTERVAL

    def update(self, before: Iterable[Callable[[], object]] = ()) -> None:
        """Show how far it is, after other output that is to be above it."""
        with self._lock:
            if self._area is not None and before:
                self._area.wipe()
            for show in before:
                show()
            now = time.monotonic()
            if self._over or (now - self._shown < INTERVAL and not before) or now < self._shown:
                return
            if self._area is None:
                self._area = open_area()
            if self._area is not None:
                self._shown = now
                done, total = self._count()
                seconds, width = now - self._begun, self._area.width
                self._area.show([meter(self._label, done, total, seconds, "call", 0, width)])

    def close(self) -> None:
        """Take it from the screen."""
        with self._lock:
            self._over = True
            if self._area is not None:
                with suppress(ValueError):  # the stream was closed
                    self._area.close()
