"""Giving freed memory back: when it is tried, and that the system's own call is understood."""

from __future__ import annotations

import sys

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.host.memory import (
    INTERVAL,
    WORTH_IT,
    FreedMemory,
    give_back,
    resident_size,
)


class FreedMemoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.size = 50 * 2**20
        self.given = 0
        self.memory = FreedMemory(self.clock, lambda: self.size, self.give)

    def give(self) -> None:
        self.given += 1

    def test_a_process_that_has_not_grown_is_left_alone(self) -> None:
        self.size += WORTH_IT
        self.clock.pump([INTERVAL] * 3)
        self.assertEqual(self.given, 0)

    def test_one_that_has_grown_gives_back_until_it_is_small_again(self) -> None:
        self.size += WORTH_IT + 1
        self.clock.pump([INTERVAL] * 3)
        self.assertEqual(self.given, 3)
        self.size -= WORTH_IT
        self.clock.pump([INTERVAL] * 3)
        self.assertEqual(self.given, 3)

    def test_its_timer_can_be_stopped(self) -> None:
        self.memory.stop()
        self.memory.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_system_is_asked(self) -> None:
        give_back()
        if sys.platform == "linux":
            self.assertGreater(resident_size(), 2**20)
