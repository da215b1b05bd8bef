"""A client's undecoded results, which are decoded when they are read.

Results arrive in batches of bytes, *segments*. A *page* is an array with an item for each of 1024 tasks: the number of
the segment and the offset of the task's result in it. So a million results need a million array items and the bytes
themselves instead of a million objects.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Final

from ipython1.kernel.basics.error import TaskAborted
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.taskwire import DONE_HEAD, Status

_PAGE: Final = 1024
_SEGMENT_BITS: Final = 32
_OFFSET_MASK: Final = (1 << _SEGMENT_BITS) - 1


class ResultBook:
    """Undecoded results by task id: batches of bytes, and the offsets of the results in them."""

    def __init__(self) -> None:
        self._pages: dict[int, array[int]] = {}
        self._segments: dict[int, bytes] = {}
        self._left: dict[int, int] = {}
        self._next = 1
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, data: bytes, places: Sequence[tuple[int, int]]) -> list[int]:
        """Store results.

        :param data: the results.
        :param places: pairs of a task id and the offset of its result.
        :returns: the ids that had no result yet.
        """
        segment = self._next
        self._next += 1
        pages = self._pages
        base = segment << _SEGMENT_BITS
        new = []
        for task_id, offset in places:
            number, index = divmod(task_id, _PAGE)
            page = pages.get(number)
            if page is None:
                page = pages[number] = array("Q", bytes(8 * _PAGE))
            if not page[index]:
                page[index] = base | offset
                new.append(task_id)
        if new:
            self._segments[segment] = data
            self._left[segment] = len(new)
            self._count += len(new)
        return new

    def get(self, task_id: int) -> tuple[bytes, int] | None:
        """Return the bytes that contain a task's result, and its offset; None if there is no result."""
        page = self._pages.get(task_id // _PAGE)
        place = page[task_id % _PAGE] if page is not None else 0
        if not place:
            return None
        return self._segments[place >> _SEGMENT_BITS], place & _OFFSET_MASK

    def __contains__(self, task_id: int) -> bool:
        page = self._pages.get(task_id // _PAGE)
        return page is not None and page[task_id % _PAGE] != 0

    def missing(self, task_ids: Iterable[int]) -> set[int]:
        """Return the ids that have no result."""
        pages = self._pages
        none: array[int] = array("Q", bytes(8 * _PAGE))
        return {
            task_id
            for task_id in task_ids
            if not pages.get(task_id // _PAGE, none)[task_id % _PAGE]
        }

    def discard(self, task_id: int) -> None:
        """Delete a result."""
        page = self._pages.get(task_id // _PAGE)
        place = page[task_id % _PAGE] if page is not None else 0
        if page is None or not place:
            return
        page[task_id % _PAGE] = 0
        self._count -= 1
        segment = place >> _SEGMENT_BITS
        self._left[segment] -= 1
        if not self._left[segment]:
            del self._left[segment], self._segments[segment]

    def clear(self) -> None:
        """Delete all results."""
        self._pages.clear()
        self._segments.clear()
        self._left.clear()
        self._count = 0


def places_in(data: bytes) -> list[tuple[int, int]]:
    """Return the task ids and offsets of the consecutive results in ``data``."""
    places = []
    position = 0
    end = len(data)
    unpack = DONE_HEAD.unpack_from
    head_size = DONE_HEAD.size
    while position < end:
        head = unpack(data, position)
        places.append((head[0], position))
        position += head_size + head[1]
    return places


def aborted_result(task_id: int, now: float) -> bytes:
    """Return the encoded result of a task that was aborted before it was sent.

    :param now: seconds since the epoch.
    """
    payload = messages.pack_json((TaskAborted.__name__, f"task {task_id} was aborted"))
    head = DONE_HEAD.pack(task_id, len(payload), Status.REFUSED, -1, 0, now, now, 0.0)
    return head + payload
