"""All bulk transfers of one link, and which frame belongs to which."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import TypeAlias

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from ipython1.kernel.basics.error import ProtocolError
from ipython1.kernel.host.memorystock import KEEP, LARGE, stock
from ipython1.kernel.wire import frames
from ipython1.kernel.wire.bulk import (
    ACKNOWLEDGED,
    Incoming,
    IncomingBulk,
    OnSent,
    OutgoingBulk,
    Outlet,
    PieceSource,
    SendFrame,
    WritableBuffer,
    number_of_pieces,
)
from ipython1.kernel.wire.bulkguard import UnnamedTransfers
from ipython1.kernel.wire.bulkrelay import BulkRelay, Feed, LinkSink
from ipython1.kernel.wire.bulkruns import SharedRun
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.payload import Buffers, unpack_sizes
from ipython1.kernel.wire.sharing import (
    NO_MEMORY,
    Exchange,
    LinkMemory,
    Run,
    RunWriter,
    pack_free,
)
from ipython1.kernel.wire.spool import Spool

OnArrived: TypeAlias = Callable[[list[WritableBuffer] | None, str], None]
"""Called once with a transfer's buffers, or with None and the reason why they will not come."""


class BulkPort:
    """All bulk transfers of one link.

    An end point (client or engine) takes incoming transfers with :meth:`take`; the controller sets :attr:`relaying` and
    takes them with :meth:`relay`.

    :param outlet: sends frames; see :class:`~ipython1.kernel.wire.link.FrameLink`.
    :param spool: for what is relayed.
    :param clock: for :meth:`guard`.
    """

    def __init__(
        self, outlet: Outlet, spool: Spool | None = None, clock: IReactorTime | None = None
    ) -> None:
        self.send: SendFrame = outlet.send
        self.relays_in: dict[int, BulkRelay] = {}
        self.relays_out: dict[int, LinkSink] = {}
        self._outlet = outlet
        self._spool = Spool() if spool is None else spool
        self._clock = clock
        self._relaying = False
        self._held_back = self._told_to_hold = False
        self._unnamed: UnnamedTransfers | None = None
        self._incoming: dict[int, IncomingBulk] = {}
        self._outgoing: dict[int, OutgoingBulk] = {}
        self._numbers = count(1)
        self._round: dict[PieceSource, None] = {}
        self._waiting_for_room = False
        self._tidying: IDelayedCall | None = None
        self.memory: LinkMemory | None = None
        """What this link shares with processes of the same host, if anything."""
        self._held: dict[int, OutgoingBulk] | None = None
        """What begins when the other side takes its ``BULK_HOLD`` back; None while there was none."""

    def next_number(self) -> int:
        """A number for a new transfer from here."""
        return next(self._numbers)

    @property
    def active(self) -> int:
        """How many transfers are under way."""
        return (
            len(self.relays_in) + len(self.relays_out) + len(self._incoming) + len(self._outgoing)
        )

    # -- shared memory

    def share(self, exchange: Exchange) -> None:
        """Use shared memory where the other side, or who is behind it, is on the same host."""
        self.memory = LinkMemory(exchange, self, self._room_for_runs, self._clock)

    def flush(self) -> None:
        """Send at once what was sent in this turn so far."""
        self._outlet.flush()

    def _room_for_runs(self) -> None:
        for outgoing in self._outgoing.values():
            if outgoing.begun:
                self._round[outgoing] = None
        self._send_pieces()

    def can_read(self, number: int) -> bool:
        """Whether the other side can read this memory; if not, it is asked to."""
        return self.memory is not None and self.memory.can_read(number)

    # -- as the controller's

    @property
    def relaying(self) -> bool:
        """Whether incoming transfers are for others."""
        return self._relaying

    @relaying.setter
    def relaying(self, relaying: bool) -> None:
        if relaying and not self._relaying:
            self._relaying = True
            self._spool.watch(self._spool_changed)
            self._tell_hold()

    @property
    def holding(self) -> bool:
        """Whether transfers to here begin only when they are acknowledged, as somebody takes them."""
        return self._held_back or self._spool.full

    @property
    def told_to_hold(self) -> bool:
        """Whether transfers from here are to begin only when the other side acknowledges them."""
        return self._held is not None

    def hold_back(self, hold: bool) -> None:
        """Have no transfer to here begin before somebody takes it, also while there is room for what is not taken."""
        self._held_back = hold
        self._tell_hold()

    def _tell_hold(self) -> None:
        if self.holding != self._told_to_hold:
            self._told_to_hold = self.holding
            self.send(frames.BULK_HOLD, 0, bytes((self.holding,)))

    def _spool_changed(self, full: bool) -> None:
        self._tell_hold()
        for relay in list(self.relays_in.values()):
            relay.pace()

    def guard(self) -> None:
        """Take only little of what no frame has named yet; see :mod:`~ipython1.kernel.wire.bulkguard`."""
        self._unnamed = UnnamedTransfers(self._clock, self._refuse_unnamed)

    def _refuse_unnamed(self, number: int, reason: str) -> None:
        if number in self.relays_in:
            self.relays_in[number].refuse(reason)
        else:
            self.drop(number, reason)

    def relay(self, number: int) -> BulkRelay:
        """The transfer that arrives here as ``number``, to attach sinks to in this turn, or to hold for them.

        :raises ProtocolError: when there is none.
        """
        relay = self.relays_in.get(number)
        if relay is None:
            raise ProtocolError("a frame names a bulk transfer that was not opened")
        self._was_named(number)
        return relay

    def refuse_relay(self, number: int, reason: str) -> None:
        """Nobody wants the transfer that arrives here as ``number``."""
        relay = self.relays_in.get(number)
        if relay is not None:
            relay.refuse(reason)
        self._was_named(number)

    def _was_named(self, number: int) -> None:
        if self._unnamed is not None:
            self._unnamed.named(number)

    # -- from here

    def open(self, buffers: Buffers, on_end: OnSent | None = None) -> int:
        """Announce ``buffers``, which :meth:`begin` sends; the caller leaves them unchanged until ``on_end``.

        :returns: the transfer's number, for the frame that names it.
        """
        number = self.next_number()
        memory: RunWriter = NO_MEMORY
        if self.memory is not None:
            memory = self.memory
            self.memory.want()
        self._outgoing[number] = OutgoingBulk(self.send, number, buffers, on_end, memory)
        return number

    def begin(self, number: int) -> None:
        """Send the pieces of transfer ``number``, now that it has been named."""
        outgoing = self._outgoing.get(number)
        if outgoing is None:
            return
        if self._held is not None:
            self._held[number] = outgoing
        else:
            self._begin(outgoing)

    def _begin(self, outgoing: OutgoingBulk) -> None:
        outgoing.begun = True
        self.ready(outgoing)

    def ready(self, source: PieceSource) -> None:
        """Have ``source`` send its pieces, in turn and as there is room, until it has none."""
        self._round[source] = None
        self._send_pieces()

    def _send_pieces(self) -> None:
        while self._round and self._outlet.has_room:
            source = next(iter(self._round))
            del self._round[source]
            if source.send_piece():
                self._round[source] = None
        if self._round and not self._waiting_for_room:
            self._waiting_for_room = True
            self._outlet.when_room(self._go_on)

    def _go_on(self) -> None:
        self._waiting_for_room = False
        self._send_pieces()

    def forget(self, number: int) -> None:
        """Tell the other side that nothing will refer to transfer ``number`` from here, whether it is whole or not."""
        self.send(frames.BULK_FORGET, number)

    def take_back(self, number: int) -> None:
        """No frame will name transfer ``number``, which is relayed from here, whether all of it is there or not."""
        sink = self.relays_out.get(number)
        if sink is not None:
            sink.dropped()
        # The other side may have all of it already.
        self.forget(number)

    # -- to here

    def take(self, number: int, on_end: OnArrived) -> None:
        """Call ``on_end`` with the buffers of transfer ``number`` to here, or with None and the reason."""
        incoming = self._incoming.get(number)
        if incoming is None:
            on_end(None, "the transfer is unknown")
            return
        self._was_named(number)

        def ended(buffers: list[WritableBuffer] | None, reason: str) -> None:
            self._incoming.pop(number, None)
            on_end(buffers, reason)

        incoming.when_complete(ended)

    def incoming(self, number: int) -> Incoming | None:
        """Transfer ``number`` to here, if it is coming."""
        return self._incoming.get(number)

    def drop(self, number: int, reason: str) -> None:
        """Refuse the rest of transfer ``number`` to here."""
        if self._incoming.pop(number, None) is not None:
            self.send(frames.BULK_REFUSE, number, reason.encode())
        self._was_named(number)

    # -- frames

    def frame_received(self, kind: int, ident: int, meta: Buffer, payload: Buffer) -> None:
        """A frame of a bulk transfer arrived."""
        if kind == frames.BULK_PIECE:
            self._piece(ident, payload)
        elif kind == frames.BULK_RUN:
            self._run(ident, Run.unpack(meta))
        elif kind == frames.BULK_ACK:
            self._acknowledged(ident, meta)
        elif kind == frames.BULK_OPEN:
            self._opened(ident, payload)
        elif kind == frames.BULK_FREE:
            if self.memory is not None:
                self.memory.freed(ident, meta)
        elif kind == frames.BULK_MEMORY:
            if self.memory is not None:
                self.memory.received(ident, meta)
        elif kind == frames.BULK_HOLD:
            self._hold(bool(meta) and meta[0] != 0)
        else:
            self._ended(kind, ident, bytes(meta).decode(errors="replace"))

    def _opened(self, number: int, sizes: Buffer) -> None:
        if number in self.relays_in or number in self._incoming:
            raise ProtocolError("a bulk transfer was opened twice")
        if self._unnamed is not None and not self._unnamed.opened(number):
            reason = "too many transfers were opened before it was said what they are for"
            self.send(frames.BULK_REFUSE, number, reason.encode())
        elif self._relaying:
            self.relays_in[number] = BulkRelay(self, number, sizes, self._spool)
        else:
            incoming = IncomingBulk(self.send, number, unpack_sizes(sizes), self._outlet.flush)
            self._incoming[number] = incoming
            if sum(incoming.sizes) >= LARGE:
                self._tidy_later()

    def _tidy_later(self) -> None:
        """Have memory given back that is kept for what comes, when nothing comes any more."""
        if self._clock is not None and self._tidying is None:
            self._tidying = self._clock.callLater(KEEP, self._tidy)

    def _tidy(self) -> None:
        self._tidying = None
        if stock.tidy():
            self._tidy_later()

    def _piece(self, number: int, data: Buffer) -> None:
        if self._unnamed is not None and not self._unnamed.piece(number, len(data)):
            return
        if number in self.relays_in:
            self.relays_in[number].piece(data)
        elif number in self._incoming:
            self._incoming[number].piece(data)

    def _run(self, number: int, run: Run) -> None:
        if self.memory is None:
            raise ProtocolError("a run of pieces came, and no memory is shared here")
        shared = SharedRun(self.memory.view(run), partial(self._free_run, run))
        wanted = self._unnamed is None or self._unnamed.piece(number, run.size)
        if wanted and number in self.relays_in:
            self.relays_in[number].run(run, shared)
            return
        if wanted and number in self._incoming:
            self._incoming[number].pieces(shared.view, number_of_pieces(run.size))
        if self.memory.is_given(run.memory):
            shared.free(False)

    def _free_run(self, run: Run, lost: bool) -> None:
        self.send(frames.BULK_FREE, run.memory, pack_free(run.offset, lost))

    def _acknowledged(self, number: int, meta: Buffer) -> None:
        (pieces,) = ACKNOWLEDGED.unpack(meta)
        if number in self.relays_out:
            self.relays_out[number].acknowledged(pieces)
            return
        outgoing = self._outgoing.get(number)
        if outgoing is None:
            return
        if outgoing.acknowledged(pieces):
            del self._outgoing[number]
        elif self._held is not None and self._held.pop(number, None) is not None:
            self._begin(outgoing)
        else:
            self.ready(outgoing)

    def _hold(self, hold: bool) -> None:
        held = self._held or {}
        self._held = held if hold else None
        if not hold:
            for outgoing in held.values():
                self._begin(outgoing)
            for sink in [each for each in self.relays_out.values() if each.held]:
                sink.let_go()

    def _ended(self, kind: int, number: int, reason: str) -> None:
        self._was_named(number)
        if kind == frames.BULK_REFUSE:
            if number in self.relays_out:
                self.relays_out[number].refused(reason)
            else:
                self._end_outgoing(number, reason)
        elif number in self.relays_in:
            forgotten = kind == frames.BULK_FORGET
            relay = self.relays_in[number]
            relay.source_lost("its sender took it back" if forgotten else reason)
        elif kind == frames.BULK_FORGET:
            self._incoming.pop(number, None)
        elif number in self._incoming:
            self._incoming[number].fail(reason)

    def _end_outgoing(self, number: int, reason: str) -> None:
        outgoing = self._outgoing.pop(number, None)
        if outgoing is not None:
            self._round.pop(outgoing, None)
            if self._held is not None:
                self._held.pop(number, None)
            outgoing.end(reason)

    def connection_lost(self, reason: str) -> None:
        """The link is gone, and every transfer with it."""
        self._spool.unwatch(self._spool_changed)
        if self._unnamed is not None:
            self._unnamed.clear()
        for relay in list(self.relays_in.values()):
            relay.source_lost(reason)
        for sink in list(self.relays_out.values()):
            sink.lost(reason)
        for number in list(self._outgoing):
            self._end_outgoing(number, reason)
        incomings, self._incoming = self._incoming, {}
        for incoming in incomings.values():
            incoming.fail(reason)
        self._round.clear()
        if self.memory is not None:
            self.memory.close()
        if self._tidying is not None:
            self._tidying.cancel()
            self._tidying = None


