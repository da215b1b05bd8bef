"""Payloads: an object's buffers survive being joined, and come back writable where arrays stand on them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import ProtocolError
from ipython1.kernel.tests.wiresupport import quick
from ipython1.kernel.wire.frames import MAX_PAYLOAD
from ipython1.kernel.wire.payload import (
    Serialized,
    fits_inline,
    join_inline,
    pack_sizes,
    split_inline,
    total_size,
    unpack_sizes,
)

some_buffers = st.lists(st.binary(max_size=30), min_size=1, max_size=5)


class PayloadTest(SynchronousTestCase):
    @quick
    @given(some_buffers, st.sampled_from([bytes, bytearray, memoryview]))
    def test_joined_buffers_come_back(self, buffers, kind):
        parts = split_inline(kind(join_inline(buffers)))
        self.assertEqual([bytes(part) for part in parts], buffers)

    def test_buffers_of_arrays_come_back_writable(self):
        _, array = split_inline(join_inline([b"stream", b"array"]))
        array[0] = 65
        self.assertEqual(array, b"Array")

    @quick
    @given(some_buffers, st.data())
    def test_what_is_cut_short_or_too_long_is_refused(self, buffers, data):
        whole = join_inline(buffers)
        broken = data.draw(
            st.one_of(
                st.integers(0, len(whole) - 1).map(lambda end: whole[:end]),
                st.binary(min_size=1, max_size=4).map(lambda more: whole + more),
            )
        )
        with self.assertRaises(ProtocolError):
            split_inline(broken)

    def test_a_count_that_cannot_be_is_refused_before_memory_is_taken(self):
        with self.assertRaises(ProtocolError):
            unpack_sizes(b"\xff\xff\xff\xff" + bytes(64))

    def test_sizes_and_limits(self):
        buffers = [b"abc", memoryview(b"de"), bytearray()]
        self.assertEqual(total_size(buffers), 5)
        self.assertEqual(Serialized(tuple(buffers)).size, 5)
        self.assertEqual(unpack_sizes(pack_sizes(buffers)), (3, 2, 0))
        self.assertTrue(fits_inline([bytes(MAX_PAYLOAD - 12)]))
        self.assertFalse(fits_inline([bytes(MAX_PAYLOAD - 11)]))
        self.assertEqual(len(join_inline([bytes(MAX_PAYLOAD - 12)])), MAX_PAYLOAD)
