"""A client's link is made again, at a bounded rate whatever becomes of it."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.calls.clientlink import ClientEnd
from ipython1.kernel.calls.linkkeeper import LinkKeeper
from ipython1.kernel.tests.wiresupport import Recorder
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.link import FrameLink
from ipython1.testing.memory import Pump, connect_in_memory

FURL = f"pb://{'a' * 32}@tcp:127.0.0.1:1/nobody"


class Keeper(LinkKeeper):
    """Connects in memory, to a controller that closes the link in the same moment."""

    links: list[FrameLink]

    async def _connect(self, timeout: float) -> None:
        assert len(self.links) < 100, "it is made without pause"
        link, _ = connect_in_memory(self._reactor, self._end, Recorder())
        self.links.append(link)
        self._end.attach(link, messages.Welcome())
        if len(self.links) > 1:
            link.abort("it closes the link")


class LinkKeeperTests(SynchronousTestCase):
    def test_a_link_that_is_closed_each_time_it_is_made_is_not_made_without_pause(self) -> None:
        pump = Pump()
        end = ClientEnd(b"c" * 16)
        hello = messages.Hello("0" * 32, 1, "here", messages.MULTIENGINE)
        keeper = Keeper(pump, end, FURL, hello, 60.0)
        keeper.links = []
        self.successResultOf(Deferred.fromCoroutine(keeper.open(1.0)))
        pump.advance(10)
        keeper.links[0].abort("it closes the link")
        for _ in range(200):
            pump.advance(0.05)
        self.assertGreater(len(keeper.links), 5)
        self.assertLess(len(keeper.links), 25)
        self.successResultOf(Deferred.fromCoroutine(keeper.close()))
        self.assertEqual(pump.getDelayedCalls(), [])
