"""Frames: what every message between two parties is made of.

A batch is a concatenation of frames and travels as one bytes argument.  A frame is a fixed header, a short
part that the receiver reads (``meta``), and a payload that only its final receiver understands::

    kind  u8 | flags u8 | length of meta u16 | length of payload u32 | ident u64 | meta | payload

All numbers are little-endian.  ``ident`` is the number of a command, question, task or transfer, as its kind says.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, TypeAlias

from ipython1.kernel.basics.error import ProtocolError

PROTOCOL_VERSION: Final = 9
"""Two parties with different protocol versions refuse each other when they register."""

Buffer: TypeAlias = bytes | bytearray | memoryview
Bytes: TypeAlias = bytes | memoryview
"""What nobody changes any more; what is large may be in memory of its own."""

FrameHandler: TypeAlias = Callable[[int, int, int, Buffer, Buffer], None]
"""Called with kind, flags, ident, meta and payload."""

HEADER: Final = struct.Struct("<BBHIQ")
HEADER_SIZE: Final = HEADER.size
MAX_META: Final = 0xFFFF
MAX_PAYLOAD: Final = 256 * 1024
"""Bytes.  No payload in a frame is larger; what is larger travels as a bulk transfer."""

PIECE_SIZE: Final = 512 * 1024
"""Bytes of a piece of a bulk transfer, which its frame has as payload; the last one may be smaller.

Their number costs time in every process, their size is what other frames have to wait for."""

BATCH_SIZE: Final = MAX_PAYLOAD
"""Bytes.  A batch is closed when it has reached this size."""

MAX_BATCH: Final = 2**20 + 2**16
"""Bytes.  No longer batch is sent, and a connection that announces one is dropped."""

# Flags
BULK: Final = 1
"""The payload is the number (u64) of a bulk transfer on the same link that carries the real payload."""

MAX_KIND: Final = 0xFF

# Kinds: bulk transfers, on every link
BULK_OPEN: Final = 1
BULK_PIECE: Final = 2
BULK_ACK: Final = 3
BULK_ABORT: Final = 4
BULK_REFUSE: Final = 5
BULK_FORGET: Final = 6
BULK_HOLD: Final = 7
BULK_RUN: Final = 8
BULK_FREE: Final = 9
BULK_MEMORY: Final = 10


# Kinds: a client and the controller
SUBMIT: Final = 16
ASK: Final = 17
ACCEPTED: Final = 18
REFUSED: Final = 19
OUTCOME: Final = 20
REPLY: Final = 21
ENGINES: Final = 22
OUTPUT: Final = 23
RESYNC: Final = 24
STORED: Final = 25
RESEND: Final = 26
TAKEN: Final = 27
WARNINGS: Final = 29
"""What is wrong with the controller now; the payload is a list of lines for people, as JSON."""

# Kinds: any party and the controller
GOODBYE: Final = 28
"""The sender leaves for good, or is stopped on purpose; the payload says why.  Nobody is to wait for it."""

# Kinds: the controller and an engine (OUTCOME and OUTPUT serve here too)
COMMAND: Final = 32
INTERRUPT: Final = 33
STATUS: Final = 34
STOP: Final = 35
PROPERTIES: Final = 36
WAITING: Final = 37
WAITED: Final = 38
WAITS_FOREVER: Final = 39
RECALL: Final = 40
CONFIRM: Final = 42
LEAVING: Final = 44
"""An engine is being ended by the system that runs it: it is to get nothing more, and to be stopped when it is idle."""
RECLAIM: Final = 43

# Kinds: a link with lanes; see :mod:`ipython1.kernel.wire.lanes`
LANES: Final = 80
LANE_LOST: Final = 81
LANE_ROOM: Final = 82
LANE_SINK: Final = 83
LANE_FORGET: Final = 84

# Kinds: an engine, its gateway and the controller behind that
GREET: Final = 85
"""To an engine: greet the controller behind its gateway.  From there on: a greeting."""
WELCOMED: Final = 86
"""The answer to a greeting; with the ident 1 it says why not."""
ENGINE_GONE: Final = 87
"""From a gateway: an engine will not come back; the payload is its uuid and the reason, as JSON."""

# Kinds from 48 to 79 belong to the task interface; see :mod:`ipython1.kernel.wire.taskwire`.


def pack_frame(
    kind: int, ident: int, meta: Buffer = b"", payload: Buffer = b"", flags: int = 0
) -> bytes:
    """One whole frame as bytes."""
    return b"".join((HEADER.pack(kind, flags, len(meta), len(payload), ident), meta, payload))


def dispatch(batch: Buffer, handler: FrameHandler) -> None:
    """Call ``handler`` for each frame of ``batch``, in order.

    ``meta`` and ``payload`` are copies, except the payload of a ``BULK_PIECE`` that makes up most of the batch: this is
    a view of the batch, and keeps it.

    :raises ProtocolError: when the batch is cut short.
    """
    unpack = HEADER.unpack_from
    view = memoryview(batch)
    copy: bytes | None = batch if type(batch) is bytes else None
    position = 0
    end = len(batch)
    while position < end:
        if end - position < HEADER_SIZE:
            raise ProtocolError(f"a batch ends in the middle of a frame's header ({end} bytes)")
        kind, flags, meta_size, payload_size, ident = unpack(batch, position)
        body = position + HEADER_SIZE
        after_meta = body + meta_size
        position = after_meta + payload_size
        if position > end:
            raise ProtocolError(
                f"a batch ends in the middle of a frame of kind {kind} ({end} bytes)"
            )
        if kind == BULK_PIECE and 2 * payload_size > end:
            handler(kind, flags, ident, bytes(view[body:after_meta]), view[after_meta:position])
            continue
        if copy is None:
            copy = bytes(batch)
        handler(kind, flags, ident, copy[body:after_meta], copy[after_meta:position])
