"""Bytes that wait for long, in temporary files: they are read as if they were in memory, and take next to none."""

from __future__ import annotations

import mmap
import tempfile
import threading
from collections.abc import Callable, Sequence
from typing import Final

from twisted.logger import Logger

from ipython1.kernel.wire.frames import Buffer
from ipython1.system import write_at

log: Logger = Logger()

SEGMENT: Final = 64 * 2**20
"""Bytes of one file, which is there as long as any of them is needed."""


class Overflow:
    """Puts what comes beyond a bound into temporary files; from any thread.

    What cannot be written stays in memory.  The files have no name, in the system's temporary directory.

    :param segment: bytes of one file; what is larger has one of its own.
    """

    def __init__(self, segment: int = SEGMENT) -> None:
        self._segment = segment
        self._lock = threading.Lock()
        self._view = memoryview(b"")
        self._used = 0
        self._write: Callable[[Buffer, int], None] = lambda data, place: None

    def put(self, buffers: Sequence[Buffer]) -> Sequence[Buffer]:
        """The same bytes, in a file; nobody changes what is given here any more."""
        try:
            with self._lock:
                return self._put(buffers)
        except (OSError, ValueError) as problem:
            log.warn("what waits stays in memory, as no file can be written: {why}", why=problem)
            return buffers

    def _put(self, buffers: Sequence[Buffer]) -> list[Buffer]:
        size = sum(map(len, buffers))
        if size > len(self._view) - self._used:
            self._begin(max(size, self._segment))
        views: list[Buffer] = []
        for buffer in buffers:
            # Not through the mapping: on a full disk that would end the process.
            self._write(buffer, self._used)
            views.append(self._view[self._used : self._used + len(buffer)])
            self._used += len(buffer)
        return views

    def _begin(self, size: int) -> None:
        """Begin a file; the one before goes with the last of what it has."""
        file = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as it is written to)
        file.truncate(size)
        self._view = memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ))
        self._used = 0

        def write(data: Buffer, place: int) -> None:
            view = memoryview(data).cast("B") if len(data) else memoryview(b"")
            while view:
                written = write_at(file.fileno(), view, place)
                view, place = view[written:], place + written

        self._write = write


def is_in_file(buffer: Buffer) -> bool:
    """Whether :meth:`Overflow.put` has given this; all other memory can be written."""
    return type(buffer) is memoryview and buffer.readonly
