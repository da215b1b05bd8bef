"""Large bytes and text travel as buffers of their own, uncopied, and arrive as they were."""

from __future__ import annotations

import pickle
import random
from typing import Any

import numpy
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import SerializationError
from ipython1.kernel.objects.cutstream import CUT_FROM, CutStream
from ipython1.kernel.objects.frozen import Frozen
from ipython1.kernel.objects.homes import Home
from ipython1.kernel.objects.serialize import dumps, load, loads
from ipython1.kernel.wire.payload import join_inline, split_inline

DATA = bytes(range(256)) * 400
LARGE = {
    "bytes": DATA,
    "bytearray": bytearray(DATA),
    "ASCII": "text " * 20_000,
    "other text": "\u20ac\U0001f40d" * 20_000,
    "surrogates": "\ud800" * 70_000,
}


class Holder:
    """A user's object."""

    def __init__(self, held: Any) -> None:
        self.held = held


def both_ways(value: Any) -> Any:
    """``value`` as it arrives, to be kept and for a call."""
    buffers = dumps(value).buffers
    kept = loads(split_inline(join_inline(buffers)))
    assert load(split_inline(join_inline(buffers)), Home({})).value == kept
    return kept


class ContentsTest(SynchronousTestCase):
    def test_alone_and_at_any_depth(self):
        for name, value in LARGE.items():
            for whole in (value, [value], {"a": (1, [value, None], value)}, ["x", *[value] * 3]):
                with self.subTest(name, kind=type(whole)):
                    arrived = both_ways(whole)
                    self.assertEqual(arrived, whole)
                    self.assertIs(type(arrived), type(whole))

    def test_the_stream_is_small(self):
        for name, value in LARGE.items():
            with self.subTest(name):
                stream, contents = dumps({"a": [value]}).buffers
                self.assertLess(len(stream), 100)
                self.assertGreaterEqual(len(contents), len(value))

    def test_a_bytearray_whose_size_another_thread_changes(self):
        for size, change in (
            (CUT_FROM, 1),
            (CUT_FROM, -1),
            (3_000_000, 5),
            (3_000_000, -2_999_999),
        ):
            with self.subTest(size=size, change=change):
                array = bytearray(b"0" * size)

                class Interrupted(CutStream):
                    def write(self, data: Any) -> None:
                        if data is array:
                            array[size + min(change, 0) :] = b"0" * change
                        super().write(data)

                buffers: list[Any] = []
                file = Interrupted(buffers)
                pickle.Pickler(file, 5).dump([array, "and more", array])
                first, more, again = loads([file.stream(), *buffers])
                self.assertEqual((first, more), (bytearray(b"0" * (size + change)), "and more"))
                self.assertIs(again, first)

    def test_from_which_size(self):
        self.assertEqual(len(dumps(DATA[: CUT_FROM - 1]).buffers), 1)
        self.assertEqual(len(dumps(DATA[:CUT_FROM]).buffers), 2)

    def test_bytes_are_not_copied(self):
        _, one, other = dumps([DATA, {"a": DATA[1:]}], snapshot=True).buffers
        self.assertIs(one, DATA)
        self.assertIs(type(other), bytes)

    def test_bytearrays_are_as_they_were_and_not_locked(self):
        value = bytearray(DATA)
        packed = dumps([value])
        value[0] ^= 255
        value.append(1)
        self.assertEqual(loads(packed), [bytearray(DATA)])

    def test_what_arrives_is_private_and_writable(self):
        buffers = split_inline(join_inline(dumps(bytearray(DATA)).buffers))
        one, other = loads(buffers), loads(buffers)
        one[0] ^= 255
        one.append(1)
        self.assertEqual(other, DATA)

    def test_one_object_stays_one(self):
        one, other = both_ways([DATA, DATA])
        self.assertIs(one, other)

    def test_between_arrays(self):
        array = numpy.arange(5000)
        value = [array, DATA, array + 1, "x" * 70_000, Holder(array + 2), LARGE["bytearray"]]
        arrived = loads(dumps(value))
        self.assertTrue(numpy.array_equal(arrived[0], array))
        self.assertTrue(numpy.array_equal(arrived[2], array + 1))
        self.assertTrue(numpy.array_equal(arrived[4].held, array + 2))
        self.assertEqual([arrived[n] for n in (1, 3, 5)], [value[n] for n in (1, 3, 5)])

    def test_in_what_is_pickled_by_value(self):
        text = "\u20ac" * 50_000
        scope: dict[str, Any] = {"__name__": "__main__", "data": DATA}
        exec("def function(n, text=None):\n    return data[n:], text", scope)
        function = scope["function"]
        function.__defaults__ = (text,)
        arrived = load(dumps([function, text]), Home({})).value
        self.assertEqual(arrived[0](3), (DATA[3:], text))

    def test_frozen(self):
        value = {"a": Holder([DATA, bytearray(DATA), numpy.arange(3000)])}
        held = loads(dumps([Frozen(value)]))[0]["a"].held
        self.assertEqual(held[:2], [DATA, bytearray(DATA)])
        held[2][0] = 7  # it is writable

    def test_many_objects(self):
        rng = random.Random(2008)
        for _ in range(100):
            value = [self.some(rng) for _ in range(rng.randrange(8))]
            self.assertEqual(both_ways(value), value)

    def some(self, rng: random.Random) -> Any:
        size = rng.choice((0, 1, 3, 100, CUT_FROM - 3, CUT_FROM, 2 * CUT_FROM))
        kind = rng.randrange(6)
        if kind == 0:
            return rng.randbytes(size)
        if kind == 1:
            return bytearray(rng.randbytes(size))
        if kind == 2:
            return "\u00e9" * size
        if kind == 3:
            return list(range(size // 10))
        if kind == 4:
            return {rng.random(): rng.randbytes(size)}
        return b"B\x00\x00\x01\x00" * (size // 5)  # looks like a header of contents

    def test_what_looks_like_a_header(self):
        """Frames that end as if contents followed, before one of that length."""
        header = b"B" + (CUT_FROM + 100).to_bytes(4, "little")
        for size in range(CUT_FROM - 40, CUT_FROM):
            value = [b"-" * (size - len(header)) + header, b"+" * (CUT_FROM - 8)] * 2
            self.assertEqual(both_ways(value), value)

    def test_damage_is_noticed(self):
        stream, contents = dumps(DATA).buffers
        for parts in ([stream], [stream, contents[:-1]], [stream[:20], contents], [stream[:6]]):
            self.assertRaises(SerializationError, loads, parts)

    def test_plain_pickles_are_as_before(self):
        value = [1, "x", DATA[:100]]
        (stream,) = dumps(value).buffers
        self.assertEqual(stream, pickle.dumps(value, 5))
