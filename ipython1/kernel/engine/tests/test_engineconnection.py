"""An engine's link is made again, at a bounded rate whatever becomes of it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import (
    ConnectionError,
    KernelError,
    NoController,
    SecurityError,
)
from ipython1.kernel.engine.connection import EngineConnection
from ipython1.kernel.wire import messages


class End:
    """That of an engine whose link is closed in the moment in which it is made."""

    stopping = False

    @property
    def lost(self) -> Deferred[str]:
        return succeed("the controller closes the link")


class EngineConnectionTests(SynchronousTestCase):
    def test_a_link_that_is_closed_each_time_it_is_made_is_not_made_without_pause(self) -> None:
        clock = Clock()
        end: Any = End()
        attempts: list[float] = []

        async def open_link() -> messages.Welcome:
            assert len(attempts) < 100, "it is made without pause"
            attempts.append(clock.seconds())
            return messages.Welcome(engine_id=0)

        connection = EngineConnection(open_link, end, clock, give_up_after=60.0)
        running = Deferred.fromCoroutine(connection.run(lambda welcome: None))
        for _ in range(200):
            clock.advance(0.05)
        self.assertGreater(len(attempts), 5)
        self.assertLess(len(attempts), 25)
        self.assertNoResult(running)
        end.stopping = True
        clock.advance(20)
        self.successResultOf(running)


class FirstConnectionTests(SynchronousTestCase):
    """An engine that was started before its controller."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.end: Any = End()
        self.problem: KernelError | None = NoController("nothing listens there")
        self.told: list[KernelError] = []
        self.registered: list[messages.Welcome] = []
        connection = EngineConnection(
            self.open_link, self.end, self.clock, 60.0, first_wait=5.0, waiting=self.told.append
        )
        self.start = lambda: Deferred.fromCoroutine(connection.run(self.registered.append))

    async def open_link(self) -> messages.Welcome:
        if self.problem is not None:
            raise self.problem
        self.end.stopping = True
        return messages.Welcome(engine_id=0)

    def test_it_waits_and_says_so_once(self) -> None:
        running = self.start()
        for _ in range(30):
            self.clock.advance(0.1)
        self.assertNoResult(running)
        self.assertEqual(self.told, [self.problem])
        self.problem = None
        self.clock.advance(2)
        self.successResultOf(running)

    def test_it_gives_up_with_the_last_reason(self) -> None:
        running = self.start()
        self.clock.advance(1)
        self.problem = ConnectionError("no route to host")
        for _ in range(10):
            self.clock.advance(2)
        self.failureResultOf(running).trap(ConnectionError)

    def test_a_refusal_is_final(self) -> None:
        self.problem = SecurityError("this FURL is for clients")
        self.failureResultOf(self.start()).trap(SecurityError)
        self.assertEqual(self.told, [])
