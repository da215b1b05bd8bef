"""Bulk transfers: payloads too large for a frame, sent in pieces at the receiver's pace."""

from ipython1.kernel.wire.bulk import (
    LARGE_BUFFER,
    WINDOW,
    IncomingBulk,
    OutgoingBulk,
    SendFrame,
    WritableBuffer,
    allocate,
    cut,
    number_of_pieces,
    pack_reference,
    unpack_reference,
)
from ipython1.kernel.wire.bulkport import BulkPort, collect
from ipython1.kernel.wire.bulkrelay import SLACK, SPOOL_IN_MEMORY, BulkRelay, Spool

__all__ = [
    "LARGE_BUFFER",
    "SLACK",
    "SPOOL_IN_MEMORY",
    "WINDOW",
    "BulkPort",
    "BulkRelay",
    "IncomingBulk",
    "OutgoingBulk",
    "SendFrame",
    "Spool",
    "WritableBuffer",
    "allocate",
    "collect",
    "cut",
    "number_of_pieces",
    "pack_reference",
    "unpack_reference",
]
