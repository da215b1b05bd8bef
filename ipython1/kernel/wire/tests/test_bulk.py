"""Bulk transfers: everything arrives whole or not at all, windows are kept, and nothing is left behind."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import ProtocolError
from ipython1.kernel.tests.wiresupport import quick
from ipython1.kernel.wire import bulk, bulkrelay, frames, sharing, spool
from ipython1.kernel.wire.bulk import (
    LARGE_BUFFER,
    WINDOW,
    Cursor,
    copy_of,
    joined,
    number_of_pieces,
)
from ipython1.kernel.wire.bulkport import BulkPort
from ipython1.kernel.wire.bulkrelay import SLACK
from ipython1.kernel.wire.payload import Live
from ipython1.kernel.wire.spool import Spool
from ipython1.testing.folders import temporary_path

SMALL_PIECE = 8
"""Bytes in a piece while these tests run, so that a few hundred bytes make a long transfer."""


SMALL_RUN = 4
"""Pieces in a run."""

FEW_SLOTS = 3


class Way:
    """One way of a wire: an outlet, and the frames on their way.

    :ivar most: the number of frames on their way with which there is no room.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._when_room: list[Callable[[], None]] = []
        self.frames: deque[tuple[int, int, bytes, bytes]] = deque()
        self.most = 10_000

    @property
    def has_room(self) -> bool:
        return self._wire.up and len(self.frames) < self.most

    def when_room(self, call: Callable[[], None]) -> None:
        self._when_room.append(call)

    def send(self, kind, ident, meta=b"", payload=b"", flags=0) -> None:
        if self._wire.up:
            self.frames.append((kind, ident, bytes(meta), bytes(payload)))

    def flush(self) -> None:
        """All is sent at once here."""

    def step(self, port: BulkPort) -> bool:
        """Deliver a frame to ``port``; False if there is none."""
        if not self.frames:
            return False
        port.frame_received(*self.frames.popleft())
        self.give_room()
        return True

    def give_room(self) -> None:
        while self._when_room and self.has_room:
            self._when_room.pop(0)()

    @property
    def pieces(self) -> Counter[int]:
        """How many pieces of each transfer are on their way."""
        return Counter(ident for kind, ident, *_ in self.frames if kind == frames.BULK_PIECE)


class Wire:
    """Two ports and the frames on their way between them; either way may lag, both may be cut."""

    def __init__(
        self, relaying_end: bool, spool: Spool | None = None, clock: Clock | None = None
    ) -> None:
        self.up = True
        self.half = False
        self.there, self.back = Way(self), Way(self)
        self.first = BulkPort(self.there, spool, clock)
        self.second = BulkPort(self.back, spool, clock)
        self.second.relaying = relaying_end

    @property
    def to_second(self) -> deque[tuple[int, int, bytes, bytes]]:
        return self.there.frames

    def step(self, to_second: bool) -> bool:
        return self.there.step(self.second) if to_second else self.back.step(self.first)

    def cut(self) -> None:
        if self.up:
            self.up = False
            self.there.frames.clear()
            self.back.frames.clear()
            self.first.connection_lost("the wire was cut")
            self.second.connection_lost("the wire was cut")

    def cut_here(self) -> None:
        """The first end gives the wire up; the second one still reads what was on its way."""
        if self.up:
            self.up = False
            self.half = True
            self.back.frames.clear()
            self.first.connection_lost("the wire was cut")

    def cut_there(self) -> None:
        """The second end hears of it, too, after all that was on its way."""
        if self.half:
            self.half = False
            self.second.connection_lost("the wire was cut")

    def pieces(self) -> int:
        """How many pieces are on their way, of the transfer and towards the end with most of them."""
        return max([0, *self.there.pieces.values(), *self.back.pieces.values()])


class BulkTest(SynchronousTestCase):
    def setUp(self):
        self.patch(bulk, "PIECE_SIZE", SMALL_PIECE)
        self.patch(bulkrelay, "PIECE_SIZE", SMALL_PIECE)
        self.patch(spool, "PIECE_SIZE", SMALL_PIECE)
        self.patch(sharing, "SLOT_SIZE", SMALL_RUN * SMALL_PIECE)
        self.patch(sharing, "SLOTS", FEW_SLOTS)
        self.patch(bulk, "RUN_PIECES", SMALL_RUN)
        for module in (bulk, bulkrelay):
            self.patch(module, "RUN_WINDOW", SMALL_RUN * FEW_SLOTS)


