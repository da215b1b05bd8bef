"""Bulk transfers: payloads too large for a frame, in pieces, with the receiver setting the pace.

A sender opens a transfer (``BULK_OPEN``, with the lengths of its buffers), then sends pieces of up to 256 KiB, never
more than ``WINDOW`` beyond what the receiver has acknowledged.  The controller relays pieces to one or several
receivers as they come, at the pace of the receivers, so it holds little more than a window of any transfer in memory.

Each transfer is named by one frame of another kind (a command, an outcome), whose receiver then takes it.  A
sender that will not send that frame after all says so with ``BULK_FORGET``.

======================  =========================================  =======================
side of one transfer    events                                     ends with
======================  =========================================  =======================
:class:`OutgoingBulk`   ack, refuse, link lost                     all sent / refused
:class:`IncomingBulk`   piece, abort, link lost                    complete / failed
:class:`BulkRelay`      piece, ack or refuse of a sink, sink lost,  all pieces acknowledged by all
                        source lost or aborted                     sinks / no sinks left
======================  =========================================  =======================
"""

from __future__ import annotations

import mmap
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Final, Protocol, TypeAlias

from ipython1.kernel.basics.error import ProtocolError
from ipython1.kernel.wire import frames
from ipython1.kernel.wire.frames import PIECE_SIZE, Buffer
from ipython1.kernel.wire.payload import Buffers, pack_sizes, total_size, unpack_sizes

WINDOW: Final = 8
"""Pieces that may be on their way to any one receiver."""

SLACK: Final = 4
"""Pieces that a receiver may be behind the fastest one and still set the pace for all."""

SPOOL_IN_MEMORY: Final = 16 * PIECE_SIZE
"""Bytes that a controller keeps in memory for receivers that have fallen behind; the rest goes to a file."""

LARGE_BUFFER: Final = 1024 * 1024
"""Bytes from which a received buffer gets memory of its own from the system."""

_PRIVATE: Final = getattr(mmap, "MAP_PRIVATE", 0) | getattr(mmap, "MAP_ANONYMOUS", 0)
"""Where there is a choice: faster, and processes that user code forks do not write to each other's arrays."""

WritableBuffer: TypeAlias = bytearray | memoryview

_TRANSFER: Final = struct.Struct("<Q")
_ACKNOWLEDGED: Final = struct.Struct("<I")


class SendFrame(Protocol):
    """Sends a frame on the transfer's link."""

    def __call__(
        self, kind: int, ident: int, meta: Buffer = b"", payload: Buffer = b"", flags: int = 0
    ) -> None: ...


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


def cut(buffers: Buffers) -> Iterator[bytes | memoryview]:
    """The buffers' bytes in pieces of exactly ``PIECE_SIZE`` (the last may be shorter), copying only across edges."""
    pending: list[memoryview] = []
    held = 0
    for buffer in buffers:
        view = memoryview(buffer).cast("B") if len(buffer) else memoryview(b"")
        position = 0
        while len(view) - position >= PIECE_SIZE - held:
            end = position + PIECE_SIZE - held
            part = view[position:end]
            yield b"".join((*pending, part)) if pending else part
            pending, held, position = [], 0, end
        if position < len(view):
            pending.append(view[position:])
            held += len(view) - position
    if pending:
        yield b"".join(pending)


class OutgoingBulk:
    """A transfer from here.

    :param on_end: called once, with None when everything was acknowledged, else with the reason it was not.
    """

    def __init__(
        self, send: SendFrame, number: int, buffers: Buffers, on_end: Callable[[str | None], None]
    ) -> None:
        self.number = number
        self._send = send
        self._pieces = cut(buffers)
        self._total = number_of_pieces(total_size(buffers))
        self._sent = 0
        self._acknowledged = 0
        self._on_end: Callable[[str | None], None] | None = on_end
        send(frames.BULK_OPEN, number, b"", pack_sizes(buffers))
        self._pump()

    def _pump(self) -> None:
        while self._sent < min(self._total, self._acknowledged + WINDOW):
            self._send(frames.BULK_PIECE, self.number, b"", next(self._pieces, b""))
            self._sent += 1

    def acknowledged(self, pieces: int) -> bool:
        """``pieces`` have arrived in all; True when that was the last."""
        self._acknowledged = max(self._acknowledged, pieces)
        self._pump()
        if self._acknowledged >= self._total:
            self.end(None)
            return True
        return False

    def end(self, reason: str | None) -> None:
        """It is over; let go of the buffers."""
        self._pieces = iter(())
        self._total = 0
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(reason)


