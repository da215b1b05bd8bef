"""Room on links: who waits gets it in turn, and a party that does not read is not written to without end."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.tests.wiresupport import Recorder
from ipython1.kernel.wire import frames
from ipython1.kernel.wire.link import FrameLink
from ipython1.kernel.wire.room import HIGH_WATER
from ipython1.testing.memory import MemoryTransport, Pump, connect_in_memory

PIECE = bytes(frames.PIECE_SIZE)


class RoomTest(SynchronousTestCase):
    def setUp(self):
        self.pump = Pump()
        self.here, self.there = Recorder(), Recorder()
        self.link, self.other = connect_in_memory(self.pump, self.here, self.there)
        self.wire = MemoryTransport.of(self.link)
        self.called = []

    def fill(self):
        self.wire.stop_reading()
        while self.link.has_room:
            self.link.send(frames.OUTCOME, 1, b"", PIECE)

    def test_there_is_room_until_much_waits_and_again_when_all_of_it_is_gone(self):
        self.fill()
        self.assertLessEqual(self.wire.unsent, HIGH_WATER + 2 * len(PIECE))
        self.wire.read(HIGH_WATER // 2)
        self.assertFalse(self.link.has_room)
        self.wire.read(2 * HIGH_WATER)
        self.assertTrue(self.link.has_room)

    def test_a_call_comes_once_and_in_a_later_turn(self):
        self.link.when_room(lambda: self.called.append("at once"))
        self.assertEqual(self.called, [])
        self.pump.run()
        self.assertEqual(self.called, ["at once"])
        self.fill()
        self.link.when_room(lambda: self.called.append("later"))
        self.pump.run()
        self.assertEqual(self.called, ["at once"])
        self.wire.read_on()
        self.assertEqual(self.called, ["at once"])
        self.pump.run()
        self.assertEqual(self.called, ["at once", "later"])
        self.fill()
        self.wire.read_on()
        self.pump.run()
        self.assertEqual(len(self.called), 2)

    def test_those_that_always_have_more_take_turns(self):
        self.fill()

        def source(name):
            def send():
                self.called.append(name)
                self.link.send(frames.OUTCOME, 1, b"", PIECE)
                self.link.when_room(send)

            return send

        for name in "abc":
            self.link.when_room(source(name))
        for _ in range(6):
            self.wire.read(10 * HIGH_WATER)
            self.pump.run()
        for name in "abc":
            self.assertAlmostEqual(self.called.count(name), len(self.called) / 3, delta=1)

    def test_one_that_fails_costs_the_others_nothing(self):
        self.link.when_room(lambda: 1 // 0)
        self.link.when_room(lambda: self.called.append("next"))
        self.pump.run()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.called, ["next"])

    def test_nobody_is_called_after_the_loss(self):
        self.link.when_room(lambda: self.called.append("soon"))
        self.link.abort("enough")
        self.link.when_room(lambda: self.called.append("late"))
        self.pump.run()
        self.assertEqual(self.called, [])
        self.assertFalse(self.link.has_room)

    def test_before_there_is_a_connection_there_is_no_room(self):
        link = FrameLink(self.pump.flusher, Recorder())
        self.assertFalse(link.has_room)
        link.when_room(lambda: self.called.append("now"))
        self.pump.run()
        self.assertEqual(self.called, [])
        link.connected(MemoryTransport(self.pump, self.other))
        self.pump.run()
        self.assertEqual(self.called, ["now"])
