"""Bulk transfers on their way through the controller: passed on as they come, and kept for whoever falls behind."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import Final, Protocol

from ipython1.kernel.basics.error import ProtocolError
from ipython1.kernel.wire import frames
from ipython1.kernel.wire.bulk import ACKNOWLEDGED, WINDOW, SendFrame, number_of_pieces
from ipython1.kernel.wire.frames import PIECE_SIZE, Buffer
from ipython1.kernel.wire.payload import unpack_sizes

SLACK: Final = 4
"""Pieces that a receiver may be behind the fastest one and still set the pace for all."""

SPOOL_IN_MEMORY: Final = 16 * PIECE_SIZE
"""Bytes that a controller keeps in memory for receivers that have fallen behind; the rest goes to a file."""


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


@dataclass(slots=True)
class _Sink:
    """One receiver of a relay: how many pieces it was sent, and how many it has acknowledged."""

    sent: int = 0
    acknowledged: int = 0


class RelayPort(Protocol):
    """What a relay needs of the ports that it comes from and goes to."""

    send: SendFrame
    relays_in: dict[int, BulkRelay]
    relays_out: dict[int, BulkRelay]

    def next_number(self) -> int:
        """A number for a new transfer from there."""


class BulkRelay:
    """A transfer through here, to one or several sinks, cut through as it comes.

    The sinks set the pace together, within limits: when one falls further behind the fastest than ``SLACK``
    pieces (an engine that is stopped, or computes without ever letting go), the others go on, and what it
    misses waits in a temporary file.

    :param source: the port on which it arrives, or None once that is gone.
    """

    def __init__(self, source: RelayPort, number: int, sizes: Buffer) -> None:
        self._source: RelayPort | None = source
        self._number = number
        self._sizes = bytes(sizes)
        self._total = number_of_pieces(sum(unpack_sizes(sizes)))
        self._received = 0
        self._acknowledged = 0
        self._sinks: dict[tuple[RelayPort, int], _Sink] = {}
        self._spool = Spool()

    def add_sink(self, port: RelayPort) -> int:
        """Relay to ``port`` as well; call it when the frame arrives that names the transfer, before any piece.

        :returns: the transfer's number on that port, for the frame that names it there.
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

    def _catch_up(self, port: RelayPort, number: int, sink: _Sink) -> None:
        """Send a sink what it missed, as far as its window goes."""
        while sink.sent < self._received and sink.sent - sink.acknowledged < WINDOW:
            port.send(frames.BULK_PIECE, number, b"", self._spool.get(sink.sent))
            sink.sent += 1

    def sink_acknowledged(self, port: RelayPort, number: int, pieces: int) -> None:
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

    def drop_sink(self, port: RelayPort, number: int) -> None:
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
                self._source.send(frames.BULK_ACK, self._number, ACKNOWLEDGED.pack(pieces))

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
