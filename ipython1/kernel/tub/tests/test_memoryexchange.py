"""Memory goes from process to process only to whom it is offered, and nothing is left open."""

from __future__ import annotations

import os
import socket
from unittest import SkipTest

from twisted.internet import defer, reactor, task
from twisted.trial.unittest import TestCase

from ipython1.kernel.host import memory, sharedmemory
from ipython1.kernel.host.sharedmemory import SharedMemory, map_readable
from ipython1.kernel.tub.memoryexchange import MOST_OF_ONE, MemoryHub, PartyExchange
from ipython1.kernel.wire.link import FrameLink, TurnFlusher
from ipython1.testing.processes import shared_here

SIZE = 65536


def descriptors() -> list[str]:
    """What this process has open, of the kinds that are used here."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            what = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # it was that of the directory
        if what.startswith(("socket:", "/memfd:")):
            found.append(what)
    return sorted(found)


class Receiver:
    def frame_received(self, *frame):
        pass

    def link_lost(self, reason):
        pass


class ExchangeTest(TestCase):
    timeout = 20

    def setUp(self):
        if not sharedmemory.is_available():
            raise SkipTest("this system shares no memory")
        self.open = descriptors()
        self.hub = MemoryHub(reactor)
        self.flusher = TurnFlusher(lambda flush: None, task.Clock())
        self.links = []

    async def tearDown(self):
        await task.deferLater(reactor, 0)  # the answer of a socket may have ended the test
        for link in self.links:
            link.connection_lost("the test is over")
        self.hub.close()
        self.assertEqual(descriptors(), self.open)

    def party(self):
        """The controller's end of a link, and a party's exchange."""
        link = FrameLink(self.flusher, Receiver())
        told = self.hub.admit(link)
        self.links.append(link)
        exchange = PartyExchange(told, reactor)
        self.addCleanup(exchange.close)
        return link, exchange

    async def make(self, exchange):
        made = defer.Deferred()
        exchange.make(SIZE, made.callback)
        return await made

    async def fetch(self, exchange, number):
        fetched = defer.Deferred()
        exchange.fetch(number, fetched.callback)
        return await fetched

    async def test_what_one_writes_another_reads(self):
        giver_link, giver = self.party()
        taker_link, taker = self.party()
        own = await self.make(giver)
        taker_link.bulk.memory.can_read(own.number)
        view = await self.fetch(taker, own.number)
        own.view[:5] = b"hello"
        self.assertEqual(bytes(view[:5]), b"hello")
        self.assertTrue(view.readonly)
        self.assertEqual(bytes(giver_link.bulk.memory._views[own.number][:5]), b"hello")

    async def test_what_was_not_offered_cannot_be_had(self):
        _, giver = self.party()
        _, taker = self.party()
        own = await self.make(giver)
        self.assertIsNone(await self.fetch(taker, own.number))
        self.assertIsNone(await self.fetch(taker, 12345))

    async def test_who_has_no_token_gets_nothing(self):
        link, giver = self.party()
        own = await self.make(giver)
        link.bulk.memory.can_read(own.number)
        stranger = PartyExchange({"name": self.hub._name.decode(), "token": "00" * 16}, reactor)
        self.assertIsNone(await self.fetch(stranger, own.number))
        self.assertIsNone(await self.make(stranger))

    async def test_who_is_gone_gets_nothing(self):
        link, exchange = self.party()
        link.connection_lost("gone")
        self.assertIsNone(await self.make(exchange))

    async def test_another_host_is_no_error(self):
        exchange = PartyExchange({"name": "nobody listens here", "token": "00" * 16}, reactor)
        self.assertIsNone(await self.make(exchange))
        self.assertIsNone(await self.fetch(exchange, 1))

    async def test_too_little_memory_is_no_error(self):
        _, exchange = self.party()
        self.patch(sharedmemory, "available_memory", lambda: SIZE)
        self.assertIsNone(await self.make(exchange))

    async def test_nobody_gives_without_end(self):
        _, exchange = self.party()
        given = [await self.make(exchange) for _ in range(MOST_OF_ONE + 2)]
        self.assertEqual([own is not None for own in given], [True] * MOST_OF_ONE + [False] * 2)

    async def test_what_could_fail_while_it_is_read_is_refused(self):
        """Memory that its owner can make shorter, or that is no memory."""
        link, exchange = self.party()
        unsealed = os.memfd_create("ipython1", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(unsealed, SIZE)
        file = os.open(__file__, os.O_RDONLY)
        for fd in (unsealed, file):
            answered = defer.Deferred()
            exchange._ask(
                b"G", 0, fd, lambda number, _, answered=answered: answered.callback(number)
            )
            self.assertEqual(await answered, 0)
            os.close(fd)
        self.assertEqual(link.bulk.memory._views, {})

    async def test_garbage_and_silence_cost_nothing(self):
        for message in (b"", b"x", b"x" * 100):
            connection = sharedmemory.connect(self.hub._name)
            if message:
                connection.send(message)
            connection.setblocking(False)
            self.addCleanup(connection.close)
        _, exchange = self.party()
        self.assertIsNotNone(await self.make(exchange))
        with self.assertRaises(BlockingIOError):
            while True:  # until no more can wait
                sharedmemory.connect(self.hub._name).close()
        self.assertIsNotNone(await self.make(exchange))

    def test_only_its_maker_can_write(self):
        made = SharedMemory(SIZE)
        self.addCleanup(made.close)
        with self.assertRaises(OSError):
            os.write(made.fd, b"x")
        with self.assertRaises(OSError):
            os.ftruncate(made.fd, 0)
        with self.assertRaises(TypeError):
            map_readable(made.fd)[0] = 1
        self.assertFalse(os.get_inheritable(made.fd))

    def test_a_forked_child_does_not_keep_it(self):
        made = SharedMemory(SIZE)
        self.addCleanup(made.close)
        child = os.fork()
        if not child:
            try:
                left = [
                    os.readlink(f"/proc/self/fd/{made.fd}"),
                    shared_here(os.getpid()),
                ]
                os._exit(left != [os.devnull, 0])
            finally:
                os._exit(2)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        self.assertEqual(shared_here(os.getpid()), SIZE)

    def test_received_descriptors_are_not_inherited(self):
        one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        made = SharedMemory(SIZE)
        sharedmemory.send(one, b"m", made.fd)
        message, fd = sharedmemory.receive(two, 10)
        self.assertEqual(message, b"m")
        self.assertFalse(os.get_inheritable(fd))
        for each in (one, two, made):
            each.close()
        os.close(fd)

    def test_available_memory_heeds_the_limit_of_a_container(self):
        free = memory.available_memory()
        self.assertGreater(free, 0)
        limit, used = self.mktemp(), self.mktemp()
        for path, text in ((limit, "1000000"), (used, "400000")):
            with open(path, "w") as file:
                file.write(text)
        self.patch(memory, "_CONTAINER_FILES", ((limit, used),))
        self.assertEqual(memory.available_memory(), 600_000)
