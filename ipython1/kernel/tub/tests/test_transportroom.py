"""Room on real connections, over loopback and TLS, and with small socket buffers so that it is soon used up."""

from __future__ import annotations

import gc
import socket
import tracemalloc
from typing import Any

from twisted.internet import reactor, task
from twisted.internet.defer import Deferred

from ipython1.kernel.tests.wiresupport import Recorder
from ipython1.kernel.tub import tubs
from ipython1.kernel.tub.fastbroker import send_batch
from ipython1.kernel.tub.foolscaplink import FoolscapLink, room_of
from ipython1.kernel.tub.tests.test_tubs import Inbox, TubCase
from ipython1.kernel.tub.transportroom import DEAF_WATER
from ipython1.kernel.wire import frames
from ipython1.kernel.wire.link import FrameLink, TurnFlusher
from ipython1.kernel.wire.room import HIGH_WATER

BATCH = bytes(frames.PIECE_SIZE)


class RoomTests(TubCase):
    async def join(self) -> None:
        """Connect a client to a server, both with small socket buffers."""
        self.server, self.inbox, furl = await self.serve()
        self.client = self.make_tub()
        self.reference = await self.connect(self.client, furl)
        await self.reference.callRemote("attach", Inbox())
        (self.near,) = self.client.brokers.values()
        (self.far,) = self.server.brokers.values()
        self.near.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**16)
        self.far.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)

    async def connect(self, tub: Any, furl: str) -> Any:
        return await tubs.connect(tub, furl, 30.0)

    def fill(self) -> int:
        """Send until there is no room; returns how many batches that took."""
        self.far.transport.pauseProducing()
        sent = 0
        while room_of(self.reference).has_room:
            self.assertTrue(send_batch(self.reference, BATCH))
            sent += 1
            self.assertLess(sent, 100)
        return sent

    async def test_who_does_not_read_uses_up_the_room_and_gives_it_back_when_reading(self) -> None:
        await self.join()
        sent = self.fill()
        self.assertLess(self.near.room.unsent, HIGH_WATER + 2 * len(BATCH))
        again: Deferred[None] = Deferred()
        room_of(self.reference).when_room(lambda: again.callback(None))
        self.assertFalse(again.called)
        self.far.transport.resumeProducing()
        await again
        self.assertEqual(self.near.room.unsent, 0)
        self.assertTrue(room_of(self.reference).has_room)
        last = self.inbox.next()
        while len(self.inbox.got) < sent:
            await last
            last = self.inbox.next()

    async def test_small_messages_use_up_the_room_too(self) -> None:
        await self.join()
        self.far.transport.pauseProducing()
        for _ in range(2 * (HIGH_WATER + 2**22) // 4096):
            send_batch(self.reference, bytes(4096))
            if not room_of(self.reference).has_room:
                break
        self.assertFalse(room_of(self.reference).has_room)
        self.assertLess(self.near.room.unsent, HIGH_WATER + 2**16)

    async def test_a_link_knows_of_its_connection(self) -> None:
        await self.join()
        flusher = TurnFlusher(lambda flush: reactor.callLater(0, flush))  # type: ignore[attr-defined]
        link = FrameLink(flusher, Recorder())
        self.assertFalse(link.has_room)
        FoolscapLink(link).connect(self.reference)
        self.assertTrue(link.has_room)
        self.fill()
        self.assertFalse(link.has_room)
        again: Deferred[None] = Deferred()
        link.when_room(lambda: again.callback(None))
        self.far.transport.resumeProducing()
        await again
        self.assertTrue(link.has_room)

    async def test_a_connection_without_room_closes_when_all_is_sent(self) -> None:
        await self.join()
        sent = self.fill()
        closed = self.client.all_closed()
        self.near.shutdown(_done())
        self.far.transport.resumeProducing()
        await closed
        self.assertEqual(len(self.inbox.got), sent)

    async def test_who_asks_and_does_not_read_the_answers_is_not_listened_to(self) -> None:
        """Until it reads, and then nothing of what it said is missing."""
        await self.join()
        self.far.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**16)
        self.near.transport.pauseProducing()
        answers = self.inbox.peer
        while self.far.room.unsent <= DEAF_WATER:
            send_batch(answers, BATCH)
        asked = self.inbox.next()
        send_batch(self.reference, b"a question")
        await task.deferLater(reactor, 0.1, lambda: None)
        self.assertFalse(asked.called)
        self.assertTrue(self.far.transport.connected)
        self.near.transport.resumeProducing()
        self.assertEqual(await asked, b"a question")
        self.assertTrue(self.far.room.has_room)

    async def test_what_was_not_sent_is_freed_with_the_connection(self) -> None:
        """At once, without the garbage collector."""
        await self.join()
        self.far.transport.pauseProducing()
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for _ in range(40):
            send_batch(self.reference, BATCH)
        self.assertGreater(tracemalloc.get_traced_memory()[0], 5 * 2**20)
        self.near.abort("enough")
        await self.client.all_closed()
        self.assertLess(tracemalloc.get_traced_memory()[0], 2**20)

    async def test_nobody_is_called_when_the_connection_is_lost(self) -> None:
        await self.join()
        self.fill()
        called: list[None] = []
        room_of(self.reference).when_room(lambda: called.append(None))
        self.near.abort("enough")
        await self.client.all_closed()
        self.assertEqual(called, [])


def _done() -> Any:
    from twisted.internet.error import ConnectionDone
    from twisted.python.failure import Failure

    return Failure(ConnectionDone())
