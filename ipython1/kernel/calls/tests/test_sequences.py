"""Scatter and gather: what was cut into parts is put together again, whatever kind of sequence it is."""

from __future__ import annotations

import array
import collections
import pickle
from typing import Any, NamedTuple
from unittest import SkipTest

import numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.calls.map import get_distribution
from ipython1.kernel.calls.sequences import as_sequence, single_element
from ipython1.kernel.tests.wiresupport import quick
from ipython1.testing import InMemoryCluster

try:
    import pandas
except ImportError:
    pandas = None  # type: ignore[assignment]


class Path:
    """A user's sequence: slices are of the class, and ``+`` concatenates."""

    def __init__(self, *steps):
        self.steps = steps

    def __len__(self):
        return len(self.steps)

    def __iter__(self):
        return iter(self.steps)

    def __getitem__(self, key):
        return Path(*self.steps[key]) if isinstance(key, slice) else self.steps[key]

    def __add__(self, other):
        return Path(*self.steps, *other.steps)

    def __eq__(self, other):
        return type(other) is Path and self.steps == other.steps

    __hash__ = None


class Vector(Path):
    """A user's sequence whose ``+`` adds the elements."""

    def __getitem__(self, key):
        return Vector(*self.steps[key]) if isinstance(key, slice) else self.steps[key]

    def __add__(self, other):
        return Vector(*map(sum, zip(self, other, strict=True)))


class Unsliced(Path):
    """A user's sequence without slices."""

    def __getitem__(self, key):
        return self.steps[key.__index__()]


class Labelled(numpy.ndarray):
    """An array with an attribute."""

    def __array_finalize__(self, other):
        self.label = getattr(other, "label", None)

    def __reduce__(self):
        make, args, state = super().__reduce__()
        return make, args, (state, self.label)

    def __setstate__(self, state):
        super().__setstate__(state[0])
        self.label = state[1]


class Pair(NamedTuple):
    one: int
    two: int


def labelled(numbers: list[int]) -> Labelled:
    labels = numpy.array(numbers, int).view(Labelled)
    labels.label = "metres"
    return labels


def masked(data: Any) -> Any:
    made = numpy.ma.array(data, mask=numpy.arange(data.size).reshape(data.shape) % 3 == 1)
    made.fill_value = -77
    return made


ints = st.lists(st.integers(-1000, 1000), max_size=17)
floats = st.lists(st.floats(allow_nan=False), max_size=17)

plain = st.one_of(
    ints,
    ints.map(tuple),
    st.text(max_size=17),
    st.binary(max_size=17),
    st.binary(max_size=17).map(bytearray),
    ints.map(lambda items: array.array("h", items)),
    floats.map(lambda items: array.array("d", items)),
    ints.map(collections.UserList),
    st.text(max_size=17).map(collections.UserString),
    ints.map(collections.deque),
    ints.map(lambda items: collections.deque(items, maxlen=17)),
    ints.map(lambda items: Path(*items)),
)

dtypes = st.sampled_from(
    [
        *("f8", "u1", "i2", "?", "c16", "S3", "U2", "M8[s]", "O"),
        numpy.dtype([("a", ">i2"), ("b", "f8", (2,))]),
        numpy.dtype([("a", "i1"), ("b", "f8")], align=True),
    ]
)
shapes = st.one_of(st.tuples(st.integers(0, 9)), st.tuples(st.integers(0, 9), st.integers(0, 3)))


def filled(dtype: Any, shape: tuple[int, ...]) -> Any:
    counted = numpy.arange(numpy.prod(shape, dtype=int)).reshape(shape)
    dtype = numpy.dtype(dtype)
    if dtype.names:
        made = numpy.zeros(shape, dtype)
        made["a"] = counted
        return made
    return counted.astype(dtype)