class Collector:
    """Puts together what a relay brings, as it comes."""

    def __init__(self, on_end: OnArrived, begun: bool) -> None:
        self._on_end = on_end
        self._begun = begun
        self._taking = False

    def begin(self) -> None:
        """Take what comes from now on."""
        self._begun = True
        self._feed.begin()
        self.offered()

    def attached(self, feed: Feed) -> None:
        self._feed = feed
        self._incoming = IncomingBulk(self._answer, 0, unpack_sizes(feed.sizes))
        self._incoming.when_complete(self._on_end)

    def _answer(
        self, kind: int, ident: int, meta: Buffer = b"", payload: Buffer = b"", flags: int = 0
    ) -> None:
        if kind == frames.BULK_ACK:
            self._feed.acknowledge(ACKNOWLEDGED.unpack(meta)[0])
        else:
            self._feed.refuse(bytes(meta).decode())

    def offered(self) -> None:
        if self._taking or not self._begun:
            return  # an acknowledgement is answered with the next offer
        self._taking = True
        while (data := self._feed.take()) is not None:
            self._incoming.piece(data)
        self._taking = False

    def aborted(self, reason: str) -> None:
        self._incoming.fail(reason)


def collect(
    relay: BulkRelay,
    on_end: OnArrived,
    call_soon: Callable[[Callable[[], None]], object],
    later: bool = False,
) -> Collector:
    """Take what a relay brings here: ``on_end`` gets the buffers, or None and the reason.

    :param call_soon: calls something in a later turn; ``on_end`` is called so.
    :param later: whether to take nothing before :meth:`Collector.begin`.
    """

    def ended(buffers: list[WritableBuffer] | None, reason: str) -> None:
        call_soon(lambda: on_end(buffers, reason))

    collector = Collector(ended, not later)
    relay.attach(collector, later=later)
    return collector
