"""Pickle streams without their large ``bytes``, ``bytearray`` and ``str``, whose contents are buffers of their own.

The standard pickler hands the contents of such an object to its file uncopied and alone, right after a header with
their size, and the unpickler reads them alone, into the new object where it can.  So the stream is *cut* after the
header: contents never are a part of it, at any depth of an object.

A stream that was cut begins with a head that says where.  The contents stand between the out-of-band buffers, in the
order in which the pickler met both.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final

from ipython1.kernel.host.memorystock import ask_for_huge_pages
from ipython1.kernel.wire.bulk import copy_of
from ipython1.kernel.wire.frames import Buffer

CUT_FROM: Final = 64 * 1024
"""Bytes from which the pickler hands contents over alone."""

CUT: Final = b"\x00cut"
"""How a stream begins that was cut, and no other pickle."""

_COUNT: Final = struct.Struct("<I")
_SIZE: Final = struct.Struct("<Q")
"""The size of a bytearray at the end of its header."""

_PROTO_SIZE: Final = 2
_FRAME: Final = 0x95
_FRAME_HEAD: Final = struct.Struct("<BQ")
_HEADERS: Final = {
    ord("B"): struct.Struct("<BI"),  # BINBYTES
    0x8E: struct.Struct("<BQ"),  # BINBYTES8
    ord("X"): struct.Struct("<BI"),  # BINUNICODE
    0x8D: struct.Struct("<BQ"),  # BINUNICODE8
    0x96: struct.Struct("<BQ"),  # BYTEARRAY8
}
"""What may stand before contents, by its first byte: an opcode and the size."""

_LEAST: Final = 5
"""Bytes of the shortest of these; all that is outside of frames besides them is shorter."""


class CutStream:
    """The file of a pickler.

    :param buffers: gets the contents; the pickler's ``buffer_callback`` adds to it, too.
    """

    def __init__(self, buffers: list[Buffer]) -> None:
        self._buffers = buffers
        self._parts: list[bytes] = []
        self._size = 0
        self._cuts: list[int] = []
        self._announced = 0

    def write(self, data: Any) -> None:
        announced, self._announced = self._announced, 0
        if announced and (announced == len(data) or type(data) is bytearray):
            self._cuts.append(self._size)
            # Bytes never change.  A bytearray would be locked if it were kept, and text is not held by what is given.
            contents = data if type(data) is bytes else _copied(data)
            if len(contents) != announced:
                self._parts[-1] = self._parts[-1][: -_SIZE.size] + _SIZE.pack(len(contents))
            self._buffers.append(contents)
            return
        self._announced = _announced(data, 0 if self._parts else _PROTO_SIZE)
        self._parts.append(data)
        self._size += len(data)

    def stream(self) -> bytes:
        """What was written, without contents."""
        cuts = self._cuts
        if not cuts:
            return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        head = CUT + struct.pack(f"<I{len(cuts)}Q", len(cuts), *cuts)
        return b"".join((head, *self._parts))


def _copied(data: Any) -> Buffer:
    """A copy of contents; other threads may change the size of a bytearray at any time, and are not kept from it."""
    while True:
        try:
            return copy_of(data)
        except ValueError:
            if type(data) is not bytearray:
                raise


def _announced(chunk: bytes, start: int) -> int:
    """The size of the contents that follow what the pickler has written; 0 if none do.

    It writes whole frames, and what is between frames: headers of contents, and no more than three other bytes.
    """
    while start < len(chunk) and chunk[start] == _FRAME:
        start += _FRAME_HEAD.size + _FRAME_HEAD.unpack_from(chunk, start)[1]
    if len(chunk) - start < _LEAST:
        return 0
    for opcode, header in _HEADERS.items():
        place = len(chunk) - header.size
        if place >= start and chunk[place] == opcode:
            size: int = header.unpack_from(chunk, place)[1]
            if size >= CUT_FROM:
                return size
    return 0


def own(buffer: Buffer) -> Buffer:
    """An out-of-band buffer as memory that an object may write to: a copy of what is read-only."""
    return copy_of(buffer) if type(buffer) is memoryview and buffer.readonly else buffer


class CutReader:
    """The file of an unpickler; reads a stream and the contents that were cut from it.

    :ivar data: the stream, without its head.
    :ivar buffers: for the unpickler, which takes out-of-band buffers from it.
    """

    def __init__(self, stream: bytes, rest: Sequence[Buffer]) -> None:
        start = len(CUT) + _COUNT.size
        (count,) = _COUNT.unpack_from(stream, len(CUT))
        cuts = struct.unpack_from(f"<{count}Q", stream, start)
        self.data: bytes = stream[start + 8 * count :]
        self._rest = iter(rest)
        self.buffers: Iterator[Buffer] = map(own, self._rest)
        self._cuts = iter(cuts)
        self._next = next(self._cuts, -1)
        self._position = 0

    def _contents(self, size: int) -> Buffer:
        contents = next(self._rest, b"")
        if len(contents) != size:
            raise pickle.UnpicklingError("a large object and its contents differ in size")
        self._next = next(self._cuts, -1)
        return contents

    def read(self, size: int) -> Any:
        if self._position == self._next:
            return self._contents(size)
        begin = self._position
        self._position += size
        return self.data[begin : self._position]

    def readinto(self, memory: Any) -> int:
        view = memoryview(memory).cast("B")
        ask_for_huge_pages(view)
        view[:] = self.read(len(view))
        return len(view)

    def readline(self) -> bytes:
        begin = self._position
        self._position = self.data.find(b"\n", begin) + 1 or len(self.data)
        return self.data[begin : self._position]
