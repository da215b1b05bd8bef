"""Bulk transfers when somebody is slow: links without room, sinks that come late, a spool that is full."""

from __future__ import annotations

import gc
import random
import weakref

from twisted.internet.task import Clock

from ipython1.kernel.basics.error import ProtocolError
from ipython1.kernel.wire import bulkguard, frames, sharing, spool
from ipython1.kernel.wire.bulk import LARGE_BUFFER, WINDOW
from ipython1.kernel.wire.bulkport import BulkPort, collect
from ipython1.kernel.wire.bulkrelay import SLACK
from ipython1.kernel.wire.payload import pack_sizes
from ipython1.kernel.wire.spool import Spool
from ipython1.kernel.wire.tests.sharedsupport import Hub
from ipython1.kernel.wire.tests.test_bulk import SMALL_PIECE, BulkTest, Relayed, Way, Wire


def some_bytes(pieces: int) -> bytes:
    return random.Random(pieces).randbytes(SMALL_PIECE * pieces)


class RoomTest(BulkTest):
    """Pieces wait for room, and transfers take turns."""

    def setUp(self):
        super().setUp()
        self.wire = Wire(relaying_end=False)
        self.arrived = {}

    def start(self, pieces):
        number = self.wire.first.open([bytes(SMALL_PIECE * pieces)])
        self.wire.first.begin(number)
        return number

    def take(self, number):
        self.wire.second.take(number, lambda parts, reason: self.arrived.setdefault(number, parts))

    def test_pieces_are_sent_only_while_there_is_room(self):
        self.wire.there.most = 3
        number = self.start(20)
        self.assertEqual(len(self.wire.to_second), 3)
        self.wire.step(True)
        self.take(number)
        while self.wire.step(True) or self.wire.step(False):
            self.assertLessEqual(len(self.wire.to_second), 3)
        self.assertEqual(self.arrived, {number: [bytes(SMALL_PIECE * 20)]})

    def test_transfers_take_turns(self):
        self.wire.there.most = 4
        numbers = [self.start(6) for _ in range(3)]
        order = []
        while self.wire.to_second:
            kind, ident, *_ = self.wire.to_second[0]
            if kind == frames.BULK_PIECE:
                order.append(ident)
            self.wire.step(True)
            while self.wire.step(False):
                pass
        # The first begins before there are others, and then no two pieces of one follow each other.
        self.assertEqual(order[:3], [numbers[0]] * 3)
        self.assertEqual(order[3:12], numbers * 3)

    def test_a_steering_frame_does_not_wait(self):
        self.wire.there.most = 1
        self.start(20)
        self.wire.first.forget(7)
        self.assertEqual(self.wire.to_second[-1][:2], (frames.BULK_FORGET, 7))

    def test_what_waited_for_room_is_forgotten_with_the_link(self):
        self.wire.there.most = 1
        self.start(20)
        self.wire.cut()
        self.wire.there.most = 100
        self.wire.there.give_room()
        self.assertEqual(self.wire.first.active, 0)


class Memory:
    """A sink that keeps what it takes, and takes it when told."""

    def __init__(self):
        self.got = []
        self.offers = 0
        self.reason = None

    def attached(self, feed):
        self.feed = feed

    def offered(self):
        self.offers += 1

    def take(self):
        while (data := self.feed.take()) is not None:
            self.got.append(bytes(data))
            self.feed.acknowledge(len(self.got))

    def aborted(self, reason):
        self.reason = reason


class LateSinksTest(BulkTest):
    """A relay whose command waits in a queue."""

    def test_without_a_sink_it_takes_a_window_and_waits(self):
        relayed = Relayed(0, [some_bytes(50)])
        relayed.settle()
        self.assertEqual(relayed.relay._received, WINDOW)
        self.assertEqual(relayed.ended, [])
        sink = Memory()
        ends = []
        relayed.relay.attach(sink, ends.append)
        for _ in range(20):
            sink.take()
            relayed.settle()
        self.assertEqual(b"".join(sink.got), some_bytes(50))
        self.assertEqual((ends, relayed.ended), ([None], [None]))
        relayed.check_nothing_left()

    def test_one_that_comes_too_late_is_told(self):
        relayed = Relayed(1, [some_bytes(50)])
        relayed.source.step(True)
        sink = Memory()
        ends = []
        relayed.relay.attach(sink, ends.append)
        self.assertIn("before anybody asked", sink.reason)
        self.assertEqual(ends, [sink.reason])

    def test_whole_and_named_by_nobody_it_goes_with_its_link(self):
        relayed = Relayed(0, [some_bytes(5)])
        relayed.settle()
        self.assertGreater(relayed.spool.in_memory, 0)
        relayed.source.cut()
        relayed.check_nothing_left()


