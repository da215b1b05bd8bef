"""Payloads: an object's bytes as a list of buffers, laid out so that they can be cut, joined and forwarded unread.

The first buffer is the pickle stream, the others are its out-of-band buffers.  Nothing here looks into them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from zope.interface import Attribute, Interface, implementer

from ipython1.kernel.basics.error import ProtocolError
from ipython1.kernel.wire.frames import MAX_PAYLOAD, Buffer

Buffers: TypeAlias = Sequence[Buffer]

_COUNT = struct.Struct("<I")


class ISerialized(Interface):
    """An object's bytes; what is adaptable to this can be given to ``push_serialized``."""

    buffers: Buffers = Attribute("The pickle stream, then its out-of-band buffers.")
    size: int = Attribute("All bytes together.")


@implementer(ISerialized)
@dataclass(frozen=True, slots=True)
class Serialized:
    """An object's bytes.

    :ivar buffers: the pickle stream, then its out-of-band buffers.
    """

    buffers: tuple[Buffer, ...]

    @property
    def size(self) -> int:
        """All bytes together."""
        return total_size(self.buffers)


class Live(list[Buffer]):
    """Buffers that may belong to objects of the user's, who changes them in time.

    Before that can happen :meth:`secure` exchanges them for copies, also for those who are reading them.  If that fails
    or is interrupted, it goes on when it is called again.

    :ivar secured: how many of them are copies.
    """

    def __init__(self, buffers: Buffers) -> None:
        super().__init__(buffers)
        self.secured: int = 0

    def secure(self, copy: Callable[[Buffer], Buffer]) -> None:
        """Have ``copy`` copy what is not secure; from the thread that runs the user's code."""
        while self.secured < len(self):
            self[self.secured] = copy(self[self.secured])
            self.secured += 1


def total_size(buffers: Buffers) -> int:
    """The length of all buffers together, in bytes."""
    return sum(map(len, buffers))


def pack_sizes(buffers: Buffers) -> bytes:
    """The number of buffers and the length of each."""
    return struct.pack(f"<I{len(buffers)}Q", len(buffers), *map(len, buffers))


def unpack_sizes(data: Buffer) -> tuple[int, ...]:
    """The lengths that :func:`pack_sizes` wrote.

    :raises ProtocolError: when there are fewer than it says.
    """
    if len(data) < _COUNT.size:
        raise ProtocolError("a payload has no count of its buffers")
    (count,) = _COUNT.unpack_from(data, 0)
    if len(data) < _COUNT.size + 8 * count:
        raise ProtocolError(f"a payload ends before the lengths of its {count} buffers")
    return struct.unpack_from(f"<{count}Q", data, _COUNT.size)


def fits_inline(buffers: Buffers) -> bool:
    """True when the buffers go into one frame; False when they need a bulk transfer."""
    return total_size(buffers) + _COUNT.size + 8 * len(buffers) <= MAX_PAYLOAD


def join_inline(buffers: Buffers) -> bytes:
    """The buffers as one frame's payload: their lengths, then their bytes."""
    return b"".join((pack_sizes(buffers), *buffers))


def check_inline(data: Buffer) -> None:
    """Check that :func:`split_inline` can split a payload, for those who only pass it on.

    :raises ProtocolError: when the lengths do not add up.
    """
    _checked_sizes(data)


def _checked_sizes(data: Buffer) -> tuple[int, ...]:
    sizes = unpack_sizes(data)
    if _COUNT.size + 8 * len(sizes) + sum(sizes) != len(data):
        raise ProtocolError(f"a payload of {len(data)} bytes has buffers of {sum(sizes)} bytes")
    return sizes


def split_uncopied(data: Buffer) -> list[Buffer]:
    """The buffers of what :func:`join_inline` joined, all but the first read-only, where they are.

    :raises ProtocolError: when the lengths do not add up.
    """
    sizes = _checked_sizes(data)
    position = _COUNT.size + 8 * len(sizes)
    view = memoryview(data).toreadonly()
    buffers: list[Buffer] = []
    for size in sizes:
        buffers.append((view if buffers else data)[position : position + size])
        position += size
    return buffers


def split_inline(data: Buffer) -> list[Buffer]:
    """The buffers that :func:`join_inline` joined.

    All but the first are copied into writable memory, because arrays are rebuilt upon them and users expect to be
    able to write into their arrays.

    :raises ProtocolError: when the lengths do not add up.
    """
    sizes = _checked_sizes(data)
    position = _COUNT.size + 8 * len(sizes)
    if len(sizes) == 1:
        return [data[position:]]
    buffers: list[Buffer] = []
    for index, size in enumerate(sizes):
        part = data[position : position + size]
        buffers.append(part if index == 0 else bytearray(part))
        position += size
    return buffers