class CursorTest(BulkTest):
    @quick
    @given(st.lists(st.binary(max_size=40), max_size=5))
    def test_pieces_are_full_but_the_last_and_hold_everything(self, buffers):
        size = sum(map(len, buffers))
        cursor = Cursor(buffers)
        pieces = [bytes(cursor.piece()) for _ in range(number_of_pieces(size))]
        self.assertEqual(b"".join(pieces), b"".join(buffers))
        for piece, _ in pairwise(pieces):
            self.assertEqual(len(piece), SMALL_PIECE)
        self.assertEqual(bytes(cursor.piece()), b"")

    @quick
    @given(st.lists(st.binary(max_size=40), max_size=5), st.data())
    def test_pieces_and_runs_may_alternate(self, buffers, data):
        cursor = Cursor(buffers)
        got = b""
        while len(got) < sum(map(len, buffers)):
            if data.draw(st.booleans()):
                got += bytes(cursor.piece())
            else:
                memory = bytearray(SMALL_RUN * SMALL_PIECE)
                got += memory[: cursor.copy_to(memoryview(memory))]
        self.assertEqual(got, b"".join(buffers))

    def test_pieces_within_a_buffer_are_not_copied(self):
        data = bytes(range(64))
        cursor = Cursor([data])
        for _ in range(8):
            self.assertIs(cursor.piece().obj, data)

    def test_live_buffers_are_read_as_they_were_before_they_changed(self):
        data = bytearray(range(100))
        live = Live([b"head", memoryview(data)])
        cursor = Cursor(live)
        begin = bytes(cursor.piece())
        live.secure(copy_of)
        data[:] = bytes(100)
        data.extend(b"more")  # fails while a memoryview of it is held
        rest = b"".join(bytes(cursor.piece()) for _ in range(13))
        self.assertEqual(begin + rest, b"head" + bytes(range(100)))

    def test_joined_buffers(self):
        large = memoryview(bytearray(2 * LARGE_BUFFER))
        self.assertEqual(joined([b"a", bytearray(b"b"), memoryview(b"c")]), b"abc")
        self.assertIs(joined([large]), large)
        both = joined([b"a", large])
        large[0] = 1
        self.assertEqual(bytes(both), b"a" + bytes(2 * LARGE_BUFFER))

    def test_securing_goes_on_where_it_was_interrupted(self):
        data = [bytearray(b"before") for _ in range(3)]
        live = Live([memoryview(each) for each in data])
        made = []

        def interrupted(buffer):
            if len(made) == 1:
                raise KeyboardInterrupt
            made.append(buffer)
            return copy_of(buffer)

        self.assertRaises(KeyboardInterrupt, live.secure, interrupted)
        live.secure(copy_of)
        for each in data:
            each[:] = b"after!"
        seen = bytearray(18)
        Cursor(live).copy_to(memoryview(seen))
        self.assertEqual(seen, b"before" * 3)

    def test_a_live_piece_does_not_change_once_it_is_read(self):
        data = bytearray(range(100))
        piece = Cursor(Live([memoryview(data)])).piece()
        data[:] = bytes(100)
        self.assertEqual(piece, bytes(range(SMALL_PIECE)))


