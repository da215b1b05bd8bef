"""Links: batching per turn, order, and what happens when the other side misbehaves or goes away."""

from __future__ import annotations

import threading

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.tests.wiresupport import Batches, Recorder
from ipython1.kernel.tub.foolscaplink import FoolscapLink
from ipython1.kernel.wire import frames
from ipython1.kernel.wire.bulk import WINDOW, pack_reference, unpack_reference
from ipython1.kernel.wire.link import FrameLink, ThreadOutbox, TurnFlusher
from ipython1.kernel.wire.payload import join_inline, pack_sizes
from ipython1.kernel.wire.room import HIGH_WATER
from ipython1.testing.memory import MemoryTransport, Pump, connect_in_memory


class BatchingTest(SynchronousTestCase):
    def setUp(self):
        self.pump = Pump()
        self.receiver = Recorder()
        self.link = FrameLink(TurnFlusher(self.pump.soon), self.receiver)
        self.transport = Batches()
        self.link.connected(self.transport)

    def received(self):
        seen = []
        for batch in self.transport.sent:
            frames.dispatch(batch, lambda *frame: seen.append(frame))
        return seen

    def test_the_frames_of_a_turn_travel_together(self):
        for number in range(10):
            self.link.send(frames.ASK, number, b"m", b"p")
        self.assertEqual(self.transport.sent, [])
        self.pump.run()
        self.assertEqual(len(self.transport.sent), 1)
        self.assertEqual([frame[2] for frame in self.received()], list(range(10)))

    def test_several_links_are_flushed_in_one_go(self):
        other = FrameLink(self.link._flusher, Recorder())
        transport = Batches()
        other.connected(transport)
        self.link.send(frames.ASK, 1)
        other.send(frames.ASK, 2)
        self.assertTrue(self.pump.step())
        self.assertFalse(self.pump.step())
        self.assertEqual((len(self.transport.sent), len(transport.sent)), (1, 1))

    def test_no_batch_is_longer_than_the_other_side_takes(self):
        sizes = [
            10,
            frames.MAX_PAYLOAD,
            5,
            frames.MAX_PAYLOAD,
            frames.MAX_PAYLOAD - 100,
            200,
            1,
        ] * 3
        for number, size in enumerate(sizes):
            self.link.send(frames.SUBMIT, number, bytes(frames.MAX_META), bytes(size))
        self.pump.run()
        self.assertLessEqual(max(map(len, self.transport.sent)), frames.MAX_BATCH)
        self.assertEqual([len(frame[4]) for frame in self.received()], sizes)
        self.assertEqual([frame[2] for frame in self.received()], list(range(len(sizes))))

    def test_a_full_batch_does_not_wait_for_the_end_of_the_turn(self):
        self.link.send(frames.BULK_PIECE, 1, b"", bytes(frames.PIECE_SIZE))
        self.assertEqual(len(self.transport.sent), 1)

    def test_packed_frames_keep_their_place_among_others(self):
        self.link.send(frames.ASK, 1)
        packed = frames.pack_frame(frames.ASK, 2, b"", bytes(frames.MAX_PAYLOAD))
        self.link.send_packed([packed], len(packed))
        packed = frames.pack_frame(frames.ASK, 3, b"", bytes(frames.MAX_PAYLOAD))
        self.link.send_packed([packed], len(packed))
        self.link.send(frames.ASK, 4)
        self.pump.run()
        self.assertEqual([frame[2] for frame in self.received()], [1, 2, 3, 4])
        self.assertLessEqual(max(map(len, self.transport.sent)), frames.MAX_BATCH)

    def test_a_large_payload_is_named_before_its_first_piece(self):
        self.link.send(frames.ASK, 1)
        self.link.send_large(frames.SUBMIT, 2, b"meta", [b"head", bytes(10**7)])
        self.link.send(frames.ASK, 3)
        self.pump.run()
        before, opened, named, *pieces, after = self.received()
        self.assertEqual((before[2], after[2]), (1, 3))
        self.assertEqual((opened[0], named[0]), (frames.BULK_OPEN, frames.SUBMIT))
        self.assertEqual(named[1:], (frames.BULK, 2, b"meta", pack_reference(opened[2])))
        self.assertEqual({piece[:3] for piece in pieces}, {(frames.BULK_PIECE, 0, opened[2])})
        self.assertEqual(len(pieces), WINDOW)

    def test_a_payload_of_any_size_arrives(self):
        """What fits is in the frame, and without buffers there is nothing in it."""
        here, there = Recorder(), Recorder()
        link, other = connect_in_memory(self.pump, here, there)
        most = frames.MAX_PAYLOAD - len(pack_sizes([b"", b""]))
        for number, buffers in enumerate(((), (b"a", b""), (b"", bytes(most)))):
            link.send_payload(frames.SUBMIT, number, b"m", buffers)
            self.pump.run()
            frame = there.frames.pop()
            self.assertEqual(frame[:4], (frames.SUBMIT, 0, number, b"m"))
            self.assertEqual(frame[4], join_inline(buffers) if buffers else b"")
        link.send_payload(frames.SUBMIT, 4, b"m", [b"", bytes(most + 1)])
        self.pump.run()
        frame = there.frames.pop()
        self.assertEqual(frame[:4], (frames.SUBMIT, frames.BULK, 4, b"m"))
        self.assertEqual(self.taken(other, frame[4]), [b"", bytes(most + 1)])

    def test_bytes_of_any_number_arrive(self):
        here, there = Recorder(), Recorder()
        link, other = connect_in_memory(self.pump, here, there)
        link.send_bytes(frames.REPLY, 1, b"m", bytes(frames.MAX_PAYLOAD))
        link.send_bytes(frames.REPLY, 2, b"m", bytes(frames.MAX_PAYLOAD + 1))
        self.pump.run()
        small, large = there.frames
        self.assertEqual(small, (frames.REPLY, 0, 1, b"m", bytes(frames.MAX_PAYLOAD)))
        self.assertEqual(large[:4], (frames.REPLY, frames.BULK, 2, b"m"))
        self.assertEqual(self.taken(other, large[4]), [bytes(frames.MAX_PAYLOAD + 1)])

    def taken(self, link, reference):
        """The buffers of the bulk transfer that a frame names."""
        arrived = []
        link.bulk.take(unpack_reference(reference), lambda buffers, reason: arrived.append(buffers))
        return [bytes(buffer) for buffer in arrived[0]]

    def test_frames_wait_until_there_is_a_transport(self):
        link = FrameLink(TurnFlusher(self.pump.soon), Recorder())
        link.send(frames.ASK, 1)
        self.pump.run()
        transport = Batches()
        link.connected(transport)
        self.assertEqual(len(transport.sent), 1)

    def test_a_link_that_cannot_send_is_lost_and_the_others_are_flushed_all_the_same(self):
        other = FrameLink(self.link._flusher, Recorder())
        transport = Batches()
        other.connected(transport)
        self.transport.broken = True
        self.link.send(frames.ASK, 1)
        other.send(frames.ASK, 2)
        self.pump.run()
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.assertEqual(len(transport.sent), 1)
        self.assertEqual(len(self.receiver.lost), 1)
        self.assertEqual(self.transport.aborted, 1)
        other.send(frames.ASK, 3)
        self.pump.run()
        self.assertEqual(len(transport.sent), 2)


