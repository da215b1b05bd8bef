"""Bulk data between processes of one host: it is written into shared memory, and only where it is travels.

Each side of a link that sends much has memory of its own, cut into slots, which only it can write; all others map it
for reading.  It fills a slot with a *run* of pieces and sends ``BULK_RUN``.  The controller passes that on to each
receiver, which copies the pieces into its own memory and acknowledges them as others; a push to many engines is
written once.  When no receiver reads a slot any more, its owner hears it with ``BULK_FREE``, and uses it again.

A slot is used again only when each of its readers has said that it is done.  One that is lost may come to life later
and read on: what it may be reading is never written again (``BULK_FREE`` with ``LOST``), and memory that lost slots so
is exchanged for new memory.  So nobody ever reads something else than what was sent.

============  ====================================================  =============================================
own memory    event                                                 becomes
============  ====================================================  =============================================
(none)        something is to be sent                               asked for; meanwhile, pieces are sent
asked for     it is there, and the other side can read it           open: runs are written
asked for     it is not to be had                                   refused: pieces are sent, as long as the link is
open          no slot has become free for ``PATIENCE`` seconds,     starved: pieces are sent
              as a receiver is stopped, for example
starved       a slot becomes free                                   open
open          none of its slots is in use, and it is not used for   (none)
              ``IDLE`` seconds or has lost some
============  ====================================================  =============================================

How memory gets from one process to another is the business of an :class:`Exchange`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import Enum
from typing import Any, Final, NamedTuple, Protocol

from twisted.internet.interfaces import IReactorTime

from ipython1.kernel.basics.error import ProtocolError
from ipython1.kernel.wire import frames
from ipython1.kernel.wire.frames import PIECE_SIZE, Buffer

SLOT_SIZE: Final = 4 * 2**20
"""Bytes of a slot; a run is not longer."""

SLOTS: Final = 6
"""Slots of one memory, which takes its pages as slots are used."""

RUN_PIECES: Final = SLOT_SIZE // PIECE_SIZE
RUN_WINDOW: Final = SLOTS * RUN_PIECES
"""Pieces in runs that may be on their way to any one receiver."""

PATIENCE: Final = 0.05
"""Seconds to wait for a slot before pieces are sent instead."""

IDLE: Final = 10.0
"""Seconds after which memory that is not used is given back."""

OFFERED: Final = b"\x00"
MAPPED: Final = b"\x01"
REFUSED: Final = b"\x02"
GONE: Final = b"\x03"
"""The meta part of ``BULK_MEMORY``, whose ident is the number of the memory: the other side may map it; it is mapped;
it cannot be; its owner has given it back."""

_RUN: Final = struct.Struct("<IQI")
_FREE: Final = struct.Struct("<QB")


class Run(NamedTuple):
    """Where pieces are: the meta part of ``BULK_RUN``.

    :ivar memory: its number.
    :ivar offset: bytes from its beginning.
    :ivar size: bytes.
    """

    memory: int
    offset: int
    size: int

    def pack(self) -> bytes:
        return _RUN.pack(self.memory, self.offset, self.size)

    @classmethod
    def unpack(cls, meta: Buffer) -> Run:
        """:raises ProtocolError: if it is malformed."""
        if len(meta) != _RUN.size:
            raise ProtocolError("what says where pieces are has the wrong length")
        run = cls(*_RUN.unpack(meta))
        if not 0 < run.size <= SLOT_SIZE:
            raise ProtocolError("a run of pieces has an impossible size")
        return run


def pack_free(offset: int, lost: bool) -> bytes:
    """The meta part of ``BULK_FREE``: whether a reader of the slot at ``offset`` may still be reading it."""
    return _FREE.pack(offset, lost)


class Place(NamedTuple):
    """A slot to write to."""

    memory: int
    offset: int
    view: memoryview


class RunWriter(Protocol):
    """Where runs are written."""

    @property
    def is_open(self) -> bool:
        """Whether runs are to be written, rather than pieces sent."""

    @property
    def is_acknowledged(self) -> bool:
        """Whether a run is free as soon as it is acknowledged, so that the sender calls :meth:`free`."""

    def take(self) -> Place | None:
        """A free slot; None if all are in use, and whoever asked is told when that changes."""

    def free(self, place: Place) -> None:
        """Nobody reads a slot any more."""

    def flush(self) -> None:
        """Send at once what says where the run is."""


class NoMemory:
    """No shared memory."""

    is_open = is_acknowledged = False

    def free(self, place: Place) -> None:
        pass

    def flush(self) -> None:
        pass

    def take(self) -> Place | None:
        return None


NO_MEMORY: Final = NoMemory()


class OwnMemory(NamedTuple):
    """Memory that this process writes.

    :ivar release: gives it back.
    :ivar offer: whether the other side has to map it before it can read it; it is then the only reader.
    """

    number: int
    view: memoryview
    release: Callable[[], None]
    offer: bool = False


class Exchange(Protocol):
    """Gets the memory of one side of a link to the other side, in ways that the link cannot go."""

    def make(self, size: int, on_made: Callable[[OwnMemory | None], None]) -> None:
        """Make memory for this side; ``on_made`` gets it, or None if there is none for this link."""

    def fetch(self, number: int, on_fetched: Callable[[memoryview | None], None]) -> None:
        """Map memory that was offered; ``on_fetched`` gets it, or None."""

    def may_fetch(self, number: int) -> None:
        """Let the other side have memory that somebody else has given here."""

    def withdrawn(self, number: int) -> None:
        """The other side has given its memory back."""

    def close(self) -> None:
        """The link is lost."""


class SendAboutMemory(Protocol):
    """Sends a frame in this turn."""

    def __call__(self, kind: int, ident: int, meta: Buffer = b"") -> None: ...


class MemoryOutlet(Protocol):
    """What sends the frames about memory."""

    @property
    def send(self) -> SendAboutMemory:
        """Sends a frame in this turn."""

    def flush(self) -> None:
        """Send at once what was sent in this turn so far."""


class _State(Enum):
    NONE = "there is none"
    ASKED = "it is being made"
    OFFERED = "the other side is mapping it"
    OPEN = "runs are written to it"
    REFUSED = "there will be none on this link"


class LinkMemory:
    """The shared memory of one link: what this side writes, and what it reads.

    :param on_room: called when there may be a slot again, or pieces are to be sent instead.
    """

    def __init__(
        self,
        exchange: Exchange,
        outlet: MemoryOutlet,
        on_room: Callable[[], None],
        clock: IReactorTime | None,
    ) -> None:
        self._exchange = exchange
        self._send = outlet.send
        self.flush: Callable[[], None] = outlet.flush
        self._on_room = on_room
        self._clock = clock
        self._state = _State.NONE
        self._own: OwnMemory | None = None
        self._free: list[int] = []
        self._used = 0
        self._lost = 0
        self._starved = False
        self._timer: Any = None
        self._waiting = False
        self._views: dict[int, memoryview] = {}
        self._given: set[int] = set()
        self._offered: set[int] = set()
        self._mapped: set[int] = set()
        self._other_refuses = False

    # -- what this side writes

    def want(self) -> None:
        """Something is to be sent: have memory made, if there is none."""
        if self._state is _State.NONE:
            self._state = _State.ASKED
            self._exchange.make(SLOT_SIZE * SLOTS, self._made)

    def _made(self, own: OwnMemory | None) -> None:
        if self._state is not _State.ASKED:
            if own is not None:
                own.release()
            return
        if own is None:
            self._state = _State.REFUSED
            return
        self._own = own
        self._free = list(range(0, len(own.view) - SLOT_SIZE + 1, SLOT_SIZE))
        self._used = self._lost = 0
        if own.offer and not self.can_read(own.number):
            self._state = _State.REFUSED if self._other_refuses else _State.OFFERED
        else:
            self._open()

    def _open(self) -> None:
        self._state = _State.OPEN
        self._starved = False
        self._wait(IDLE)
        self._on_room()

    @property
    def is_open(self) -> bool:
        """Whether runs are to be written, rather than pieces sent."""
        return self._state is _State.OPEN and not self._starved

    @property
    def is_acknowledged(self) -> bool:
        return self._own is not None and self._own.offer

    def take(self) -> Place | None:
        own = self._own
        assert own is not None
        if not self._free:
            self._waiting = True
            self._wait(PATIENCE)
            return None
        # The first ones again and again, so that small transfers do not touch the others.
        offset = min(self._free)
        self._free.remove(offset)
        self._used += 1
        self._stop_timer()
        return Place(own.number, offset, own.view[offset : offset + SLOT_SIZE])

    def _wait(self, seconds: float) -> None:
        if self._timer is None and self._clock is not None:
            self._timer = self._clock.callLater(seconds, self._time_is_up)

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _time_is_up(self) -> None:
        self._timer = None
        if self._waiting:
            self._waiting = False
            self._starved = True
            self._on_room()
        elif not self._used:
            self._give_back()

    def freed(self, number: int, meta: Buffer) -> None:
        """A slot is not used any more, or its reader is lost.

        :raises ProtocolError: if it was not in use.
        """
        if len(meta) != _FREE.size:
            raise ProtocolError("a frame about a slot of memory has the wrong length")
        offset, lost = _FREE.unpack(meta)
        own = self._own
        if own is None or own.number != number or own.offer:
            return
        if offset % SLOT_SIZE or offset >= len(own.view) or offset in self._free or not self._used:
            raise ProtocolError("a slot of memory is freed that was not in use")
        self._freed(offset, bool(lost))

    def free(self, place: Place) -> None:
        """Nobody reads a slot any more."""
        if self._own is not None and self._own.number == place.memory:
            self._freed(place.offset, False)

    def _freed(self, offset: int, lost: bool) -> None:
        self._used -= 1
        if lost:
            self._lost += 1
        else:
            self._free.append(offset)
        if self._lost and not self._used:
            self._give_back()
        if self._free:
            self._starved = False
        if self._waiting or lost:
            self._waiting = False
            self._stop_timer()
            self._on_room()
        if not self._used and self._state is _State.OPEN:
            self._wait(IDLE)

    def _give_back(self) -> None:
        self._stop_timer()
        own, self._own = self._own, None
        self._free = []
        self._starved = False
        if self._state is not _State.REFUSED:
            self._state = _State.NONE
        if own is not None:
            self._offered.discard(own.number)
            self._mapped.discard(own.number)
            self._send(frames.BULK_MEMORY, own.number, GONE)
            own.release()

    # -- what the other side can read

    def can_read(self, number: int) -> bool:
        """Whether the other side has mapped this memory; if not, it is asked to."""
        if number in self._mapped:
            return True
        if number not in self._offered and not self._other_refuses:
            self._offered.add(number)
            self._exchange.may_fetch(number)
            self._send(frames.BULK_MEMORY, number, OFFERED)
        return False

    def gone(self, number: int) -> None:
        """Memory of somebody else's is gone."""
        if number in self._offered:
            self._offered.discard(number)
            self._mapped.discard(number)
            self._send(frames.BULK_MEMORY, number, GONE)

    # -- what this side reads

    def add(self, number: int, view: memoryview) -> None:
        """The other side has given memory here."""
        self._views[number] = view
        self._given.add(number)

    def is_given(self, number: int) -> bool:
        """Whether the other side has given this memory, and so has to be told when a run is free."""
        return number in self._given

    def view(self, run: Run) -> memoryview:
        """The bytes of a run that the other side refers to.

        :raises ProtocolError: if it is in no memory that this side can read.
        """
        view = self._views.get(run.memory)
        if view is None or run.offset + run.size > len(view):
            raise ProtocolError("a run of pieces is in memory that is not known here")
        return view[run.offset : run.offset + run.size]

    def received(self, number: int, meta: Buffer) -> None:
        """A ``BULK_MEMORY`` came."""
        what = bytes(meta)
        if what == OFFERED:
            self._exchange.fetch(number, lambda view: self._fetched(number, view))
        elif what == GONE:
            self._views.pop(number, None)
            self._given.discard(number)
            self._exchange.withdrawn(number)
        elif number not in self._offered:
            return
        elif what == MAPPED:
            self._mapped.add(number)
            if self._state is _State.OFFERED and self._own is not None:
                self._open()
        else:
            self._offered.discard(number)
            self._other_refuses = True
            if self._state is _State.OFFERED:
                self._state = _State.REFUSED
                self._give_back()

    def _fetched(self, number: int, view: memoryview | None) -> None:
        if view is not None:
            self._views[number] = view
        self._send(frames.BULK_MEMORY, number, REFUSED if view is None else MAPPED)

    def close(self) -> None:
        """The link is lost: nothing is written any more, as the other side may go on reading."""
        self._state = _State.REFUSED
        self._give_back()
        self._views.clear()
        self._given.clear()
        self._offered.clear()
        self._mapped.clear()
        self._exchange.close()