arrays = st.builds(filled, dtypes, shapes)
records = st.integers(0, 9).map(
    lambda n: numpy.rec.array([(1, 0.5)] * 9, dtype=[("x", "i4"), ("y", "f8")])[:n]
)
subclasses = st.one_of(
    arrays.filter(lambda one: one.dtype.kind in "fib").map(masked),
    hn.arrays("i4", st.integers(0, 9)).map(numpy.ma.array),
    records,
    st.integers(0, 9).map(lambda n: numpy.arange(2 * n).reshape(n, 2).view(numpy.matrix)),
    ints.map(labelled),
)


def same(one: Any, two: Any) -> bool:
    """Whether two sequences are equal, with everything that belongs to them."""
    if type(one) is not type(two):
        return False
    if isinstance(one, numpy.ma.MaskedArray):
        return (
            one.fill_value == two.fill_value
            and same(one.data, two.data)
            and numpy.array_equal(numpy.ma.getmaskarray(one), numpy.ma.getmaskarray(two))
        )
    if isinstance(one, numpy.ndarray):
        return (
            one.dtype == two.dtype
            and one.dtype.isnative == two.dtype.isnative
            and one.shape == two.shape
            and getattr(one, "label", None) == getattr(two, "label", None)
            and repr(one.tolist()) == repr(two.tolist())
        )
    if isinstance(one, array.array):
        return one.typecode == two.typecode and one == two
    if isinstance(one, collections.deque):
        return one.maxlen == two.maxlen and one == two
    return bool(one == two)


def there_and_back(sequence: Any, n: int, dist: str) -> Any:
    """Scatter over ``n`` engines and gather, without a cluster."""
    distribution = get_distribution(dist)
    parts = distribution.partition(sequence, n)
    assert len(parts) == n
    return distribution.join(pickle.loads(pickle.dumps(parts)))


class RoundTrips(SynchronousTestCase):
    def check(self, sequence: Any, n: int, dist: str) -> None:
        back = there_and_back(sequence, n, dist)
        self.assertTrue(same(sequence, back), f"{sequence!r} became {back!r}")

    @quick
    @given(plain, st.integers(1, 7), st.sampled_from("br"))
    def test_sequences_of_python(self, sequence, n, dist):
        self.check(sequence, n, dist)

    @quick
    @given(arrays, st.integers(1, 7), st.sampled_from("br"))
    def test_arrays(self, sequence, n, dist):
        self.check(sequence, n, dist)

    @quick
    @given(subclasses, st.integers(1, 7), st.sampled_from("br"))
    def test_subclasses_of_arrays(self, sequence, n, dist):
        self.check(sequence, n, dist)

    @quick
    @given(ints, st.integers(1, 7), st.sampled_from("br"))
    def test_what_becomes_a_list_or_another_type(self, items, n, dist):
        for given_, expected in (
            (range(len(items)), list(range(len(items)))),
            (iter(items), items),
            (dict.fromkeys(items).keys(), list(dict.fromkeys(items))),
            (Vector(1, *items), [1, *items]),
            (Unsliced(*items), items),
            (type("Own", (list,), {})(items), items),
            (type("Own", (str,), {})("abcde"), "abcde"),
            (Pair(1, 2), (1, 2)),
            (memoryview(b"abcde"), b"abcde"),
            (memoryview(array.array("i", items)), array.array("i", items)),
            (memoryview(numpy.ones((2, 2))), [[1.0, 1.0], [1.0, 1.0]]),
        ):
            back = there_and_back(given_, n, dist)
            self.assertTrue(same(expected, back), f"{given_!r} became {back!r}")

    def test_elements_pushed_by_themselves_are_put_in_their_places(self):
        for dist in "br":
            for n in (1, 2, 3, 5, 7):
                parts = get_distribution(dist).partition(list(range(5)), n)
                whole = get_distribution(dist).join([single_element(part) for part in parts])
                self.assertEqual(whole, list(range(5)), (dist, n))

    def test_arrays_of_no_dimension_are_single_objects(self):
        for dist in "br":
            back = get_distribution(dist).join([numpy.array(1.0), numpy.array(2.0)])
            self.assertEqual([one.shape for one in back], [(), ()])
            self.assertEqual(back, [1.0, 2.0])
            mixed = get_distribution(dist).join([numpy.array([1, 3]), numpy.array(2)])
            self.assertEqual(sorted(mixed.tolist()), [1, 2, 3])
            self.assertRaisesRegex(TypeError, "0 dimensions", as_sequence, numpy.array(1.0))

    def test_parts_without_elements_do_not_change_the_type_of_the_others(self):
        big = 2**60 + 1
        back = get_distribution("b").join([numpy.array([big]), numpy.array([]), []])
        self.assertEqual((back.dtype.kind, back.tolist()), ("i", [big]))

    def test_parts_of_several_kinds(self):
        join = get_distribution("b").join
        self.assertEqual(join([[1], (2,), array.array("b", [3])]), [1, 2, 3])
        self.assertEqual(join([array.array("b", [1]), array.array("d", [2])]), [1, 2])
        self.assertEqual(join([b"a", bytearray(b"b"), "c"]), [b"a", b"b", "c"])
        self.assertEqual(join([{"a": 1}, {"b": 2}]), [{"a": 1}, {"b": 2}])
        masked_too = join([numpy.ma.array([1, 2], mask=[0, 1]), numpy.array([3])])
        self.assertEqual(masked_too.tolist(), [1, None, 3])

    def test_a_bounded_deque_that_grew_keeps_everything(self):
        parts = [collections.deque([1, 2], 2), collections.deque([3, 4], 2)]
        self.assertEqual(get_distribution("b").join(parts), collections.deque([1, 2, 3, 4]))


