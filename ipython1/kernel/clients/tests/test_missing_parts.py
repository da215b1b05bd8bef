"""Parts of sequences whose engine is gone: whoever gathers is told, and nobody else is."""

from __future__ import annotations

import warnings
from typing import Any

import numpy
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import CompositeError, KernelError, NotDefined, PartsMissing
from ipython1.kernel.clients.tests.test_multiengine_faults import FaultsCase
from ipython1.kernel.engine.parts import MOST_NAMES
from ipython1.testing import InMemoryCluster


class PartsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.cluster = InMemoryCluster(4)
        self.mec = self.cluster.multiengine()
        # What is not expected fails the test.
        self.enterContext(warnings.catch_warnings())
        warnings.simplefilter("error")

    def lose(self, engine_id: int) -> None:
        self.mec.kill(targets=engine_id)
        self.assertNotIn(engine_id, self.mec.get_ids())

    def missing(self, name: str, mec: Any = None, **more: Any) -> str:
        return str(self.assertRaises(PartsMissing, (mec or self.mec).gather, name, **more))


class GatherTest(PartsCase):
    def test_a_part_is_gone(self) -> None:
        self.mec.scatter("a", range(8))
        self.lose(3)
        expected = (
            "'a' was scattered to engines 0-3, but engine 3 is gone. Scatter it again, "
            "or name the engines whose parts you want: targets=[0, 1, 2]"
        )
        self.assertEqual(self.missing("a"), expected)
        self.assertEqual(self.missing("a", targets="all"), expected)
        self.assertEqual(self.missing("a", targets=slice(None)), expected)
        self.assertEqual(self.missing("a", self.cluster.multiengine()), expected)
        pending = self.mec.gather("a", block=False)
        self.assertEqual(str(self.assertRaises(PartsMissing, pending.get_result)), expected)

    def test_the_asynchronous_client_says_so_too(self) -> None:
        mec = self.cluster.async_multiengine()
        mec.scatter("a", range(8))
        self.cluster.pump.run()
        self.lose(0)
        gathered = mec.gather("a")
        self.cluster.pump.run()
        self.failureResultOf(gathered, PartsMissing)

    def test_what_was_computed_from_parts(self) -> None:
        self.mec.scatter("x", range(8))
        self.mec.execute("y = [2 * each for each in x]; x = [0]")
        self.lose(0)
        told = self.missing("y")
        self.assertEqual(
            told,
            "'x' was scattered to engines 0-3, but engine 0 is gone. From it came 'y'. Scatter it and "
            "compute again, or name the engines whose parts you want: targets=[1, 2, 3]",
        )
        self.assertEqual(self.mec.gather("x"), [0, 0, 0])  # no part any more

    def test_several_sequences(self) -> None:
        for name in "wx":
            self.mec.scatter(name, range(8))
        self.mec.scatter("z", range(4), targets=[0, 1])
        self.mec.execute("y = w + x")
        self.lose(3)
        self.assertIn(
            "'w' was scattered to engines 0-3, but engine 3 is gone; 'x'", self.missing("y")
        )
        self.mec.scatter("x", range(8))
        self.assertEqual(self.mec.gather("x"), list(range(8)))
        self.assertIn("From them came 'y'", self.missing("y"))
        self.mec.execute("y = w + x")
        told = self.missing("y")
        self.assertNotIn("'x'", told)
        self.assertIn("Scatter it and compute again", told)  # 'w' is as it was
        self.mec.execute("y = x")
        self.assertEqual(self.mec.gather("y"), list(range(8)))

    def test_the_order_of_pushes_and_commands(self) -> None:
        self.mec.scatter("x", range(8))
        self.mec.push({"y": [0], "z": [0]})
        self.mec.execute("y = x")
        self.mec.push({"z": [1]})
        self.mec.execute("w = z")
        self.mec.execute("z = y")
        self.mec.push({"y": [2]})
        self.lose(0)
        self.assertEqual(self.mec.gather("w"), [1] * 3)
        self.assertEqual(self.mec.gather("y"), [2] * 3)
        self.missing("z")

    def test_named_engines_give_what_they_have(self) -> None:
        self.mec.scatter("a", range(8))
        self.lose(3)
        self.assertEqual(self.mec.gather("a", targets=[0, 1, 2]), list(range(6)))
        self.mec.targets = [1, 0]
        self.assertEqual(self.mec.gather("a"), [2, 3, 0, 1])

    def test_scattered_anew(self) -> None:
        self.mec.scatter("a", range(8))
        self.lose(3)
        self.mec.scatter("a", range(8))
        self.mec.execute("b = a")
        self.assertEqual(self.mec.gather("a"), list(range(8)))
        self.assertEqual(self.mec.gather("b"), list(range(8)))

    def test_names_that_are_no_parts(self) -> None:
        self.mec.scatter("a", range(8))
        self.mec.scatter("b", range(8))
        self.lose(3)
        self.mec.push({"a": [1], "c": [2]})
        self.assertEqual(self.mec.gather("a"), [1] * 3)
        self.assertEqual(self.mec.gather("c"), [2] * 3)
        self.mec.reset()
        self.mec.execute("d = [1]")
        self.assertEqual(self.mec.gather("d"), [1] * 3)

    def test_the_engine_has_its_id_and_not_its_part(self) -> None:
        """As one that was started again."""
        self.mec.scatter("a", numpy.arange(8))
        self.mec.execute("b = a")
        self.lose(3)
        self.cluster.add_engine(3)
        self.assertEqual(self.mec.get_ids(), [0, 1, 2, 3])
        expected = "'a' was scattered to engines 0-3, but engine 3 has no part of it. Scatter it"
        self.assertIn(expected, self.missing("a"))
        self.mec.execute("a = b = []", targets=3)
        self.assertIn(expected, self.missing("a"))
        self.assertIn("From it came 'b'", self.missing("b"))
        self.mec.push({"a": numpy.arange(6, 8)}, targets=3)
        self.assertEqual(self.mec.gather("a").tolist(), list(range(8)))

    def test_engines_that_came_later(self) -> None:
        self.mec.scatter("a", range(8))
        self.cluster.add_engine()
        told = self.missing("a")
        self.assertIn("engines 0-3, but engine 4 has no part of it", told)
        self.assertIn("targets=[0, 1, 2, 3]", told)
        error = self.assertRaises(CompositeError, self.mec.gather, "b")
        self.assertIsInstance(error.exceptions[0], NotDefined)


