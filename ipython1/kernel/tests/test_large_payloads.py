"""Large payloads all the way: named before they come, so that the controller passes them on and keeps nothing."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.objects.taskobjects import MapTask, Task
from ipython1.kernel.tests.wiresupport import main_function
from ipython1.kernel.wire import frames
from ipython1.kernel.wire.bulk import WINDOW, unpack_reference
from ipython1.kernel.wire.bulkrelay import SLACK
from ipython1.kernel.wire.frames import MAX_PAYLOAD, PIECE_SIZE, Buffer
from ipython1.kernel.wire.spool import Slot, Spool
from ipython1.testing import InMemoryCluster
from ipython1.testing.memory import MemoryTransport

SIZES = (
    MAX_PAYLOAD + 1,
    PIECE_SIZE + 1,
    3 * PIECE_SIZE,
    WINDOW * PIECE_SIZE,
    3 * WINDOW * PIECE_SIZE,
)
"""Bytes; the controller had all of the first ones before it knew where they go, when they came first."""


class LargePayloadTests(SynchronousTestCase):
    """Whatever is large, on every link of a cluster."""

    engines = 4

    def setUp(self) -> None:
        # What is sent over each transport: for each transfer, the kinds of its frames, and of the one that names it.
        self.sent: dict[tuple[MemoryTransport, int], list[int]] = defaultdict(list)
        send_batch = MemoryTransport.send_batch

        def tapped(transport: MemoryTransport, parts: list[Buffer]) -> None:
            def note(kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer) -> None:
                if kind in (frames.BULK_OPEN, frames.BULK_PIECE):
                    self.sent[transport, ident].append(kind)
                elif flags & frames.BULK:
                    self.sent[transport, unpack_reference(payload)].append(kind)

            frames.dispatch(b"".join(parts), note)
            send_batch(transport, parts)

        self.patch(MemoryTransport, "send_batch", tapped)
        self.most_kept = 0
        put = Spool.put

        def spooled(spool: Spool, data: Buffer) -> Slot:
            slot = put(spool, data)
            self.most_kept = max(self.most_kept, spool.in_memory + PIECE_SIZE * spool.in_file)
            return slot

        self.patch(Spool, "put", spooled)
        self.cluster = InMemoryCluster(self.engines)

    def check(self, transfers: int) -> None:
        """Each transfer was opened, named, and then sent, and the controller kept hardly anything of it."""
        self.assertEqual(len(self.sent), transfers)
        for opened, named, *pieces in self.sent.values():
            self.assertEqual(opened, frames.BULK_OPEN)
            self.assertGreater(named, frames.BULK_FORGET)
            self.assertEqual(set(pieces), {frames.BULK_PIECE})
        spool = self.cluster.pump.flusher.spool
        self.assertEqual((spool.in_memory, spool.in_file), (0, 0))
        self.assertLessEqual(self.most_kept, transfers * SLACK * PIECE_SIZE)
        self.sent.clear()

    def test_what_is_pushed_and_pulled(self) -> None:
        mec = self.cluster.multiengine()
        for size in SIZES:
            array = numpy.arange(size, dtype="u1")
            mec.push({"a": array}, targets=1)
            self.check(2)
            mec.push({"a": array})
            self.check(1 + self.engines)
            for pulled in mec.pull("a"):
                numpy.testing.assert_array_equal(pulled, array)
            self.check(2 * self.engines)

    def test_what_waits_in_a_queue_goes_to_the_engine_all_the_same(self) -> None:
        """The engine has it before its turn comes, and the controller does not."""
        mec = self.cluster.async_multiengine()
        self.cluster.engines[0].worker.held = True
        first = mec.execute("x = 1", targets=0)
        array = numpy.arange(float(10**6))
        second = mec.push({"a": array}, targets=0)
        self.cluster.pump.run()
        self.assertNoResult(second)
        pieces = -(-array.nbytes // PIECE_SIZE)
        to_the_engine = list(self.sent.values())[1]
        self.assertGreaterEqual(to_the_engine.count(frames.BULK_PIECE), pieces)
        self.assertNotIn(frames.COMMAND, to_the_engine)
        self.cluster.engines[0].worker.release()
        self.cluster.pump.run()
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual(to_the_engine[-1], frames.COMMAND)
        numpy.testing.assert_array_equal(self.cluster.engines[0].interpreter.user_ns["a"], array)

    def test_what_tasks_take_and_give(self) -> None:
        tc = self.cluster.task()
        for size in SIZES:
            self.assertEqual(tc.run(MapTask(len, [bytes(size)]), block=True).result, size)
            self.check(2)
            result = tc.run(MapTask(bytes, [size]), block=True).result
            self.assertEqual(result, bytes(size))
            self.check(2)

    def test_functions_that_are_large(self) -> None:
        tc = self.cluster.task()
        size = 3 * PIECE_SIZE
        function: Any = main_function(f"def f(x, data=bytes({size})): return len(data) + x")
        self.assertEqual(tc.run(MapTask(function, [1]), block=True).result, size + 1)
        self.check(2)

    def test_small_ones_are_no_transfers(self) -> None:
        mec, tc = self.cluster.multiengine(), self.cluster.task()
        mec.push({"a": bytes(MAX_PAYLOAD // 2)})
        mec.pull("a")
        tc.run(Task("a = 1", pull="a"), block=True)
        self.check(0)
