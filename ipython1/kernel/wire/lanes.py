"""Lanes: links that share one connection.

A gateway has one connection to the controller behind it, and each of its engines one to the gateway.  What an engine
and that controller say to each other travels through both, in a *lane*.  To both of them a lane is a link like any
other, so all that makes each command and run count once holds from end to end.

``LANES`` says which lanes the frames after it belong to, until the next one does: the ident is the number of the lane,
or 0 and the meta part holds the numbers of several.  Number 0 is the link itself.  Frames that are sent to several
lanes in one turn, equal to the byte, travel once: a call to all engines of a gateway is one frame.

================  ==========  ===================================================================================
kind              ident       says
================  ==========  ===================================================================================
``LANES``         lane        whose the following frames are
``LANE_LOST``     --          this lane has ended; the payload says why
``LANE_ROOM``     0 or 1      whether the other side of this lane reads on
``LANE_SINK``     transfer    this bulk transfer of the link is also for this lane; a frame may name it later
``LANE_FORGET``   transfer    no frame of this lane will name it
================  ==========  ===================================================================================

Bulk transfers belong to the connection, which carries each of them once, for as many lanes as want it.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from twisted.logger import Logger

from ipython1.kernel.basics.error import KernelError
from ipython1.kernel.wire import frames
from ipython1.kernel.wire.baselink import FrameReceiver, Link
from ipython1.kernel.wire.bulkport import BulkPort
from ipython1.kernel.wire.bulkrelay import BulkRelay, LinkSink, OnSinkEnd
from ipython1.kernel.wire.frames import HEADER, HEADER_SIZE, Buffer
from ipython1.kernel.wire.link import SMALL, FrameLink
from ipython1.kernel.wire.messages import pack_ids, unpack_ids

log: Logger = Logger()

OWN: Final = 0
"""The number that stands for the link itself."""

MOST_TOGETHER: Final = 16_000
"""Lanes that one ``LANES`` can name."""


class Lane(Link):
    """One end of a lane.

    ===========  ==================================================
    state        meaning
    ===========  ==================================================
    new          frames are kept until :meth:`open`
    open         frames are sent
    lost         frames are dropped, nothing is received any more
    ===========  ==================================================

    :param number: names it on its link.
    :ivar told_room: what the other side was told last by :meth:`tell_room`.
    """

    def __init__(self, lanes: Lanes, number: int, receiver: FrameReceiver) -> None:
        self.number = number
        self.lost: bool = False
        self.ends: None = None
        self.bulk: BulkPort = lanes.link.bulk
        self._lanes = lanes
        self._receiver = receiver
        self._kept: list[tuple[object, Sequence[Buffer], int]] | None = []
        self._held = False
        self.told_room: bool = True
        self._waiting: deque[Callable[[], None]] = deque()

    @property
    def peer(self) -> str:
        return f"lane {self.number} of {self._lanes.link.peer}"

    def call_soon(self, function: Callable[[], None]) -> None:
        self._lanes.link.call_soon(function)

    # -- out

    def open(self, first: bytes = b"") -> None:
        """Send what was kept, and all that comes.

        :param first: a whole frame to send before.
        """
        kept, self._kept = self._kept, None
        if first:
            self._put(first, (first,), len(first))
        for key, parts, size in kept or ():
            self._put(key, parts, size)

    def send(
        self, kind: int, ident: int, meta: Buffer = b"", payload: Buffer = b"", flags: int = 0
    ) -> None:
        if self.lost or (kind == frames.OUTPUT and not self.has_room):
            return
        size = HEADER_SIZE + len(meta) + len(payload)
        if size < SMALL:
            frame = frames.pack_frame(kind, ident, meta, payload, flags)
            self._put(frame, (frame,), size)
        else:
            header = HEADER.pack(kind, flags, len(meta), len(payload), ident)
            self._put((header, bytes(meta), id(payload)), (header, meta, payload), size)

    def send_packed(self, parts: list[Buffer], size: int) -> None:
        if not self.lost:
            first = parts[0]
            self._put(first if len(parts) == 1 and type(first) is bytes else None, parts, size)

    def _put(self, key: object, parts: Sequence[Buffer], size: int) -> None:
        if self._kept is None:
            self._lanes.put(self.number, key, parts, size)
        else:
            self._kept.append((key, parts, size))

    def flush(self) -> None:
        self._lanes.link.flush()

    # -- room

    @property
    def has_room(self) -> bool:
        return not self._held and not self.lost and self._lanes.link.has_room

    def when_room(self, call: Callable[[], None]) -> None:
        if self.lost:
            return
        if self._held:
            self._waiting.append(call)
        else:
            self._lanes.link.when_room(lambda: None if self.lost else self._go_on(call))

    def _go_on(self, call: Callable[[], None]) -> None:
        if self._held:
            self._waiting.append(call)
        else:
            call()

    def tell_room(self, room: bool) -> None:
        """Tell the other side whether there is room behind this one."""
        self.told_room = room
        self.send(frames.LANE_ROOM, int(room))

    # -- bulk transfers

    def add_sink(self, relay: BulkRelay, on_end: OnSinkEnd | None = None) -> int:
        number = self._lanes.add_sink(self, relay, on_end)
        self.send(frames.LANE_SINK, number)
        return number

    def take_back(self, transfer: int) -> None:
        self.send(frames.LANE_FORGET, transfer)
        self._lanes.leave(self, transfer)

    # -- in

    def received(self, kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer) -> None:
        """A frame came.  One that is not in the protocol ends this lane, and no other."""
        if kind == frames.LANE_LOST:
            self.connection_lost(bytes(payload).decode(errors="replace"))
        elif kind == frames.LANE_ROOM:
            self._held = not ident
            while self._waiting and not self._held:
                self.when_room(self._waiting.popleft())
        else:
            self._hand_over(kind, flags, ident, meta, payload)

    def _hand_over(self, kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer) -> None:
        try:
            self._receiver.frame_received(kind, flags, ident, meta, payload)
            return
        except (KernelError, struct.error) as problem:
            log.warn("ending {lane}: {problem}", lane=self.peer, problem=problem)
        except Exception:
            log.failure("a frame of {lane} could not be handled; ending it", lane=self.peer)
        self.abort("the other side sent something that is not in the protocol")

    # -- the end

    def abort(self, reason: str) -> None:
        if not self.lost:
            self._kept = None
            self.send(frames.LANE_LOST, 0, b"", reason.encode())
            self.connection_lost(reason)

    def dismiss(self, reason: str) -> None:
        self.send(frames.GOODBYE, 0, b"", reason.encode())
        self.abort(reason)

    def connection_lost(self, reason: str) -> None:
        """The other side, or what leads there, is gone."""
        if self.lost:
            return
        self.lost = True
        self._kept = None
        self._waiting.clear()
        self._lanes.forget(self)
        try:
            self._receiver.link_lost(reason)
        except Exception:
            log.failure("what follows from the loss of {lane} failed", lane=self.peer)


class _Entry(NamedTuple):
    """Frames that go to some lanes."""

    numbers: list[int]
    parts: Sequence[Buffer]
    size: int


class _SharedSink(LinkSink):
    """Brings a transfer through the link for several lanes; begins a turn later, so that all can join."""

    def __init__(self, port: BulkPort, number: int, relay: BulkRelay) -> None:
        super().__init__(port, number)
        self.number = number
        self.relay = relay
        self.takers: dict[Lane, OnSinkEnd | None] = {}
        self.begun = False

    def offered(self) -> None:
        if self.begun:
            super().offered()

    def begin(self) -> None:
        """All that want it have joined."""
        self.begun = True
        if not self.feed.over:
            super().offered()


class Lanes:
    """The lanes of one link.

    :param opened: called with the number, the kind and the payload of a frame in a lane that is not open here.
    """

    def __init__(
        self, link: FrameLink, opened: Callable[[int, int, Buffer], None] = lambda *frame: None
    ) -> None:
        self.link = link
        self._opened = opened
        self._lanes: dict[int, Lane] = {}
        self._entries: list[_Entry] = []
        self._places: dict[object, int] = {}
        self._last: dict[int, int] = {}
        self._size = 0
        self._to: list[int] = [OWN]
        self._from: Sequence[int] = (OWN,)
        self._sinks: dict[int, _SharedSink] = {}
        link.lanes = self

    def add(self, number: int, receiver: FrameReceiver) -> Lane:
        """A new lane; nothing is sent before its :meth:`Lane.open`."""
        lane = self._lanes[number] = Lane(self, number, receiver)
        return lane

    def forget(self, lane: Lane) -> None:
        """A lane has ended."""
        if self._lanes.get(lane.number) is lane:
            del self._lanes[lane.number]
        for sink in [each for each in self._sinks.values() if lane in each.takers]:
            self.leave(lane, sink.number)

    # -- out

    def put(self, number: int, key: object, parts: Sequence[Buffer], size: int) -> None:
        """Send whole frames through a lane.

        :param key: the same for equal frames, which lanes share; None for those that are hardly ever equal.
        """
        entries = self._entries
        if len(self._lanes) == 1 and not entries:
            # Nobody to share with, as on the link of an engine.
            if self._to != [number]:
                self._select([number])
            self.link.put(parts, size)
            return
        if key is not None:
            place = self._places.get(key)
            # Not before what this lane was sent meanwhile.
            if place is not None and self._last.get(number, -1) < place:
                entries[place].numbers.append(number)
                self._last[number] = place
                return
            self._places[key] = len(entries)
        self._last[number] = len(entries)
        entries.append(_Entry([number], parts, size))
        self._size += size
        if self._size >= frames.BATCH_SIZE:
            self.settle()
        else:
            self.link.mark()

    def before_own(self, kind: int) -> None:
        """See :class:`~ipython1.kernel.wire.link.LaneSwitch`."""
        if self._entries:
            self.settle()
        if kind > frames.BULK_MEMORY:
            self._select([OWN])

    def settle(self) -> None:
        """See :class:`~ipython1.kernel.wire.link.LaneSwitch`."""
        if not self._entries:
            return
        entries, self._entries = self._entries, []
        self._places.clear()
        self._last.clear()
        self._size = 0
        for numbers, parts, size in entries:
            for begin in range(0, len(numbers), MOST_TOGETHER):
                self._select(numbers[begin : begin + MOST_TOGETHER])
                self.link.put(parts, size)

    def _select(self, numbers: list[int]) -> None:
        if numbers != self._to:
            self._to = numbers
            if len(numbers) == 1:
                frame = frames.pack_frame(frames.LANES, numbers[0])
            else:
                frame = frames.pack_frame(frames.LANES, 0, pack_ids(numbers))
            self.link.put((frame,), len(frame))

    # -- in

    def frame_received(
        self, kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer
    ) -> bool:
        """See :class:`~ipython1.kernel.wire.link.LaneSwitch`."""
        if kind == frames.LANES:
            self._from = unpack_ids(meta) if len(meta) else (ident,)
            return True
        if self._from == (OWN,):
            return False
        for number in self._from:
            lane = self._lanes.get(number)
            if lane is not None:
                lane.received(kind, flags, ident, meta, payload)
            else:
                self._opened(number, kind, payload)
        return True

    def link_lost(self, reason: str) -> None:
        """See :class:`~ipython1.kernel.wire.link.LaneSwitch`."""
        self._entries.clear()
        for lane in list(self._lanes.values()):
            lane.connection_lost(reason)

    # -- bulk transfers

    def add_sink(self, lane: Lane, relay: BulkRelay, on_end: OnSinkEnd | None) -> int:
        """Have the link bring a transfer for a lane, together with others that want it in this turn."""
        for sink in self._sinks.values():
            if sink.relay is relay and not sink.begun and not sink.feed.over:
                sink.takers[lane] = on_end
                return sink.number
        number = self.link.bulk.next_number()
        sink = self._sinks[number] = _SharedSink(self.link.bulk, number, relay)
        sink.takers[lane] = on_end
        relay.attach(sink, lambda reason: self._sink_ended(number, reason))
        self.link.call_soon(sink.begin)
        return number

    def _sink_ended(self, number: int, reason: str | None) -> None:
        sink = self._sinks.pop(number, None)
        for on_end in () if sink is None else list(sink.takers.values()):
            if on_end is not None:
                on_end(reason)

    def leave(self, lane: Lane, number: int) -> None:
        """A lane does not want a transfer any more."""
        sink = self._sinks.get(number)
        if sink is not None and lane in sink.takers:
            del sink.takers[lane]
            if not sink.takers:
                del self._sinks[number]
                self.link.bulk.take_back(number)
