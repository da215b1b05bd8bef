"""Large private memory that is used again when nobody refers to it any more.

The operating system clears each page that it gives to a process, which takes as long as to receive what is then written
to it.  Arrays that are received again and again, each in place of the one before, find the memory of an earlier one.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import weakref
from collections.abc import Callable
from time import monotonic  # user code may replace the one in the module
from typing import Final

LARGE: Final = 4 * 2**20
"""Bytes from which memory is in huge pages, where the system has them, and is kept for its next use."""

KEEP: Final = 10.0
"""Seconds after the last request for which memory is kept."""

MOST: Final = 160 * 2**20
"""Bytes that are kept."""

_PAGE: Final = 2 * 2**20
_PRIVATE: Final = getattr(mmap, "MAP_PRIVATE", 0) | getattr(mmap, "MAP_ANONYMOUS", 0)
"""Where there is a choice: faster, and processes that user code forks do not write to each other's arrays."""

_HUGE: Final = getattr(mmap, "MADV_HUGEPAGE", None)


class MemoryStock:
    """Gives memory, and takes it back by itself when the last view of it is gone.

    Views may be let go of in any thread.
    """

    def __init__(
        self, keep: float = KEEP, most: int = MOST, clock: Callable[[], float] = monotonic
    ) -> None:
        self._keep = keep
        self._most = most
        self._clock = clock
        self._until = 0.0
        self._kept: list[mmap.mmap] = []

    @property
    def size(self) -> int:
        """Bytes that wait for their next use."""
        return sum(map(len, self._kept))

    def allocate(self, size: int) -> memoryview:
        """Writable memory of ``size`` bytes, which may hold anything; pages are taken only as they are written.

        :raises OSError, OverflowError, ValueError: when no such memory can be had.
        """
        if size < LARGE:
            return memoryview(_mapped(size))
        whole = -(-size // _PAGE) * _PAGE
        self._until = self._clock() + self._keep
        memory = self._take(whole) or _mapped(whole)
        # Every view of this object refers to it, so it goes with the last one, and then the memory can be used again.
        lent = (ctypes.c_char * whole).from_buffer(memory)
        weakref.finalize(lent, self._back, memory).atexit = False
        return memoryview(lent).cast("B")[:size]

    def _take(self, size: int) -> mmap.mmap | None:
        for memory in reversed(self._kept.copy()):
            if size <= len(memory) <= size + size // 4:
                try:
                    self._kept.remove(memory)
                except ValueError:
                    continue  # another thread has just taken it
                return memory
        return None

    def _back(self, memory: mmap.mmap) -> None:
        if self._clock() >= self._until or len(memory) > self._most:
            return
        self._kept.append(memory)
        # What came back last will be asked for first: sizes change with what users do.
        while self.size > self._most:
            del self._kept[:1]

    def tidy(self) -> bool:
        """Give back what was not asked for lately; returns whether there is still some."""
        if self._clock() >= self._until:
            self._kept.clear()
        return bool(self._kept)


def ask_for_huge_pages(view: memoryview) -> None:
    """Have the system back fresh memory that others have allocated with huge pages, if it is large.

    Small pages take longer to get than to fill.
    """
    if len(view) < LARGE or _HUGE is None:
        return
    begin = ctypes.addressof(ctypes.c_char.from_buffer(view))
    first = -(-begin // _PAGE) * _PAGE
    size = (begin + len(view)) // _PAGE * _PAGE - first
    if size > 0:
        _madvise()(first, size, _HUGE)


@functools.cache
def _madvise() -> Callable[[int, int, int], int]:
    """The system's own function; that of ``mmap`` objects serves only their own memory."""
    found = ctypes.CDLL(None).madvise
    found.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    call: Callable[[int, int, int], int] = found
    return call


def _mapped(size: int) -> mmap.mmap:
    memory = mmap.mmap(-1, size, flags=_PRIVATE) if _PRIVATE else mmap.mmap(-1, size)
    if _HUGE is not None and size >= LARGE:
        try:
            memory.madvise(_HUGE)
        except OSError:
            pass  # the system has none
    return memory


stock: Final = MemoryStock()
"""That of this process."""
