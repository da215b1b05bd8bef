"""Waiting until something is true of a cluster."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial import unittest

from ipython1.kernel.basics.error import ClusterError, ResultNotCompleted
from ipython1.kernel.clusters.waiting import Waiting


class WaitingTests(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.waiting = Waiting(self.clock, lambda: "2 engines were usable")
        self.facts: set[str] = set()

    def wait(self, fact: str, timeout: float | None = None) -> Deferred[None]:
        return Deferred.fromCoroutine(self.waiting.until(lambda: fact in self.facts, timeout))

    def test_what_holds_already_is_not_waited_for(self) -> None:
        self.facts.add("up")
        self.successResultOf(self.wait("up", 1.0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_everybody_looks_when_something_changes(self) -> None:
        up, gone = self.wait("up"), self.wait("gone")
        self.facts.add("up")
        self.waiting.changed()
        self.successResultOf(up)
        self.assertNoResult(gone)

    def test_a_wait_that_is_too_long(self) -> None:
        waiting = self.wait("up", 1.5)
        self.clock.advance(1.5)
        problem = self.failureResultOf(waiting, ResultNotCompleted).value
        self.assertEqual(str(problem), "2 engines were usable after 1.5 s")

    def test_what_one_waiter_raises_is_its_own(self) -> None:
        engines = {1: "up"}
        first = Deferred.fromCoroutine(self.waiting.until(lambda: engines[1] == "gone", None))
        second = self.wait("gone")
        del engines[1]
        self.facts.add("gone")
        self.waiting.changed()
        self.failureResultOf(first, KeyError)
        self.successResultOf(second)

    def test_the_end_is_told_with_why_also_to_those_who_come_later(self) -> None:
        early = self.wait("up")
        self.waiting.end("the controller is gone")
        self.waiting.end("the cluster was stopped")
        for waiting in (early, self.wait("up")):
            problem = self.failureResultOf(waiting, ClusterError).value
            self.assertEqual(str(problem), "the controller is gone")
