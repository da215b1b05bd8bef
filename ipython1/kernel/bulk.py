"""Bulk transfers: payloads too large for a frame, sent in pieces at the receiver's pace."""

from ipython1.kernel.wire.bulk import (
    LARGE_BUFFER,
    WINDOW,
    IncomingBulk,
    OutgoingBulk,
    SendFrame,
    WritableBuffer,
    allocate,
    number_of_pieces,
    pack_reference,
    unpack_reference,
)
from ipython1.kernel.wire.bulkport import BulkPort, collect
from ipython1.kernel.wire.bulkrelay import SLACK, BulkRelay, Feed, Sink
from ipython1.kernel.wire.spool import Spool

__all__ = [
    "LARGE_BUFFER",
    "SLACK",
    "WINDOW",
    "BulkPort",
    "BulkRelay",
    "Feed",
    "IncomingBulk",
    "OutgoingBulk",
    "SendFrame",
    "Sink",
    "Spool",
    "WritableBuffer",
    "allocate",
    "collect",
    "number_of_pieces",
    "pack_reference",
    "unpack_reference",
]