class IncomingBulk:
    """A transfer to here, put together."""

    def __init__(self, send: SendFrame, number: int, sizes: tuple[int, ...]) -> None:
        self.number = number
        self._send = send
        self._sizes = sizes
        self._missing = sum(sizes)
        self._buffers: list[WritableBuffer] = []
        self._filled = 0
        self._received = 0
        self._on_end: Callable[[list[WritableBuffer] | None, str], None] | None = None
        self._failure: str | None = None

    @property
    def complete(self) -> bool:
        """Everything is here."""
        return self._missing == 0 and self._received > 0 and self._failure is None

    def piece(self, data: Buffer) -> None:
        """The next piece; the rest is refused when there is no memory for it.

        :raises ProtocolError: when it is longer than what is missing.
        """
        if self._failure is not None:
            return
        self._missing -= len(data)
        if self._missing < 0:
            raise ProtocolError("a bulk transfer is longer than its sizes say")
        try:
            self._take(memoryview(data))
        except MemoryError as problem:
            self._send(frames.BULK_REFUSE, self.number, str(problem).encode())
            self.fail(str(problem))
            return
        self._received += 1
        if self.complete:
            while len(self._buffers) < len(self._sizes):
                self._buffers.append(bytearray())
        self._send(frames.BULK_ACK, self.number, _ACKNOWLEDGED.pack(self._received))
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
                size = self._sizes[len(self._buffers)]
                self._buffers.append(allocate(size))
                if size:
                    break
        return self._buffers[-1]

    def fail(self, reason: str) -> None:
        """The rest will not come."""
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
            on_end(self._buffers, "")
        else:
            on_end(None, self._failure or "")


def allocate(size: int) -> WritableBuffer:
    """Writable memory of ``size`` bytes; large memory gets its pages only as they are written.

    :raises MemoryError: when no such memory can be had.
    """
    try:
        if size < LARGE_BUFFER:
            return bytearray(size)
        return memoryview(mmap.mmap(-1, size, flags=_PRIVATE) if _PRIVATE else mmap.mmap(-1, size))
    except (MemoryError, OSError, OverflowError, ValueError):
        raise MemoryError(f"there is no memory for {size} bytes on the receiving side") from None


@dataclass(slots=True)
class _Sink:
    """One receiver of a relay: how many pieces it was sent, and how many it has acknowledged."""

    sent: int = 0
    acknowledged: int = 0


