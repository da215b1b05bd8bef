"""Commands and outcomes in the journal: their rows, and large payloads on their way into its files and out of them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from ipython1.kernel.basics.error import JournalError, ProtocolError
from ipython1.kernel.controller.journal.interface import Journal
from ipython1.kernel.controller.journal.rows import CommandRow, OutcomeRow, PayloadFile
from ipython1.kernel.wire import frames, messages
from ipython1.kernel.wire.bulk import ACKNOWLEDGED, WINDOW, SendFrame, number_of_pieces
from ipython1.kernel.wire.bulkrelay import BulkRelay, Feed
from ipython1.kernel.wire.frames import PIECE_SIZE, Buffer
from ipython1.kernel.wire.messages import SubmitMeta
from ipython1.kernel.wire.payload import unpack_sizes
from ipython1.kernel.wire.spool import Spool

_HEAD: Final = struct.Struct("<I")


class CommandHead(NamedTuple):
    """What a command's row says of it, beside its payload.

    :ivar role: the interface of its client.
    :ivar sizes: the lengths of the buffers of a payload in a file, packed.
    """

    role: str
    meta: SubmitMeta
    sizes: bytes = b""

    def pack(self) -> bytes:
        """Pack it for :attr:`CommandRow.meta`."""
        return _join((self.role, self.meta.pack().hex()), self.sizes)

    @classmethod
    def of(cls, row: CommandRow) -> CommandHead:
        """:raises ProtocolError: if it is malformed."""
        (role, meta), sizes = _split(row.meta)
        return cls(str(role), SubmitMeta.unpack(bytes.fromhex(meta)), sizes)


class OutcomeHead(NamedTuple):
    """What an outcome's row says of it, beside its payload.

    :ivar error: the kernel's own error, if it was refused.
    :ivar sizes: the lengths of the buffers of a payload in a file, packed.
    """

    error: tuple[str, str] | None = None
    sizes: bytes = b""

    def pack(self) -> bytes:
        """Pack it for :attr:`OutcomeRow.meta`."""
        return _join(self.error, self.sizes)

    @classmethod
    def of(cls, row: OutcomeRow) -> OutcomeHead:
        """:raises ProtocolError: if it is malformed."""
        error, sizes = _split(row.meta)
        return cls(None if error is None else (str(error[0]), str(error[1])), sizes)


def _join(head: Any, sizes: bytes) -> bytes:
    packed = messages.pack_json(head)
    return _HEAD.pack(len(packed)) + packed + sizes


def _split(meta: bytes) -> tuple[Any, bytes]:
    try:
        (size,) = _HEAD.unpack_from(meta)
    except struct.error:
        raise ProtocolError("a row of the journal is cut short") from None
    end = _HEAD.size + size
    return messages.unpack_json(meta[_HEAD.size : end]), meta[end:]


class FileSink:
    """Writes what a relay brings into a payload file; the sender is held back to the pace of the disk.

    :param on_end: called once, with the file when everything is in it, which must be named in a row in the same turn;
        or with None and the reason.
    """

    feed: Feed

    def __init__(self, journal: Journal, on_end: Callable[[PayloadFile | None, str], None]) -> None:
        self._journal = journal
        self._writer = journal.new_payload()
        self._on_end: Callable[[PayloadFile | None, str], None] | None = on_end
        self._taken = 0
        self._pieces = 0

    def attached(self, feed: Feed) -> None:
        self.feed = feed
        self._pieces = number_of_pieces(sum(unpack_sizes(feed.sizes)))

    def offered(self) -> None:
        while self._on_end is not None and (piece := self.feed.take()) is not None:
            ticket = self._writer.add(bytes(piece))
            self._taken += 1
            if self._taken == self._pieces:
                self._end(self._writer.finish(), "")
                self.feed.acknowledge(self._taken)
            else:
                self._journal.when_safe(ticket, partial(self._written, self._taken))

    def _written(self, pieces: int) -> None:
        if self._on_end is not None:
            self.feed.acknowledge(pieces)

    def aborted(self, reason: str) -> None:
        if self._on_end is not None:
            self._writer.abandon()
            self._end(None, reason)

    def give_up(self) -> None:
        """Nobody wants it any more."""
        if self._on_end is not None:
            self._on_end = None
            self._writer.abandon()
            self.feed.drop()

    def _end(self, file: PayloadFile | None, reason: str) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(file, reason)


class FileSource:
    """Plays the sender of a bulk transfer whose data is in a payload file.

    :ivar relay: the transfer; add its sinks before :meth:`begin`.
    """

    holding = False

    def __init__(
        self,
        journal: Journal,
        file: PayloadFile,
        sizes: bytes,
        spool: Spool,
        clock: IReactorTime,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._file = file
        self._asked = 0
        self._acknowledged = 0
        self._reading = False
        self.send: SendFrame = self._told
        self.relays_in: dict[int, BulkRelay] = {}
        self.relay: BulkRelay = BulkRelay(self, 1, sizes, spool)
        self.relays_in[1] = self.relay

    def begin(self) -> None:
        """Send the first pieces."""
        self._read()

    def _told(
        self, kind: int, ident: int, meta: Buffer = b"", payload: Buffer = b"", flags: int = 0
    ) -> None:
        """The relay tells its source something."""
        if kind == frames.BULK_ACK:
            (pieces,) = ACKNOWLEDGED.unpack(meta)
            self._acknowledged = max(self._acknowledged, pieces)
            self._read()

    def _read(self) -> None:
        """Read the next piece, unless that is done already or the window is full."""
        start = self._asked * PIECE_SIZE
        window_is_full = self._asked >= self._acknowledged + WINDOW
        if self._reading or 1 not in self.relays_in or window_is_full:
            return
        if start >= self._file.size and self._asked:
            return
        self._reading = True
        self._asked += 1
        size = min(PIECE_SIZE, self._file.size - start)
        reading: Deferred[bytes] = self._journal.read_payload(self._file, start, size)
        reading.addCallbacks(self._got, self._failed)

    def _got(self, piece: bytes) -> None:
        # In a turn of its own, as the relay may be about to send something.
        self._clock.callLater(0, self._send, piece)

    def _send(self, piece: bytes) -> None:
        relay = self.relays_in.get(1)
        if relay is not None:
            relay.piece(piece)
        self._reading = False
        self._read()

    def _failed(self, failure: Failure) -> None:
        failure.trap(JournalError)
        relay = self.relays_in.get(1)
        if relay is not None:
            relay.source_lost(str(failure.value))
