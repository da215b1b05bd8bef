"""What a controller has told so far, for the view in a terminal: its news are folded into one state."""

from __future__ import annotations

from collections import deque
from typing import Final

from ipython1.kernel.watching.amounts import duration_text
from ipython1.kernel.wire.monitoring import EngineInfo, FailureInfo, News, WorkInfo

FAILURES_KEPT: Final = 200
WORK_KEPT: Final = 200


class TopState:
    """What is known of a controller.

    :ivar mark: what to give at the next look; 0 for everything.
    :ivar latest: the news that came last; None before the first.
    :ivar engines: by id.
    :ivar work: by key.
    :ivar failures: the latest last.
    """

    def __init__(self) -> None:
        self.mark = 0
        self.latest: News | None = None
        self.engines: dict[int, EngineInfo] = {}
        self.work: dict[int, WorkInfo] = {}
        self.failures: deque[FailureInfo] = deque(maxlen=FAILURES_KEPT)

    def apply(self, news: News) -> None:
        """Take over what is new."""
        if news.whole:
            self.engines.clear()
            self.work.clear()
            self.failures.clear()
        self.mark, self.latest = news.mark, news
        self.engines.update((each.id, each) for each in news.engines)
        for engine_id in news.gone:
            self.engines.pop(engine_id, None)
        self.work.update((each.key, each) for each in news.work)
        while len(self.work) > WORK_KEPT:
            del self.work[min(self.work)]
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
