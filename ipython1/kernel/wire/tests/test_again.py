"""How long parties wait before they connect again."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.wire.again import LASTED, LONGEST_PAUSE, Pauses


class PausesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.pauses = Pauses(self.clock)

    def test_the_first_is_none_and_the_others_grow_up_to_a_limit(self) -> None:
        pauses = [self.pauses.next() for _ in range(40)]
        self.assertEqual(pauses[0], 0.0)
        self.assertLess(pauses[1], 0.06)
        self.assertGreater(pauses[10], 5 * pauses[1])
        self.assertGreater(pauses[-1], 0.6 * LONGEST_PAUSE)
        self.assertLessEqual(max(pauses), LONGEST_PAUSE)

    def test_they_go_on_growing_over_connections_that_are_lost_at_once(self) -> None:
        for _ in range(20):
            self.pauses.next()
            self.pauses.connected()
        self.assertGreater(self.pauses.next(), 1.0)

    def test_they_begin_anew_after_a_connection_that_lasted(self) -> None:
        for _ in range(20):
            self.pauses.next()
        self.pauses.connected()
        self.clock.advance(LASTED)
        self.assertEqual(self.pauses.next(), 0.0)
        self.assertLess(self.pauses.next(), 0.06)