class EngineTests(SynchronousTestCase):
    """Through the clients, and engines that do not have the classes loaded already."""

    def setUp(self):
        self.cluster = InMemoryCluster(3)
        self.mec = self.cluster.multiengine()

    def test_scatter_and_gather(self):
        for sequence in (
            collections.deque("abcd"),
            numpy.ma.array([1, 2, 3, 4], mask=[0, 1, 0, 0]),
            numpy.rec.array([(1, 2.0)] * 4),
            array.array("d", [1, 2]),
            collections.UserList([1, 2, 3, 4]),
        ):
            for dist in "br":
                self.mec.scatter("x", sequence, dist=dist)
                self.assertTrue(same(sequence, self.mec.gather("x", dist=dist)), sequence)

    def test_the_same_kinds_as_sequences_of_maps(self):
        sequences = [
            collections.deque("abcd"),
            numpy.ma.array([1, 2, 3, 4], mask=[0, 1, 0, 0]),
            array.array("d", [1, 2]),
            collections.UserString("abc"),
            memoryview(b"abc"),
            Unsliced(1, 2, 3),
            {"b": 1, "a": 2},
        ]
        if pandas is not None:
            sequences.append(pandas.Series([1, 2, 3], index=[5, 6, 7]))
            sequences.append(pandas.DataFrame({"a": [1, 2], "b": [3, 4]}))
            sequences.append(pandas.Index(["a", "b"]))
        for sequence in sequences:
            for dist in "br":
                self.assertEqual(self.mec.raw_map(str, [sequence], dist), list(map(str, sequence)))

    def test_what_raw_map_does_not_take_is_named(self):
        for wrong in (range(4), [1, 2], "abc", 5, {"a": [1]}, [numpy.array(1.0)]):
            error = self.assertRaises(TypeError, self.mec.raw_map, str, wrong)
            self.assertIn(f"sequences must be a list of sequences, not {wrong!r}", str(error))
        self.assertEqual(self.mec.raw_map(str, iter([[1, 2]])), ["1", "2"])


class SparseTests(SynchronousTestCase):
    def test_sparse_arrays_and_matrices(self):
        try:
            from scipy import sparse
        except ImportError:
            raise SkipTest("scipy is not installed") from None
        for kind in (sparse.csr_matrix, sparse.csr_array):
            for form in ("csr", "csc", "coo", "lil"):
                whole = kind(numpy.arange(15.0).reshape(5, 3)).asformat(form)
                for dist in "br":
                    for n in (1, 2, 7):
                        back = there_and_back(whole, n, dist)
                        self.assertIs(type(back), type(whole))
                        self.assertEqual(back.toarray().tolist(), whole.toarray().tolist())