class RefusalTest(BulkTest):
    """Who refuses, and why, is heard at the other end."""

    def test_the_reason_of_a_sink_reaches_its_source(self):
        relayed = Relayed(1, [some_bytes(50)])
        relayed.sinks[0].step(True)
        relayed.sinks[0].second.drop(relayed.numbers[0], "no memory here")
        relayed.settle()
        self.assertEqual(relayed.ended, ["no memory here"])
        self.assertEqual(relayed.sink_ends, [["no memory here"]])
        relayed.check_nothing_left()

    def test_the_owner_hears_of_each_sink(self):
        relayed = Relayed(3, [some_bytes(20)])
        relayed.sinks[0].step(True)
        relayed.sinks[0].second.drop(relayed.numbers[0], "no memory here")
        relayed.sinks[1].cut()
        relayed.take(2)
        relayed.settle()
        self.assertEqual(relayed.sink_ends, [["no memory here"], ["the wire was cut"], [None]])
        self.assertEqual(relayed.ended, [None])

    def test_the_owner_hears_why_nothing_more_comes(self):
        relayed = Relayed(1, [some_bytes(20)])
        relayed.source.cut()
        self.assertEqual(relayed.sink_ends, [["the wire was cut"]])

    def test_a_refusal_after_all_has_come_is_heard_by_the_owner(self):
        relayed = Relayed(1, [some_bytes(WINDOW + SLACK)])
        for _ in range(20):
            relayed.source.step(True)
            relayed.source.step(False)
        self.assertTrue(relayed.relay.whole)
        self.assertEqual(relayed.ended, [None])
        relayed.sinks[0].step(True)
        relayed.sinks[0].second.drop(relayed.numbers[0], "no memory here")
        relayed.settle()
        self.assertEqual(relayed.sink_ends, [["no memory here"]])
        relayed.check_nothing_left()

    def test_collected_data_that_there_is_no_memory_for_is_refused(self):
        relayed = Relayed(0, [some_bytes(WINDOW + 1)])
        relayed.relay.sizes = pack_sizes([range(2**62)])
        heard = []
        soon = []
        collect(relayed.relay, lambda *end: heard.append(end), soon.append)
        relayed.settle()
        soon.pop()()
        ((nothing, reason),) = heard
        self.assertIsNone(nothing)
        self.assertEqual(relayed.ended, [reason])
        self.assertIn("not enough memory", reason)

    def test_collected_data_lives_as_long_as_its_receiver_needs_it(self):
        # Garbage is looked for late where there are few objects, however large they are.
        gc.disable()
        self.addCleanup(gc.enable)
        relayed = Relayed(0, [bytes(LARGE_BUFFER)])
        heard = []
        soon = []
        collect(relayed.relay, lambda *end: heard.append(end), soon.append)
        relayed.settle()
        soon.pop()()
        ((data,), _), *_ = heard
        self.assertEqual(data.nbytes, LARGE_BUFFER)
        in_memory = weakref.ref(data)
        heard.clear()
        del data
        self.assertIsNone(in_memory())


