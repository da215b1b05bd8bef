"""Bulk transfers on their way through the controller: passed on as they come, and kept for whoever falls behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

from ipython1.kernel.basics.error import ProtocolError
from ipython1.kernel.wire import frames
from ipython1.kernel.wire.bulk import (
    ACK_EVERY,
    ACKNOWLEDGED,
    WINDOW,
    PieceSource,
    SendFrame,
    number_of_pieces,
)
from ipython1.kernel.wire.bulkruns import KeptRun, KeptRuns, SharedRun
from ipython1.kernel.wire.frames import PIECE_SIZE, Buffer
from ipython1.kernel.wire.payload import unpack_sizes
from ipython1.kernel.wire.sharing import RUN_WINDOW, Run
from ipython1.kernel.wire.spool import Slot, Spool, SpoolFull

SLACK: Final = 2
"""Pieces that a receiver may be behind the fastest one and still set the pace for all; also those that come before
those on their way to a receiver have arrived there."""

NOBODY_LEFT: Final = "nobody is left to receive it"

OnSinkEnd: TypeAlias = Callable[[str | None], None]
"""Called once when a sink is done: with None when it has everything, else with the reason why it has not."""


class Sink(Protocol):
    """A receiver of what a relay brings: a link, a file, memory."""

    def attached(self, feed: Feed) -> None:
        """``feed`` is where the pieces come from; called first."""

    def offered(self) -> None:
        """There may be more to take from the feed, now or later, whenever the sink has room."""

    def aborted(self, reason: str) -> None:
        """The rest will not come; nothing is called afterwards."""


class Feed:
    """A sink's place in a relay."""

    __slots__ = ("_on_end", "_relay", "acknowledged", "over", "sink", "taken")

    def __init__(self, relay: BulkRelay, sink: Sink, on_end: OnSinkEnd | None) -> None:
        self._relay = relay
        self._on_end = on_end
        self.sink: Sink = sink
        self.taken: int = 0
        self.acknowledged: int = 0
        self.over: bool = False

    @property
    def sizes(self) -> bytes:
        """The lengths of the transfer's buffers, packed."""
        return self._relay.sizes

    def begin(self) -> None:
        """The sink takes what comes from now on, if it was attached to do so later."""
        if not self.over:
            self._relay._grant()

    def next_run(self) -> Run | None:
        """The run that begins with the next piece, if there is one, and :meth:`take_run` may take it."""
        return None if self.over else self._relay._next_run(self)

    def take_run(self) -> None:
        """Take the next run: the sink reads it where it is."""
        self._relay._take_run(self)

    def take(self) -> Buffer | None:
        """Return the next piece; None if there is none, or ``WINDOW`` of them are not acknowledged."""
        return None if self.over else self._relay._take(self)

    def acknowledge(self, pieces: int) -> None:
        """The sink has ``pieces`` in all for good."""
        if not self.over and self.acknowledged < pieces <= self.taken:
            self._relay._sink_acknowledged(self, pieces)

    def refuse(self, reason: str, reading: bool = False) -> None:
        """The sink cannot take the rest, or is gone.

        :param reading: whether it may still read the runs that it has taken.
        """
        if not self.over:
            self._relay._sink_gone(self, reason, reading)

    def drop(self) -> None:
        """Nobody wants the sink to have it any more; neither it nor ``on_end`` is told."""
        if not self.over:
            self._on_end = None
            self._relay._sink_gone(self, NOBODY_LEFT, True)

    def _end(self, reason: str | None) -> None:
        self.over = True
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(reason)


class SourcePort(Protocol):
    """What a relay needs of the port that it comes from."""

    send: SendFrame
    relays_in: dict[int, BulkRelay]

    @property
    def holding(self) -> bool:
        """Whether transfers begin only when they are acknowledged."""


class SinkPort(Protocol):
    """What a relay needs of a port that it goes to."""

    send: SendFrame
    relays_out: dict[int, LinkSink]

    def next_number(self) -> int:
        """A number for a new transfer from there."""

    def can_read(self, number: int) -> bool:
        """Whether the other side there can read this memory."""

    def flush(self) -> None:
        """Send at once what was sent in this turn so far."""

    def ready(self, source: PieceSource) -> None:
        """Have ``source`` send its pieces, in turn and as there is room, until it has none."""

    @property
    def told_to_hold(self) -> bool: ...


