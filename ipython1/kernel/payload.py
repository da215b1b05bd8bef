"""Payloads: serialized objects as lists of buffers."""

from ipython1.kernel.wire.payload import (
    Buffers,
    ISerialized,
    Serialized,
    fits_inline,
    join_inline,
    pack_sizes,
    split_inline,
    total_size,
    unpack_sizes,
)

__all__ = [
    "Buffers",
    "ISerialized",
    "Serialized",
    "fits_inline",
    "join_inline",
    "pack_sizes",
    "split_inline",
    "total_size",
    "unpack_sizes",
]
