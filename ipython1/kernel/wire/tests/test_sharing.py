"""Runs of pieces in shared memory: nobody reads what was written later, a stopped reader stops nobody else."""

from __future__ import annotations

from twisted.internet.task import Clock

from ipython1.kernel.basics.error import ProtocolError
from ipython1.kernel.wire import frames, sharing
from ipython1.kernel.wire.bulk import OnSent
from ipython1.kernel.wire.sharing import Run, pack_free
from ipython1.kernel.wire.spool import Spool
from ipython1.kernel.wire.tests.sharedsupport import Hub
from ipython1.kernel.wire.tests.test_bulk import FEW_SLOTS, SMALL_PIECE, SMALL_RUN, BulkTest, Wire
from ipython1.kernel.wire.tests.test_bulkflow import some_bytes

SLOT = SMALL_RUN * SMALL_PIECE
WHOLE = FEW_SLOTS * SMALL_RUN
"""Pieces that fill a memory."""


class Host:
    """A source and two sinks on one host, with the controller between them."""

    def __init__(self, *, source_refuses: bool = False, sinks_refuse: bool = False) -> None:
        self.clock = Clock()
        self.hub = Hub()
        spool = Spool()
        self.source = Wire(True, spool, self.clock)
        self.sinks = [Wire(False, spool, self.clock) for _ in range(2)]
        self.hub.join(self.source.first, self.source.second, source_refuses)
        for wire in self.sinks:
            self.hub.join(wire.second, wire.first, sinks_refuse)
        self.kinds: list[int] = []
        self.stopped: set[Wire] = set()

    @property
    def memory(self) -> sharing.LinkMemory:
        memory = self.source.first.memory
        assert memory is not None
        return memory

    def send(self, data: bytes, *sinks: int, on_end: OnSent | None = None) -> list[list[object]]:
        """Send ``data`` to some sinks; returns what each of them will have heard."""
        port = self.source.first
        number = port.open([data], on_end)
        port.begin(number)
        while number not in self.source.second.relays_in:
            self.source.step(True)
        relay = self.source.second.relay(number)
        return [self.take(relay.add_sink(self.sinks[sink].first), sink) for sink in sinks]

    def take(self, number: int, sink: int) -> list[object]:
        heard: list[object] = []
        wire = self.sinks[sink]
        if wire in self.stopped:
            return heard
        while number not in wire.second._incoming:
            assert wire.step(True)
        wire.second.take(number, lambda parts, why: heard.append(why or b"".join(parts)))
        return heard

    def settle(self) -> None:
        wires = (self.source, *self.sinks)
        while True:
            moved = [
                wire.step(way)
                for wire in wires
                for way in (True, False)
                if not (way and wire in self.stopped)
            ]
            self.kinds += [frame[0] for wire in wires for frame in wire.to_second]
            if not any(moved) and not self.hub.step():
                return

    def warm_up(self) -> None:
        """Have all memory mapped."""
        for _ in range(3):
            self.send(some_bytes(WHOLE), 0, 1)
            self.settle()
        assert self.memory.is_open
        self.kinds.clear()


