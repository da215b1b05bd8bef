"""What is sent over real connections, with the transport's fast path and without it."""

from __future__ import annotations

import random
import socket
from typing import Any

from twisted.internet import error, reactor, task
from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from ipython1.kernel.tub import tlsstream, tubs
from ipython1.kernel.tub.fastbroker import send_batch
from ipython1.kernel.tub.tests.test_tubs import Inbox, TubCase
from ipython1.kernel.wire.frames import MAX_BATCH

EDGES = (0, 1, 17, 4096, 16383, 16384, 16385, 32768, 65536, 262144, 262145, 300_000, MAX_BATCH)
"""Sizes of messages, in bytes, around those of TLS records and of the buffers."""


class StreamTests(TubCase):
    fast = True

    def setUp(self) -> Any:
        self.patch(tlsstream, "ENABLED", self.fast)
        return super().setUp()

    async def join(self) -> None:
        self.server, self.inbox, furl = await self.serve()
        self.client = self.make_tub()
        self.reference = await tubs.connect(self.client, furl, 30.0)
        self.own = Inbox()
        await self.reference.callRemote("attach", self.own)
        (self.near,) = self.client.brokers.values()
        (self.far,) = self.server.brokers.values()
        for broker in (self.near, self.far):
            self.assertEqual(broker._stream is not None, self.fast)

    async def arrived(self, inbox: Inbox, number: int) -> list[bytes]:
        while len(inbox.got) < number:
            await inbox.next()
        return [bytes(batch) for batch in inbox.got]

    def small_buffers(self) -> None:
        """Let the operating system take little at a time."""
        for broker in (self.near, self.far):
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                broker.transport.socket.setsockopt(socket.SOL_SOCKET, option, 2**17)

    async def test_messages_of_all_sizes_arrive_in_order(self) -> None:
        await self.join()
        chance = random.Random(1)
        sent = [chance.randbytes(size) for size in EDGES]
        for batch in sent:
            send_batch(self.reference, batch)
        self.assertEqual(await self.arrived(self.inbox, len(sent)), sent)

    async def test_parts_of_all_sizes_and_kinds_are_one_message(self) -> None:
        await self.join()
        self.small_buffers()
        chance = random.Random(2)
        sent = []
        for _ in range(30):
            parts: list[Any] = []
            for size in chance.choices(EDGES[:-2], k=chance.randrange(1, 5)):
                data = chance.randbytes(size)
                wide = memoryview(data).cast("H") if size and size % 2 == 0 else memoryview(data)
                parts.append(chance.choice([data, bytearray(data), wide]))
            whole = b"".join(parts)
            if len(whole) <= MAX_BATCH:
                send_batch(self.reference, parts)
                sent.append(whole)
        self.assertEqual(await self.arrived(self.inbox, len(sent)), sent)

    async def test_a_large_message_may_have_only_small_parts(self) -> None:
        await self.join()
        parts = [random.Random(6).randbytes(1000)] * (MAX_BATCH // 1000)
        send_batch(self.reference, parts)
        self.assertEqual(await self.arrived(self.inbox, 1), [b"".join(parts)])

    async def test_both_sides_send_at_once_and_call_each_other_in_between(self) -> None:
        """A call is read and written by Foolscap and Twisted, and keeps its place."""
        await self.join()
        self.small_buffers()
        chance = random.Random(3)
        there, back, calls = [], [], []
        for number in range(30):
            size = chance.choice(EDGES)
            there.append(b"%d" % number + bytes(max(size - 4, 0)))
            back.append(there[-1][::-1])
            send_batch(self.reference, there[-1])
            send_batch(self.inbox.peer, back[-1])
            if number % 3 == 0:
                there.append(b"called")
                calls.append(self.reference.callRemote("deliver", b"called"))
        await DeferredList(calls, fireOnOneErrback=True)
        self.assertEqual(await self.arrived(self.inbox, len(there)), there)
        self.assertEqual(await self.arrived(self.own, len(back)), back)

    async def test_a_message_may_come_in_any_records(self) -> None:
        await self.join()
        written: list[bytes] = []
        batches = [random.Random(4).randbytes(size) for size in (3, 5_000, 70_000)]
        transport, self.near.transport = self.near.transport, _Collector(written)
        stream, self.near._stream = self.near._stream, None
        for batch in batches:
            send_batch(self.reference, batch)
        self.near.transport, self.near._stream = transport, stream
        data = b"".join(written)
        position, step = 0, 1
        while position < len(data):
            transport.write(data[position : position + step])
            position, step = position + step, step % 997 + 1
        self.assertEqual(await self.arrived(self.inbox, 3), batches)

    async def test_reads_may_be_of_any_size(self) -> None:
        """Much is decrypted where it is, little is copied before."""
        await self.join()
        chance, whole = random.Random(7), tlsstream._received
        sent = [chance.randbytes(chance.choice((10, 5_000, 70_000))) for _ in range(60)]
        for batch in sent:
            size = chance.choice((1, 100, 16383, 16384, 16385, 40_000))
            self.patch(tlsstream, "_received", whole[:size])
            send_batch(self.reference, batch)
            await self.arrived(self.inbox, len(self.inbox.got) + 1)
        self.assertEqual(await self.arrived(self.inbox, len(sent)), sent)

    async def test_others_get_their_turn_when_one_sends_much(self) -> None:
        await self.join()
        self.patch(tlsstream, "_received", tlsstream._received[:4096])
        transport = self.far.transport
        transport.stopReading()
        batch = random.Random(8).randbytes(MAX_BATCH)
        send_batch(self.reference, batch)
        while self.far._incoming is None:
            await task.deferLater(reactor, 0, transport.doRead)
        before = self.far._incoming.filled
        transport.doRead()
        most = 4096 * tlsstream.MOST_READS if self.fast else transport.bufferSize
        self.assertLessEqual(self.far._incoming.filled - before, most + tlsstream.RECORD)
        transport.startReading()
        self.assertEqual(await self.arrived(self.inbox, 1), [batch])

    async def test_what_was_sent_before_closing_arrives(self) -> None:
        await self.join()
        self.small_buffers()
        batches = [random.Random(5).randbytes(200_000) for _ in range(5)]
        for batch in batches:
            send_batch(self.reference, batch)
        gone = self.lost(self.far)
        self.near.shutdown(Failure(error.ConnectionDone()))
        self.assertFalse(send_batch(self.reference, b"late"))
        self.assertEqual(await self.arrived(self.inbox, 5), batches)
        await gone
        self.assertEqual(self.far.lost_reason, "the other side closed the connection")

    async def test_an_abort_in_the_middle_of_a_message_loses_just_this_message(self) -> None:
        await self.join()
        self.small_buffers()
        send_batch(self.reference, b"whole")
        send_batch(self.reference, bytes(MAX_BATCH))
        await self.arrived(self.inbox, 1)
        gone = self.lost(self.far)
        self.near.abort("enough")
        await gone
        self.assertEqual(self.inbox.got, [b"whole"])
        self.assertIn("failed", self.far.lost_reason)

    async def test_damaged_data_end_the_connection(self) -> None:
        await self.join()
        gone = self.lost(self.far)
        self.near.transport.socket.send(b"\x17\x03\x03\x00\x40" + bytes(0x40))
        await gone
        self.assertEqual(self.inbox.got, [])

    async def test_a_handler_may_send_and_close(self) -> None:
        await self.join()
        gone = self.lost(self.near)

        def deliver(batch: bytes) -> None:
            send_batch(self.inbox.peer, b"an answer to %d" % len(batch))
            self.far.shutdown(Failure(error.ConnectionDone()))

        self.inbox.remote_deliver = deliver  # type: ignore[method-assign]
        send_batch(self.reference, bytes(100_000))
        send_batch(self.reference, b"for nobody")
        self.assertEqual(await self.arrived(self.own, 1), [b"an answer to 100000"])
        await gone

    def lost(self, broker: Any) -> Deferred[None]:
        """Fires when ``broker`` has lost its connection."""
        gone: Deferred[None] = Deferred()
        broker.notifyOnDisconnect(gone.callback, None)
        return gone


class TwistedStreamTests(StreamTests):
    fast = False


class _Collector:
    """Takes what a broker writes."""

    def __init__(self, written: list[bytes]) -> None:
        self.write = written.append
