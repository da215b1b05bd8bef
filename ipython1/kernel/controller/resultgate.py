"""Large results on their way here from engines: no more of them are taken than the journal keeps up with.

Engines may make results faster than a disk takes them, and each of them keeps as much as it does while the controller
is away.  What is not taken yet stays there, and in the memory that is shared; an engine that keeps much begins no task.

===========  ====================================================  ===========
a result is  on                                                    becomes
===========  ====================================================  ===========
(announced)  :meth:`~ResultGate.take`                              waiting
waiting      there is room, or nothing else comes from its engine  coming
             and there would be room without what others send
waiting      its transfer fails                                    (over)
coming       its transfer ends                                     (over)
===========  ====================================================  ===========

So an engine that stops in the middle of a transfer does not stop the others, and there are at most ``MOST`` bytes and
one result of each engine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ipython1.kernel.wire.bulk import WritableBuffer
from ipython1.kernel.wire.bulkport import BulkPort, Collector, OnArrived, collect
from ipython1.kernel.wire.bulkrelay import BulkRelay

MOST: Final = 48 * 2**20
"""Bytes of results that come or are not safe yet, at which no more are taken: what gathers before it is written, and
what the journal has at a time."""


class ResultGate:
    """Takes results.

    :param unsafe: tells how many bytes of results are here and not safe yet.
    :param call_soon: calls something in a later turn.
    """

    def __init__(
        self, unsafe: Callable[[], int], call_soon: Callable[[Callable[[], None]], object]
    ) -> None:
        self._unsafe = unsafe
        self._call_soon = call_soon
        self._waiting: dict[BulkPort, dict[Collector, int]] = {}
        self._coming: dict[BulkPort, dict[Collector, int]] = {}
        self._size = 0
        self._held: set[BulkPort] = set()

    def take(self, port: BulkPort, relay: BulkRelay, on_end: OnArrived) -> None:
        """Call ``on_end`` with the buffers of a transfer that comes through ``port``, or with None and the reason."""

        def ended(buffers: list[WritableBuffer] | None, reason: str) -> None:
            self._ended(port, collector)
            on_end(buffers, reason)

        collector = collect(relay, ended, self._call_soon, later=True)
        self._waiting.setdefault(port, {})[collector] = relay.size
        self.go_on()
        if port in self._waiting or self._unsafe() + self._size >= MOST:
            # What is not taken would be in the way of what is.
            self._held.add(port)
            port.hold_back(True)

    def go_on(self) -> None:
        """Take what there is room for now, in turn."""
        while ready := [port for port in self._waiting if self._has_room(port)]:
            for port in ready:
                if self._has_room(port):
                    self._begin(port)
        if self._held and self._unsafe() + self._size <= MOST // 2:
            for port in self._held - self._waiting.keys():
                self._held.discard(port)
                port.hold_back(False)

    def _has_room(self, port: BulkPort) -> bool:
        coming = self._size if port in self._coming else 0
        return self._unsafe() + coming < MOST

    def _begin(self, port: BulkPort) -> None:
        waiting = self._waiting[port]
        collector = next(iter(waiting))
        size = waiting.pop(collector)
        if not waiting:
            del self._waiting[port]
        self._coming.setdefault(port, {})[collector] = size
        self._size += size
        collector.begin()

    def _ended(self, port: BulkPort, collector: Collector) -> None:
        for table in (self._waiting, self._coming):
            some = table.get(port, {})
            size = some.pop(collector, 0)
            if table is self._coming:
                self._size -= size
            if not some:
                table.pop(port, None)
