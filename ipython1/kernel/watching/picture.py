"""What is known of a controller, put together from its news, and as the page gets it.

The page gets rows: lists of values in the order of the fields that are named here, as JSON.  The same fields are named
in ``web/store.js``.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from operator import attrgetter
from typing import Any, Final

from ipython1.kernel.watching.known import FAILURES_KEPT, Known
from ipython1.kernel.wire.monitoring import (
    EngineInfo,
    FailureInfo,
    News,
    Span,
    TaskCounts,
    Traffic,
    WorkInfo,
)

SPANS_KEPT: Final = 300.0
"""Seconds."""

SPANS_MOST: Final = 20_000
"""Spans that are kept in any case; those that ended first go when there are a quarter more."""

TREND_KEPT: Final = 300
"""Points of the trends, one for each second or more."""

ENGINE_FIELDS: Final = (
    *("id", "pid", "host", "away", "doing", "queued", "what", "since", "tasks", "cpu", "memory"),
)
WORK_FIELDS: Final = (
    *("key", "what", "label", "unit", "total", "running", "succeeded", "failed"),
    *("seconds", "submitted", "completed"),
)
SPAN_FIELDS: Final = ("engine", "kind", "id", "what", "begun", "ended", "count", "failed")
FAILURE_FIELDS: Final = ("kind", "id", "what", "engine", "error", "when")

_engine_row = attrgetter(*ENGINE_FIELDS)
_work_row = attrgetter(*WORK_FIELDS)
_span_row = attrgetter(*SPAN_FIELDS)
_failure_row = attrgetter(*FAILURE_FIELDS)
_span_key = attrgetter("engine", "begun")


class Picture(Known):
    """What is known of a controller, with a timeline and trends."""

    def __init__(self) -> None:
        super().__init__()
        self._spans: dict[tuple[Any, ...], Span] = {}
        self._failures: deque[tuple[int, FailureInfo]] = deque(maxlen=FAILURES_KEPT)
        self._failure_count = 0
        self._trend: deque[tuple[float, ...]] = deque(maxlen=TREND_KEPT)
        self._tidied = 0.0

    @property
    def tasks(self) -> TaskCounts:
        """How many tasks there are."""
        return TaskCounts() if self.latest is None else self.latest.tasks

    @property
    def traffic(self) -> Traffic:
        """What goes through the controller."""
        return Traffic() if self.latest is None else self.latest.traffic

    def forget_mark(self) -> None:
        """Have everything told at the next look: the controller may be another one."""
        self.mark = 0

    def update(self, news: News) -> bytes:
        """Take over news.

        :returns: what a page needs that has everything from before; if the news are everything, the page needs
            :meth:`whole`, too.
        """
        self.take(news)
        if news.whole:
            self._spans.clear()
            self._failures.clear()
        self._spans.update((_span_key(each), each) for each in news.spans)
        failures = []
        for failure in news.failures:
            self._failure_count += 1
            failures.append((self._failure_count, failure))
        self._failures.extend(failures)
        self._tidy(news.time)
        self._note_trend(news)
        return self._pack(news.engines, news.gone, news.work, news.spans, failures)

    def whole(self) -> bytes:
        """Everything, for a page that has nothing."""
        trend = [[_rounded(value) for value in point] for point in self._trend]
        return self._pack(
            self.engines.values(),
            (),
            self.work.values(),
            self._spans.values(),
            self._failures,
            trend=trend,
        )

    def traceback(self, number: int) -> str | None:
        """The traceback of a failure.

        :param number: as the page was told.
        :returns: None if it is not known any more.
        """
        return next((each.traceback for known, each in self._failures if known == number), None)

    def _tidy(self, now: float) -> None:
        if now - self._tidied > 10.0 or now < self._tidied:
            self._tidied = now
            oldest = now - SPANS_KEPT
            self._spans = {key: each for key, each in self._spans.items() if each.ended > oldest}
        if len(self._spans) > 1.25 * SPANS_MOST:
            latest = sorted(self._spans.items(), key=lambda item: item[1].ended)[-SPANS_MOST:]
            self._spans = dict(latest)

    def _note_trend(self, news: News) -> None:
        if self._trend and 0 <= news.time - self._trend[-1][0] < 0.95:
            return
        traffic = news.traffic
        self._trend.append(
            (news.time, news.tasks.rate, traffic.received, traffic.sent, traffic.delay, self.cpu())
        )

    def cpu(self) -> float:
        """What all engines use, in percent of one processor."""
        return sum(each.cpu or 0.0 for each in self.engines.values())

    def _pack(
        self,
        engines: Iterable[EngineInfo],
        gone: Iterable[int],
        work: Iterable[WorkInfo],
        spans: Iterable[Span],
        failures: Iterable[tuple[int, FailureInfo]],
        **more: Any,
    ) -> bytes:
        news = self.latest
        assert news is not None
        tasks, traffic = news.tasks, news.traffic
        content: dict[str, Any] = {
            "time": _rounded(news.time),
            "started": news.started,
            "name": news.name,
            "clients": news.clients,
            "tasks": [
                *attrgetter("scheduled", "pending", "succeeded", "failed")(tasks),
                _rounded(tasks.rate),
            ],
            "traffic": [*map(_rounded, (traffic.received, traffic.sent, traffic.delay))],
            "engines": _rows(_engine_row, engines),
            "gone": list(gone),
            "work": _rows(_work_row, work),
            "spans": _rows(_span_row, spans),
            "failures": [[number, *_failure_row(each)] for number, each in failures],
            **more,
        }
        # Empty lists are left out: most news are short.
        kept = {name: value for name, value in content.items() if value != []}
        return json.dumps(kept, separators=(",", ":")).encode()


def _rows(row: attrgetter[Any], items: Iterable[Any]) -> list[list[Any]]:
    return [[_rounded(value) for value in row(each)] for each in items]


def _rounded(value: Any) -> Any:
    """A float with the decimals that can be seen."""
    return round(value, 4) if isinstance(value, float) else value
