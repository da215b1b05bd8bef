"""Parties that do not read for a while, in a whole cluster: nobody is cut off, little is held for them, all goes on."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.clients.asyncclient import AsyncMultiEngineClient
from ipython1.kernel.clients.asynctaskclient import AsyncTaskClient
from ipython1.kernel.objects.taskobjects import MapTask
from ipython1.kernel.wire import frames, messages
from ipython1.kernel.wire.link import FrameLink
from ipython1.kernel.wire.room import HIGH_WATER
from ipython1.testing import InMemoryCluster
from ipython1.testing.memory import MemoryTransport

SIZE = 1_000_000
MANY = 100

MOST_UNSENT = HIGH_WATER + 2 * frames.PIECE_SIZE + MANY * 1000
"""Bytes on one link: the room, what used up the last of it, and small frames that steer something."""


class SlowPartyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.cluster = InMemoryCluster(2)
        self.spool = self.cluster.pump.flusher.spool

    def stop_reading(self, link: FrameLink) -> MemoryTransport:
        """Have the other side of ``link`` not read."""
        transport = MemoryTransport.of(link)
        transport.stop_reading()
        return transport

    def read_slowly(self, transport: MemoryTransport) -> None:
        """Have the other side read until nothing comes any more, and check that it is never sent much at a time."""
        while transport.read(frames.PIECE_SIZE):
            self.cluster.pump.run()
            self.assertLess(transport.unsent, MOST_UNSENT)

    def check_nothing_left(self) -> None:
        self.assertEqual((self.spool.in_memory, self.spool.in_file), (0, 0))
        for engine in self.cluster.engines:
            self.assertEqual((engine.link.bulk.active, engine.controller_link.bulk.active), (0, 0))

    def test_an_engine_that_does_not_read(self) -> None:
        mec = self.cluster.async_multiengine()
        other = self.cluster.multiengine()
        wire = self.stop_reading(self.cluster.engines[0].controller_link)
        pushes = [mec.push({f"a{n}": bytes([n]) * SIZE}, targets=0) for n in range(MANY)]
        self.cluster.pump.run()
        self.assertLess(wire.unsent, MOST_UNSENT)
        self.assertLess(self.spool.in_memory, 33 * 2**20)
        other.push({"b": bytes(3 * SIZE)}, targets=1)
        self.assertEqual(other.pull("b", targets=1), [bytes(3 * SIZE)])
        self.read_slowly(wire)
        for push in pushes:
            self.successResultOf(push)
        names = self.cluster.engines[0].interpreter.user_ns
        self.assertEqual(
            [names[f"a{n}"] for n in range(MANY)], [bytes([n]) * SIZE for n in range(MANY)]
        )
        self.check_nothing_left()

    def test_one_engine_of_several_that_does_not_read_keeps_no_other_waiting(self) -> None:
        mec = self.cluster.async_multiengine()
        wire = self.stop_reading(self.cluster.engines[0].controller_link)
        push = mec.push({"a": bytes(50 * SIZE)})
        self.cluster.pump.run()
        self.assertEqual(self.cluster.engines[1].interpreter.user_ns["a"], bytes(50 * SIZE))
        self.assertNoResult(push)
        self.assertLess(self.spool.in_memory, 33 * 2**20)
        self.read_slowly(wire)
        self.successResultOf(push)
        self.check_nothing_left()

    def test_a_client_that_does_not_read(self) -> None:
        self.cluster.multiengine().execute(f"a = bytes({SIZE})")
        other = self.cluster.multiengine()
        connection, end = self.cluster.connect(self.cluster.multiengine_face)
        wire = self.stop_reading(self.other_side(end.link))
        mec = AsyncMultiEngineClient(connection)
        pulls = [mec.pull("a", targets=n % 2) for n in range(MANY)]
        self.cluster.pump.run()
        self.assertLess(wire.unsent, MOST_UNSENT)
        self.assertLess(self.spool.in_memory, 33 * 2**20)
        self.assertEqual(other.pull("a", targets=1), [bytes(SIZE)])
        self.read_slowly(wire)
        for pull in pulls:
            self.assertEqual(self.successResultOf(pull), [bytes(SIZE)])
        self.check_nothing_left()

    def test_a_client_that_goes_while_it_does_not_read_leaves_nothing_behind(self) -> None:
        self.cluster.multiengine().execute(f"a = bytes({SIZE})")
        connection, end = self.cluster.connect(self.cluster.multiengine_face)
        self.stop_reading(self.other_side(end.link))
        mec = AsyncMultiEngineClient(connection)
        pulls = [mec.pull("a", targets=n % 2) for n in range(MANY)]
        self.cluster.pump.run()
        end.link.abort("it was killed")
        self.cluster.pump.run()
        for pull in pulls:
            self.failureResultOf(pull)
        self.check_nothing_left()

    def test_large_results_of_tasks_for_a_client_that_does_not_read(self) -> None:
        connection, end = self.cluster.connect(self.cluster.task_face, messages.TASK)
        tc = AsyncTaskClient(connection)
        begun = Deferred.fromCoroutine(tc.begin())
        self.cluster.pump.run()
        self.successResultOf(begun)
        wire = self.stop_reading(self.other_side(end.link))
        runs = [tc.run(MapTask(bytes, [SIZE]), block=True) for _ in range(MANY)]
        self.cluster.pump.run()
        self.assertLess(wire.unsent, MOST_UNSENT)
        self.read_slowly(wire)
        for run in runs:
            self.assertEqual(self.successResultOf(run).result, bytes(SIZE))
        self.check_nothing_left()

    def test_live_output_is_dropped_when_there_is_no_room(self) -> None:
        link = self.cluster.engines[0].link
        wire = self.stop_reading(link)
        link.send(frames.OUTPUT, 1, bytes(16) + b"stdout", b"shown")
        link.flush()
        sent = wire.unsent
        self.assertGreater(sent, 0)
        while link.has_room:
            link.send(frames.REPLY, 1, b"", bytes(frames.MAX_PAYLOAD))
        sent = wire.unsent
        link.send(frames.OUTPUT, 1, bytes(16) + b"stdout", b"dropped")
        link.flush()
        self.assertEqual(wire.unsent, sent)

    def other_side(self, link: FrameLink) -> FrameLink:
        return MemoryTransport.of(link).other