class LinkSink:
    """Sends what a relay brings through a link, as transfer ``number``; while ``held``, it waits to be taken there."""

    feed: Feed

    def __init__(self, port: SinkPort, number: int) -> None:
        self._port = port
        self._number = number
        self.held: bool = False

    def attached(self, feed: Feed) -> None:
        self.feed = feed
        self.held = self._port.told_to_hold
        self._port.relays_out[self._number] = self
        self._port.send(frames.BULK_OPEN, self._number, b"", feed.sizes)

    def offered(self) -> None:
        if not self.held:
            self._port.ready(self)

    def let_go(self) -> None:
        self.held = False
        self.offered()

    def send_piece(self) -> bool:
        run = self.feed.next_run()
        if run is not None and self._port.can_read(run.memory):
            self.feed.take_run()
            self._port.send(frames.BULK_RUN, self._number, run.pack())
            self._port.flush()
            return True
        data = self.feed.take()
        if data is None:
            return False
        self._port.send(frames.BULK_PIECE, self._number, b"", data)
        return True

    def acknowledged(self, pieces: int) -> None:
        """The other side has ``pieces`` in all."""
        if self.held:
            self.let_go()
        self.feed.acknowledge(pieces)
        if self.feed.over:
            self._port.relays_out.pop(self._number, None)

    def refused(self, reason: str) -> None:
        """The other side wants no more."""
        self._port.relays_out.pop(self._number, None)
        self.feed.refuse(reason)

    def lost(self, reason: str) -> None:
        """The link is lost; the other side may still be reading."""
        self._port.relays_out.pop(self._number, None)
        self.feed.refuse(reason, reading=True)

    def dropped(self) -> None:
        """The other side is not to get the rest; whoever decides that tells it."""
        self._port.relays_out.pop(self._number, None)
        self.feed.drop()

    def aborted(self, reason: str) -> None:
        self._port.relays_out.pop(self._number, None)
        self._port.send(frames.BULK_ABORT, self._number, reason.encode())


