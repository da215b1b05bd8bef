"""What a party sends through: a link of its own (``FrameLink``), or a lane of one that it shares (``Lane``)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

from ipython1.kernel.host.peerprocess import Ends
from ipython1.kernel.wire import frames
from ipython1.kernel.wire.bulk import OnSent, pack_reference
from ipython1.kernel.wire.bulkport import BulkPort
from ipython1.kernel.wire.bulkrelay import BulkRelay, OnSinkEnd
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.payload import Buffers, fits_inline, join_inline


class FrameReceiver(Protocol):
    """What a link calls."""

    def frame_received(
        self, kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer
    ) -> None:
        """A frame arrived that is not part of a bulk transfer."""

    def link_lost(self, reason: str) -> None:
        """The other side is gone; called once, and nothing is received afterwards."""


class Link(ABC):
    """Sends frames to one party.

    :ivar lost: whether the other side is gone; what is sent then is dropped.
    :ivar ends: of its network connection, if it has one of its own.
    :ivar bulk: the bulk transfers, perhaps together with those of others.
    """

    lost: bool
    ends: Ends | None
    bulk: BulkPort

    @abstractmethod
    def call_soon(self, function: Callable[[], None]) -> None:
        """Call ``function`` in the next turn."""

    @property
    @abstractmethod
    def has_room(self) -> bool:
        """Whether there is room; see :mod:`~ipython1.kernel.wire.room`."""

    @abstractmethod
    def when_room(self, call: Callable[[], None]) -> None:
        """Call ``call`` once, in a later turn, when there is room and those that wait already have had their turn.

        It is never called after the link was lost, which ``link_lost`` reports.
        """

    @abstractmethod
    def send(
        self, kind: int, ident: int, meta: Buffer = b"", payload: Buffer = b"", flags: int = 0
    ) -> None:
        """Send one frame with the others of this turn; live output is dropped if there is no room for it."""

    @abstractmethod
    def send_packed(self, parts: list[Buffer], size: int) -> None:
        """Send whole frames that are packed already; ``size`` is their length in bytes, below ``BATCH_SIZE``."""

    @abstractmethod
    def flush(self) -> None:
        """Send what is waiting."""

    @abstractmethod
    def abort(self, reason: str) -> None:
        """Give the link up from this side."""

    @abstractmethod
    def dismiss(self, reason: str) -> None:
        """Tell the other side why it is not to come back, and end the link."""

    @property
    @abstractmethod
    def peer(self) -> str:
        """Where the other side is, for people."""

    def read_until(self, over: Callable[[], bool], timeout: float | None = None) -> None:
        """Read what comes, in this thread, which waits for it: until ``over``, for a moment, or not at all.

        :param timeout: how long the thread will wait, in seconds; None for no limit.
        """
        return

    # -- payloads of any size

    def send_payload(self, kind: int, ident: int, meta: Buffer, buffers: Buffers) -> None:
        """Send a frame with any number of buffers, of any size, as its payload; without buffers it has none.

        They are joined with :func:`~ipython1.kernel.payload.join_inline` where they fit into the frame, else a bulk
        transfer brings them, and the caller leaves them unchanged until it is over.
        """
        if not buffers:
            self.send(kind, ident, meta)
        elif fits_inline(buffers):
            self.send(kind, ident, meta, join_inline(buffers))
        else:
            self.send_large(kind, ident, meta, buffers)

    def send_bytes(self, kind: int, ident: int, meta: Buffer, data: Buffer) -> None:
        """Send a frame with ``data``, of any size, as its payload."""
        if len(data) <= frames.MAX_PAYLOAD:
            self.send(kind, ident, meta, data)
        else:
            self.send_large(kind, ident, meta, [data])

    def send_large(
        self, kind: int, ident: int, meta: Buffer, buffers: Buffers, on_end: OnSent | None = None
    ) -> int:
        """Send a frame whose payload is a bulk transfer of ``buffers``; they stay unchanged until ``on_end``.

        The frame goes out before the first piece, so the other side knows where the pieces go when they come.

        :returns: the transfer's number.
        """
        number = self.bulk.open(buffers, on_end)
        self.send_reference(kind, ident, meta, number)
        self.bulk.begin(number)
        return number

    def send_relayed(
        self,
        kind: int,
        ident: int,
        meta: Buffer,
        relay: BulkRelay,
        on_end: OnSinkEnd | None = None,
    ) -> None:
        """Send a frame whose payload is a bulk transfer that comes in on another link."""
        self.send_reference(kind, ident, meta, relay.add_sink(self.bulk, on_end))

    def send_reference(self, kind: int, ident: int, meta: Buffer, transfer: int) -> None:
        """Send a frame whose payload is bulk transfer number ``transfer`` of this link, which is open already."""
        self.send(kind, ident, meta, pack_reference(transfer), frames.BULK)

    # -- transfers that are named later, or never

    def add_sink(self, relay: BulkRelay, on_end: OnSinkEnd | None = None) -> int:
        """Begin to pass on a transfer that a later frame may name; in the turn in which it is announced.

        :returns: its number here, for :meth:`send_reference` or :meth:`take_back`.
        """
        return relay.add_sink(self.bulk, on_end)

    def take_back(self, transfer: int) -> None:
        """No frame will name a transfer of :meth:`add_sink`, whether all of it is there or not."""
        self.bulk.take_back(transfer)