class BulkRelay:
    """A transfer through here, to one or several sinks, cut through as it comes.

    The sinks set the pace together, within limits: when one falls further behind the fastest than ``SLACK``
    pieces (an engine that is stopped, or computes without ever letting go), the others go on, and what it
    misses waits in a temporary file.

    :param source: the port on which it arrives, or None once that is gone.
    """

    def __init__(self, source: BulkPort, number: int, sizes: Buffer) -> None:
        self._source: BulkPort | None = source
        self._number = number
        self._sizes = bytes(sizes)
        self._total = number_of_pieces(sum(unpack_sizes(sizes)))
        self._received = 0
        self._acknowledged = 0
        self._sinks: dict[tuple[BulkPort, int], _Sink] = {}
        self._spool = Spool()

    def add_sink(self, port: BulkPort) -> int:
        """Relay to ``port`` as well; call it before the turn ends in which the transfer was opened.

        :returns: the transfer's number on that port.
        """
        number = port.next_number()
        sink = self._sinks[port, number] = _Sink()
        port.relays_out[number] = self
        port.send(frames.BULK_OPEN, number, b"", self._sizes)
        self._catch_up(port, number, sink)
        self._release_source()
        return number

    def piece(self, data: Buffer) -> None:
        """A piece from the source."""
        index = self._received
        if index >= self._total:
            raise ProtocolError("a bulk transfer has more pieces than its sizes say")
        if index - self._acknowledged >= WINDOW:
            raise ProtocolError("a bulk transfer runs ahead of its acknowledgements")
        self._received += 1
        left_behind = not self._sinks
        for (port, number), sink in list(self._sinks.items()):
            if sink.sent == index and index - sink.acknowledged < WINDOW:
                sink.sent += 1
                port.send(frames.BULK_PIECE, number, b"", data)
            else:
                left_behind = True
        if left_behind:
            try:
                self._spool.put(index, data)
            except OSError as problem:
                self._leave_behind(
                    f"the controller has no room to keep it for a slow receiver: {problem.strerror or problem}"
                )
        self._release_source()

    def _leave_behind(self, reason: str) -> None:
        """Give up the sinks that have not been sent everything so far; the others go on."""
        for (port, number), sink in list(self._sinks.items()):
            if sink.sent < self._received:
                del self._sinks[port, number]
                port.relays_out.pop(number, None)
                port.send(frames.BULK_ABORT, number, reason.encode())
        if self._sinks:
            self._pace()
        else:
            self._end_if_over()
            self._finish_source(refuse=reason)

    def _release_source(self) -> None:
        """With all pieces here the source is done; whoever is behind gets the rest from the spool."""
        if self._received == self._total and self._sinks:
            self._acknowledge(self._total)
            self._finish_source(refuse=None)

    def _catch_up(self, port: BulkPort, number: int, sink: _Sink) -> None:
        """Send a sink what it missed, as far as its window goes."""
        while sink.sent < self._received and sink.sent - sink.acknowledged < WINDOW:
            port.send(frames.BULK_PIECE, number, b"", self._spool.get(sink.sent))
            sink.sent += 1

    def sink_acknowledged(self, port: BulkPort, number: int, pieces: int) -> None:
        """A sink has received ``pieces`` in all."""
        sink = self._sinks.get((port, number))
        if sink is None or not sink.acknowledged < pieces <= sink.sent:
            return
        sink.acknowledged = pieces
        if pieces == self._total:
            port.relays_out.pop(number, None)
            del self._sinks[port, number]
            self._end_if_over()
            return
        self._catch_up(port, number, sink)
        self._pace()

    def drop_sink(self, port: BulkPort, number: int) -> None:
        """A sink is gone, or wants no more."""
        if self._sinks.pop((port, number), None) is None:
            return
        port.relays_out.pop(number, None)
        if self._sinks:
            self._pace()
        else:
            self._end_if_over()
            self._finish_source(refuse="nobody is left to receive it")

    def refuse(self, reason: str) -> None:
        """Nobody wants it."""
        if not self._sinks:
            self._finish_source(refuse=reason)
            self._end_if_over()

    def _pace(self) -> None:
        reached = [sink.acknowledged for sink in self._sinks.values()]
        self._acknowledge(max(min(reached), max(reached) - SLACK))

    def _acknowledge(self, pieces: int) -> None:
        if pieces > self._acknowledged:
            self._acknowledged = pieces
            if self._source is not None:
                self._source.send(frames.BULK_ACK, self._number, _ACKNOWLEDGED.pack(pieces))

    def _end_if_over(self) -> None:
        if not self._sinks:
            self._spool.close()

    def _finish_source(self, refuse: str | None) -> None:
        source, self._source = self._source, None
        if source is None or source.relays_in.pop(self._number, None) is None:
            return
        if refuse is not None:
            source.send(frames.BULK_REFUSE, self._number, refuse.encode())

    def source_lost(self, reason: str) -> None:
        """No more will come from the source."""
        if self._source is not None:
            self._source.relays_in.pop(self._number, None)
        self._source = None
        if self._received == self._total:
            return
        for port, number in list(self._sinks):
            port.relays_out.pop(number, None)
            port.send(frames.BULK_ABORT, number, reason.encode())
        self._sinks.clear()
        self._spool.close()


class Spool:
    """Pieces that somebody still misses: in memory as long as they are few, else in a temporary file without a name."""

    def __init__(self) -> None:
        self._file: tempfile.SpooledTemporaryFile[bytes] | None = None

    def put(self, index: int, data: Buffer) -> None:
        """Keep piece number ``index``."""
        if self._file is None:
            self._file = tempfile.SpooledTemporaryFile(SPOOL_IN_MEMORY)  # noqa: SIM115 (close)
        self._file.seek(index * PIECE_SIZE)
        self._file.write(data)

    def get(self, index: int) -> bytes:
        """Piece number ``index`` again."""
        assert self._file is not None
        self._file.seek(index * PIECE_SIZE)
        return self._file.read(PIECE_SIZE)

    def close(self) -> None:
        """Forget everything."""
        if self._file is not None:
            self._file.close()
            self._file = None


