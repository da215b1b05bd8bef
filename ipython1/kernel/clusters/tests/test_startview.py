"""What is shown during a wait for a cluster's start."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

from twisted.trial import unittest

from ipython1.kernel.clusters import startview
from ipython1.kernel.clusters.startview import show_line, start_shown


class FakeArea:
    """An area that remembers what it shows."""

    width = 80

    def __init__(self) -> None:
        self.lines: Sequence[str] = ()
        self.closed = False

    def show(self, lines: Sequence[str]) -> None:
        self.lines = lines

    def wipe(self) -> None: ...

    def close(self, keep: bool = False) -> None:
        self.closed = True


class FakeControl:
    """A cluster that is watched, or not."""

    def __init__(self) -> None:
        self.on_event: Any = None
        self.orders: list[Any] = []

    def call(self, do: str, **arguments: Any) -> None:
        self.orders.append((do, arguments))


SAY = {"event": "say", "text": "engines waiting in the queue: 2 (Resources)"}


class StartViewTests(unittest.SynchronousTestCase):
    def test_a_program_gets_lines_on_standard_error(self) -> None:
        control: Any = FakeControl()
        err = io.StringIO()
        with contextlib.redirect_stderr(err), start_shown(control):
            control.on_event(SAY)
            control.on_event({"event": "progress", "wanted": 2, "ids": []})
        self.assertEqual(err.getvalue(), "ipcluster: engines waiting in the queue: 2 (Resources)\n")
        self.assertEqual(control.orders, [("watch", {}), ("watch", {"on": False})])
        self.assertIsNone(control.on_event)

    def test_a_person_sees_the_queue_below_the_progress(self) -> None:
        control: Any = FakeControl()
        area = FakeArea()
        self.patch(startview, "person_waits", lambda: True)
        self.patch(startview, "open_area", lambda: area)
        self.patch(startview, "SHOW_AFTER", 0.0)
        with start_shown(control):
            control.on_event(SAY)
            self.assertEqual(area.lines, [SAY["text"]])
            progress = {"event": "progress", "wanted": 4, "ids": [0], "failed": 0}
            control.on_event({**progress, "queue": "3 (JobHeldUser)"})
        bar, queue = area.lines
        self.assertIn("1/4 engines", bar)
        self.assertEqual(queue, "engines waiting in the queue: 3 (JobHeldUser)")
        self.assertTrue(area.closed)

    def test_a_program_without_standard_error(self) -> None:
        with contextlib.redirect_stderr(None):
            show_line(SAY)