class OneHopTest(BulkTest):
    """From one end straight to the other."""

    def setUp(self):
        super().setUp()
        self.wire = Wire(relaying_end=False)
        self.ended = []
        self.arrived = []

    def start(self, buffers):
        self.number = self.wire.first.open(buffers, self.ended.append)
        self.wire.first.begin(self.number)
        return self.number

    def run_wire(self):
        while self.wire.step(True) or self.wire.step(False):
            self.assertLessEqual(self.wire.pieces(), WINDOW)

    def take(self):
        self.wire.second.take(self.number, lambda *end: self.arrived.append(end))

    @quick
    @given(st.lists(st.binary(max_size=200), min_size=1, max_size=4))
    def test_buffers_arrive_writable_and_whole(self, buffers):
        wire = self.wire = Wire(relaying_end=False)
        self.arrived, self.ended = [], []
        self.start(buffers)
        self.run_wire()
        self.take()
        self.assertEqual(self.arrived, [(buffers, "")])
        self.assertTrue(all(type(part) is bytearray for part in self.arrived[0][0]))
        self.assertEqual(self.ended, [None])
        self.assertEqual((wire.first.active, wire.second.active), (0, 0))

    def test_no_piece_is_sent_before_it_was_named(self):
        number = self.wire.first.open([bytes(1000)], self.ended.append)
        self.assertEqual([frame[0] for frame in self.wire.to_second], [frames.BULK_OPEN])
        self.wire.first.begin(number)
        self.assertEqual(self.wire.pieces(), WINDOW)

    def test_nothing_is_sent_of_what_was_lost_before_it_was_named(self):
        number = self.wire.first.open([bytes(1000)], self.ended.append)
        self.wire.cut()
        self.wire.first.begin(number)
        self.assertEqual(self.ended, ["the wire was cut"])
        self.assertEqual(self.wire.first.active, 0)

    def test_it_can_be_asked_for_before_it_is_whole(self):
        self.start([bytes(100)])
        self.wire.step(True)
        self.take()
        self.run_wire()
        self.assertEqual(self.arrived, [([bytes(100)], "")])

    def test_the_sender_lets_go_of_the_buffers(self):
        data = bytearray(100)
        self.start([data])
        self.run_wire()
        data.extend(b"more")  # fails while a memoryview of it is held

    def test_a_transfer_that_is_taken_back_fails_and_frees_what_came(self):
        self.start([bytes(100)])
        self.wire.step(True)
        self.take()
        self.wire.first.send(frames.BULK_ABORT, self.number, b"changed my mind")
        self.run_wire()
        self.assertEqual(self.arrived, [(None, "changed my mind")])
        self.assertEqual(self.wire.second.active, 0)

    def test_a_transfer_that_nobody_wants_is_refused(self):
        self.start([bytes(1000)])
        self.wire.step(True)
        self.wire.second.drop(self.number, "not needed")
        self.run_wire()
        self.assertEqual(self.ended, ["not needed"])
        self.assertEqual((self.wire.first.active, self.wire.second.active), (0, 0))

    def test_a_whole_transfer_that_will_not_be_referred_to_is_freed(self):
        self.start([bytes(100)])
        self.run_wire()
        self.assertEqual(self.wire.second.active, 1)
        self.wire.first.forget(self.number)
        self.run_wire()
        self.assertEqual(self.wire.second.active, 0)

    def test_a_whole_transfer_that_nobody_asked_for_goes_with_the_link(self):
        self.start([bytes(100)])
        self.run_wire()
        self.wire.cut()
        self.assertEqual(self.wire.second.active, 0)
        self.take()
        self.assertEqual(self.arrived, [(None, "the transfer is unknown")])

    def test_both_sides_are_told_of_a_loss(self):
        self.start([bytes(1000)])
        for _ in range(4):
            self.wire.step(True)
        self.take()
        self.wire.cut()
        self.assertEqual(self.arrived, [(None, "the wire was cut")])
        self.assertEqual(self.ended, ["the wire was cut"])

    def test_an_unknown_transfer_is_said_to_be_unknown(self):
        self.number = 99
        self.take()
        self.assertEqual(self.arrived, [(None, "the transfer is unknown")])

    def test_what_there_is_no_memory_for_is_refused(self):
        """The wire goes on, and the next transfer arrives."""
        self.start([bytes(SMALL_PIECE * 50)])
        opened = self.wire.to_second[0]
        self.wire.to_second[0] = (*opened[:3], bulk.pack_sizes([range(2**62)]))
        self.run_wire()
        self.take()
        ((nothing, reason),) = self.arrived
        self.assertIsNone(nothing)
        self.assertIn("not enough memory", reason)
        self.assertEqual(self.ended, [reason])
        self.assertEqual((self.wire.first.active, self.wire.second.active), (0, 0))
        self.start([b"next"])
        self.run_wire()
        self.take()
        self.assertEqual(self.arrived[1], ([b"next"], ""))

    def test_more_than_was_announced_is_refused(self):
        self.start([bytes(10)])
        self.wire.step(True)
        with self.assertRaises(ProtocolError):
            self.wire.second.frame_received(frames.BULK_PIECE, self.number, b"", bytes(11))


