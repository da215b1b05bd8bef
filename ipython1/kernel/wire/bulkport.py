"""All bulk transfers of one link, and which frame belongs to which."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from ipython1.kernel.basics.error import ProtocolError
from ipython1.kernel.wire import frames
from ipython1.kernel.wire.bulk import (
    ACKNOWLEDGED,
    IncomingBulk,
    OnSent,
    OutgoingBulk,
    SendFrame,
    WritableBuffer,
)
from ipython1.kernel.wire.bulkrelay import BulkRelay
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.payload import Buffers, unpack_sizes


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

    def open(self, buffers: Buffers, on_end: OnSent | None = None) -> int:
        """Announce ``buffers``, which :meth:`begin` sends; the caller leaves them unchanged until ``on_end``.

        :returns: the transfer's number, for the frame that names it.
        """
        number = self.next_number()
        self._outgoing[number] = OutgoingBulk(self.send, number, buffers, on_end)
        return number

    def begin(self, number: int) -> None:
        """Send the pieces of transfer ``number``, now that it has been named."""
        outgoing = self._outgoing.get(number)
        if outgoing is not None:
            outgoing.send_pieces()

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
            (pieces,) = ACKNOWLEDGED.unpack(meta)
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