class SharingTest(BulkTest):
    def test_all_goes_by_memory_once_it_is_mapped(self):
        host = Host()
        host.warm_up()
        heard = host.send(some_bytes(50), 0, 1)
        host.settle()
        self.assertEqual(heard, [[some_bytes(50)]] * 2)
        self.assertIn(frames.BULK_RUN, host.kinds)
        self.assertNotIn(frames.BULK_PIECE, host.kinds)
        self.assertEqual(len(host.hub.memories), 1)

    def test_who_cannot_share_gets_pieces(self):
        for how in ({"source_refuses": True}, {"sinks_refuse": True}):
            host = Host(**how)
            for _ in range(3):
                heard = host.send(some_bytes(50), 0, 1)
                host.settle()
                self.assertEqual(heard, [[some_bytes(50)]] * 2)
            for wire in host.sinks:
                self.assertEqual(wire.first.memory._views, {})

    def test_one_that_was_given_up_and_comes_to_life_reads_nothing_else(self):
        """An engine that was stopped for too long, for example, and does not know that its link is gone."""
        host = Host()
        host.warm_up()
        (heard,) = host.send(some_bytes(WHOLE), 0)
        host.stopped.add(host.sinks[0])
        host.settle()
        host.sinks[0].cut_here()
        for pieces in range(1, 4 * WHOLE):
            host.send(some_bytes(pieces), 1)
            host.settle()
        while host.sinks[0].step(True):
            pass
        self.assertEqual(heard, [some_bytes(WHOLE)])

    def test_memory_that_a_lost_reader_may_still_read_is_exchanged(self):
        host = Host()
        host.warm_up()
        host.send(some_bytes(WHOLE), 0)
        host.stopped.add(host.sinks[0])
        host.settle()
        before = set(host.hub.memories)
        host.sinks[0].cut_here()
        host.settle()
        self.assertEqual(host.hub.memories, {})
        for _ in range(3):
            host.send(some_bytes(WHOLE), 1)
            host.settle()
        self.assertEqual(len(host.hub.memories), 1)
        self.assertTrue(before.isdisjoint(host.hub.memories))
        self.assertTrue(host.memory.is_open)

    def test_a_reader_that_stops_keeps_nobody_else_waiting(self):
        host = Host()
        host.warm_up()
        data = some_bytes(4 * WHOLE)
        ended = []
        port = host.source.first
        number = port.open([data], ended.append)
        port.begin(number)
        while number not in host.source.second.relays_in:
            host.source.step(True)
        relay = host.source.second.relay(number)
        numbers = [relay.add_sink(wire.first) for wire in host.sinks]
        first = host.take(numbers[0], 0)
        second = host.take(numbers[1], 1)
        host.stopped.add(host.sinks[0])
        host.settle()
        self.assertEqual(second, [])
        host.clock.advance(sharing.PATIENCE)
        host.settle()
        self.assertEqual((second, ended), ([data], [None]))
        self.assertFalse(host.memory.is_open)
        host.stopped.clear()
        host.settle()
        self.assertEqual(first, [data])
        self.assertTrue(host.memory.is_open)

    def test_memory_that_is_not_used_is_given_back(self):
        host = Host()
        host.warm_up()
        host.clock.advance(sharing.IDLE)
        host.settle()
        self.assertEqual(host.hub.memories, {})
        for wire in host.sinks:
            self.assertEqual(wire.second.memory._views, {})
        self.assertEqual(host.clock.getDelayedCalls(), [])
        heard = host.send(some_bytes(50), 0)
        host.settle()
        self.assertEqual(heard, [[some_bytes(50)]])

    def test_a_lost_link_leaves_neither_memory_nor_timers(self):
        for which in range(2):
            host = Host()
            host.warm_up()
            host.send(some_bytes(2 * WHOLE), 0)
            (host.source, host.sinks[0])[which].cut()
            host.settle()
            host.clock.advance(sharing.IDLE)
            host.settle()
            self.assertEqual(host.hub.memories, {})
            self.assertEqual(host.clock.getDelayedCalls(), [])

    def test_the_controller_writes_too(self):
        """Results that it has kept, for example."""
        host = Host()
        heard = []
        controller, engine = host.sinks[0].first, host.sinks[0].second
        for pieces in (5, 50, 100):
            number = controller.open([some_bytes(pieces)])
            controller.begin(number)
            while number not in engine._incoming:
                host.sinks[0].step(True)
            engine.take(number, lambda parts, why: heard.append(b"".join(parts)))
            host.settle()
        self.assertEqual(heard, [some_bytes(5), some_bytes(50), some_bytes(100)])
        self.assertIn(frames.BULK_RUN, host.kinds)
        self.assertEqual(controller.memory._used, 0)

    def test_the_controller_takes_for_itself(self):
        """The data of tasks, for example."""
        for clear in (
            lambda port, number: None,
            lambda port, number: port.drop(number, "unwanted"),
        ):
            clock = Clock()
            hub = Hub()
            wire = Wire(False, clock=clock)
            hub.join(wire.first, wire.second)
            heard = []
            for pieces in (5, 50, 100):
                number = wire.first.open([some_bytes(pieces)])
                wire.first.begin(number)
                while number not in wire.second._incoming:
                    wire.step(True)
                wire.second.take(number, lambda parts, why: heard.append(b"".join(parts or ())))
                clear(wire.second, number)
                while wire.step(True) or wire.step(False) or hub.step():
                    pass
            self.assertTrue(wire.first.memory.is_open)
            self.assertEqual(wire.first.memory._used, 0)

    def test_what_the_controller_sends_and_nobody_wants_frees_its_slots(self):
        host = Host()
        controller, engine = host.sinks[0].first, host.sinks[0].second
        for _ in range(5):
            number = controller.open([some_bytes(100)])
            controller.begin(number)
            while number not in engine._incoming:
                host.sinks[0].step(True)
            engine.drop(number, "not wanted")
            host.settle()
        self.assertEqual(controller.memory._used, 0)


class LieTest(BulkTest):
    """What a party says about memory is not believed."""

    def setUp(self):
        super().setUp()
        self.host = Host()
        self.host.warm_up()
        (self.number,) = self.host.hub.memories
        self.host.send(some_bytes(100), 0)
        self.controller = self.host.source.second

    def tell(self, kind, ident, meta):
        self.controller.frame_received(kind, ident, meta, b"")

    def test_runs_that_are_nowhere(self):
        (transfer,) = self.controller.relays_in
        for run in (
            Run(self.number + 1, 0, SLOT),
            Run(self.number, FEW_SLOTS * SLOT, SLOT),
            Run(self.number, 2**63, SLOT),
            Run(self.number, 0, SLOT + 1),
            Run(self.number, 0, 0),
            Run(self.number, 0, SLOT - 1),
        ):
            with self.assertRaises(ProtocolError):
                self.tell(frames.BULK_RUN, transfer, run.pack())
        with self.assertRaises(ProtocolError):
            self.tell(frames.BULK_RUN, transfer, b"short")

    def test_runs_beyond_the_window(self):
        (transfer,) = self.controller.relays_in
        with self.assertRaises(ProtocolError):
            for _ in range(2 * FEW_SLOTS):
                self.tell(frames.BULK_RUN, transfer, Run(self.number, 0, SLOT).pack())

    def test_slots_that_are_freed_twice_or_do_not_exist(self):
        client = self.host.source.first
        self.host.settle()
        for offset in (0, 1, FEW_SLOTS * SLOT, 2**60):
            with self.assertRaises(ProtocolError):
                client.frame_received(frames.BULK_FREE, self.number, pack_free(offset, False), b"")
        with self.assertRaises(ProtocolError):
            client.frame_received(frames.BULK_FREE, self.number, b"?", b"")

    def test_memory_that_was_not_offered(self):
        engine = self.host.sinks[0]
        heard = []
        engine.second.memory._exchange.fetch(77, heard.append)
        self.host.settle()
        self.assertEqual(heard, [None])
        engine.first.frame_received(frames.BULK_MEMORY, 77, sharing.MAPPED, b"")
        self.assertNotIn(77, engine.first.memory._mapped)

    def test_a_run_where_nothing_is_shared(self):
        wire = Wire(True)
        with self.assertRaises(ProtocolError):
            wire.second.frame_received(frames.BULK_RUN, 1, Run(1, 0, SLOT).pack(), b"")
