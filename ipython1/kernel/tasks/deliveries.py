"""Results as they arrive at a client: in batches, of which the controller is told when all of one is here.

A batch is some frames in a row; the last has its number.  Large results come as bulk transfers, which may end after
that.

==============  =============================================  ====================================================
a result that   on                                             becomes
==============  =============================================  ====================================================
is announced    its transfer is complete                       stored
is announced    its transfer fails: there is no memory for it  stored, as an error that says so
is announced    the link is lost                               (gone): it is missing when the client is back
==============  =============================================  ====================================================
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from ipython1.kernel.basics.error import MessageSizeError
from ipython1.kernel.calls.clientlink import ClientEnd
from ipython1.kernel.tasks.resultbook import refused_result
from ipython1.kernel.wire import frames, taskwire
from ipython1.kernel.wire.bulk import (
    LARGE_BUFFER,
    Incoming,
    WritableBuffer,
    allocate,
    joined,
    unpack_reference,
)
from ipython1.kernel.wire.frames import Buffer, Bytes
from ipython1.kernel.wire.link import FrameLink
from ipython1.kernel.wire.taskwire import DONE_HEAD


class Store(Protocol):
    """Takes encoded results."""

    def __call__(self, data: Bytes, /) -> None: ...


class Deliveries:
    """Takes the results that arrive through one client's connection; in the reactor's thread.

    :param store: takes them.
    :param wanted: returns whether the result of a task is to be stored.
    """

    def __init__(self, end: ClientEnd, store: Store, wanted: Callable[[int], bool]) -> None:
        self._end = end
        self._store = store
        self._wanted = wanted
        self._link: FrameLink | None = None
        self._coming: set[int] = set()
        self._numbers: list[tuple[int, set[int]]] = []

    def received(self, flags: int, number: int, meta: Buffer, payload: Buffer) -> None:
        """Handle a ``DONE`` frame."""
        link = self._end.link
        if link is not self._link:
            self._link = link
            self._coming.clear()
            self._numbers.clear()
        if flags & frames.BULK:
            self._large(link, bytes(meta), unpack_reference(payload))
        elif len(payload):
            self._store(bytes(payload))
        if not number:
            return
        if self._coming:
            self._numbers.append((number, set(self._coming)))
        else:
            link.send(taskwire.CONFIRM, number)

    def _large(self, link: FrameLink, head: bytes, transfer: int) -> None:
        task_id: int = DONE_HEAD.unpack(head)[0]
        if not self._wanted(task_id):
            link.bulk.drop(transfer, f"the result of task {task_id} is here already")
            return
        self._coming.add(transfer)
        whole = _received_behind(head, link.bulk.incoming(transfer))

        def complete(buffers: list[WritableBuffer] | None, reason: str) -> None:
            if link.lost:
                return
            if buffers is None:
                self._store(_not_received(task_id, reason))
            else:
                try:
                    data = joined((head, *buffers)) if whole is None else whole
                except MemoryError:
                    size = sum(map(len, buffers))
                    data = _not_received(task_id, f"not enough memory for {size} bytes")
                self._store(data)
            self._came(link, transfer)

        link.bulk.take(transfer, complete)

    def _came(self, link: FrameLink, transfer: int) -> None:
        """Confirm the batches of which nothing is coming any more."""
        self._coming.discard(transfer)
        for number, coming in self._numbers:
            coming.discard(transfer)
            if not coming:
                link.send(taskwire.CONFIRM, number)
        self._numbers = [(number, coming) for number, coming in self._numbers if coming]


def _received_behind(head: bytes, incoming: Incoming | None) -> Bytes | None:
    """Have a large result received right behind its head, in memory for both; None if that cannot be."""
    if incoming is None or len(incoming.sizes) != 1 or incoming.sizes[0] < LARGE_BUFFER:
        return None
    if not incoming.hold():
        return None
    try:
        memory = memoryview(allocate(len(head) + incoming.sizes[0]))
    except MemoryError:
        return None  # the transfer will fail
    else:
        memory[: len(head)] = head
        incoming.place(0, memory[len(head) :])
        return memory
    finally:
        incoming.go_on()


def _not_received(task_id: int, reason: str) -> bytes:
    problem = MessageSizeError(
        f"the result of task {task_id} did not arrive at this client: {reason}"
    )
    return refused_result(task_id, time.time(), problem)
