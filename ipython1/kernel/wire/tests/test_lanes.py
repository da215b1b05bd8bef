"""Lanes: links that share a connection."""

from __future__ import annotations

import os
from collections.abc import Iterable

from twisted.trial import unittest

from ipython1.kernel.basics.error import ProtocolError
from ipython1.kernel.wire import frames
from ipython1.kernel.wire.bulk import WritableBuffer, unpack_reference
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.lanes import Lane, Lanes
from ipython1.kernel.wire.link import FrameLink
from ipython1.testing.memory import MemoryTransport, Pump, connect_in_memory

KIND = frames.COMMAND


class Receiver:
    """Notes what it gets."""

    def __init__(self) -> None:
        self.got: list[tuple[int, int, bytes]] = []
        self.lost = ""
        self.arrived: dict[int, bytes] = {}
        self.link: FrameLink | None = None

    def frame_received(
        self, kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer
    ) -> None:
        if flags & frames.BULK and self.link is not None:

            def complete(buffers: list[WritableBuffer] | None, reason: str) -> None:
                self.arrived[ident] = reason.encode() if buffers is None else b"".join(buffers)

            self.link.bulk.take(unpack_reference(payload), complete)
        if bytes(payload) == b"bad":
            raise ProtocolError("this is bad")
        self.got.append((kind, ident, bytes(payload)))

    def link_lost(self, reason: str) -> None:
        self.lost = reason


class LaneCase(unittest.SynchronousTestCase):
    """Two ends of a link, with three lanes."""

    def setUp(self) -> None:
        self.pump = Pump()
        self.own = Receiver()
        self.here, self.there = connect_in_memory(self.pump, Receiver(), self.own)
        self.received: list[int] = []
        self.patch(self.there.bulk, "frame_received", self._bulk(self.there.bulk.frame_received))
        self.unknown: list[tuple[int, int]] = []
        lanes = Lanes(self.here)
        far = Lanes(self.there, lambda number, kind, payload: self.unknown.append((number, kind)))
        self.lanes: list[Lane] = []
        self.far: list[Lane] = []
        self.ends = [Receiver() for _ in range(3)]
        self.back = [Receiver() for _ in range(3)]
        for number, (end, back) in enumerate(zip(self.ends, self.back, strict=True), 1):
            end.link = self.there
            for lane, all_lanes in (
                (lanes.add(number, back), self.lanes),
                (far.add(number, end), self.far),
            ):
                lane.open()
                all_lanes.append(lane)

    def _bulk(self, received: object) -> object:
        def frame_received(kind: int, ident: int, meta: Buffer, payload: Buffer) -> None:
            self.received.append(kind)
            received(kind, ident, meta, payload)  # type: ignore[operator]

        return frame_received

    def sent(self) -> int:
        """Bytes that were sent so far."""
        return self.pump.flusher.sent

    def send(self, lanes: Iterable[Lane], ident: int, payload: bytes = b"") -> None:
        for lane in lanes:
            lane.send(KIND, ident, b"", payload)

    def idents(self) -> list[list[int]]:
        return [[ident for _, ident, _ in end.got] for end in self.ends]


class SendingTests(LaneCase):
    def test_each_lane_gets_its_own_frames_in_their_order(self) -> None:
        self.send(self.lanes[:1], 1)
        self.send(self.lanes[1:2], 2)
        self.here.send(KIND, 99)
        self.send(self.lanes, 3)
        self.send(self.lanes[:1], 4)
        self.pump.run()
        self.assertEqual(self.idents(), [[1, 3, 4], [2, 3], [3]])
        self.assertEqual([ident for _, ident, _ in self.own.got], [99])

    def test_equal_frames_travel_once(self) -> None:
        for size in (100, 100_000):
            payload = bytes(size)
            before = self.sent()
            self.send(self.lanes, 1, payload)
            self.pump.run()
            self.assertLess(self.sent() - before, size + 100)
        self.assertEqual(self.idents(), [[1, 1]] * 3)

    def test_equal_frames_do_not_overtake_others(self) -> None:
        first, second, third = self.lanes
        for lane, idents in ((first, (1, 2)), (second, (2, 1)), (third, (1, 1))):
            for ident in idents:
                self.send([lane], ident)
        self.pump.run()
        self.assertEqual(self.idents(), [[1, 2], [2, 1], [1, 1]])

    def test_what_is_sent_before_a_lane_is_open_comes_after_the_first_frame(self) -> None:
        lanes = self.here.lanes
        assert isinstance(lanes, Lanes)
        lane = lanes.add(3, Receiver())
        self.send([lane], 1)
        self.pump.run()
        self.assertEqual(self.idents()[2], [])
        lane.open(frames.pack_frame(KIND, 7))
        self.send([lane], 2)
        self.pump.run()
        self.assertEqual(self.idents()[2], [7, 1, 2])

    def test_frames_in_a_lane_that_is_not_open_there_are_told(self) -> None:
        self.far[0].abort("enough")
        self.send(self.lanes, 1)
        self.pump.run()
        self.assertEqual(self.unknown, [(1, KIND)])
        self.assertEqual(self.idents(), [[], [1], [1]])

    def test_a_lane_whose_other_side_does_not_read_on_has_no_room(self) -> None:
        called: list[int] = []
        self.far[0].tell_room(False)
        self.pump.run()
        self.assertEqual([lane.has_room for lane in self.lanes], [False, True, True])
        for lane in self.lanes:
            lane.when_room(lambda number=lane.number: called.append(number))  # type: ignore[misc]
        self.pump.run()
        self.assertEqual(called, [2, 3])
        self.far[0].tell_room(True)
        self.pump.run()
        self.assertEqual(called, [2, 3, 1])

    def test_there_is_no_room_where_the_link_has_none(self) -> None:
        MemoryTransport.of(self.here).has_room = False
        self.assertEqual([lane.has_room for lane in self.lanes], [False] * 3)


