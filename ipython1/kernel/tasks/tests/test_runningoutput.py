"""What tasks write while they run, as it is kept for who waits; and notes of why they wait."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.calls import waitnotes
from ipython1.kernel.calls.waitnotes import away_engines
from ipython1.kernel.tasks.obstacles import obstacles
from ipython1.kernel.tasks.runningoutput import LINES, MOST_TASKS, RunningOutput


class RunningOutputTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.running = RunningOutput()

    def test_the_last_lines_of_what_runs(self) -> None:
        self.running.add(7, 1, "stdout", "".join(f"line {n}\n" for n in range(10)))
        self.running.add(7, 1, "stderr", "\r10%")
        self.running.add(8, 0, "stdout", "other")
        self.running.add(7, 1, "stderr", "\r20%")
        last = [(1, f"line {n}") for n in range(10 - LINES, 10)]
        self.assertEqual(self.running.lines(), [(0, "other"), *last, (1, "20%")])
        self.running.forget([7, 9])
        self.assertEqual(self.running.lines(), [(0, "other")])

    def test_a_new_attempt_begins_again(self) -> None:
        self.running.add(7, 1, "stdout", "first\n")
        self.running.add(7, 2, "stdout", "second\n")
        self.assertEqual(self.running.lines(), [(2, "second")])

    def test_bounds(self) -> None:
        for task_id in range(MOST_TASKS + 10):
            self.running.add(task_id, 0, "stdout", "x")
        self.assertEqual(len(self.running.lines()), MOST_TASKS)

    def test_displays(self) -> None:
        self.running.add(7, 3, "display", json.dumps([{"do": "clear", "wait": False}]))
        self.assertEqual(self.running.take_steps(), [(3, {"do": "clear", "wait": False})])
        self.assertEqual(self.running.take_steps(), [])


class End:
    """A client's end of a link."""

    connected = True

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any], Deferred[Any]]] = []

    def ask(self, name: str, **args: Any) -> Deferred[Any]:
        self.asked.append((name, args, Deferred()))
        return self.asked[-1][2]


class Reactor:
    @staticmethod
    def callFromThread(function: Any) -> None:
        function()


class WaitNotesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 100.0
        self.patch(waitnotes.time, "monotonic", lambda: self.now)
        self.end = End()

    def test_why_tasks_wait(self) -> None:
        left = 12
        notes = obstacles(self.end, Reactor, lambda: left, "item")  # type: ignore[arg-type]
        self.assertEqual(list(notes.lines()), [])
        notes.lines()
        ((name, _, answer),) = self.end.asked
        self.assertEqual(name, "obstacles")
        answer.callback({"nobody": "no engine is registered", "stuck": []})
        self.assertEqual(notes.lines(), ["no engine is registered; 12 items wait"])
        left = 1
        self.assertEqual(notes.lines(), ["no engine is registered; 1 item waits"])
        self.now += waitnotes.ASK_EVERY
        notes.lines()
        self.end.asked[1][2].callback({"nobody": "", "stuck": [["its depend is false", 3]]})
        self.assertEqual(notes.lines(), ["3 tasks wait: its depend is false"])
        self.now += waitnotes.ASK_EVERY
        notes.lines()
        self.end.asked[2][2].errback(ConnectionError())
        self.assertEqual(list(notes.lines()), [])

    def test_engines_that_are_away(self) -> None:
        notes = away_engines(self.end, Reactor, lambda: [1, 2, 5])  # type: ignore[arg-type]
        notes.lines()
        ((name, args, answer),) = self.end.asked
        self.assertEqual((name, args), ("queue_status", {"targets": [1, 2, 5]}))
        answer.callback([[1, {"away": 3.2}], [2, {"away": 9.0}], [5, {"pending": None}]])
        self.assertEqual(notes.lines(), ["engines 1-2 are out of reach for 9 s, and may come back"])

    def test_nothing_is_asked_when_nothing_is_left(self) -> None:
        notes = away_engines(self.end, Reactor, list)  # type: ignore[arg-type]
        self.assertEqual(list(notes.lines()), [])
        self.assertEqual(self.end.asked, [])
