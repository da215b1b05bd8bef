"""Shows a waiting user how far the start of a cluster is."""

from __future__ import annotations

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
def start_shown(control: BlockingControl) -> Iterator[None]:
    """Show the progress that a cluster tells, during a wait for its start; nothing if nobody waits."""
    area = open_area() if person_waits() else None
    if area is None:
        yield
        return
    before = control.on_event
    control.on_event = _StartView(area).event
    control.call("watch")
    try:
        yield
    finally:
        control.on_event = before
        area.close()
    control.call("watch", on=False)


class _StartView:
    def __init__(self, area: Area) -> None:
        self._area = area
        self._begun = time.monotonic()

    def event(self, event: dict[str, Any]) -> None:
        """Take an event of the cluster."""
        seconds = time.monotonic() - self._begun
        if event.get("event") == "progress" and event.get("wanted") and seconds >= SHOW_AFTER:
            failed, wanted = event.get("failed", 0), event["wanted"]
            done = min(len(event.get("ids", ())) + failed, wanted)
            width = self._area.width
            self._area.show([meter("starting", done, wanted, seconds, "engine", failed, width)])
