"""Bulk transfers: payloads too large for a frame, in pieces, with the receiver setting the pace.

A sender opens a transfer (``BULK_OPEN``, with the lengths of its buffers) and sends the frame of another kind that
names it (a command, an outcome).  Then it sends pieces of up to 512 KiB, as long as the link has room
(:mod:`~ipython1.kernel.wire.room`), in turn with the link's other transfers, and never more than ``WINDOW`` beyond what
the receiver has acknowledged.  As the frame comes before the pieces, the controller knows where they go when they
arrive: it relays them at once, at the receivers' pace, and keeps only what one receiver is behind the others.

Between processes of one host, pieces need not travel: the sender writes a *run* of them into shared memory, and says
where it is (``BULK_RUN``); see :mod:`~ipython1.kernel.wire.sharing`.  Both kinds may alternate in one transfer.

A command that waits in an engine's queue is the exception: its pieces go to the engine before the frame that names
them, which is sent when its turn comes.  A sender that will not send that frame after all says so with ``BULK_FORGET``.

A controller that can keep no more for slow receivers says so with ``BULK_HOLD``.  Then a transfer begins only when it
is acknowledged (with 0 pieces at first), until a second ``BULK_HOLD`` takes that back.

======================  =========================================  =======================
side of one transfer    events                                     ends with
======================  =========================================  =======================
:class:`OutgoingBulk`   ack, refuse, room, link lost               all sent / refused
:class:`IncomingBulk`   piece, abort, link lost                    complete / failed
``BulkRelay``           piece, ack or refuse of a sink, sink lost,  all pieces acknowledged by all
                        source lost or aborted                     sinks / no sinks left
======================  =========================================  =======================

Here are the two ends; :mod:`~ipython1.kernel.wire.bulkrelay` has what is between them, and
:mod:`~ipython1.kernel.wire.bulkport` all transfers of one link.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, Protocol, TypeAlias

from ipython1.kernel.basics.error import ProtocolError
from ipython1.kernel.host.memorystock import stock
from ipython1.kernel.wire import frames
from ipython1.kernel.wire.frames import MAX_PAYLOAD, PIECE_SIZE, Buffer, Bytes
from ipython1.kernel.wire.payload import Buffers, Live, pack_sizes, total_size
from ipython1.kernel.wire.room import Room
from ipython1.kernel.wire.sharing import NO_MEMORY, RUN_PIECES, RUN_WINDOW, Place, Run, RunWriter

WINDOW: Final = 4
"""Pieces that may be on their way to any one receiver."""

ACK_EVERY: Final = 2
"""Pieces of a long transfer that are acknowledged together; fewer than ``WINDOW``."""

LARGE_BUFFER: Final = 1024 * 1024
"""Bytes from which a received buffer gets memory of its own from the system."""

WritableBuffer: TypeAlias = bytearray | memoryview

ACKNOWLEDGED: Final = struct.Struct("<I")
"""The meta part of ``BULK_ACK``: how many pieces have arrived in all."""

_TRANSFER: Final = struct.Struct("<Q")


class SendFrame(Protocol):
    """Sends a frame on the transfer's link."""

    def __call__(
        self, kind: int, ident: int, meta: Buffer = b"", payload: Buffer = b"", flags: int = 0
    ) -> None: ...


class Outlet(Room, Protocol):
    """What a link's transfers need of it."""

    @property
    def send(self) -> SendFrame:
        """Sends a frame in this turn, whether there is room or not."""

    def flush(self) -> None:
        """Send at once what was sent in this turn so far."""


class PieceSource(Protocol):
    """A transfer that is to send pieces."""

    def send_piece(self) -> bool:
        """Send one; False if there is none to send now."""


def pack_reference(transfer: int) -> bytes:
    """The payload of a frame whose real payload is bulk transfer number ``transfer``."""
    return _TRANSFER.pack(transfer)


def unpack_reference(payload: Buffer) -> int:
    """The number that :func:`pack_reference` wrote."""
    if len(payload) != _TRANSFER.size:
        raise ProtocolError("a frame's reference to a bulk transfer has the wrong length")
    number: int = _TRANSFER.unpack(payload)[0]
    return number