class PandasTests(SynchronousTestCase):
    def setUp(self):
        if pandas is None:
            raise SkipTest("pandas is not installed")

    def test_series_frames_and_indices(self):
        from pandas import testing

        days = pandas.date_range("2024-01-30", periods=8, freq="6h", name="when")
        two = pandas.MultiIndex.from_product([["a", "b"], range(4)], names=["x", "y"])
        kinds = pandas.Categorical(list("abcabcab"), ["c", "b", "a", "z"], ordered=True)
        frame = pandas.DataFrame(
            {"i": range(8), "k": kinds, "s": list("abcdefgh"), "t": days.tz_localize("UTC")},
            index=two,
        )
        frame.attrs["unit"] = "mm"
        for whole in (
            pandas.Series([1, 2, 3, 4, 5, 6, 7, 8], name="n"),
            pandas.Series(range(8), index=[9, 9, 9, 3, 2, 1, 0, -1], dtype="int16"),
            pandas.Series(range(8), index=days),
            pandas.Series(range(8), index=pandas.date_range("2024-01-01", periods=8, freq="ME")),
            pandas.Series(kinds, index=pandas.RangeIndex(10, -6, -2, name="r")),
            pandas.Series([None, 1, None, 2, 3, 4, 5, 6], dtype="Int64"),
            pandas.Series(list("abcdefgh"), dtype="string"),
            pandas.Series(range(8), index=pandas.period_range("2024", periods=8, freq="D")),
            frame,
            pandas.DataFrame(index=range(8)),
            pandas.DataFrame([[1, 2.5]] * 8, columns=["same", "same"]),
        ):
            compare = testing.assert_frame_equal if whole.ndim == 2 else testing.assert_series_equal
            for size in (0, 1, 2, 5, 8):
                self.check(whole[:size] if whole.ndim == 1 else whole.iloc[:size], compare)
                self.check(whole.index[:size], testing.assert_index_equal)
        for size in (0, 1, 5, 8):
            self.check(kinds[:size], None)

    def check(self, whole: Any, compare: Any) -> None:
        for dist in "br":
            for n in (1, 2, 3, 9):
                back = there_and_back(whole, n, dist)
                self.assertIs(type(back), type(whole))
                if isinstance(whole, pandas.Index):
                    compare(back, whole, exact=True)
                    self.assertEqual(getattr(back, "freq", None), getattr(whole, "freq", None))
                elif isinstance(whole, pandas.Categorical):
                    self.assertEqual(back.dtype, whole.dtype)
                    self.assertEqual(list(back), list(whole))
                else:
                    compare(back, whole, check_index_type=True, check_freq=True)
                    self.assertIs(type(back.index), type(whole.index))
                    self.assertEqual(back.attrs, whole.attrs)

    def test_single_elements_by_position_not_by_label(self):
        mec = InMemoryCluster(3).multiengine()
        mec.scatter("x", pandas.Series([5, 6, 7], index=[2, 1, 0]), flatten=True)
        self.assertEqual(mec.pull("x"), [5, 6, 7])
        self.assertEqual(mec.gather("x"), [5, 6, 7])
        mec.scatter("x", pandas.DataFrame({"a": [1, 2, 3]}, index=list("xyz")), flatten=True)
        self.assertEqual([one["a"] for one in mec.pull("x")], [1, 2, 3])
        mec.scatter("x", pandas.Index(list("abc")), flatten=True)
        self.assertEqual(mec.gather("x"), "abc")

    def test_tables_computed_on_engines(self):
        mec = InMemoryCluster(2).multiengine()
        mec.scatter("t", pandas.DataFrame({"a": [1, 2, 3]}))
        mec.execute("u = t[t.a > 2]")
        self.assertEqual(mec.gather("u").to_dict("list"), {"a": [3]})
        join = get_distribution("b").join
        self.assertEqual(join([pandas.Series([1]), [2]]), [1, 2])
