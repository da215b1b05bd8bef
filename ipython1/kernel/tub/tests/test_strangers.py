"""Connections that have not named a capability."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.tub import strangers
from ipython1.kernel.tub.strangers import Doorkeeper


class DoorkeeperTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.door = Doorkeeper(self.clock, most=3, patience=10)
        self.dropped: list[str] = []

    def arrive(self, name: str) -> None:
        self.door.arrived(name, lambda: self.dropped.append(name))

    def test_the_deadline(self) -> None:
        self.arrive("idle")
        self.clock.advance(4)
        self.arrive("later")
        self.clock.advance(6)
        self.assertEqual(self.dropped, ["idle"])
        self.clock.advance(4)
        self.assertEqual(self.dropped, ["idle", "later"])
        self.assertEqual(len(self.door), 0)

    def test_trust_ends_the_deadline(self) -> None:
        self.arrive("engine")
        self.door.left("engine")
        self.clock.advance(100)
        self.assertEqual(self.dropped, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_flood_drops_its_own_oldest_and_lets_newcomers_in(self) -> None:
        for name in "abc":
            self.arrive(name)
        self.door.left("b")
        self.arrive("d")
        self.assertEqual(self.dropped, [])
        self.arrive("e")
        self.assertEqual(self.dropped, ["a"])
        self.assertEqual(len(self.door), 3)

    def test_strangers_get_no_files_that_trusted_connections_need(self) -> None:
        self.patch(strangers, "file_limit", lambda: 1024)
        trusted = 0
        door = self.door = Doorkeeper(self.clock, connections=lambda: trusted + len(door))
        for number in range(600):
            self.arrive(str(number))
        self.assertEqual(len(door), 512)
        door.close()
        trusted = 950
        for number in range(100):
            self.arrive(str(number))
        self.assertEqual(len(door), 26)

    def test_who_has_left_is_forgotten(self) -> None:
        self.arrive("a")
        self.door.left("a")
        self.door.left("a")
        self.door.left("never seen")
        self.clock.advance(100)
        self.assertEqual(self.dropped, [])

    def test_closing(self) -> None:
        self.arrive("a")
        self.arrive("b")
        self.door.close()
        self.assertEqual(self.dropped, ["a", "b"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