def number_of_pieces(size: int) -> int:
    """How many pieces ``size`` bytes make."""
    return max(1, -(-size // PIECE_SIZE))


class Cursor:
    """Reads buffers one after the other, copying no more than it has to.

    What it has not read may be exchanged for a copy at any time; see :class:`~ipython1.kernel.wire.payload.Live`.
    """

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        self._index = 0
        self._position = 0
        self._live = buffers if isinstance(buffers, Live) else None

    def _parts(self, size: int) -> Iterator[memoryview]:
        """The next ``size`` bytes, in as many parts as they come in; fewer at the end."""
        while size and self._index < len(self._buffers):
            part = memoryview(self._buffers[self._index]).cast("B")[self._position :][:size]
            size -= len(part)
            self._position += len(part)
            yield part
            if self._position >= len(self._buffers[self._index]):
                self._index += 1
                self._position = 0

    def piece(self) -> Buffer:
        """The next piece: ``PIECE_SIZE`` bytes, or fewer at the end."""
        if self._live is not None:
            memory = bytearray(PIECE_SIZE)
            return memoryview(memory)[: self.copy_to(memoryview(memory))]
        parts = list(self._parts(PIECE_SIZE))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def copy_to(self, memory: memoryview) -> int:
        """Copy the next bytes to ``memory``; returns how many there were."""
        while True:
            begin, secured = (self._index, self._position), self._secured
            position = 0
            for part in self._parts(len(memory)):
                memory[position : position + len(part)] = part
                position += len(part)
            if self._secured == secured:
                return position
            # The user's thread may have changed what was read last, after it was copied elsewhere.
            self._index, self._position = begin

    @property
    def _secured(self) -> int:
        return 0 if self._live is None else self._live.secured

    def drop(self) -> None:
        """Let go of the buffers."""
        self._buffers = ()
        self._live = None


OnSent: TypeAlias = Callable[[str | None], None]
"""Called once, with None when a whole transfer was acknowledged, else with the reason it was not."""


class Incoming(Protocol):
    """A transfer that begins to come.

    :ivar sizes: the lengths of its buffers.
    """

    sizes: tuple[int, ...]

    def hold(self) -> bool:
        """Copy nothing before :meth:`go_on`, so that :meth:`place` can say where to; False if something was copied."""

    def place(self, index: int, memory: memoryview) -> None:
        """Receive a buffer in ``memory``."""

    def go_on(self) -> None:
        """Undo :meth:`hold`."""


class RefusedHere(str):
    """Why this side did not take a transfer; any other reason says why it did not come."""


class OutgoingBulk:
    """A transfer from here; it is announced at once, and sent piece by piece.

    :param memory: where runs of pieces can be put instead of being sent.
    """

    def __init__(
        self,
        send: SendFrame,
        number: int,
        buffers: Buffers,
        on_end: OnSent | None = None,
        memory: RunWriter = NO_MEMORY,
    ) -> None:
        self.number = number
        self.begun: bool = False
        """Whether pieces may be sent: the frame that names it has been sent, and the receiver takes it."""
        self._send = send
        self._cursor = Cursor(buffers)
        self._memory = memory
        self._runs: deque[tuple[int, Place]] = deque()
        self._total = number_of_pieces(total_size(buffers))
        self._sent = 0
        self._acknowledged = 0
        self._on_end = on_end
        send(frames.BULK_OPEN, number, b"", pack_sizes(buffers))

    def send_piece(self) -> bool:
        """Send the next pieces, if the receiver's acknowledgements allow it."""
        if not self.begun or self._sent >= self._total:
            return False
        if self._memory.is_open:
            return self._send_run()
        if self._sent >= self._acknowledged + WINDOW:
            return False
        self._send(frames.BULK_PIECE, self.number, b"", self._cursor.piece())
        self._sent += 1
        return True

    def _send_run(self) -> bool:
        """Send pieces by writing them into shared memory, if there is room."""
        if self._sent + RUN_PIECES > self._acknowledged + RUN_WINDOW:
            return False
        place = self._memory.take()
        if place is None:
            return False
        size = self._cursor.copy_to(place.view)
        self._send(frames.BULK_RUN, self.number, Run(place.memory, place.offset, size).pack())
        # The receivers copy it while the next one is written.
        self._memory.flush()
        self._sent += number_of_pieces(size)
        if self._memory.is_acknowledged:
            self._runs.append((self._sent, place))
        return True

    def acknowledged(self, pieces: int) -> bool:
        """``pieces`` have arrived in all; True when that was the last."""
        self._acknowledged = min(max(self._acknowledged, pieces), self._sent)
        self._free_runs(self._acknowledged)
        if self._acknowledged < self._total:
            return False
        self.end(None)
        return True

    def _free_runs(self, end: int) -> None:
        """The other side has copied the runs before piece ``end``."""
        while self._runs and self._runs[0][0] <= end:
            self._memory.free(self._runs.popleft()[1])

    def end(self, reason: str | None) -> None:
        """It is over; let go of the buffers."""
        self._free_runs(self._sent)
        self._cursor.drop()
        self._total = 0
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(reason)


class IncomingBulk:
    """A transfer to here, put together.

    :param flush: sends what was sent at once, rather than at the end of the turn.
    """

    def __init__(
        self,
        send: SendFrame,
        number: int,
        sizes: tuple[int, ...],
        flush: Callable[[], None] = lambda: None,
    ) -> None:
        self.number = number
        self._send = send
        self._flush = flush
        self.sizes = sizes
        self._missing = self._uncopied = sum(sizes)
        self._waiting: list[tuple[Buffer, int]] | None = None
        self._places: dict[int, memoryview] = {}
        self._buffers: list[WritableBuffer] = []
        self._filled = 0
        self._received = 0
        self._told = 0
        self._on_end: Callable[[list[WritableBuffer] | None, str], None] | None = None
        self._failure: str | None = None

    @property
    def complete(self) -> bool:
        """Everything is here."""
        return self._uncopied == 0 and self._received > 0 and self._failure is None

    def piece(self, data: Buffer) -> None:
        """The next piece; the rest is refused when there is no memory for it.

        :raises ProtocolError: when it is longer than what is missing.
        """
        self.pieces(data, 1)

    def pieces(self, data: Buffer, count: int) -> None:
        """The next ``count`` pieces, one after the other in ``data``, which is not needed afterwards.

        :raises ProtocolError: when they are longer than what is missing.
        """
        if self._failure is not None:
            return
        self._missing -= len(data)
        if self._missing < 0:
            raise ProtocolError("a bulk transfer is longer than its sizes say")
        if self._waiting is not None:
            self._waiting.append((data, count))
        else:
            self._copy(data, count)

    def _copy(self, data: Buffer, count: int) -> None:
        try:
            self._take(memoryview(data))
        except MemoryError as problem:
            self._send(frames.BULK_REFUSE, self.number, str(problem).encode())
            self.fail(RefusedHere(problem))
            return
        self._received += count
        self._uncopied -= len(data)
        if self.complete:
            while len(self._buffers) < len(self.sizes):
                self._buffers.append(bytearray())
        if self.complete or self._received - self._told >= ACK_EVERY:
            self._told = self._received
            self._send(frames.BULK_ACK, self.number, ACKNOWLEDGED.pack(self._received))
            if count > 1:
                self._flush()
        self._tell()

    def _take(self, view: memoryview) -> None:
        while len(view):
            buffer = self._buffer_with_room()
            part = view[: len(buffer) - self._filled]
            buffer[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            view = view[len(part) :]

    def _buffer_with_room(self) -> WritableBuffer:
        """The buffer to write to; each is allocated when its first byte comes, as sizes are not trusted."""
        if not self._buffers or self._filled == len(self._buffers[-1]):
            self._filled = 0
            while True:
                index = len(self._buffers)
                size = self.sizes[index]
                self._buffers.append(self._memory_for(index, size))
                if size:
                    break
        return self._buffers[-1]

    def _memory_for(self, index: int, size: int) -> WritableBuffer:
        place = self._places.pop(index, None)
        return allocate(size) if place is None else place

    def hold(self) -> bool:
        """Copy nothing before :meth:`go_on`, so that :meth:`place` can say where to; False if something was copied."""
        if self._received or self._failure is not None:
            return False
        self._waiting = []
        return True

    def place(self, index: int, memory: memoryview) -> None:
        """Receive a buffer in ``memory``."""
        self._places[index] = memory

    def go_on(self) -> None:
        """Undo :meth:`hold`."""
        waiting, self._waiting = self._waiting or [], None
        for data, count in waiting:
            if self._failure is None:
                self._copy(data, count)

    def fail(self, reason: str) -> None:
        """The rest will not come."""
        self._waiting = None
        if not self.complete:
            self._failure = reason
            self._buffers = []
            self._tell()

    def when_complete(self, on_end: Callable[[list[WritableBuffer] | None, str], None]) -> None:
        """Call ``on_end(buffers, '')`` when everything is here, or ``on_end(None, reason)`` when it will not be."""
        self._on_end = on_end
        self._tell()

    def _tell(self) -> None:
        if self._on_end is None or not (self.complete or self._failure is not None):
            return
        on_end, self._on_end = self._on_end, None
        if self.complete:
            # They are the receiver's from now on, however long this is kept.
            buffers, self._buffers = self._buffers, []
            on_end(buffers, "")
        else:
            on_end(None, self._failure or "")


def allocate(size: int) -> WritableBuffer:
    """Writable memory of ``size`` bytes; large memory gets its pages only as they are written.

    :raises MemoryError: when no such memory can be had.
    """
    try:
        return bytearray(size) if size < LARGE_BUFFER else stock.allocate(size)
    except (MemoryError, OSError, OverflowError, ValueError):
        raise MemoryError(f"not enough memory for {size} bytes on the receiving side") from None


def copy_of(buffer: Buffer) -> Buffer:
    """A copy of ``buffer``, in memory as :func:`allocate` gives it; what never changes is its own copy."""
    if isinstance(buffer, bytes):
        return buffer
    memory = allocate(len(buffer))
    memory[:] = buffer
    return memory


def joined(buffers: Buffers) -> Bytes:
    """The bytes of all buffers in a row; large ones are not copied if they are in one, else to memory of their own.

    :raises MemoryError: when there is not enough.
    """
    size = total_size(buffers)
    if len(buffers) == 1 and size > MAX_PAYLOAD:
        whole = buffers[0]
        return memoryview(whole) if isinstance(whole, bytearray) else whole
    if size < LARGE_BUFFER:
        return b"".join(buffers)
    memory = memoryview(allocate(size))
    position = 0
    for buffer in buffers:
        memory[position : position + len(buffer)] = buffer
        position += len(buffer)
    return memory
