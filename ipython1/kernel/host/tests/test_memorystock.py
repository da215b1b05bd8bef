"""Memory is used again only when nobody refers to it, and is not kept for long."""

from __future__ import annotations

import gc

import numpy
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.host.memorystock import LARGE, MemoryStock
from ipython1.kernel.objects.serialize import dumps, loads
from ipython1.kernel.wire.payload import Serialized


class StockTest(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.stock = MemoryStock(10.0, 4 * LARGE, self.clock.seconds)

    def address(self, view):
        return numpy.frombuffer(view, "u1").ctypes.data

    def test_it_is_used_again_for_about_the_same_size(self):
        view = self.stock.allocate(LARGE + 5)
        self.assertEqual((len(view), view.format, view.readonly), (LARGE + 5, "B", False))
        before = self.address(view)
        del view
        self.assertGreater(self.stock.size, LARGE)
        self.assertEqual(self.address(self.stock.allocate(LARGE + 77)), before)
        self.assertNotEqual(self.address(self.stock.allocate(4 * LARGE)), before)

    def test_it_is_not_used_again_while_anything_refers_to_it(self):
        array = numpy.arange(LARGE // 8)
        for refer in (
            lambda view: view[5:6],
            lambda view: memoryview(view).cast("d"),
            lambda view: numpy.frombuffer(view, "f8")[::2].reshape(2, -1),
            lambda view: loads(Serialized((dumps(array).buffers[0], view))),
        ):
            view = self.stock.allocate(LARGE)
            view[:] = memoryview(array).cast("B")
            before = self.address(view)
            holder = refer(view)
            del view
            gc.collect()
            self.assertEqual(self.stock.size, 0)
            self.assertNotEqual(self.address(self.stock.allocate(LARGE)), before)
            del holder
            gc.collect()
            self.assertGreater(self.stock.size, 0)
            self.stock._kept.clear()

    def test_what_is_not_asked_for_is_given_back(self):
        view = self.stock.allocate(LARGE)
        del view
        self.clock.advance(9.0)
        self.assertTrue(self.stock.tidy())
        self.clock.advance(1.0)
        self.assertFalse(self.stock.tidy())
        view = self.stock.allocate(LARGE)
        self.clock.advance(10.0)
        del view
        self.assertEqual(self.stock.size, 0)

    def test_no_more_is_kept_than_the_bound(self):
        views = [self.stock.allocate(LARGE) for _ in range(9)]
        views.clear()
        self.assertEqual(self.stock.size, 4 * LARGE)

    def test_what_came_back_last_takes_the_place_of_what_came_before(self):
        large = self.stock.allocate(4 * LARGE)
        del large
        views = [self.stock.allocate(LARGE) for _ in range(4)]
        addresses = {self.address(view) for view in views}
        views.clear()
        self.assertEqual(self.stock.size, 4 * LARGE)
        views = [self.stock.allocate(LARGE) for _ in range(4)]
        self.assertEqual({self.address(view) for view in views}, addresses)

    def test_small_memory_is_not_kept(self):
        view = self.stock.allocate(LARGE // 2)
        self.assertEqual(bytes(view), bytes(LARGE // 2))
        del view
        self.assertEqual(self.stock.size, 0)
