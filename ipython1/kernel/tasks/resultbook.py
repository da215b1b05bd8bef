"""A client's undecoded results, which are decoded when they are read.

Results arrive in batches of bytes, *segments*. A *page* is an array with an item for each of 1024 tasks: the number of
the segment and the offset of the task's result in it. So a million results need a million array items and the bytes
themselves instead of a million objects.

==========  ==================================================  ==========================================
a task is   on                                                  becomes
==========  ==================================================  ==========================================
open        :meth:`~ResultBook.add`                             here
open        :meth:`~ResultBook.never`: it was not sent          never
here        :meth:`~ResultBook.discard`: it has been read       read
here, read  :meth:`~ResultBook.cleared`: the user wants it gone cleared
read, never :meth:`~ResultBook.want`: it is asked for           wanted
wanted      ``add``                                             here
==========  ==================================================  ==========================================

Of tasks that are read, never or cleared, only the controller can tell more.  What it sends of them unasked is not
stored.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from ipython1.kernel.basics.error import TaskAborted, to_wire
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.frames import Bytes
from ipython1.kernel.wire.taskwire import DONE_HEAD, Status

_PAGE: Final = 1024
_SEGMENT_BITS: Final = 32
_OFFSET_MASK: Final = (1 << _SEGMENT_BITS) - 1

# What a page has of tasks whose result is not here.
_OPEN: Final = 0
_READ: Final = 1
_NEVER: Final = 2
_CLEARED: Final = 3
_WANTED: Final = 4
_HERE: Final = 1 << _SEGMENT_BITS

_NOTHING: Final = array("Q", bytes(8 * _PAGE))
_ALL_READ: Final = array("Q", [_READ]) * _PAGE
_ALL_CLEARED: Final = array("Q", [_CLEARED]) * _PAGE


class ResultBook:
    """Undecoded results by task id: batches of bytes, and the offsets of the results in them."""

    def __init__(self) -> None:
        self._pages: dict[int, array[int]] = {}
        self._segments: dict[int, Bytes] = {}
        self._left: dict[int, int] = {}
        self._next = 1
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, data: Bytes, places: Sequence[tuple[int, int]]) -> list[int]:
        """Store results.

        :param data: the results.
        :param places: pairs of a task id and the offset of its result.
        :returns: the ids of those that were stored: that had no result yet, or were asked for again.
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
                page = self._new_page(number)
            known = page[index]
            if not known or known == _WANTED:
                page[index] = base | offset
                new.append(task_id)
        if new:
            self._segments[segment] = data
            self._left[segment] = len(new)
            self._count += len(new)
        return new

    def _new_page(self, number: int) -> array[int]:
        pages = self._pages
        page = pages[number] = array("Q", bytes(8 * _PAGE))
        if number % 64 == 0:
            # Of tasks that are all read, no page is kept.
            for other in range(max(0, number - 128), number):
                if pages.get(other) == _ALL_READ:
                    pages[other] = _ALL_READ
        return page

    def get(self, task_id: int) -> tuple[Bytes, int] | None:
        """Return the bytes that contain a task's result, and its offset; None if there is no result."""
        page = self._pages.get(task_id // _PAGE)
        place = page[task_id % _PAGE] if page is not None else _OPEN
        if place < _HERE:
            return None
        return self._segments[place >> _SEGMENT_BITS], place & _OFFSET_MASK

    def _place(self, task_id: int) -> int:
        return self._pages.get(task_id // _PAGE, _NOTHING)[task_id % _PAGE]

    def __contains__(self, task_id: int) -> bool:
        return self._place(task_id) >= _HERE

    def is_open(self, task_id: int) -> bool:
        """Whether a result of this task would be stored."""
        return self._place(task_id) in (_OPEN, _WANTED)

    def missing(self, task_ids: Iterable[int]) -> set[int]:
        """Return the ids of tasks whose result is neither here nor was read."""
        pages = self._pages
        get, nothing = pages.get, _NOTHING
        return {
            task_id
            for task_id in task_ids
            if (place := get(task_id // _PAGE, nothing)[task_id % _PAGE]) < _HERE and place != _READ
        }

    def unreadable(self, task_ids: Iterable[int]) -> set[int]:
        """Return the ids of tasks whose result is not here."""
        return {task_id for task_id in task_ids if self._place(task_id) < _HERE}

    def want(self, task_ids: Iterable[int]) -> set[int]:
        """Have results stored that were read, or that nobody here waited for, when they come.

        :returns: the ids of those of which only the controller can tell more.
        """
        found = set()
        for task_id in task_ids:
            place = self._place(task_id)
            if _OPEN < place < _HERE:
                found.add(task_id)
                if place in (_READ, _NEVER):
                    self._set(task_id, _WANTED)
        return found

    def open_among(self, start: int, stop: int) -> Iterator[int]:
        """Yield the ids of a range that have no result and are to have one."""
        for number in range(start // _PAGE, -(-stop // _PAGE)):
            page = self._pages.get(number, _NOTHING)
            if page is _ALL_READ or page is _ALL_CLEARED:
                continue
            first = number * _PAGE
            for index in range(max(start - first, 0), min(stop - first, _PAGE)):
                place = page[index]
                if not place or place == _WANTED:
                    yield first + index

    def never(self, task_ids: Iterable[int]) -> None:
        """Note that tasks were aborted before they were sent, and nobody here waits for them."""
        for task_id in task_ids:
            if not self._place(task_id):
                self._set(task_id, _NEVER)

    def discard(self, task_id: int) -> None:
        """Delete a result that was read."""
        self._drop(task_id, _READ)

    def cleared(self, task_ids: Iterable[int] | None) -> None:
        """Delete results for good (None: all)."""
        if task_ids is not None:
            for task_id in task_ids:
                self._drop(task_id, _CLEARED)
            return
        for number, page in self._pages.items():
            if min(page) >= _HERE or page is _ALL_READ:
                self._pages[number] = _ALL_CLEARED
            elif page is not _ALL_CLEARED:
                for index, place in enumerate(page):
                    if place >= _HERE or place == _READ:
                        page[index] = _CLEARED
        self._segments.clear()
        self._left.clear()
        self._count = 0

    def _drop(self, task_id: int, mark: int) -> None:
        place = self._place(task_id)
        if place < _HERE:
            if place == _READ and mark == _CLEARED:
                self._set(task_id, mark)
            return
        self._set(task_id, mark)
        self._count -= 1
        segment = place >> _SEGMENT_BITS
        self._left[segment] -= 1
        if not self._left[segment]:
            del self._left[segment], self._segments[segment]

    def _set(self, task_id: int, place: int) -> None:
        number, index = divmod(task_id, _PAGE)
        page = self._pages.get(number)
        if page is None:
            page = self._new_page(number)
        elif page is _ALL_READ or page is _ALL_CLEARED:
            page = self._pages[number] = array("Q", page)
        page[index] = place


def places_in(data: Bytes, failed: deque[int] | None = None) -> list[tuple[int, int]]:
    """Return the task ids and offsets of the consecutive results in ``data``.

    :param failed: gets the ids of those that are failures.
    """
    places = []
    position = 0
    end = len(data)
    unpack = DONE_HEAD.unpack_from
    head_size = DONE_HEAD.size
    while position < end:
        head = unpack(data, position)
        places.append((head[0], position))
        if head[2] and failed is not None:
            failed.append(head[0])
        position += head_size + head[1]
    return places


def aborted_result(task_id: int, now: float) -> bytes:
    """Return the encoded result of a task that was aborted before it was sent.

    :param now: seconds since the epoch.
    """
    return refused_result(task_id, now, TaskAborted(f"task {task_id} was aborted"))


def refused_result(task_id: int, now: float, problem: Exception) -> bytes:
    """Return the encoded result of a task that the kernel itself failed, here.

    :param now: seconds since the epoch.
    """
    payload = messages.pack_json(to_wire(problem))
    head = DONE_HEAD.pack(task_id, len(payload), Status.REFUSED, -1, 0, now, now, 0.0)
    return head + payload
