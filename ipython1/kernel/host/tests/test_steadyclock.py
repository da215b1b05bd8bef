"""Timers that do not follow the wall clock."""

from __future__ import annotations

import time

from twisted.internet import base
from twisted.internet.selectreactor import SelectReactor
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.host.steadyclock import keep_steady


class SteadyClockTests(SynchronousTestCase):
    """These tests use separate reactors that never run."""

    def setUp(self) -> None:
        self.reactor = SelectReactor()
        for each in self.reactor.removeAll():
            self.addCleanup(each.connectionLost, None)
        self.fired: list[str] = []

    def test_an_hour_back_or_forward(self) -> None:
        keep_steady(self.reactor)
        self.reactor.callLater(0, self.fired.append, "now")
        self.reactor.callLater(100, self.fired.append, "later")
        for jump in (-3600, 3600):
            self.patch(base, "runtimeSeconds", lambda jump=jump: time.time() + jump)
            self.reactor.runUntilCurrent()
            self.assertEqual(self.fired, ["now"])
            wait = self.reactor.timeout()
            assert wait is not None
            self.assertTrue(90 < wait <= 100, wait)

    def test_what_was_scheduled_before_keeps_its_clock(self) -> None:
        self.reactor.callLater(0, self.fired.append, "now")
        keep_steady(self.reactor)
        self.reactor.runUntilCurrent()
        self.assertEqual(self.fired, ["now"])
