"""Frames: batches are cut into what they were made of, and nothing else is taken for one."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import ProtocolError
from ipython1.kernel.tests.wiresupport import quick
from ipython1.kernel.wire import frames

a_frame = st.tuples(
    st.integers(0, 255),
    st.integers(0, 255),
    st.integers(0, 2**64 - 1),
    st.binary(max_size=20),
    st.binary(max_size=40),
)


def pack(frame: tuple[int, int, int, bytes, bytes]) -> bytes:
    kind, flags, ident, meta, payload = frame
    return frames.pack_frame(kind, ident, meta, payload, flags)


def unpack(batch: Any) -> list[tuple[int, int, int, bytes, bytes]]:
    seen: list[tuple[int, int, int, bytes, bytes]] = []
    frames.dispatch(
        batch,
        lambda kind, flags, ident, meta, payload: seen.append(
            (kind, flags, ident, bytes(meta), bytes(payload))
        ),
    )
    return seen


class FramesTest(SynchronousTestCase):
    @quick
    @given(st.lists(a_frame, max_size=6), st.sampled_from([bytes, bytearray, memoryview]))
    def test_a_batch_gives_its_frames_in_order(self, sent, kind_of_buffer):
        batch = b"".join(pack(frame) for frame in sent)
        self.assertEqual(unpack(kind_of_buffer(batch)), sent)

    @quick
    @given(st.lists(a_frame, min_size=1, max_size=3), st.data())
    def test_a_batch_that_is_cut_short_is_refused_after_its_whole_frames(self, sent, data):
        whole = b"".join(pack(frame) for frame in sent)
        last = len(pack(sent[-1]))
        cut = whole[: len(whole) - data.draw(st.integers(1, last - 1))]
        seen = []
        with self.assertRaises(ProtocolError):
            frames.dispatch(cut, lambda *frame: seen.append(frame))
        self.assertEqual(len(seen), len(sent) - 1)

    def test_a_header_has_the_size_that_is_promised(self):
        self.assertEqual(frames.HEADER_SIZE, 16)
        self.assertEqual(
            pack((1, 2, 3, b"me", b"pay")),
            b"\x01\x02\x02\x00\x03\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00mepay",
        )

    def test_what_most_of_a_batch_is_made_of_is_not_copied(self):
        """A piece is, else a small one would keep the whole batch."""
        small = frames.pack_frame(frames.BULK_PIECE, 1, b"", b"small")
        large = frames.pack_frame(frames.BULK_PIECE, 2, b"", bytes(1000))
        other = frames.pack_frame(frames.OUTCOME, 3, b"meta", b"payload")
        got: list[tuple[type, bytes]] = []
        batch = memoryview(bytearray(small + large + other))
        frames.dispatch(
            batch, lambda _kind, _flags, _ident, _meta, data: got.append((type(data), bytes(data)))
        )
        self.assertEqual(got, [(bytes, b"small"), (memoryview, bytes(1000)), (bytes, b"payload")])

    def test_the_largest_frame_fits_into_a_batch_that_is_not_full_yet(self):
        """So a link never has to cut a batch short, nor send one that is refused."""
        largest = frames.HEADER_SIZE + frames.MAX_META + frames.PIECE_SIZE
        self.assertLess(frames.BATCH_SIZE + largest, frames.MAX_BATCH)

    def test_no_two_kinds_have_the_same_number(self):
        no_kinds = {"BULK", "PROTOCOL_VERSION", "HEADER_SIZE"}
        named = [
            value
            for name, value in vars(frames).items()
            if name.isupper() and name not in no_kinds and type(value) is int and 0 < value < 64
        ]
        self.assertEqual(len(set(named)), len(named))
