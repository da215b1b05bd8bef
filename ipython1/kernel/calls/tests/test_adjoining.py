"""The parts of a large array are received side by side, whatever their order and sizes."""

from __future__ import annotations

import gc
import weakref

import numpy
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.calls import adjoining
from ipython1.kernel.calls.adjoining import Adjoining
from ipython1.kernel.calls.sequences import concatenate
from ipython1.kernel.objects.serialize import dumps, loads
from ipython1.kernel.wire.bulk import IncomingBulk
from ipython1.kernel.wire.payload import Serialized

IDS = (3, 1, 2)


def large(rows: int, seed: int = 0, dtype: str = "f8") -> numpy.ndarray:
    return numpy.random.default_rng(seed).random((rows, 4)).astype(dtype)


class Part:
    """The outcome of an engine."""

    def __init__(self, array: numpy.ndarray) -> None:
        self.acknowledged = 0
        self.buffers = [b"names", *dumps(array).buffers]
        sizes = tuple(len(memoryview(each).cast("B")) for each in self.buffers)
        self.incoming = IncomingBulk(self._send, 1, sizes)
        self.received: list[memoryview] = []
        self.incoming.when_complete(lambda parts, why: self.received.extend(parts or ()))

    def _send(self, *frame: object) -> None:
        self.acknowledged += 1

    def come(self) -> None:
        whole = b"".join(self.buffers)
        half = len(whole) // 2
        self.incoming.pieces(whole[:half], 8)
        self.incoming.pieces(whole[half:], 8)

    def value(self) -> numpy.ndarray:
        return loads(Serialized(tuple(self.received[1:])))


class AdjoiningTest(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.adjoining = Adjoining(self.clock.callLater)

    def make(self, *arrays):
        self.arrays = arrays
        self.parts = dict(zip(IDS, map(Part, arrays), strict=True))

    def begin(self, engine_id):
        self.adjoining.begins(IDS, engine_id, self.parts[engine_id].incoming)

    def joined(self):
        values = [self.parts[each].value() for each in IDS]
        joined = concatenate(values)
        self.assertTrue((joined == numpy.concatenate(self.arrays)).all())
        self.assertTrue(joined.flags.writeable)
        return all(numpy.shares_memory(joined, value) for value in values)

    def test_parts_of_any_lengths_in_any_order_are_not_copied(self):
        self.make(large(40_001), large(40_000, 1), large(123_456, 2))
        self.begin(2)
        self.parts[2].come()
        self.assertEqual(self.parts[2].acknowledged, 0)
        self.begin(1)
        self.begin(3)
        self.parts[3].come()
        self.parts[1].come()
        self.assertTrue(self.joined())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_late_part_keeps_nobody_waiting(self):
        self.make(large(40_000), large(40_000, 1), large(40_000, 2))
        self.begin(1)
        self.parts[1].come()
        self.begin(2)
        self.clock.advance(adjoining.PATIENCE)
        self.assertGreater(self.parts[1].acknowledged, 0)
        self.parts[2].come()
        self.begin(3)
        self.parts[3].come()
        self.assertFalse(self.joined())

    def test_parts_of_other_forms_are_joined_as_ever(self):
        for arrays in (
            (large(40_000), large(90_000, dtype="f4"), large(40_000, 2)),
            (large(40_000), numpy.asfortranarray(large(40_000, 1)), large(40_000, 2)),
            (large(40_000), large(1), large(40_000, 2)),
        ):
            self.setUp()
            self.make(*arrays)
            for each in IDS:
                self.begin(each)
                self.parts[each].come()
            self.assertFalse(self.joined())
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_end_of_the_call_is_the_end_of_waiting(self):
        self.make(large(40_000), large(40_000, 1), large(40_000, 2))
        self.begin(1)
        self.adjoining.end()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_views_of_an_array_of_the_users_are_copied_as_ever(self):
        whole = large(1000)
        joined = concatenate([whole[:500], whole[500:]])
        self.assertFalse(numpy.shares_memory(whole, joined))

    def test_the_memory_goes_with_the_array(self):
        self.make(large(40_000), large(40_000, 1), large(40_000, 2))
        for each in IDS:
            self.begin(each)
        for each in IDS:
            self.parts[each].come()
        whole = weakref.ref(self.parts[1].received[2].obj)
        joined = concatenate([self.parts[each].value() for each in IDS])
        self.parts.clear()
        gc.collect()
        self.assertIsNotNone(whole())
        del joined
        gc.collect()
        self.assertIsNone(whole())
