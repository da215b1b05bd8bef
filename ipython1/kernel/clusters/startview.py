"""Shows a waiting user how far the start of a cluster is, and what it says meanwhile."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from ipython1.kernel.host.control import BlockingControl
from ipython1.notebook.frontend import person_waits
from ipython1.notebook.livearea import Area, open_area
from ipython1.notebook.progress import meter

SHOW_AFTER: Final = 1.0
"""Seconds after which it is shown."""


@contextmanager
def start_shown(control: BlockingControl, limit: float | None = None) -> Iterator[None]:
    """Show what a cluster tells during a wait for its start: its progress if a person waits, else its lines.

    :param limit: seconds within which it must answer; None for no limit.
    """
    area = open_area() if person_waits() else None
    before = control.on_event
    control.on_event = show_line if area is None else _StartView(area).event
    control.call("watch", limit)
    try:
        yield
    finally:
        control.on_event = before
        if area is not None:
            area.close()
    control.call("watch", on=False)


def show_line(event: dict[str, Any]) -> None:
    """Show on standard error what a cluster says, as ``ipcluster`` does; other events are left out."""
    if event.get("event") == "say" and sys.stderr is not None:
        print(f"ipcluster: {event['text']}", file=sys.stderr, flush=True)


class _StartView:
    """A line about the engines, and one about the queue or the last that the cluster has said."""

    def __init__(self, area: Area) -> None:
        self._area = area
        self._begun = time.monotonic()
        self._meter = ""
        self._said = ""

    def event(self, event: dict[str, Any]) -> None:
        """Take an event of the cluster."""
        seconds = time.monotonic() - self._begun
        kind = event.get("event")
        if kind == "say":
            self._said = event["text"]
        elif kind != "progress" or not event.get("wanted"):
            return
        elif seconds >= SHOW_AFTER:
            failed, wanted = event.get("failed", 0), event["wanted"]
            done = min(len(event.get("ids", ())) + failed, wanted)
            width = self._area.width
            self._meter = meter("starting", done, wanted, seconds, "engine", failed, width)
            if event.get("queue"):
                self._said = f"engines waiting in the queue: {event['queue']}"
        self._area.show([line for line in (self._meter, self._said) if line])