class LossTest(SynchronousTestCase):
    def setUp(self):
        self.pump = Pump()
        self.here, self.there = Recorder(), Recorder()
        self.link, self.other = connect_in_memory(self.pump, self.here, self.there)

    def test_frames_arrive_as_they_were_sent(self):
        self.link.send(frames.SUBMIT, 7, b"meta", b"payload", frames.BULK)
        self.pump.run()
        self.assertEqual(self.there.frames, [(frames.SUBMIT, frames.BULK, 7, b"meta", b"payload")])

    def test_both_sides_hear_of_the_end_once(self):
        self.link.abort("enough")
        self.link.abort("enough")
        self.link.connection_lost("again")
        self.pump.run()
        self.assertEqual(self.here.lost, ["enough"])
        self.assertEqual(len(self.there.lost), 1)

    def test_nothing_is_sent_or_received_after_the_end(self):
        self.other.send(frames.ASK, 1)
        self.pump.run()
        self.other.send(frames.ASK, 2)
        self.other.flush()
        self.link.abort("enough")
        self.link.send(frames.ASK, 3)
        self.link.send_packed([frames.pack_frame(frames.ASK, 4)], frames.HEADER_SIZE)
        self.pump.run()
        self.assertEqual([frame[2] for frame in self.here.frames], [1])
        self.assertEqual(self.there.frames, [])

    def test_garbage_ends_the_connection_and_what_came_before_it_counts(self):
        self.link.deliver(frames.pack_frame(frames.ASK, 1) + b"garbage")
        self.pump.run()
        self.assertEqual(len(self.here.frames), 1)
        self.assertEqual(len(self.here.lost), 1)
        self.assertEqual(len(self.there.lost), 1)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_the_connection_is_closed_even_if_its_end_cannot_be_told(self):
        def fail(reason):
            raise RuntimeError("broken receiver")

        self.here.link_lost = fail
        self.link.abort("enough")
        self.pump.run()
        self.assertEqual(len(self.there.lost), 1)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_a_receiver_that_fails_ends_the_connection_and_gets_nothing_more(self):
        def fail(*frame):
            raise RuntimeError("broken receiver")

        self.here.frame_received = fail
        self.link.deliver(frames.pack_frame(frames.ASK, 1) * 2)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(len(self.here.lost), 1)


