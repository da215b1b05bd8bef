"""Which engines an index selects, and what is nearly right."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import (
    CompositeError,
    InvalidEngineID,
    NoEnginesRegistered,
    NotDefined,
    PartsMissing,
    WaitsForever,
)
from ipython1.kernel.basics.othernames import NamesHelp
from ipython1.kernel.basics.publicmethods import reports_errors
from ipython1.kernel.calls.failedsofar import MOST, described, note_failures
from ipython1.kernel.calls.map import Block
from ipython1.kernel.calls.mapresults import MapResults
from ipython1.kernel.calls.views import Selection
from ipython1.kernel.tests.wiresupport import quick
from ipython1.testing import InMemoryCluster

IDS = [0, 2, 3, 7]


class SelectionTest(SynchronousTestCase):
    def select(self, which, ids=IDS):
        return Selection(which, lambda again: ids)

    def test_ids_are_not_positions(self):
        self.assertEqual(self.select(2).ids, [2])
        self.assertTrue(self.select(2).single)
        self.assertEqual(self.select(slice(1, 4)).ids, [2, 3])
        self.assertEqual(self.select(slice(None, None, 2)).ids, [0, 2])
        self.assertFalse(self.select([2]).single)
        self.assertEqual(self.select((7, 0)).ids, [7, 0])
        self.assertEqual(self.select({7, 0}).ids, [0, 7])
        self.assertEqual(self.select(iter([3, 2])).ids, [3, 2])

    @quick
    @given(st.sets(st.integers(0, 12), min_size=1), st.integers(0, 14), st.integers(0, 14))
    def test_a_slice_takes_the_ids_that_there_are(self, ids, start, stop):
        wanted = [each for each in sorted(ids) if start <= each < stop]
        if wanted:
            self.assertEqual(self.select(slice(start, stop), sorted(ids)).ids, wanted)
        else:
            self.assertRaises(InvalidEngineID, self.select, slice(start, stop), sorted(ids))

    def test_only_the_slice_without_bounds_means_all(self):
        self.assertTrue(self.select(slice(None)).whole)
        self.assertFalse(self.select(slice(0, None)).whole)
        self.assertFalse(self.select(IDS).whole)

    def test_what_selects_nothing_is_refused(self):
        for which in (1, -1, [0, 1], [-1], slice(-1, None), slice(8, None), [], [2, 2]):
            self.assertRaises(InvalidEngineID, self.select, which)
        for which in ("a", None, {}, 1.0, [1.0], True, slice("a", "b")):
            self.assertRaises(TypeError, self.select, which)
        for which in (0, slice(None), [0]):
            self.assertRaises(NoEnginesRegistered, self.select, which, [])

    def test_an_id_that_is_new_is_asked_for(self):
        asked = []

        def ids(again):
            asked.append(again)
            return [0, 1] if again else [0]

        self.assertEqual(Selection(1, ids).ids, [1])
        self.assertEqual(asked, [False, True])


class ViewTest(SynchronousTestCase):
    def setUp(self):
        self.cluster = InMemoryCluster(3)
        self.mec = self.cluster.multiengine()

    def test_the_same_methods_on_these_engines(self):
        view = self.mec[[2, 0]]
        view.push({"a": 1})
        self.assertEqual(list(map(len, self.mec.keys())), [1, 0, 1])
        self.assertEqual((view.ids, len(view), list(view), 1 in view), ([2, 0], 2, [2, 0], False))
        self.assertEqual(view.map(abs, [-1, -2, -3]), [1, 2, 3])
        view.scatter("b", [1, 2])
        self.assertEqual(self.mec.pull("b", targets=[0, 2]), [[2], [1]])
        self.assertEqual(view.gather("b"), [1, 2])
        self.assertRaises(InvalidEngineID, view.pull, "a", targets=1)
        view.kill()
        self.assertEqual(self.mec.get_ids(), [1])
        self.assertRaises(InvalidEngineID, view.pull, "a")

    def test_the_view_of_one_engine(self):
        one = self.mec[1]
        self.assertIsNone(one.push({"a": 1}))
        self.assertEqual((one["a"], one.pull(["a", "a"]), one.keys()), (1, [1, 1], ["a"]))
        self.assertRaises(NotDefined, one.pull, "b")
        self.assertRaises(ZeroDivisionError, one.apply, divmod, 1, 0)
        self.assertRaises(CompositeError, one.map, abs, ["a"])
        self.assertRaises(CompositeError, self.mec[[1]].pull, "b")
        pending = self.mec[1].apply(divmod, 7, 2)
        self.assertEqual(pending, (3, 1))

    def test_all_engines_warn_of_missing_parts_and_named_ones_do_not(self):
        self.mec.scatter("a", [1, 2, 3])
        self.cluster.engines[2].kill()
        self.assertRaises(PartsMissing, self.mec[:].gather, "a")
        self.assertEqual(self.mec[[0, 1]].gather("a"), [1, 2])


class PiecesTest(SynchronousTestCase):
    @quick
    @given(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.integers(1, 12))
    def test_pieces_are_the_parts_cut_evenly(self, sizes, chunks):
        results = MapResults(Block(), sum(sizes))
        results.cut(sizes, chunks)
        for target, size in enumerate(sizes):
            own = [piece for piece in results.pieces if piece.target == target]
            covered = [position for piece in own for position in range(piece.start, piece.stop)]
            self.assertEqual(covered, list(range(size)))
            lengths = {piece.stop - piece.start for piece in own}
            self.assertEqual(len(own), min(size, chunks))
            self.assertTrue(not own or (min(lengths) > 0 and max(lengths) - min(lengths) <= 1))

    def test_each_engine_gets_its_first_piece_before_others_get_their_second(self):
        results = MapResults(Block(), 6)
        results.cut([4, 2], 2)
        self.assertEqual([piece.target for piece in results.pieces], [0, 1, 0, 1])


class NearlyRightTest(SynchronousTestCase):
    def setUp(self):
        @reports_errors
        class Thing(NamesHelp):
            _elsewhere = {"launch": "use start()"}

            def start(self, targets=None, block=None):
                if block:
                    raise WaitsForever("no")
                raise TypeError("inside")

            def give(self, *args, **kwargs):
                return args, kwargs

        self.thing = Thing()

    def test_names(self):
        for name, hint in (("launch", ": use start()"), ("strat", "; did you mean 'start'?")):
            error = self.assertRaises(AttributeError, getattr, self.thing, name)
            self.assertEqual(str(error), f"Thing has no attribute {name!r}{hint}")
        self.assertEqual(
            str(self.assertRaises(AttributeError, getattr, self.thing, "quite_different")),
            "Thing has no attribute 'quite_different'",
        )
        self.assertFalse(hasattr(self.thing, "_repr_html_"))

    def test_keywords(self):
        error = self.assertRaises(TypeError, self.thing.start, target=3)
        self.assertIn("'target'; did you mean 'targets'?", str(error))
        error = self.assertRaises(TypeError, self.thing.start, colour=3)
        self.assertIn("'colour'; it takes targets, block", str(error))
        self.assertEqual(str(self.assertRaises(TypeError, self.thing.start)), "inside")
        self.assertEqual(self.thing.give(1, target=3), ((1,), {"target": 3}))

    def test_other_errors_are_raised_as_they_are(self):
        self.assertRaises(WaitsForever, self.thing.start, block=True)


class FailedSoFarTest(SynchronousTestCase):
    def test_equal_errors_share_a_line_and_many_are_counted(self):
        texts = described({1: ValueError("a\nb"), 2: ValueError("a"), 5: KeyError(5)})
        self.assertEqual(texts, ["engines 1-2 raised ValueError: a", "engine 5 raised KeyError: 5"])
        texts = described({n: KeyError(n) for n in range(MOST + 3)})
        self.assertEqual((len(texts), texts[-1]), (MOST + 1, "3 other errors"))

    def test_only_engines_of_calls_that_still_run_are_marked(self):
        class Call:
            name = "apply"
            progress = (1, 2)
            unfinished = [0]

            def failures(self):
                return {1: ValueError("no")}

        class Over(Call):
            unfinished = []

            def failures(self):
                return {2: ValueError("past")}

        rows = [(0, {}), (1, {}), (2, {})]
        note_failures(rows, [Call(), Over()])
        self.assertEqual(
            rows,
            [
                (0, {}),
                (1, {"failed": "apply raised ValueError: no here, and still runs on engine 0"}),
                (2, {}),
            ],
        )
