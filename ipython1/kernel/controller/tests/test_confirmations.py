"""When engines are told that outcomes are safe."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.controller.confirmations import CONFIRM_AFTER, Confirmations

HALF = CONFIRM_AFTER / 2


class Sender:
    """Notes when it is told to confirm."""

    def __init__(self, confirmations: Confirmations, clock: Clock) -> None:
        self._confirmations = confirmations
        self._clock = clock
        self.sent: list[float] = []

    def send_confirms(self) -> None:
        self.sent.append(self._clock.seconds())
        self._confirmations.done(self)


class ConfirmationsTest(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.confirmations = Confirmations(self.clock)
        self.senders = [Sender(self.confirmations, self.clock) for _ in range(3)]

    def test_all_that_ask_share_one_timer(self):
        for each in self.senders:
            self.confirmations.ask(each)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.pump([HALF, HALF])
        for each in self.senders:
            self.assertEqual(each.sent, [CONFIRM_AFTER])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_each_waits_for_half_of_the_time_at_least(self):
        first, second, _ = self.senders
        self.confirmations.ask(first)
        self.clock.advance(HALF * 0.9)
        self.confirmations.ask(second)
        self.clock.pump([HALF * 0.1, HALF])
        self.assertEqual(first.sent, [CONFIRM_AFTER])
        self.assertEqual(second.sent, [CONFIRM_AFTER])

    def test_asking_again_makes_nobody_wait_longer(self):
        sender = self.senders[0]
        self.confirmations.ask(sender)
        self.clock.advance(HALF)
        self.confirmations.ask(sender)
        self.clock.advance(HALF)
        self.assertEqual(sender.sent, [CONFIRM_AFTER])
        self.clock.pump([HALF, HALF])
        self.assertEqual(sender.sent, [CONFIRM_AFTER])

    def test_who_has_sent_meanwhile_is_left_alone(self):
        first, second, _ = self.senders
        for each in self.senders:
            self.confirmations.ask(each)
        self.confirmations.done(first)
        self.clock.advance(HALF)
        self.confirmations.done(second)
        self.confirmations.ask(second)
        self.clock.advance(HALF)
        self.assertEqual([each.sent for each in self.senders], [[], [], [CONFIRM_AFTER]])
        self.clock.advance(HALF)
        self.assertEqual(second.sent, [3 * HALF])

    def test_who_leaves_last_takes_the_timer_along(self):
        first, second, _ = self.senders
        self.confirmations.ask(first)
        self.confirmations.ask(second)
        self.confirmations.leave(first)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.confirmations.leave(second)
        self.assertEqual(self.clock.getDelayedCalls(), [])