class Relayed:
    """A source, a relay in the middle, and sinks; all wires may lag and break."""

    def __init__(self, sinks: int, buffers: list[bytes], kept: Spool | None = None) -> None:
        self.buffers = buffers
        self.spool = Spool() if kept is None else kept
        self.source = Wire(True, self.spool)
        self.sinks = [Wire(False, self.spool) for _ in range(sinks)]
        self.ended: list[str | None] = []
        self.arrived: list[list[tuple[list[bytes] | None, str]]] = [[] for _ in self.sinks]
        self.sink_ends: list[list[str | None]] = [[] for _ in self.sinks]
        number = self.source.first.open(buffers, self.ended.append)
        self.source.first.begin(number)
        while not self.source.second.relays_in:
            self.source.step(True)
        self.relay = self.source.second.relay(number)
        self.numbers = [
            self.relay.add_sink(wire.first, ends.append)
            for wire, ends in zip(self.sinks, self.sink_ends, strict=True)
        ]

    def take(self, index: int) -> None:
        """The sink is told which command the transfer belongs to, after it was opened."""
        heard = self.arrived[index]
        while self.sinks[index].up and not self.sinks[index].second.active:
            assert self.sinks[index].step(True)
        self.sinks[index].second.take(
            self.numbers[index],
            lambda parts, reason: heard.append((parts and [bytes(p) for p in parts], reason)),
        )

    @property
    def wires(self) -> list[Wire]:
        return [self.source, *self.sinks]

    def turn(self) -> bool:
        """One frame on each way of each wire; False when there is none."""
        moved = [wire.step(way) for wire in self.wires for way in (True, False)]
        return any(moved)

    def settle(self) -> None:
        while self.turn():
            pass

    def check_windows(self) -> None:
        assert all(wire.pieces() <= WINDOW for wire in self.wires)
        assert self.relay._received - self.relay._told <= WINDOW

    def check_nothing_left(self) -> None:
        ports = [port for wire in self.wires if wire.up for port in (wire.first, wire.second)]
        assert [port.active for port in ports] == [0] * len(ports), [port.active for port in ports]
        assert (self.spool.in_memory, self.spool.in_file) == (0, 0)
        assert self.spool._file is None


