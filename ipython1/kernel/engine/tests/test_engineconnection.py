"""An engine's link is made again, at a bounded rate whatever becomes of it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

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