class ThreadOutboxTest(SynchronousTestCase):
    def test_the_reactor_is_woken_once_for_many_frames(self):
        woken = []
        outbox = ThreadOutbox(woken.append)
        link = FrameLink(TurnFlusher(lambda flush: None), Recorder())
        transport = Batches()
        link.connected(transport)
        outbox.link = link
        frame = frames.pack_frame(frames.ASK, 1)
        for _ in range(5):
            outbox.post([frame], len(frame))
        self.assertEqual(len(woken), 1)
        woken.pop()()
        link.flush()
        self.assertEqual(transport.sent, [frame * 5])
        outbox.post([frame], len(frame))
        self.assertEqual(len(woken), 1)

    def test_large_payloads_keep_their_place_among_others(self):
        pump = Pump()
        here, there = Recorder(), Recorder()
        outbox = ThreadOutbox(pump.soon)
        outbox.link, other = connect_in_memory(pump, here, there)
        outbox.post_payload(frames.OUTCOME, 1, b"m", [bytes(frames.MAX_PAYLOAD)])
        outbox.post_payload(frames.OUTCOME, 2, b"m", [b"x"])
        outbox.post_payload(frames.OUTCOME, 3, b"m", [])
        outbox.post_large(frames.OUTCOME, 4, b"m", [b"x"])
        frame = frames.pack_frame(frames.OUTCOME, 5)
        outbox.post([frame], len(frame))
        pump.run()
        self.assertEqual([frame[2] for frame in there.frames], [1, 2, 3, 4, 5])
        self.assertEqual([frame[1] for frame in there.frames], [frames.BULK, 0, 0, frames.BULK, 0])
        self.assertEqual([frame[4] for frame in there.frames[1:3]], [join_inline([b"x"]), b""])
        self.assertEqual(other.bulk.active, 2)

    def test_frames_for_a_lost_link_are_dropped(self):
        woken = []
        outbox = ThreadOutbox(woken.append)
        outbox.post([b"frame"], 5)
        outbox.post_large(frames.OUTCOME, 1, b"", [b"large"])
        woken.pop()()
        outbox.post([b"frame"], 5)
        self.assertEqual(len(woken), 1)

    def test_what_is_posted_waits_for_room_and_for_the_next_link_if_the_first_is_lost(self):
        pump = Pump()
        there = [Recorder(), Recorder()]
        outbox = ThreadOutbox(pump.soon)
        links = [connect_in_memory(pump, Recorder(), each)[0] for each in there]
        wires = [MemoryTransport.of(link) for link in links]
        for link, wire in zip(links, wires, strict=True):
            wire.stop_reading()
            for number in range(20):
                frame = frames.pack_frame(frames.OUTCOME, number, b"", bytes(frames.MAX_PAYLOAD))
                outbox.post([frame], len(frame), link)
        pump.run()
        self.assertLess(wires[0].unsent, HIGH_WATER + 2 * frames.MAX_PAYLOAD)
        while wires[0].read(HIGH_WATER) and len(there[0].frames) < 10:
            pump.run()
        self.assertEqual([frame[2] for frame in there[0].frames[:10]], list(range(10)))
        self.assertEqual(there[1].frames, [])
        links[0].abort("enough")
        outbox.link = links[1]
        frame = frames.pack_frame(frames.OUTCOME, 20)
        outbox.post([frame], len(frame))
        pump.run()
        self.assertLess(wires[1].unsent, HIGH_WATER + 2 * frames.MAX_PAYLOAD)
        while wires[1].read(HIGH_WATER):
            pump.run()
        self.assertEqual([frame[2] for frame in there[1].frames], list(range(21)))

    def test_nothing_is_left_behind_when_threads_post_while_it_drains(self):
        """A frame posted at any moment is sent without a further post."""
        pump = Pump()
        wanted = threading.Event()
        outbox = ThreadOutbox(lambda drain: (pump.soon(drain), wanted.set()))
        link = FrameLink(TurnFlusher(pump.soon), Recorder())
        transport = Batches()
        link.connected(transport)
        outbox.link = link

        def post(first):
            for number in range(first, first + 2000):
                frame = frames.pack_frame(frames.ASK, number)
                outbox.post([frame], len(frame))

        threads = [threading.Thread(target=post, args=(first,)) for first in (0, 10_000, 20_000)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            wanted.wait(0.01)
            wanted.clear()
            pump.run()
        pump.run()
        seen = []
        for batch in transport.sent:
            frames.dispatch(batch, lambda *frame: seen.append(frame[2]))
        self.assertEqual(sorted(seen), [n for f in (0, 10_000, 20_000) for n in range(f, f + 2000)])
        for first in (0, 10_000, 20_000):
            of_one = [number for number in seen if first <= number < first + 10_000]
            self.assertEqual(of_one, sorted(of_one))


class FoolscapLinkTest(SynchronousTestCase):
    """The face of a link, with references that are played."""

    def test_what_comes_before_a_party_is_connected_waits(self):
        pump = Pump()
        receiver = Recorder()
        link = FrameLink(TurnFlusher(pump.soon), receiver)
        face = FoolscapLink(link)
        face.remote_deliver(frames.pack_frame(frames.COMMAND, 1))
        pump.run()
        self.assertEqual(receiver.frames, [])
        face.connect(PlayedReference())
        face.remote_deliver(frames.pack_frame(frames.COMMAND, 2))
        self.assertEqual(receiver.frames, [])
        pump.run()
        face.remote_deliver(frames.pack_frame(frames.COMMAND, 3))
        self.assertEqual([frame[2] for frame in receiver.frames], [1, 2, 3])

    def test_losing_the_reference_loses_the_link(self):
        receiver = Recorder()
        link = FrameLink(TurnFlusher(Pump().soon), receiver)
        reference = PlayedReference()
        FoolscapLink(link).connect(reference)
        for callback, arguments in reference.watchers:
            callback(*arguments)
        self.assertEqual(len(receiver.lost), 1)


class PlayedReference:
    def __init__(self):
        self.watchers = []

    def notifyOnDisconnect(self, callback, *arguments):
        self.watchers.append((callback, arguments))
