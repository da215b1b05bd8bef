"""The timeline: what each engine did, and when; pure state.

Tasks of the same work that follow each other on an engine are one span as long as that is short.  How short depends
on how many engines there are, so that the spans of :data:`KEPT` seconds are about :data:`MOST` at most.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from ipython1.kernel.wire.monitoring import Span

KEPT: Final = 300.0
"""Seconds for which spans are kept."""

MOST: Final = 20_000
"""Spans that are kept; the oldest go first."""

_SHORTEST: Final = 0.05

_APART: Final = 2e-4
"""Seconds between the beginnings of two spans of an engine, at least, so that these name them."""

DIGITS: Final = 4
"""Of times that are told, after the point."""


class SpanRecord:
    """A span that may still grow.

    :ivar group: what tasks have in common that may be in one span.
    :ivar begun: seconds of the controller's clock since the epoch; the same for ever, and never that of another span of
        the engine.
    """

    __slots__ = (
        *("begun", "count", "ended", "engine", "failed", "group", "id", "kind", "what"),
        "_told",
    )

    def __init__(
        self,
        engine: int,
        kind: str,
        ident: int,
        what: str,
        group: object,
        begun: float,
        ended: float,
        count: int,
        failed: int,
    ) -> None:
        self.engine = engine
        self.kind = kind
        self.id = ident
        self.what = what
        self.group = group
        self.begun = begun
        self.ended: float = ended
        self.count: int = count
        self.failed: int = failed
        self._told: Span | None = None

    def grow(self, ended: float, count: int, failed: int) -> None:
        """The engine has done more of the same."""
        self.ended = max(self.ended, ended)
        self.count += count
        self.failed += failed
        self._told = None

    def told(self) -> Span:
        """It for those who look."""
        told = self._told
        if told is None:
            begun, ended = round(self.begun, DIGITS), round(self.ended, DIGITS)
            told = self._told = Span(
                self.engine, self.kind, self.id, self.what, begun, ended, self.count, self.failed
            )
        return told


class Spans:
    """All spans that are kept, the earliest first.

    :param changed: called with each span that is new or has grown.
    :param forget: called with each that is not kept any more.
    """

    def __init__(
        self, changed: Callable[[SpanRecord], None], forget: Callable[[SpanRecord], None]
    ) -> None:
        self._changed = changed
        self._forget = forget
        self._all: deque[SpanRecord] = deque()
        self.longest: float = _SHORTEST

    def __len__(self) -> int:
        return len(self._all)

    def engines_are(self, count: int) -> None:
        """There are so many engines now."""
        self.longest = max(_SHORTEST, count * KEPT / MOST)

    def add(
        self,
        last: SpanRecord | None,
        engine: int,
        kind: str,
        ident: int,
        what: str,
        group: object,
        begun: float,
        ended: float,
        count: int = 1,
        failed: int = 0,
    ) -> SpanRecord:
        """An engine has done something; returns the span that this is in.

        :param last: the engine's last span.
        :param group: None for what is a span of its own.
        """
        if last is not None:
            begun = min(max(begun, last.ended), ended)
            if (
                group is not None
                and last.group is group
                and begun - last.ended <= self.longest / 2
                and ended - last.begun <= self.longest
            ):
                last.grow(ended, count, failed)
                self._changed(last)
                return last
            begun = max(begun, last.begun + _APART)
            ended = max(begun, ended)
        span = SpanRecord(engine, kind, ident, what, group, begun, ended, count, failed)
        self._all.append(span)
        self._changed(span)
        if len(self._all) > MOST:
            self._forget(self._all.popleft())
        return span

    def expire(self, now: float) -> None:
        """Forget what ended too long ago."""
        spans = self._all
        while spans and spans[0].ended < now - KEPT:
            self._forget(spans.popleft())