class BulkPort:
    """All bulk transfers of one link.

    An end point (client or engine) takes incoming transfers with :meth:`incoming`; the controller sets :attr:`relaying`
    and takes them with :meth:`relay`.
    """

    def __init__(self, send: SendFrame) -> None:
        self.send = send
        self.relaying = False
        self.relays_in: dict[int, BulkRelay] = {}
        self.relays_out: dict[int, BulkRelay] = {}
        self._incoming: dict[int, IncomingBulk] = {}
        self._outgoing: dict[int, OutgoingBulk] = {}
        self._numbers = count(1)

    def next_number(self) -> int:
        """A number for a new transfer from here."""
        return next(self._numbers)

    @property
    def active(self) -> int:
        """How many transfers are under way."""
        return (
            len(self.relays_in) + len(self.relays_out) + len(self._incoming) + len(self._outgoing)
        )

    def start(self, buffers: Buffers, on_end: Callable[[str | None], None]) -> int:
        """Send ``buffers``; the caller leaves them unchanged until ``on_end``.

        :returns: the transfer's number, for :func:`pack_reference`.
        """
        number = self.next_number()
        self._outgoing[number] = OutgoingBulk(self.send, number, buffers, on_end)
        return number

    def cancel(self, number: int, reason: str) -> None:
        """Stop sending transfer ``number``."""
        outgoing = self._outgoing.pop(number, None)
        if outgoing is not None:
            self.send(frames.BULK_ABORT, number, reason.encode())
            outgoing.end(reason)

    def take(self, number: int, on_end: Callable[[list[WritableBuffer] | None, str], None]) -> None:
        """Call ``on_end`` with the buffers of transfer ``number`` to here, or with None and the reason."""
        incoming = self._incoming.get(number)
        if incoming is None:
            on_end(None, "the transfer is unknown")
            return

        def ended(buffers: list[WritableBuffer] | None, reason: str) -> None:
            self._incoming.pop(number, None)
            on_end(buffers, reason)

        incoming.when_complete(ended)

    def forget(self, number: int) -> None:
        """Tell the other side that nothing will refer to transfer ``number`` from here, whether it is whole or not."""
        self.send(frames.BULK_FORGET, number)

    def drop(self, number: int, reason: str) -> None:
        """Refuse the rest of transfer ``number`` to here."""
        if self._incoming.pop(number, None) is not None:
            self.send(frames.BULK_REFUSE, number, reason.encode())

    def relay(self, number: int) -> BulkRelay:
        """The transfer that arrives here as ``number``, to add sinks to.

        :raises ProtocolError: when there is none.
        """
        relay = self.relays_in.get(number)
        if relay is None:
            raise ProtocolError("a frame names a bulk transfer that was not opened")
        return relay

    def refuse_relay(self, number: int, reason: str) -> None:
        """Nobody wants the transfer that arrives here as ``number``."""
        relay = self.relays_in.get(number)
        if relay is not None:
            relay.refuse(reason)

    def frame_received(self, kind: int, ident: int, meta: Buffer, payload: Buffer) -> None:
        """A frame of a bulk transfer arrived."""
        if kind == frames.BULK_PIECE:
            if ident in self.relays_in:
                self.relays_in[ident].piece(payload)
            elif ident in self._incoming:
                self._incoming[ident].piece(payload)
        elif kind == frames.BULK_ACK:
            (pieces,) = _ACKNOWLEDGED.unpack(meta)
            if ident in self.relays_out:
                self.relays_out[ident].sink_acknowledged(self, ident, pieces)
            elif ident in self._outgoing and self._outgoing[ident].acknowledged(pieces):
                self._outgoing.pop(ident, None)
        elif kind == frames.BULK_OPEN:
            if self.relaying:
                self.relays_in[ident] = BulkRelay(self, ident, payload)
            else:
                self._incoming[ident] = IncomingBulk(self.send, ident, unpack_sizes(payload))
        elif kind == frames.BULK_ABORT:
            reason = bytes(meta).decode(errors="replace")
            if ident in self.relays_in:
                self.relays_in[ident].source_lost(reason)
            elif ident in self._incoming:
                self._incoming[ident].fail(reason)
        elif kind == frames.BULK_REFUSE:
            reason = bytes(meta).decode(errors="replace")
            if ident in self.relays_out:
                self.relays_out[ident].drop_sink(self, ident)
            else:
                outgoing = self._outgoing.pop(ident, None)
                if outgoing is not None:
                    outgoing.end(reason)
        elif kind == frames.BULK_FORGET:
            if ident in self.relays_in:
                self.relays_in[ident].source_lost("its sender took it back")
            else:
                self._incoming.pop(ident, None)

    def connection_lost(self, reason: str) -> None:
        """The link is gone, and every transfer with it."""
        for relay in list(self.relays_in.values()):
            relay.source_lost(reason)
        for number, relay in list(self.relays_out.items()):
            relay.drop_sink(self, number)
        self.relays_in.clear()
        self.relays_out.clear()
        for outgoing in list(self._outgoing.values()):
            outgoing.end(reason)
        self._outgoing.clear()
        for incoming in list(self._incoming.values()):
            incoming.fail(reason)


def collect(
    relay: BulkRelay,
    on_end: Callable[[list[WritableBuffer] | None, str], None],
    call_soon: Callable[[Callable[[], None]], object],
) -> None:
    """Take what a relay brings here: ``on_end`` gets the buffers, or None and the reason.

    :param call_soon: calls something in a later turn, because a relay does not expect to be answered at once.
    """

    def out(
        kind: int, ident: int, meta: Buffer = b"", payload: Buffer = b"", flags: int = 0
    ) -> None:
        call_soon(lambda: outer.frame_received(kind, ident, meta, payload))

    def back(
        kind: int, ident: int, meta: Buffer = b"", payload: Buffer = b"", flags: int = 0
    ) -> None:
        inner.frame_received(kind, ident, meta, payload)

    inner, outer = BulkPort(out), BulkPort(back)
    inner.take(relay.add_sink(outer), on_end)
