"""How often a queue is asked."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial import unittest

from ipython1.kernel.launchers.polling import Polling


class PollingTests(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.looks: list[float] = []
        self.failures: list[str] = []
        self.there = True
        self.answer: Deferred[None] | None = None
        self.polling = Polling(
            self.clock, 2.0, look=self.look, failed=self.failed, follows=lambda: self.there
        )

    async def look(self) -> None:
        self.looks.append(self.clock.seconds())
        if self.answer is not None:
            await self.answer

    def failed(self, failure: Failure) -> None:
        self.failures.append(failure.getErrorMessage())

    def pass_time(self, seconds: float) -> None:
        self.clock.pump([0.125] * round(seconds * 8))

    def pauses(self) -> list[float]:
        return [later - before for before, later in zip(self.looks, self.looks[1:], strict=False)]

    def test_pauses_grow_until_something_changes(self) -> None:
        self.polling.changed()
        self.pass_time(30)
        pauses = self.pauses()
        self.assertEqual(self.looks[0], 0.5)
        self.assertEqual(pauses, sorted(pauses))
        self.assertEqual(pauses[-1], 2.0)
        self.polling.changed()
        self.assertEqual(self.polling.age, 0)
        before = len(self.looks)
        self.pass_time(2)
        self.assertGreater(len(self.looks) - before, 1)
        self.assertEqual(self.polling.age, 2.0)

    def test_one_look_ends_before_the_next_begins(self) -> None:
        self.answer = Deferred()
        self.polling.changed()
        self.pass_time(5)
        self.polling.changed()
        self.pass_time(5)
        self.assertEqual(len(self.looks), 1)
        answer, self.answer = self.answer, None
        answer.errback(OSError("no answer"))
        self.assertEqual(self.failures, ["no answer"])
        self.pass_time(1)
        self.assertEqual(len(self.looks), 2)

    def test_nobody_looks_at_nothing(self) -> None:
        self.polling.changed()
        self.there = False
        self.pass_time(5)
        self.assertEqual(len(self.looks), 1)
        self.there = True
        self.polling.changed()
        self.pass_time(5)
        self.assertGreater(len(self.looks), 1)

    def test_the_end(self) -> None:
        self.polling.changed()
        self.polling.end()
        self.polling.changed()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_end_during_a_look(self) -> None:
        answer = self.answer = Deferred()
        self.polling.changed()
        self.pass_time(1)
        self.polling.end()
        answer.callback(None)
        self.assertEqual(self.clock.getDelayedCalls(), [])
