"""Sets of ids."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.controller.idset import IdSet


class IdSetTests(SynchronousTestCase):
    def test_one_by_one(self) -> None:
        rng = random.Random(3)
        ids, model = IdSet(), set()
        for _ in range(3000):
            number = rng.randrange(300)
            if rng.random() < 0.6:
                ids.add(number)
                model.add(number)
            else:
                ids.discard(number)
                model.discard(number)
            self.assertEqual(len(ids), len(model))
        self.assertEqual(list(ids), sorted(model))
        self.assertEqual([n for n in range(300) if n in ids], sorted(model))

    def test_ranges(self) -> None:
        rng = random.Random(4)
        ids, model = IdSet(), set()
        for _ in range(3000):
            start = rng.randrange(300)
            stop = start + rng.randrange(-1, 20)
            if rng.random() < 0.5:
                ids.add_range(start, stop)
                model.update(range(start, stop))
            else:
                ids.discard_range(start, stop)
                model.difference_update(range(start, stop))
            self.assertEqual(len(ids), len(model))
            common = {number for a, b in ids.common(start, stop) for number in range(a, b)}
            self.assertEqual(common, model.intersection(range(start, stop)))
            self.assertEqual(ids.covers(start, stop), model.issuperset(range(start, stop)))
        self.assertEqual(list(ids), sorted(model))
        self.assertEqual(list(IdSet(ids.ranges())), sorted(model))
        for (_, stop), (start, _) in zip(ids.ranges(), ids.ranges()[1:], strict=False):
            self.assertLess(stop, start)

    def test_many_at_once(self) -> None:
        rng = random.Random(5)
        for most in (3, 100):
            ids, model = IdSet(), set()
            for _ in range(100):
                starts = sorted(rng.randrange(2000) for _ in range(rng.randrange(most)))
                ranges = [(start, start + rng.randrange(1, 6)) for start in starts]
                ids.update(ranges)
                for start, stop in ranges:
                    model.update(range(start, stop))
                self.assertEqual(len(ids), len(model))
                ids.discard_range(0, rng.randrange(500))
                model = set(ids)
            self.assertEqual(list(ids), sorted(model))
