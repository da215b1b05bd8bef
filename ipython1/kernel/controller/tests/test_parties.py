"""Parties that come, lose their connection, and come back."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import SecurityError
from ipython1.kernel.controller import parties
from ipython1.kernel.controller.parties import Identity, Parties, proof_of

ALICE, BOB = "a" * 32, "b" * 32


class Processes:
    """Processes that die when the test says so."""

    def __init__(self) -> None:
        self.watched: dict[int, Callable[[], None]] = {}
        self.dead: set[int] = set()

    def started(self, pid: int, host: str) -> float:
        return 5.0

    def watch(self, identity: Identity, on_dead: Callable[[], None], /) -> Callable[[], None]:
        if identity.pid in self.dead:
            on_dead()
            return lambda: None
        self.watched[identity.pid] = on_dead
        return lambda: self.watched.pop(identity.pid, None) and None


class PartiesTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.gone: list[tuple[str, str]] = []
        self.processes = Processes()
        self.parties = Parties(
            "engine",
            self.clock,
            lambda uuid, reason: self.gone.append((uuid, reason)),
            self.processes,
        )
        self.come()

    def come(self, uuid: str = ALICE, secret: str = "s", pid: int = 7) -> bool:
        known = self.parties.check(uuid, secret)
        self.parties.came(uuid, secret, pid, "here")
        return known

    def over(self) -> None:
        """Nothing is left that waits."""
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.processes.watched, {})

    def test_who_comes_back_in_time_is_the_same(self) -> None:
        self.parties.left(ALICE, "the cable broke", 10)
        self.assertTrue(self.parties.is_away(ALICE))
        self.clock.advance(9.9)
        self.assertTrue(self.come())
        self.assertFalse(self.parties.is_away(ALICE))
        self.clock.advance(100)
        self.assertEqual(self.gone, [])
        self.over()

    def test_who_does_not_come_back_is_gone(self) -> None:
        self.parties.left(ALICE, "the cable broke", 10)
        self.clock.advance(10)
        ((uuid, reason),) = self.gone
        self.assertEqual(uuid, ALICE)
        self.assertEqual(reason, "the cable broke; it did not come back within 10 s")
        self.assertFalse(self.parties.is_living(ALICE))
        self.over()

    def test_without_a_grace_it_is_gone_at_once(self) -> None:
        self.parties.left(ALICE, "the cable broke", 0)
        self.assertEqual(self.gone, [(ALICE, "the cable broke")])
        self.over()

    def test_one_does_not_wait_for_a_process_that_is_dead(self) -> None:
        self.parties.left(ALICE, "it was killed", 10)
        self.processes.watched.pop(7)()
        self.assertEqual(self.gone, [(ALICE, "its process ended")])
        self.come(BOB, pid=8)
        self.processes.dead.add(8)
        self.parties.left(BOB, "it crashed", 10)
        self.assertEqual(self.gone[1:], [(BOB, "its process ended")])
        self.over()

    def test_who_says_goodbye_is_gone_present_or_away(self) -> None:
        self.parties.goodbye(ALICE, "it ended")
        self.come(BOB)
        self.parties.left(BOB, "the cable broke", 10)
        self.parties.goodbye(BOB, "it was ended")
        self.parties.goodbye(BOB, "again")
        self.parties.left(BOB, "late", 10)
        self.assertEqual(self.gone, [(ALICE, "it ended"), (BOB, "it was ended")])
        self.over()

    def test_another_secret_is_another_party(self) -> None:
        for move in (lambda: None, lambda: self.parties.goodbye(ALICE, "it ended")):
            move()
            error = self.assertRaises(SecurityError, self.parties.check, ALICE, "guessed")
            self.assertIn("its secret is another", str(error))
            self.assertNotIn("guessed", str(error))
        self.assertTrue(self.come())

    def test_those_of_an_earlier_controller_are_expected(self) -> None:
        self.parties.expect(Identity(BOB, proof_of("t"), 9, "here", 5.0), "started again", 60)
        self.assertTrue(self.parties.is_away(BOB))
        self.assertRaises(SecurityError, self.parties.check, BOB, "s")
        self.assertTrue(self.come(BOB, "t"))
        self.over()

    def test_not_all_are_remembered_for_ever(self) -> None:
        self.patch(parties, "MOST_REMEMBERED", 2)
        for number in range(4):
            self.come(f"{number:032x}")
            self.parties.goodbye(f"{number:032x}", "it ended")
        self.assertFalse(self.parties.check(f"{0:032x}", "any"))
        self.assertTrue(self.parties.check(f"{3:032x}", "s"))

    def test_nobody_is_waited_for_at_the_end(self) -> None:
        self.parties.left(ALICE, "the cable broke", 10)
        self.parties.stop()
        self.assertEqual(self.gone, [])
        self.over()