class HoldTest(BulkTest):
    """A controller that can keep no more."""

    def setUp(self):
        super().setUp()
        self.patch(spool, "RESERVE", 0)
        self.spool = Spool(WINDOW * SMALL_PIECE, 0)
        self.wire = Wire(True, self.spool)
        self.ended = []

    def start(self):
        number = self.wire.first.open([some_bytes(20)], self.ended.append)
        self.wire.first.begin(number)
        return number

    def settle(self):
        while self.wire.step(True) or self.wire.step(False):
            pass

    def relay(self, number):
        return self.wire.second.relay(number)

    def test_a_new_transfer_begins_only_when_there_is_room_for_it(self):
        first = self.start()
        self.settle()
        self.assertTrue(self.spool.full)
        second = self.start()
        self.settle()
        self.assertEqual(self.relay(second)._received, 0)
        self.relay(first).refuse("not needed")
        self.settle()
        self.assertEqual(self.relay(second)._received, WINDOW)

    def test_one_that_somebody_takes_goes_on_meanwhile(self):
        self.patch(spool, "RESERVE", WINDOW * SMALL_PIECE)
        self.start()
        self.settle()
        second = self.relay_of_new()
        sink = Memory()
        second.attach(sink)
        for _ in range(30):
            self.settle()
            sink.take()
        self.assertEqual(self.ended, [None])
        self.assertEqual(b"".join(sink.got), some_bytes(20))
        self.assertTrue(self.spool.full)

    def test_a_link_may_be_held_back_while_there_is_room(self):
        self.wire = Wire(True)
        self.wire.second.hold_back(True)
        self.settle()
        numbers = [self.start() for _ in range(3)]
        self.settle()
        heard, soon = [], []
        later = collect(
            self.relay(numbers[0]), lambda *end: heard.append(end), soon.append, later=True
        )
        taken = self.relay(numbers[1])
        taken.attach(Memory())
        self.settle()
        received = [self.relay(number)._received for number in numbers]
        self.assertEqual(received, [0, WINDOW, 0], "only what somebody takes has begun")
        later.begin()
        self.settle()
        soon.pop()()
        self.assertEqual(heard, [([some_bytes(20)], "")])
        self.wire.second.hold_back(False)
        self.settle()
        self.assertEqual(self.relay(numbers[2])._received, WINDOW)
        self.assertEqual(self.ended, [None])

    def relay_of_new(self):
        number = self.start()
        self.settle()
        return self.relay(number)

    def test_who_joins_meanwhile_is_told_too(self):
        self.start()
        self.settle()
        late = Wire(True, self.spool)
        number = late.first.open([some_bytes(2)])
        late.step(True)
        late.step(False)
        late.first.begin(number)
        self.assertEqual(late.pieces(), 0)

    def test_who_does_not_wait_is_refused_with_the_reason(self):
        self.start()
        while self.wire.step(True):
            pass
        number = self.start()  # did not hear of it yet
        self.settle()
        self.assertEqual(self.ended, [self.ended[0]])
        self.assertIn("can keep no more", self.ended[0])
        self.assertNotIn(number, self.wire.second.relays_in)

    def test_a_transfer_that_waits_for_the_controller_ends_with_the_link(self):
        self.start()
        self.settle()
        self.start()
        self.wire.cut()
        self.assertEqual(self.ended, ["the wire was cut"] * 2)
        self.assertEqual((self.spool.in_memory, self.spool._watchers), (0, {}))