class NoFalseAlarmTest(PartsCase):
    """All engines are there."""

    def test_whatever_becomes_of_the_names(self) -> None:
        self.mec.scatter("a", range(4))
        for code in ("a = a * 2", "b = a", "del a; a = [1]", "a = a", "a.append(2)"):
            self.mec.execute(code)
            self.assertTrue(self.mec.gather("a"))
        self.mec.execute("a = [5]", targets=1)
        self.mec.push({"a": [6]}, targets=2)
        self.mec.reset(targets=3)
        self.mec.execute("a = [7]", targets=3)
        self.assertEqual(self.mec.gather("a"), [1, 2, 5, 6, 7])
        self.assertTrue(self.mec.gather("b", targets=[0, 1, 2]))

    def test_more_names_than_an_engine_remembers(self) -> None:
        self.mec.scatter("a", range(8))
        for number in range(MOST_NAMES):
            self.mec.push({f"b{number}": 0}, targets=[0, 1])
        self.assertEqual(self.mec.gather("a"), list(range(8)))
        self.assertEqual(self.mec["a"], [[0, 1], [2, 3], [4, 5], [6, 7]])
        self.lose(3)
        self.missing("a")

    def test_two_halves(self) -> None:
        self.mec.scatter("a", "abcd", targets=[0, 1])
        self.mec.scatter("a", "efgh", targets=[2, 3])
        self.assertEqual(self.mec.gather("a"), "abcdefgh")
        self.mec.scatter("a", "xy", targets=[0, 1])
        self.assertEqual(self.mec.gather("a"), "xyefgh")

    def test_parts_that_were_scattered_in_another_order(self) -> None:
        for dist in "br":
            self.mec.scatter("a", range(9), dist=dist, targets=[2, 0, 3, 1])
            self.assertEqual(self.mec.gather("a", dist=dist), list(range(9)))
        self.mec.scatter("a", numpy.arange(100_000), targets=[3, 2, 1, 0])
        self.assertEqual(self.mec.gather("a").tolist(), list(range(100_000)))


class PullTest(PartsCase):
    """Pulls give what there is, and warn."""

    def test_a_warning(self) -> None:
        self.mec.scatter("x", range(8))
        self.mec.execute("s = sum(x)")
        self.mec.push({"c": 1})
        self.lose(3)
        for pull in (self.mec.pull, self.mec.zip_pull):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                pulled = pull("s")
            (told,) = [str(each.message) for each in caught]
            self.assertIn("'x' was scattered to engines 0-3, but engine 3 is gone", told)
            self.assertIn("From it came 's'", told)
        self.assertEqual(pulled, [(1, 5, 9)])
        self.assertEqual(self.mec.pull("s", targets=[0, 1, 2]), [1, 5, 9])
        self.assertEqual(self.mec.pull("c"), [1] * 3)


class DyingTest(FaultsCase):
    """An engine dies at every moment of a program: it gets the whole, or an error."""

    def test_a_scatter_and_a_gather(self) -> None:
        def program() -> Deferred[Any]:
            async def run() -> Any:
                await self.mec.scatter("x", range(8))
                await self.mec.execute("y = [2 * each for each in x]")
                return await self.mec.gather("y")

            return ensureDeferred(run())

        errors = set()

        def check(ended: Any) -> None:
            if isinstance(ended, KernelError):
                errors.add(type(ended))
            else:
                self.assertEqual(ended, list(range(0, 16, 2)))

        self.each_moment(program, lambda: self.cluster.engines[1].kill(), check)
        self.assertEqual(errors, {CompositeError, PartsMissing})