class RelayTest(BulkTest):
    def test_pieces_are_passed_on_before_all_have_come(self):
        relayed = Relayed(1, [bytes(1000)])
        relayed.source.step(True)
        self.assertEqual(relayed.sinks[0].pieces(), 1)

    def test_a_sink_that_stops_keeps_nobody_else_waiting(self):
        whole = bytes(range(250)) * (SMALL_PIECE * 50 // 250)
        relayed = Relayed(2, [whole])
        relayed.take(0)
        for _ in range(500):
            relayed.source.step(True)
            relayed.source.step(False)
            relayed.sinks[0].step(True)
            relayed.sinks[0].step(False)
        self.assertEqual(relayed.sinks[1].pieces(), WINDOW)
        self.assertEqual(relayed.arrived[0], [([whole], "")])
        self.assertEqual(relayed.ended, [None])
        relayed.take(1)
        relayed.settle()
        self.assertEqual(relayed.arrived[1], [([whole], "")])
        relayed.check_nothing_left()

    def test_a_full_disk_makes_all_wait_and_costs_nobody_anything(self):
        whole = bytes(range(250)) * (SMALL_PIECE * 50 // 250)
        nowhere = temporary_path(self)  # there is no such directory
        relayed = Relayed(2, [whole], Spool(SMALL_PIECE, folder=nowhere))
        relayed.take(0)
        relayed.take(1)
        for _ in range(500):
            relayed.source.step(True)
            relayed.source.step(False)
            relayed.sinks[0].step(True)
            relayed.sinks[0].step(False)
        self.assertEqual(relayed.arrived, [[], []])
        self.assertLessEqual(relayed.spool.in_memory, SMALL_PIECE * (1 + WINDOW))
        relayed.settle()
        self.assertEqual(relayed.arrived, [[([whole], "")]] * 2)
        self.assertEqual(relayed.ended, [None])
        self.assertEqual(relayed.sink_ends, [[None], [None]])
        relayed.check_nothing_left()

    def test_a_sink_that_is_a_little_slower_slows_the_source(self):
        relayed = Relayed(2, [bytes(SMALL_PIECE * 50)])
        relayed.sinks[1].there.most = 1  # its link has room for the frame that opens the transfer
        for _ in range(WINDOW):
            relayed.source.step(True)
        relayed.source.step(False)
        self.assertEqual(relayed.source.pieces(), 0)
        while relayed.sinks[0].step(True) or relayed.sinks[0].step(False):
            pass
        relayed.source.step(False)
        self.assertEqual(relayed.source.pieces(), WINDOW - SLACK)

    def test_a_sender_that_ignores_the_window_is_stopped(self):
        for sinks in (0, 1):
            relayed = Relayed(sinks, [bytes(SMALL_PIECE * 50)])
            with self.assertRaises(ProtocolError):
                # What the sink was sent, what it has not taken, and one more.
                for _ in range(sinks * WINDOW + WINDOW + 1):
                    relayed.source.second.frame_received(
                        frames.BULK_PIECE, 1, b"", bytes(SMALL_PIECE)
                    )

    def test_more_pieces_than_announced_go_nowhere(self):
        relayed = Relayed(1, [bytes(1)])
        relayed.source.step(True)
        relayed.source.second.frame_received(frames.BULK_PIECE, 1, b"", b"x")
        self.assertEqual(relayed.sinks[0].pieces(), 1)

    def test_a_reference_to_nothing_is_refused(self):
        wire = Wire(relaying_end=True)
        with self.assertRaises(ProtocolError):
            wire.second.relay(5)
        with self.assertRaises(ProtocolError):
            bulk.unpack_reference(b"short")

    def test_without_takers_the_source_stops(self):
        relayed = Relayed(0, [bytes(1000)])
        relayed.relay.refuse("its client is gone")
        relayed.settle()
        self.assertEqual(relayed.ended, ["its client is gone"])
        relayed.check_nothing_left()

    def test_a_sink_that_is_dropped_and_forgotten_keeps_nothing(self):
        for steps in (0, 3, 1000):
            relayed = Relayed(2, [bytes(300)])
            for _ in range(steps):
                if not relayed.turn():
                    break
            relayed.relay.drop_sink(relayed.sinks[0].first, relayed.numbers[0])
            relayed.sinks[0].first.forget(relayed.numbers[0])
            relayed.take(1)
            relayed.settle()
            self.assertEqual(relayed.arrived[1], [([bytes(300)], "")])
            self.assertEqual(relayed.ended, [None])
            relayed.check_nothing_left()

    @settings(quick, max_examples=300)
    @given(
        st.integers(1, 3),
        st.lists(st.binary(max_size=250), min_size=1, max_size=3),
        st.data(),
    )
    def test_whatever_happens(self, sinks, buffers, data):
        """Any interleaving of frames, losses, drops and takings: whole or failed, within windows, nothing left."""
        relayed = Relayed(sinks, buffers)
        wires = relayed.wires
        taken: set[int] = set()
        forgotten: set[int] = set()
        events = st.tuples(st.sampled_from("ssssssssstfx"), st.integers(0, 7))
        for event, which in data.draw(st.lists(events, max_size=80)):
            wire = wires[which // 2 % len(wires)]
            sink = which % sinks
            if event == "s":
                for _ in range(1 + which):
                    wire.step(bool(which & 1))
            elif event == "x" and which < 2:
                wire.cut()
            elif event == "t" and sink not in taken | forgotten:
                taken.add(sink)
                relayed.take(sink)
            elif event == "f" and sink not in taken | forgotten:
                forgotten.add(sink)
                relayed.relay.drop_sink(relayed.sinks[sink].first, relayed.numbers[sink])
                relayed.sinks[sink].first.forget(relayed.numbers[sink])
            relayed.check_windows()
        for sink in set(range(sinks)) - taken - forgotten:
            taken.add(sink)
            relayed.take(sink)
        relayed.settle()
        relayed.check_windows()
        relayed.check_nothing_left()
        self.assertEqual(len(relayed.ended), 1)
        for sink in range(sinks):
            heard = relayed.arrived[sink]
            self.assertEqual(len(heard), int(sink in taken))
            if heard and heard[0][0] is not None:
                self.assertEqual(heard[0][0], buffers)
            if heard and relayed.sinks[sink].up and relayed.source.up:
                self.assertEqual(heard, [(buffers, "")])
