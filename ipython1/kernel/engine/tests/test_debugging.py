"""Who may debug an engine, for how long, and what becomes of lines that arrive twice."""

from __future__ import annotations

import threading
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial import unittest

from ipython1.core.debugger import Desk
from ipython1.kernel.engine.debugging import PATIENCE, DebugEnd


class DebugEndTests(unittest.SynchronousTestCase):
    """The thread of user code is a real one, which stops where the desk does."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.desk = Desk()
        self.turns: list[Any] = []
        self.stopped = threading.Semaphore(0)
        self.end = DebugEnd(self.desk, self._call, self.clock, lambda: "ValueError")
        self.read: list[str] = []

    def _call(self, function: Any) -> None:
        self.turns.append(function)
        self.stopped.release()

    def user_code(self, prompts: int, post_mortem: bool = False) -> None:
        """Start user code that reads so many lines, and waits for the first."""

        def run() -> None:
            self.desk.open("a breakpoint: line 3", post_mortem)
            for number in range(prompts):
                self.desk.write(f"stop {number}\n> ")
                self.read.append(self.desk.readline())
                if self.read[-1] == "quit\n":
                    break
            self.desk.close()

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        self.step()

    def step(self) -> None:
        """Wait until user code stops, and do what the reactor does then."""
        self.assertTrue(self.stopped.acquire(timeout=30))
        self.turns.pop(0)()

    def over(self) -> None:
        self.thread.join(30)
        self.assertFalse(self.thread.is_alive())

    def sit(self, client: str = "a") -> Any:
        return self.end.ask({"do": "sit", "client": client, "label": f"{client}@host"})

    def line(self, text: str, count: int, client: str = "a") -> Any:
        return self.end.ask({"do": "line", "client": client, "line": text, "count": count})

    def test_a_line_gets_the_next_prompt_and_the_last_one_the_end(self) -> None:
        self.user_code(2)
        prompt = self.sit()
        self.assertEqual(prompt["text"], "stop 0\n> ")
        answer = self.line("n", prompt["count"])
        self.assertIsInstance(answer, Deferred)
        self.step()
        prompt = self.successResultOf(answer)
        self.assertEqual((prompt["text"], prompt["over"]), ("stop 1\n> ", False))
        answer = self.line("c", prompt["count"])
        self.step()
        self.assertTrue(self.successResultOf(answer)["over"])
        self.assertEqual(self.read, ["n\n", "c\n"])
        self.over()

    def test_a_line_that_comes_twice_counts_once(self) -> None:
        self.user_code(2)
        prompt = self.sit()
        first = self.line("n", prompt["count"])
        self.step()
        self.successResultOf(first)
        again = self.line("n", prompt["count"])
        self.assertEqual(again["text"], "stop 1\n> ")
        self.line("c", again["count"])
        self.step()
        self.over()
        self.assertEqual(self.read, ["n\n", "c\n"])

    def test_a_line_that_is_asked_again_after_the_end_gets_the_last_words(self) -> None:
        self.user_code(1)
        prompt = self.sit()
        self.line("c", prompt["count"])
        self.step()
        self.over()
        again = self.line("c", prompt["count"])
        self.assertEqual((again.get("refused"), again["over"]), (None, True))

    def test_who_was_silent_for_long_goes_on_if_nobody_else_came(self) -> None:
        self.user_code(1)
        prompt = self.sit()
        self.clock.advance(PATIENCE + 1)
        answer = self.line("c", prompt["count"])
        self.step()
        self.assertTrue(self.successResultOf(answer)["over"])
        self.over()
        self.assertEqual(self.read, ["c\n"])

    def test_one_at_a_time(self) -> None:
        self.user_code(1)
        self.sit("a")
        self.assertEqual(self.sit("b")["refused"], "a@host debugs it")
        self.assertIn("refused", self.line("c", 1, "b"))
        self.assertEqual(self.end.ask({"do": "look"})["by"], "a@host")
        self.end.ask({"do": "leave", "client": "a"})
        count = self.sit("b")["count"]
        self.line("c", count, "b")
        self.step()
        self.over()

    def test_a_breakpoint_outlasts_who_went_away(self) -> None:
        self.user_code(1)
        self.sit("a")
        self.clock.advance(PATIENCE - 1)
        self.end.ask({"do": "stay", "client": "a"})
        self.clock.advance(PATIENCE - 1)
        self.assertIn("refused", self.sit("b"))
        self.clock.advance(2)
        prompt = self.sit("b")
        self.assertEqual(prompt["text"], "stop 0\n> ")
        self.line("c", prompt["count"], "b")
        self.step()
        self.over()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_looking_at_an_exception_ends_with_who_looked(self) -> None:
        self.user_code(1, post_mortem=True)
        self.sit("a")
        self.end.ask({"do": "leave", "client": "a"})
        self.over()
        self.assertEqual(self.read, ["quit\n"])

    def test_so_it_does_when_they_never_come(self) -> None:
        self.desk.attended = True
        self.user_code(1, post_mortem=True)
        self.clock.advance(PATIENCE)
        self.over()
        self.assertEqual(self.read, ["quit\n"])

    def test_with_nothing_to_debug_there_is_nothing_to_sit_at(self) -> None:
        self.assertEqual(
            self.end.ask({"do": "look"}), {"where": "", "by": "", "error": "ValueError"}
        )
        self.assertTrue(self.sit()["over"])
        self.assertEqual(self.end.ask({"do": "look"})["by"], "")

    def test_what_makes_no_sense_is_answered_with_nothing(self) -> None:
        for request in ({}, {"do": "dance"}, {"do": "stay", "client": "x"}, {"do": "leave"}):
            self.assertEqual(self.end.ask(request), {})