class GuardTest(BulkTest):
    """Transfers that nothing names."""

    def setUp(self):
        super().setUp()
        self.clock = Clock()
        self.refused = {}

    def make(self, relaying):
        self.port = BulkPort(self, Spool(), self.clock)
        self.port.relaying = relaying
        self.port.guard()

    has_room = True

    def when_room(self, call):
        pass

    def flush(self):
        pass

    def send(self, kind, ident, meta=b"", payload=b"", flags=0):
        if kind == frames.BULK_REFUSE:
            self.refused[ident] = bytes(meta).decode()

    def open(self, number, pieces=1):
        sizes = pack_sizes([range(SMALL_PIECE * pieces)])
        self.port.frame_received(frames.BULK_OPEN, number, b"", sizes)

    def piece(self, number):
        self.port.frame_received(frames.BULK_PIECE, number, b"", bytes(SMALL_PIECE))

    def test_too_many_are_refused(self):
        for relaying in (True, False):
            self.make(relaying)
            for number in range(bulkguard.MOST + 2):
                self.open(number)
            self.assertEqual(set(self.refused), {bulkguard.MOST, bulkguard.MOST + 1})
            self.assertEqual(self.port.active, bulkguard.MOST)
            self.port.connection_lost("over")

    def test_too_large_ones_are_refused(self):
        self.patch(bulkguard, "MOST_BYTES", 4 * SMALL_PIECE)
        for relaying in (True, False):
            self.make(relaying)
            self.refused.clear()
            self.open(1, 20)
            self.open(2, 20)
            for _ in range(3):
                self.piece(1)
            self.piece(2)
            self.piece(2)
            self.assertEqual(list(self.refused), [2])
            self.piece(2)  # was on its way
            self.piece(1)
            self.assertEqual(list(self.refused), [2])
            self.port.connection_lost("over")
            self.assertEqual(self.port._spool.in_memory, 0)

    def test_old_ones_are_refused_and_nothing_is_left(self):
        for relaying in (True, False):
            self.make(relaying)
            self.refused.clear()
            self.open(1)
            self.clock.advance(bulkguard.PATIENCE / 2)
            self.open(2)
            self.piece(2)
            self.clock.advance(bulkguard.PATIENCE / 2)
            self.assertEqual(list(self.refused), [1])
            self.clock.advance(bulkguard.PATIENCE / 2)
            self.assertEqual(list(self.refused), [1, 2])
            self.assertEqual(self.port.active, 0)
            self.assertEqual(self.port._spool.in_memory, 0)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_those_that_are_named_stay(self):
        self.make(relaying=True)
        for number in range(2 * bulkguard.MOST):
            self.open(number)
            self.port.relay(number).attach(Memory())
        self.make(relaying=False)
        for number in range(2 * bulkguard.MOST):
            self.open(number)
            self.port.take(number, lambda parts, reason: None)
        self.clock.advance(2 * bulkguard.PATIENCE)
        self.assertEqual(self.refused, {})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_timer_outlives_the_link(self):
        self.make(relaying=True)
        self.open(1)
        self.port.connection_lost("over")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_transfer_cannot_be_opened_twice_or_with_pieces_of_any_size(self):
        self.make(relaying=True)
        self.open(1, 3)
        with self.assertRaises(ProtocolError):
            self.open(1)
        for size in (0, 1, SMALL_PIECE + 1):
            with self.assertRaises(ProtocolError):
                self.port.frame_received(frames.BULK_PIECE, 1, b"", bytes(size))


