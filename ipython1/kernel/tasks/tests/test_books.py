"""What a client keeps of its tasks: results by id, and the functions that the controller has."""

from __future__ import annotations

import random
from collections.abc import Iterable

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.tasks import resultbook, sentfunctions
from ipython1.kernel.tasks.encoder import Packed
from ipython1.kernel.tasks.resultbook import ResultBook
from ipython1.kernel.tasks.sentfunctions import SentFunctions


class ResultBookTests(SynchronousTestCase):
    """Results by id."""

    def test_it_is_a_dict_that_lets_go(self) -> None:
        rng = random.Random(2)
        book = ResultBook()
        here: dict[int, tuple[bytes, int]] = {}
        over: dict[int, str] = {}
        for number in range(600):
            ids = rng.sample(range(5000), 5)
            data = b"%d" % number
            new = book.add(data, [(each, offset) for offset, each in enumerate(ids)])
            expected = [
                each for each in ids if each not in here and over.get(each, "wanted") == "wanted"
            ]
            self.assertEqual(new, expected)
            here.update({each: (data, ids.index(each)) for each in new})
            for each in new:
                over.pop(each, None)
            for each in rng.sample(sorted(here), min(4, len(here))):
                if rng.random() < 0.7:
                    del here[each]
                    if rng.random() < 0.8:
                        book.discard(each)
                        over[each] = "read"
                    else:
                        book.cleared([each])
                        over[each] = "cleared"
            for each in rng.sample(range(5000), 20):
                if each in here:
                    self.assertEqual(book.want([each]), set())
                elif each in over:
                    self.assertEqual(book.want([each]), {each})
                    if over[each] in ("read", "never"):
                        over[each] = "wanted"
                elif rng.random() < 0.2:
                    book.never([each])
                    over[each] = "never"
            self.assertEqual(len(book), len(here))
        for each in range(5000):
            self.assertEqual(book.get(each), here.get(each))
            self.assertEqual(each in book, each in here)
            self.assertEqual(book.is_open(each), self.is_open(each, here, over))
        everything = set(range(5000))
        read = {each for each in over if over[each] == "read"}
        self.assertEqual(book.missing(range(5000)), everything - here.keys() - read)
        self.assertEqual(book.unreadable(range(5000)), everything - here.keys())
        still = [each for each in range(700, 4321) if self.is_open(each, here, over)]
        self.assertEqual(list(book.open_among(700, 4321)), still)
        self.assertEqual(len(book._segments), len({data for data, _ in here.values()}))
        book.cleared(None)
        self.assertEqual((len(book), book.get(3), book._segments), (0, None, {}))
        self.assertEqual(list(book.open_among(700, 4321)), still)

    @staticmethod
    def is_open(task_id: int, here: dict[int, object], over: dict[int, str]) -> bool:
        return task_id not in here and over.get(task_id, "wanted") == "wanted"

    def fill(self, book: ResultBook, ids: Iterable[int]) -> None:
        for each in ids:
            self.assertEqual(book.add(b"x", [(each, 0)]), [each])

    def test_of_many_that_were_read_little_is_kept(self) -> None:
        book = ResultBook()
        for start in range(0, 100 * 1024, 1024):
            self.fill(book, range(start, start + 1024))
            for each in range(start, start + 1024):
                book.discard(each)
        kept = {id(page) for page in book._pages.values()}
        self.assertLess(len(kept), 50)
        self.assertEqual(book.unreadable(range(5)), set(range(5)))
        self.assertEqual(book.missing(range(5)), set())
        self.assertEqual(book.want([3]), {3})
        self.assertEqual(book.add(b"again", [(2, 0), (3, 0)]), [3])
        self.assertEqual((book.get(3), book.get(1027)), ((b"again", 0), None))
        book.cleared(None)
        self.assertEqual(resultbook._ALL_READ.count(resultbook._READ), 1024)
        self.assertEqual(list(book.open_among(0, 50 * 1024)), [])


class SentFunctionsTests(SynchronousTestCase):
    """Which functions are kept."""

    def packed(self, number: int, size: int = 10) -> Packed:
        return Packed(bytes([number]), bytes(size), b"")

    def test_those_of_tasks_are_kept(self) -> None:
        functions = SentFunctions()
        one = self.packed(1)
        self.assertTrue(functions.add(one))
        self.assertFalse(functions.add(one))
        self.assertFalse(functions.add(one, borrowed=True))
        for number in range(10, 200):
            self.assertTrue(functions.add(self.packed(number), borrowed=True))
            functions.release(self.packed(number))
        self.assertFalse(functions.add(one))

    def test_a_task_keeps_what_a_map_brought(self) -> None:
        functions = SentFunctions()
        one, two = self.packed(1), self.packed(2)
        functions.add(one, borrowed=True)
        self.assertFalse(functions.add(one))
        functions.add(two, borrowed=True)
        functions.release(two)
        self.assertFalse(functions.add(two))
        functions.release(one)
        for number in range(10, 200):
            functions.add(self.packed(number), borrowed=True)
            forgotten = functions.release(self.packed(number))
            self.assertNotIn(one.digest, forgotten)
            self.assertNotIn(two.digest, forgotten)

    def test_the_last_ones_of_maps_are_kept(self) -> None:
        functions = SentFunctions()
        used, twice = self.packed(0), self.packed(1)
        functions.add(used, borrowed=True)
        for _ in range(2):
            functions.add(twice, borrowed=True)
        self.assertEqual(functions.release(twice), [])
        forgotten = []
        for number in range(2, 2 + sentfunctions.MOST_IDLE + 1):
            functions.add(self.packed(number), borrowed=True)
            forgotten += functions.release(self.packed(number))
        self.assertEqual(forgotten, [bytes([2])], "the oldest that no map uses")
        self.assertFalse(functions.add(self.packed(3), borrowed=True))
        self.assertTrue(functions.add(self.packed(2), borrowed=True))

    def test_large_ones_go_sooner(self) -> None:
        functions = SentFunctions()
        forgotten = []
        for number in range(10):
            large = self.packed(number, sentfunctions.MOST_IDLE_SIZE)
            functions.add(large, borrowed=True)
            forgotten += functions.release(large)
        self.assertEqual(len(forgotten), 10 - sentfunctions.FEWEST_IDLE)
