"""A link: two parties that send each other frames.

:class:`FrameLink` collects the frames of one reactor turn into batches and hands incoming frames to its receiver; it
knows no network.  ``FoolscapLink`` of ``ipython1.kernel.tub`` connects one to a Foolscap reference,
``ipython1.testing`` two in memory.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from ipython1.kernel.basics.error import KernelError
from ipython1.kernel.host.peerprocess import Ends
from ipython1.kernel.host.turns import ConnectionReader
from ipython1.kernel.wire import frames
from ipython1.kernel.wire.baselink import FrameReceiver as FrameReceiver
from ipython1.kernel.wire.baselink import Link as Link
from ipython1.kernel.wire.bulkport import BulkPort
from ipython1.kernel.wire.frames import HEADER, HEADER_SIZE, Buffer
from ipython1.kernel.wire.payload import Buffers, fits_inline, join_inline
from ipython1.kernel.wire.room import Room, RoomQueue
from ipython1.kernel.wire.spool import Spool

log: Logger = Logger()


SMALL: Final = 4096
"""Bytes of a frame that is joined at once; larger ones are joined, or not, when their batch is sent."""


LONG: Final = 0.5
"""Seconds; a thread that waits so long does not mind some milliseconds more."""


class BatchTransport(Room, Protocol):
    """What a link sends through."""

    def send_batch(self, parts: list[Buffer]) -> None:
        """Send the concatenation of ``parts`` as one batch."""

    def abort(self) -> None:
        """Give the connection up at once."""

    def close(self) -> None:
        """Give the connection up when what was sent is out, or soon."""


class CallSoon(Protocol):
    """Something like ``reactor.callLater(0, ...)``."""

    def __call__(self, function: Callable[[], None], /) -> Any: ...


class TurnFlusher:
    """Flushes every link that was written to in a reactor turn, once, when the turn is over.

    It also holds what else the links of a process share.

    :ivar received: bytes of batches that came, of all links so far.
    :ivar sent: the same of those that were sent.

    :param clock: for time limits; None for no limits.
    :param spool: for what is relayed between links; None for one of the usual size.
    """

    def __init__(
        self,
        call_soon: CallSoon,
        clock: IReactorTime | None = None,
        spool: Spool | None = None,
    ) -> None:
        self.call_soon = call_soon
        self.clock = clock
        self.spool: Spool = Spool() if spool is None else spool
        self.received: int = 0
        self.sent: int = 0
        self._dirty: list[FrameLink] = []

    def mark(self, link: FrameLink) -> None:
        """``link`` has frames to send."""
        if not self._dirty:
            self.call_soon(self.flush)
        self._dirty.append(link)

    def flush(self) -> None:
        """Send what the marked links hold."""
        dirty, self._dirty = self._dirty, []
        for link in dirty:
            link.flush()


class LaneSwitch(Protocol):
    """The lanes of a link; see :mod:`~ipython1.kernel.wire.lanes`."""

    def before_own(self, kind: int) -> None:
        """A frame of the link itself is sent next."""

    def settle(self) -> None:
        """Hand over to the link what is sent through lanes."""

    def frame_received(
        self, kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer
    ) -> bool:
        """Take a frame that came, unless it belongs to the link itself; return whether it was taken."""

    def link_lost(self, reason: str) -> None:
        """The link is lost, and all lanes with it."""


class FrameLink(Link):
    """One end of a link; give it a transport with :meth:`connected`.

    ===========  ==================================================
    state        meaning
    ===========  ==================================================
    new          frames are kept until there is a transport
    open         frames are sent at the end of the turn
    lost         frames are dropped, nothing is received any more
    ===========  ==================================================

    :ivar ends: of its network connection, if it has one.
    :ivar reader: reads that connection in a thread that waits for what comes, if any thread can.
    :ivar lanes: its lanes, if it may have any.
    """

    def __init__(self, flusher: TurnFlusher, receiver: FrameReceiver) -> None:
        self._flusher = flusher
        self._receiver = receiver
        self._transport: BatchTransport | None = None
        self._parts: list[Buffer] = []
        self._size = 0
        self._marked = False
        self.lost: bool = False
        self.ends: Ends | None = None
        self.reader: ConnectionReader | None = None
        self.lanes: LaneSwitch | None = None
        self._room = RoomQueue(self.call_soon)
        self.bulk: BulkPort = BulkPort(self, flusher.spool, flusher.clock)

    def call_soon(self, function: Callable[[], None]) -> None:
        """Call ``function`` in the next turn."""
        self._flusher.call_soon(function)

    def connected(self, transport: BatchTransport) -> None:
        """Begin to send through ``transport``."""
        self._transport = transport
        self.flush()
        self._room.attach(transport)

    def read_until(self, over: Callable[[], bool], timeout: float | None = None) -> None:
        """Read what comes, in this thread, which waits for it: until ``over``, for a moment, or not at all.

        :param timeout: how long the thread will wait, in seconds; None for no limit.
        """
        reader = self.reader
        if reader is not None and (timeout is None or timeout >= LONG):
            reader.read_until(over)

    @property
    def has_room(self) -> bool:
        """Whether there is room; see :mod:`~ipython1.kernel.wire.room`.  There is none before :meth:`connected`."""
        return self._room.has_room

    def when_room(self, call: Callable[[], None]) -> None:
        """Call ``call`` once, in a later turn, when there is room and those that wait already have had their turn.

        It is never called after the link was lost, which ``link_lost`` reports.
        """
        if not self.lost:
            self._room.add(call)

    def send(
        self, kind: int, ident: int, meta: Buffer = b"", payload: Buffer = b"", flags: int = 0
    ) -> None:
        """Send one frame with the others of this turn; live output is dropped if there is no room for it."""
        if self.lost or (kind == frames.OUTPUT and not self.has_room):
            return
        if self.lanes is not None:
            self.lanes.before_own(kind)
        size = HEADER_SIZE + len(meta) + len(payload)
        if self._size + size > frames.MAX_BATCH:
            self._send_now()
        if size < SMALL:
            self._parts.append(frames.pack_frame(kind, ident, meta, payload, flags))
        else:
            header = HEADER.pack(kind, flags, len(meta), len(payload), ident)
            self._parts += (header, meta, payload)
        self._grown(size)

    def send_packed(self, parts: list[Buffer], size: int) -> None:
        """Send whole frames that are packed already; ``size`` is their length in bytes, below ``BATCH_SIZE``."""
        if self.lost:
            return
        if self.lanes is not None:
            self.lanes.before_own(frames.MAX_KIND)
        self.put(parts, size)

    def put(self, parts: Sequence[Buffer], size: int) -> None:
        """Send whole frames after those that were sent before, whosever they are."""
        if self.lost:
            return
        if self._size + size > frames.MAX_BATCH:
            self._send_now()
        self._parts += parts
        self._grown(size)

    def _grown(self, size: int) -> None:
        self._size += size
        if self._size >= frames.BATCH_SIZE:
            self._send_now()
        else:
            self.mark()

    def mark(self) -> None:
        """Have what waits be sent when this turn is over."""
        if not self._marked:
            self._marked = True
            self._flusher.mark(self)

    def flush(self) -> None:
        """Send what is waiting."""
        self._marked = False
        if self.lanes is not None:
            self.lanes.settle()
        if self._parts:
            self._send_now()

    def _send_now(self) -> None:
        if self._transport is not None and self._parts:
            self._flusher.sent += self._size
            parts, self._parts, self._size = self._parts, [], 0
            try:
                self._transport.send_batch(parts)
            except Exception:
                # The links that are to be flushed after this one must not suffer.
                log.failure("a batch could not be sent; ending the connection")
                self.abort("a message could not be sent")

    def deliver(self, batch: Buffer) -> None:
        """A batch arrived.  A batch that is not in the protocol ends the connection."""
        if self.lost:
            return
        self._flusher.received += len(batch)
        try:
            frames.dispatch(batch, self._frame_received)
            return
        except (KernelError, struct.error) as problem:
            log.warn("ending the connection to {peer}: {problem}", peer=self.peer, problem=problem)
        except Exception:
            log.failure(
                "a batch of {peer} could not be handled; ending its connection", peer=self.peer
            )
        self.abort("the other side sent something that is not in the protocol")

    def _frame_received(
        self, kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer
    ) -> None:
        if self.lost:
            return
        if kind <= frames.BULK_MEMORY:
            self.bulk.frame_received(kind, ident, meta, payload)
        elif self.lanes is None or not self.lanes.frame_received(kind, flags, ident, meta, payload):
            self._receiver.frame_received(kind, flags, ident, meta, payload)

    @property
    def peer(self) -> str:
        """Where the other side is, for people."""
        return "the other side" if self.ends is None else "{}:{}".format(*self.ends.there)

    def abort(self, reason: str) -> None:
        """Give the link up from this side."""
        transport = self._transport
        self.connection_lost(reason)
        if transport is not None:
            transport.abort()

    def dismiss(self, reason: str) -> None:
        """Tell the other side why it is not to come back, and end the link."""
        self.send(frames.GOODBYE, 0, b"", reason.encode())
        self.flush()
        transport = self._transport
        self.connection_lost(reason)
        if transport is not None:
            transport.close()

    def connection_lost(self, reason: str) -> None:
        """The connection is gone."""
        if self.lost:
            return
        self.lost = True
        self._parts = []
        self._transport = None
        self.reader = None
        self._room.detach()
        for tell in (self._tell_lanes, self.bulk.connection_lost, self._receiver.link_lost):
            try:
                tell(reason)
            except Exception:
                # The connection itself must be closed in any case.
                log.failure("what follows from the loss of {peer} failed", peer=self.peer)

    def _tell_lanes(self, reason: str) -> None:
        if self.lanes is not None:
            self.lanes.link_lost(reason)


@dataclass(frozen=True, slots=True)
class _Large:
    """A frame for :meth:`Link.send_large`."""

    kind: int
    ident: int
    meta: Buffer
    buffers: Buffers


class ThreadOutbox:
    """Lets any thread send through a link; wakes the reactor only when there was nothing waiting.

    What is posted waits here while the link has no room.

    :param call_from_thread: the reactor's ``callFromThread``.
    :param call: has something called as in the reactor's thread, in this one if possible; for :meth:`post_payload`.
    """

    def __init__(
        self, call_from_thread: Callable[..., Any], call: Callable[..., Any] | None = None
    ) -> None:
        self._call_from_thread = call_from_thread
        self._call = call_from_thread if call is None else call
        self._waiting: deque[tuple[Link | None, tuple[list[Buffer], int] | _Large]] = deque()
        self._awake = False
        self._no_room_on: Link | None = None
        self.link: Link | None = None

    def post(self, parts: list[Buffer], size: int, through: Link | None = None) -> None:
        """Send whole frames, ``size`` bytes together; from any thread.

        :param through: the link; default: the present one.  What has not been sent when it is lost is dropped.
        """
        self._post((parts, size), through)

    def post_payload(self, kind: int, ident: int, meta: Buffer, buffers: Buffers) -> None:
        """Do what :meth:`Link.send_payload` does; from any thread, in which small buffers are joined.

        If the reactor has nothing to do, this thread sends, too; it holds no lock that the reactor's thread takes.
        """
        if buffers and not fits_inline(buffers):
            self.post_large(kind, ident, meta, buffers)
            return
        frame = frames.pack_frame(kind, ident, meta, join_inline(buffers) if buffers else b"")
        self._waiting.append((self.link, ([frame], len(frame))))
        self._wake(self._call)

    def post_large(
        self,
        kind: int,
        ident: int,
        meta: Buffer,
        buffers: Buffers,
        through: Link | None = None,
    ) -> None:
        """Do what :meth:`Link.send_large` does; from any thread, through a link as with :meth:`post`."""
        self._post(_Large(kind, ident, meta, buffers), through)

    def _post(self, item: tuple[list[Buffer], int] | _Large, through: Link | None) -> None:
        self._waiting.append((self.link if through is None else through, item))
        self._wake(self._call_from_thread)

    def _wake(self, call: Callable[..., Any]) -> None:
        if not self._awake:
            self._awake = True
            call(self._drain)

    def _drain(self) -> None:
        # The flag goes down first: whoever appends after that wakes the reactor again.
        self._awake = False
        waiting = self._waiting
        while waiting:
            link, item = waiting[0]
            if link is None or link.lost:
                waiting.popleft()
                continue
            if not link.has_room:
                # What is lost with the link meanwhile is dropped when something is posted for the next one.
                self._wait_for_room(link)
                return
            waiting.popleft()
            if isinstance(item, _Large):
                link.send_large(item.kind, item.ident, item.meta, item.buffers)
            else:
                link.send_packed(*item)

    def _wait_for_room(self, link: Link) -> None:
        if self._no_room_on is not link:
            self._no_room_on = link
            link.when_room(self._go_on)

    def _go_on(self) -> None:
        self._no_room_on = None
        self._drain()
