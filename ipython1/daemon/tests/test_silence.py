"""Who is silent for how long, with a clock that the test moves."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial import unittest

from ipython1.daemon.children import Child
from ipython1.daemon.protocol import Heard, Message, Silent
from ipython1.daemon.silence import HELD, Silences


class SilencesTests(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.child = Child("one", os.getpid(), "", "", 0, 10, watch=20.0)
        self.other = Child("two", os.getpid(), "", "", 0, 10)
        self.sent: list[Message] = []
        self.log = Path(self.mktemp())
        # What is said on standard error is not to be seen among the results of the tests.
        self.patch(os, "write", lambda descriptor, data: len(data))
        self.silences = Silences(
            self.clock.seconds,
            lambda: [self.child, self.other],
            self.sent.append,
            watch=30.0,
            log=str(self.log),
        )

    def wait(self, seconds: float) -> None:
        """Time passes, in which the nanny's loop turns as it should."""
        self.clock.advance(seconds)
        self.silences.look()

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def test_a_process_is_told_once_and_again_after_it_was_heard(self) -> None:
        self.assertEqual(self.silences.next_look(), [20.0])
        self.wait(19.0)
        self.assertEqual(self.sent, [])
        self.wait(1.0)
        self.wait(5.0)
        self.assertEqual(self.sent, [Silent("one", 20.0, False)])
        self.silences.child_heard(self.child)
        self.assertEqual(self.sent.pop(), Heard("one"))
        self.silences.child_heard(self.child)
        self.wait(20.0)
        self.assertEqual(self.sent, [Silent("one", 20.0, False)] * 2)

    def test_signs_of_life_put_it_off(self) -> None:
        for _ in range(10):
            self.wait(15.0)
            self.silences.child_heard(self.child)
        self.assertEqual(self.sent, [])

    def test_nobody_is_silent_while_the_nanny_was_held(self) -> None:
        self.clock.advance(500.0)
        self.silences.turn_took(500.0, 1.0)
        self.silences.look()
        self.assertEqual((self.sent, self.said()), ([], ""))
        self.silences.turn_took(HELD, 1.0)  # a turn in which something was done
        self.wait(20.0)
        self.assertEqual(self.sent, [Silent("one", 20.0, False)])

    def test_the_supervisor_s_silence_is_said_and_its_end(self) -> None:
        self.wait(30.0)
        self.wait(30.0)
        self.assertEqual(self.said().count("has not answered for 30 s: it is stuck"), 1)
        self.assertIn("ipcluster stop --force", self.said())
        self.clock.advance(3.0)
        self.silences.supervisor_heard()
        self.assertIn("answers again, after 63 s", self.said())
        self.silences.supervisor_heard()
        self.assertEqual(self.said().count("answers again"), 1)