class Traffic:
    """Many transfers at once, from several sources to several sinks, through one spool; everybody may be slow.

    :param seed: decides what happens.
    :param shared: whether most of them can share memory.
    """

    MEMORY = 6 * SMALL_PIECE
    FILE = 20 * SMALL_PIECE

    def __init__(self, seed: int, shared: bool) -> None:
        self.random = random.Random(seed)
        self.clock = Clock()
        self.hub = Hub()
        self.spool = Spool(self.MEMORY, self.FILE)
        self.sources = [Wire(True, self.spool, self.clock) for _ in range(2)]
        self.sinks = [Wire(False, self.spool, self.clock) for _ in range(3)]
        if shared:
            for wire in self.sources:
                self.hub.join(wire.first, wire.second, self.random.random() < 0.2)
            for wire in self.sinks:
                self.hub.join(wire.second, wire.first, self.random.random() < 0.2)
        for wire in (*self.sources, *self.sinks):
            wire.there.most = self.random.choice((1, 3, 100))
            wire.back.most = 100
        self.ended: dict[int, list[str | None]] = {}
        self.sink_ends: list[list[str | None]] = []
        self.arrived: list[list[str]] = []
        self.wrong = 0
        self.in_memory = 0

    @property
    def ways(self) -> list[tuple[Way, BulkPort]]:
        wires = (*self.sources, *self.sinks)
        return [(w.there, w.second) for w in wires] + [(w.back, w.first) for w in wires]

    def start(self) -> None:
        wire = self.random.choice(self.sources)
        if not wire.up:
            return
        data = some_bytes(self.random.randrange(1, 30))
        ends = self.ended.setdefault(len(self.ended), [])
        number = wire.first.open([data], ends.append)
        wire.first.begin(number)
        while number not in wire.second.relays_in:
            wire.step(True)
        relay = wire.second.relay(number)
        sinks = self.random.sample(range(3), self.random.randrange(1, 4))
        for sink in sinks:
            self.attach(relay, data, sink)
        relay.refuse("there is nobody")  # does nothing if there is a sink

    def attach(self, relay, data: bytes, index: int) -> None:
        sink = self.sinks[index]
        if not sink.up:
            return
        ends: list[str | None] = []
        self.sink_ends.append(ends)
        number = relay.add_sink(sink.first, ends.append)
        heard: list[str] = []
        while number not in sink.second._incoming:
            if not sink.step(True):
                return
        refuses = self.random.random() < 0.1
        self.arrived.append(heard)
        if refuses:
            sink.second.drop(number, "not wanted")
            heard.append("refused")
            return

        def arrived(parts, reason: str) -> None:
            heard.append(reason)
            if parts is not None and b"".join(parts) != data:
                self.wrong += 1

        sink.second.take(number, arrived)

    def event(self) -> None:
        chance = self.random.random()
        if chance < 0.05:
            self.start()
        elif chance < 0.051:
            self.random.choice((*self.sources, *self.sinks)).cut()
        elif chance < 0.053:
            self.random.choice(self.sinks).cut_here()
        elif chance < 0.06:
            self.clock.advance(self.random.choice((0, sharing.PATIENCE, sharing.IDLE)))
        elif chance < 0.08:
            self.hub.step()
        else:
            way, port = self.random.choice(self.ways)
            for _ in range(self.random.randrange(1, 8)):
                way.step(port)

    def check_bounds(self) -> None:
        """No link has more than its room, no transfer more than its window, and the spool no more than it may."""
        for way, _ in self.ways:
            pieces = way.pieces
            assert sum(pieces.values()) <= way.most, (pieces, way.most)
            assert max(pieces.values(), default=0) <= WINDOW, pieces
        assert self.spool.in_file * SMALL_PIECE <= self.FILE
        # What came while it was full may still be in memory, but that does not grow any more.
        assert self.spool.full or self.spool.in_memory <= max(self.MEMORY, self.in_memory)
        self.in_memory = self.spool.in_memory

    def settle(self) -> None:
        while True:
            moved = [way.step(port) for way, port in self.ways]
            if any(moved) or self.hub.step():
                continue
            for wire in self.sinks:
                wire.cut_there()
            if not self.clock.getDelayedCalls():
                return
            self.clock.advance(sharing.IDLE)


class TrafficTest(BulkTest):
    def setUp(self):
        super().setUp()
        self.patch(spool, "RESERVE", 1000 * SMALL_PIECE)

    def check_end(self, traffic: Traffic, where: str) -> None:
        traffic.settle()
        self.assertEqual(traffic.wrong, 0, where)
        for ends in (*traffic.ended.values(), *traffic.sink_ends, *traffic.arrived):
            self.assertEqual(len(ends), 1, where)
        for wire in (*traffic.sources, *traffic.sinks):
            if wire.up:
                self.assertEqual((wire.first.active, wire.second.active), (0, 0), where)
        left = (traffic.spool.in_memory, traffic.spool.in_file, traffic.spool.full)
        self.assertEqual(left, (0, 0, False), where)
        self.assertEqual(traffic.hub.memories, {}, where)

    def test_whatever_happens_everything_ends_and_nothing_is_left(self):
        spooled = full = 0
        for seed in range(60):
            traffic = Traffic(seed, shared=False)
            for _ in range(500):
                traffic.event()
                spooled = max(spooled, traffic.spool.in_file)
                full += traffic.spool.full
                traffic.check_bounds()
            self.check_end(traffic, f"seed {seed}")
        self.assertEqual(spooled, 20)
        self.assertGreater(full, 500)

    def test_shared_memory_is_never_read_after_it_is_written_again_and_none_is_left(self):
        runs = lost = 0
        for seed in range(120):
            traffic = Traffic(seed, shared=True)
            for _ in range(500):
                traffic.event()
                traffic.check_bounds()
                runs += sum(
                    len(relay._runs)
                    for w in traffic.sources
                    for relay in w.second.relays_in.values()
                )
                lost += sum(wire.first.memory._lost for wire in traffic.sources)
            self.check_end(traffic, f"seed {seed}")
        self.assertGreater(runs, 1000)
        self.assertGreater(lost, 100)
