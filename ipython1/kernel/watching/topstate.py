"""What a controller has told so far, for the view in a terminal: its news are folded into one state."""

from __future__ import annotations

from collections import deque

from ipython1.kernel.watching.amounts import duration_text
from ipython1.kernel.watching.known import FAILURES_KEPT, Known
from ipython1.kernel.wire.monitoring import EngineInfo, FailureInfo, News, WorkInfo


class TopState(Known):
    """What is known of a controller.

    :ivar failures: the latest last.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failures: deque[FailureInfo] = deque(maxlen=FAILURES_KEPT)

    def apply(self, news: News) -> None:
        """Take over what is new."""
        self.take(news)
        if news.whole:
            self.failures.clear()
        self.failures.extend(news.failures)

    @property
    def time(self) -> float:
        """Now, by the controller's clock, when it told the latest; in seconds since the epoch."""
        return 0.0 if self.latest is None else self.latest.time


def seconds_left(work: WorkInfo) -> float | None:
    """Estimate when work is done, in seconds from now; None if it is done, or nothing is known."""
    left = work.total - work.succeeded - work.failed
    if work.completed is not None or left <= 0 or work.seconds is None or not work.running:
        return None
    return work.seconds * left / work.running


def left_text(work: WorkInfo) -> str:
    """Return how long work will take: ``48 s``, or ``48 s or more`` of a map, which may still send items; empty if
    nothing is known.
    """
    left = seconds_left(work)
    if left is None:
        return ""
    return duration_text(left) + (" or more" if work.unit == "items" else "")


def done_share(work: WorkInfo) -> float:
    """Return how much of work is done, from 0 to 1."""
    return min(1.0, (work.succeeded + work.failed) / work.total) if work.total else 1.0


def engine_state(engine: EngineInfo) -> str:
    """Return the state of an engine in one word."""
    if engine.away:
        return "away"
    return "idle" if engine.since is None and engine.doing in ("", "idle") else "busy"


def doing_text(engine: EngineInfo) -> str:
    """Return what an engine does, in a few words; empty if it is idle."""
    if engine_state(engine) == "idle":
        return ""
    if engine.what and engine.what != engine.doing:
        return engine.what if engine.doing in ("task", "idle") else f"{engine.doing}: {engine.what}"
    return "" if engine.doing == "idle" else engine.doing