class BulkRelay:
    """A transfer through here, to one or several sinks, cut through as it comes.

    =========  ====================================================  ================================
    state      event                                                 becomes
    =========  ====================================================  ================================
    unclaimed  a sink is attached, or it is held                     claimed
    unclaimed  it is refused; its source is lost                     over
    claimed    a sink has everything, refuses, or is dropped, and    over (the source hears why,
               it was the last                                       unless all has come)
    claimed    its source is lost or aborts it before all has come   over (the sinks hear why)
    =========  ====================================================  ================================

    While it is unclaimed, its source sends no more than a window.  Claimed, the sinks set the pace together, within
    limits: when one falls further behind the fastest than ``SLACK`` pieces (an engine that is stopped, or computes
    without ever letting go), the others go on, and what it misses waits in the spool.  While the spool is full, the
    slowest sink sets the pace.  A run in shared memory is there until all sinks have acknowledged it.

    Sinks must be attached in the turn in which the frame that names the transfer arrives, before anything is taken.

    :param source: the port on which it arrives.
    """

    def __init__(self, source: SourcePort, number: int, sizes: Buffer, spool: Spool) -> None:
        self._source: SourcePort | None = source
        self._number = number
        self._spool = spool
        self.sizes: bytes = bytes(sizes)
        self._size = sum(unpack_sizes(sizes))
        self._total = number_of_pieces(self._size)
        self._received = 0
        self._acknowledged = 0
        self._told = 0
        self._feeds: list[Feed] = []
        self._claimed = False
        self._kept: dict[int, Slot] = {}
        self._runs = KeptRuns()
        self._oldest = 0
        self._fresh: Buffer | None = None
        self._granted = False
        self.failure: str | None = None
        """Why no sink can get all of it any more."""
        self.overran: bool = False
        """Whether that is because it came faster than it could be taken and kept; its source still has it."""

    @property
    def whole(self) -> bool:
        """Whether everything has come from the source."""
        return self._received == self._total

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self._size

    # -- its sinks

    def attach(self, sink: Sink, on_end: OnSinkEnd | None = None, later: bool = False) -> Feed:
        """Relay to ``sink`` as well.

        :param on_end: called when the sink is done, unless it is dropped.
        :param later: whether the sink takes nothing before it calls :meth:`Feed.begin`.
        """
        feed = Feed(self, sink, on_end)
        sink.attached(feed)
        if self.failure is None and self._oldest:
            self.failure = "it came before anybody asked to receive all of it"
        if self.failure is not None:
            sink.aborted(self.failure)
            feed._end(self.failure)
            return feed
        self._claimed = True
        self._feeds.append(feed)
        if not later:
            self._grant()
        self._finish_if_whole()
        sink.offered()
        return feed

    def _grant(self) -> None:
        """Have the source begin, if it has been told to wait."""
        source = self._source
        if source is not None and source.holding and not self._granted:
            self._granted = True
            source.send(frames.BULK_ACK, self._number, ACKNOWLEDGED.pack(0))

    def add_sink(self, port: SinkPort, on_end: OnSinkEnd | None = None) -> int:
        """Relay to the link of ``port`` as well.

        :returns: the transfer's number there, for the frame that names it.
        """
        number = port.next_number()
        self.attach(LinkSink(port, number), on_end)
        return number

    def drop_sink(self, port: SinkPort, number: int) -> None:
        """The link of ``port`` is not to get it any more as transfer ``number``."""
        sink = port.relays_out.get(number)
        if sink is not None and sink.feed in self._feeds:
            sink.dropped()

    def refuse(self, reason: str) -> None:
        """Nobody wants it."""
        if not self._feeds:
            self._end(reason)

    # -- what comes

    def piece(self, data: Buffer) -> None:
        """A piece from the source.

        :raises ProtocolError: if it is not one that may come now.
        """
        index = self._received
        if index >= self._total:
            raise ProtocolError("a bulk transfer has more pieces than its sizes say")
        if len(data) != min(PIECE_SIZE, self._size - index * PIECE_SIZE):
            raise ProtocolError("a piece of a bulk transfer has the wrong size")
        if index - self._told >= WINDOW:
            raise ProtocolError("a bulk transfer runs ahead of its acknowledgements")
        self._received += 1
        self._fresh = data
        for feed in list(self._feeds):
            feed.sink.offered()
        if self._oldest <= index:
            try:
                self._kept[index] = self._spool.put(data)
            except SpoolFull as problem:
                self._leave_behind(f"the controller can keep no more for slow receivers: {problem}")
        self._fresh = None
        self.pace()
        self._finish_if_whole()

    def run(self, run: Run, shared: SharedRun) -> None:
        """A run of pieces from the source.

        :raises ProtocolError: if it is not one that may come now.
        """
        first = self._received
        end = first + number_of_pieces(run.size)
        if end > self._total or run.size != min(self._size, end * PIECE_SIZE) - first * PIECE_SIZE:
            raise ProtocolError("a run of pieces has the wrong size")
        if end - self._told > RUN_WINDOW:
            raise ProtocolError("a bulk transfer runs ahead of its acknowledgements")
        self._received = end
        self._runs.add(KeptRun(run, shared, first, end))
        for feed in list(self._feeds):
            feed.sink.offered()
        self._trim()
        self.pace()
        self._finish_if_whole()

    def _leave_behind(self, reason: str) -> None:
        """Give up the sinks that have not taken everything so far, and those still to come; the others go on."""
        self.failure, self.overran = reason, True
        for feed in list(self._feeds):
            if feed.taken < self._received:
                self._abort(feed, reason)
        self._trim()
        if not self._feeds:
            self._end(reason)

    def source_lost(self, reason: str) -> None:
        """No more will come from the source."""
        self._leave_source()
        if self.whole and self._claimed:
            return
        self.failure = reason
        for feed in list(self._feeds):
            self._abort(feed, reason)
        self._free_all()

    # -- what goes on

    def _take(self, feed: Feed) -> Buffer | None:
        index = feed.taken
        if index >= self._received or index - feed.acknowledged >= WINDOW:
            return None
        slot, run = self._kept.get(index), self._runs.with_piece(index)
        try:
            if run is not None:
                data: Buffer | None = run.piece(index, PIECE_SIZE)
            else:
                data = self._fresh if slot is None else self._spool.get(slot)
            assert data is not None
        except OSError as problem:
            self._abort(feed, f"the controller cannot read what it kept: {problem}")
            self._end_if_over(NOBODY_LEFT)
            return None
        feed.taken += 1
        self._trim()
        if self._fresh is None:
            self.pace()
        return data

    def _next_run(self, feed: Feed) -> Run | None:
        run = self._runs.with_piece(feed.taken)
        if run is None or run.first != feed.taken or run.end - feed.acknowledged > RUN_WINDOW:
            return None
        return run.run

    def _take_run(self, feed: Feed) -> None:
        run = self._runs.with_piece(feed.taken)
        assert run is not None
        feed.taken = run.end
        self._trim()

    def _sink_acknowledged(self, feed: Feed, pieces: int) -> None:
        feed.acknowledged = pieces
        if pieces < self._total:
            self._trim()
            feed.sink.offered()
            self.pace()
            return
        self._finish_if_whole()
        self._feeds.remove(feed)
        self._trim()
        feed._end(None)
        self._end_if_over(NOBODY_LEFT)

    def _sink_gone(self, feed: Feed, reason: str, reading: bool) -> None:
        self._feeds.remove(feed)
        if reading:
            self._runs.reader_lost(feed.acknowledged, feed.taken)
        feed._end(reason)
        self._trim()
        self.pace()
        self._end_if_over(reason)

    def _abort(self, feed: Feed, reason: str) -> None:
        self._feeds.remove(feed)
        self._runs.reader_lost(feed.acknowledged, feed.taken)
        feed.sink.aborted(reason)
        feed._end(reason)

    def pace(self) -> None:
        """Let the source go on as far as the sinks, or the spool, allow."""
        if not self._feeds:
            return
        if not self._spool.full:
            # What a sink has on its way is in nobody's way, but a few pieces here keep it busy.
            reached = [min(feed.taken, feed.acknowledged + SLACK) for feed in self._feeds]
            self._acknowledge(max(min(reached), max(reached) - SLACK))
        else:
            self._acknowledge(min(feed.acknowledged for feed in self._feeds))

    def _acknowledge(self, pieces: int) -> None:
        self._acknowledged = max(self._acknowledged, pieces)
        ahead = self._acknowledged - self._told
        if self._source is not None and ahead and (ahead >= ACK_EVERY or self.whole):
            self._told = self._acknowledged
            self._source.send(frames.BULK_ACK, self._number, ACKNOWLEDGED.pack(self._told))

    def _trim(self) -> None:
        """Let go of the pieces that nobody will take any more, and of the runs that nobody reads."""
        if self._claimed:
            oldest = min((feed.taken for feed in self._feeds), default=self._received)
            while self._oldest < oldest:
                slot = self._kept.pop(self._oldest, None)
                if slot is not None:
                    self._spool.free(slot)
                self._oldest += 1
            read = min((feed.acknowledged for feed in self._feeds), default=self._received)
            self._runs.free_before(read)

    def _finish_if_whole(self) -> None:
        """With all pieces here the source is done; whoever is behind gets the rest from the spool."""
        if self.whole and self._feeds and self._source is not None:
            self._acknowledge(self._total)
            self._leave_source()

    def _end_if_over(self, reason: str) -> None:
        if self._claimed and not self._feeds:
            self._end(reason)

    def _end(self, reason: str) -> None:
        """It is over; a source that is not done hears ``reason``."""
        self.failure = self.failure or reason
        self._free_all()
        source, number = self._source, self._number
        self._leave_source()
        if source is not None:
            source.send(frames.BULK_REFUSE, number, reason.encode())

    def _leave_source(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            source.relays_in.pop(self._number, None)

    def _free_all(self) -> None:
        kept, self._kept = self._kept, {}
        for slot in kept.values():
            self._spool.free(slot)
        self._runs.free_all()
        self._oldest = self._received