class EndTests(LaneCase):
    def test_a_lane_ends_alone(self) -> None:
        self.lanes[0].abort("its engine is gone")
        self.send(self.lanes, 1)
        self.pump.run()
        self.assertEqual([end.lost for end in self.ends], ["its engine is gone", "", ""])
        self.assertEqual(self.idents(), [[], [1], [1]])
        self.assertEqual([lane.lost for lane in self.far], [True, False, False])

    def test_garbage_in_a_lane_ends_no_other(self) -> None:
        self.send(self.lanes[:1], 1, b"bad")
        self.send(self.lanes, 2)
        self.pump.run()
        self.assertEqual(self.idents(), [[], [2], [2]])
        self.assertIn("not in the protocol", self.back[0].lost)
        self.assertFalse(self.there.lost)

    def test_the_end_of_the_link_is_that_of_all_lanes(self) -> None:
        self.there.abort("a broken network")
        self.pump.run()
        self.assertEqual([end.lost for end in self.ends], ["a broken network"] * 3)
        self.assertTrue(all(back.lost for back in self.back))
        self.send(self.lanes, 1)  # goes nowhere

    def test_who_is_dismissed_hears_why(self) -> None:
        self.lanes[1].dismiss("you are not welcome")
        self.pump.run()
        self.assertEqual(self.ends[1].got, [(frames.GOODBYE, 0, b"you are not welcome")])
        self.assertTrue(self.far[1].lost)


class BulkTests(LaneCase):
    """Transfers from a third party to the lanes."""

    def setUp(self) -> None:
        super().setUp()
        self.data = os.urandom(3 * frames.PIECE_SIZE)
        self.source, relaying = connect_in_memory(self.pump, Receiver(), self)
        relaying.bulk.relaying = True
        self.relaying = relaying
        self.wanted: list[Lane] = []
        self.numbers: list[int] = []
        self.over: list[str | None] = []

    def frame_received(
        self, kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer
    ) -> None:
        relay = self.relaying.bulk.relay(unpack_reference(payload))
        self.numbers = [lane.add_sink(relay, self.over.append) for lane in self.wanted]

    def link_lost(self, reason: str) -> None:
        pass

    def relay_to(self, *lanes: Lane) -> None:
        self.wanted = list(lanes)
        self.source.send_large(KIND, 1, b"", [self.data])
        while not self.numbers:
            self.pump.step()

    def test_data_for_several_lanes_travels_once(self) -> None:
        self.relay_to(*self.lanes)
        self.assertEqual(len(set(self.numbers)), 1)
        self.lanes[0].send_reference(KIND, 5, b"", self.numbers[0])
        self.pump.run()
        self.assertEqual(self.received.count(frames.BULK_PIECE), 3)
        self.assertEqual(self.ends[0].arrived, {5: self.data})
        self.assertEqual(self.over, [None] * 3)
        sinks = [
            [frame[:2] for frame in end.got if frame[0] == frames.LANE_SINK] for end in self.ends
        ]
        self.assertEqual(sinks, [[(frames.LANE_SINK, self.numbers[0])]] * 3)

    def test_a_lane_that_takes_it_back_leaves_it_to_the_others(self) -> None:
        self.relay_to(*self.lanes)
        self.lanes[1].take_back(self.numbers[1])
        self.lanes[2].abort("its engine is gone")
        self.lanes[0].send_reference(KIND, 5, b"", self.numbers[0])
        self.pump.run()
        self.assertEqual(self.ends[0].arrived, {5: self.data})
        self.assertIn((frames.LANE_FORGET, self.numbers[1], b""), self.ends[1].got)
        self.assertEqual(self.over, [None])

    def test_when_the_last_takes_it_back_nothing_is_left(self) -> None:
        self.relay_to(*self.lanes)
        for lane, number in zip(self.lanes, self.numbers, strict=True):
            lane.take_back(number)
        self.pump.run()
        for link in (self.source, self.relaying, self.here, self.there):
            self.assertEqual(link.bulk.active, 0)

    def test_nothing_comes_before_it_can_be_taken(self) -> None:
        self.there.bulk.hold_back(True)
        self.pump.run()
        self.relay_to(*self.lanes)
        self.pump.run()
        self.assertEqual(self.received.count(frames.BULK_PIECE), 0)
        self.there.bulk.hold_back(False)
        self.pump.run()
        self.assertEqual(self.received.count(frames.BULK_PIECE), 3)

    def test_those_who_want_it_hear_that_its_source_is_lost(self) -> None:
        self.data = bytes(30 * frames.PIECE_SIZE)
        self.relay_to(*self.lanes)
        self.source.abort("the client died")
        self.pump.run()
        self.assertEqual(len(self.over), 3)
        self.assertTrue(all(self.over))
        self.assertEqual(self.here.bulk.active, 0)
