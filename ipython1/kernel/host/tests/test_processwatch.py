"""Processes whose end is waited for."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.host.processstate import name_process
from ipython1.kernel.host.processwatch import LOOK_EVERY, ProcessWatch


class Reactor(Clock):
    """Notes what would be read from."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Any] = []
        self.addReader = self.readers.append
        self.removeReader = self.readers.remove


class ProcessWatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.child = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        self.addCleanup(self.end)
        name = name_process(self.child.pid)
        assert name is not None
        self.name = name.pid, name.started
        self.reactor = Reactor()
        self.watch = ProcessWatch(self.reactor)
        self.dead: list[str] = []

    def end(self) -> None:
        self.child.kill()
        self.child.communicate()

    def wait_for(self, who: str) -> Any:
        return self.watch.watch(*self.name, lambda: self.dead.append(who))

    def without_pidfds(self) -> None:
        def unknown(pid: int) -> int:
            raise OSError("this system has none")

        self.patch(os, "pidfd_open", unknown)

    def test_all_who_wait_for_a_process_share_a_descriptor(self) -> None:
        stops = [self.wait_for(who) for who in "abc"]
        [reader] = self.reactor.readers
        stops[1]()
        self.end()
        reader.doRead()
        self.assertEqual(self.dead, ["a", "c"])
        self.assertEqual(self.reactor.readers, [])
        for stop in stops:
            stop()
        self.assertEqual(self.dead, ["a", "c"])

    def test_the_last_who_stops_waiting_closes_it(self) -> None:
        stops = [self.wait_for(who) for who in "ab"]
        descriptor = self.reactor.readers[0].fileno()
        stops[0]()
        os.fstat(descriptor)
        stops[1]()
        self.assertRaises(OSError, os.fstat, descriptor)
        self.assertEqual(self.reactor.readers, [])
        stops[1]()
        self.wait_for("c")
        self.assertEqual(len(self.reactor.readers), 1)

    def test_who_hears_of_it_may_stop_the_waiting_of_others(self) -> None:
        def first() -> None:
            self.dead.append("a")
            second()

        self.watch.watch(*self.name, first)
        second = self.wait_for("b")
        [reader] = self.reactor.readers
        self.end()
        reader.doRead()
        self.assertEqual(self.dead, ["a"])

    def test_one_that_is_dead_already(self) -> None:
        self.end()
        self.wait_for("a")()
        self.wait_for("b")
        self.assertEqual(self.dead, ["a", "b"])
        self.assertEqual(self.reactor.readers, [])

    def test_without_pidfds_all_share_a_timer(self) -> None:
        self.without_pidfds()
        stops = [self.wait_for(who) for who in "abc"]
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)
        stops[0]()
        self.reactor.advance(LOOK_EVERY)
        self.assertEqual(self.dead, [])
        self.end()
        self.reactor.advance(LOOK_EVERY)
        self.assertEqual(self.dead, ["b", "c"])
        self.assertEqual(self.reactor.getDelayedCalls(), [])
