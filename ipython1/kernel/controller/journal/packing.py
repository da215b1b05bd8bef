"""Packed sets of ids, checksums of rows, and the rows of ``DONE`` frames.

Ids are packed in segments.  Each begins with its first id, how many ids it spans and how many offsets (u16, from the
first id on) follow; without offsets, all that it spans are meant.
"""

from __future__ import annotations

import struct
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final, TypeAlias

from ipython1.kernel.basics.error import ProtocolError
from ipython1.kernel.controller.idset import IdSet
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.taskwire import DONE_HEAD

WIDEST: Final = 65536
"""Ids that a segment, or the batch of results in one row, spans at most."""

_SEGMENT: Final = struct.Struct("<QII")
_LONG: Final = 8
_FLUSH: Final = 250_000
_STRETCH: Final = 1024

Value: TypeAlias = bytes | str | int | float | None


def checksum(values: Sequence[Value]) -> int:
    """The CRC-32 of the values of a row."""
    blobs = [value for value in values if type(value) is bytes]
    others = [len(value) if type(value) is bytes else value for value in values]
    crc = zlib.crc32(repr(others).encode())
    for blob in blobs:
        crc = zlib.crc32(blob, crc)
    return crc


def ranges_of(ids: Sequence[int]) -> list[tuple[int, int]]:
    """Rising ids as ranges."""
    if not ids:
        return []
    if ids[-1] - ids[0] + 1 == len(ids):
        return [(ids[0], ids[-1] + 1)]
    breaks = [index for index, (one, after) in enumerate(pairwise(ids), 1) if after != one + 1]
    return [
        (ids[start], ids[stop - 1] + 1)
        for start, stop in zip([0, *breaks], [*breaks, len(ids)], strict=True)
    ]


def _segment(ids: Sequence[int]) -> bytes:
    first, span = ids[0], ids[-1] - ids[0] + 1
    if span == len(ids):
        return _SEGMENT.pack(first, span, 0)
    offsets = struct.pack(f"<{len(ids)}H", *[task_id - first for task_id in ids])
    return _SEGMENT.pack(first, span, len(ids)) + offsets


def pack_ids(ids: Iterable[int]) -> bytes:
    """Pack ids, in any order."""
    rising = sorted(ids)
    return b"".join(_segment(rising[start:stop]) for start, stop in split(rising))


def split(rising: Sequence[int]) -> list[tuple[int, int]]:
    """Where to cut rising ids, so that no piece is wider than :data:`WIDEST`."""
    pieces = []
    start = 0
    while start < len(rising):
        stop = bisect_left(rising, rising[start] + WIDEST, start)
        pieces.append((start, stop))
        start = stop
    return pieces


def pack_ranges(ranges: Iterable[tuple[int, int]]) -> bytes:
    """Pack rising ranges that do not touch."""
    parts: list[bytes] = []
    short: list[int] = []
    for start, stop in ranges:
        if stop - start < _LONG:
            short.extend(range(start, stop))
            continue
        while stop - start >= 2**32:
            parts.append(_SEGMENT.pack(start, 2**31, 0))
            start += 2**31
        parts.append(_SEGMENT.pack(start, stop - start, 0))
    return b"".join(parts) + pack_ids(short)


def _segments(data: bytes) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """First id, span, and offsets of each segment.

    :raises ProtocolError: when it is malformed.
    """
    position = 0
    try:
        while position < len(data):
            first, span, count = _SEGMENT.unpack_from(data, position)
            position += _SEGMENT.size
            yield first, span, struct.unpack_from(f"<{count}H", data, position)
            position += 2 * count
    except struct.error as problem:
        raise ProtocolError(f"a set of ids is malformed: {problem}") from None


def unpack_ranges(data: bytes) -> list[tuple[int, int]]:
    """Packed ids, as ranges that do not overlap, in any order."""
    ranges: list[tuple[int, int]] = []
    for first, span, offsets in _segments(data):
        if offsets:
            ranges += ranges_of([first + offset for offset in offsets])
        else:
            ranges.append((first, first + span))
    return ranges


class IdCollector:
    """Makes a set of many packed ones, in less time than it takes to add them one by one."""

    def __init__(self) -> None:
        self.ids: IdSet = IdSet()
        self._loose: list[int] = []
        self._ranges: list[tuple[int, int]] = []

    def add(self, data: bytes) -> None:
        """Add packed ids."""
        for first, span, offsets in _segments(data):
            if offsets:
                self._loose += [first + offset for offset in offsets]
            else:
                self._ranges.append((first, first + span))
        if len(self._loose) > _FLUSH:
            self.flush()

    def flush(self) -> IdSet:
        """The set of all that was added."""
        self._loose.sort()
        ranges = self._ranges
        for start in range(0, len(self._loose), _STRETCH):  # few of them have holes
            ranges += ranges_of(self._loose[start : start + _STRETCH])
        ranges.sort()
        self.ids.update(ranges)
        self._loose, self._ranges = [], []
        return self.ids


def done_rows(data: Buffer) -> Iterator[tuple[int, int, int]]:
    """Task id, start and end of each row (``DONE_HEAD`` and payload) in some of a ``DONE`` frame.

    :raises ProtocolError: when it is malformed.
    """
    position = 0
    unpack = DONE_HEAD.unpack_from
    try:
        while position < len(data):
            head = unpack(data, position)
            end = position + DONE_HEAD.size + head[1]
            yield head[0], position, end
            position = end
    except struct.error:
        position = -1
    if position != len(data):
        raise ProtocolError("rows of results are malformed")
