"""Payload files: large data beside the database, each block with its checksum.

A file holds the data, then the CRC-32 of each block of them, then a trailer.  It is written before the row that names
it, and removed after that row; what no row names is removed at the next start.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import zlib
from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ipython1.kernel.basics.error import JournalError
from ipython1.kernel.controller.journal.rows import PayloadFile
from ipython1.kernel.host.private_files import FILE_MODE, ensure_private_dir, sync_directory
from ipython1.kernel.wire.frames import Buffer
from ipython1.system import read_at, write_at

BLOCK: Final = 256 * 1024
"""Bytes that share a checksum."""

LARGE: Final = 1024 * 1024
"""Bytes from which the checksums of a piece are counted while it is written."""

_TRAILER: Final = struct.Struct("<8sQI")
_MAGIC: Final = b"ip1data1"
_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
_READ: Final = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)


@dataclass(slots=True)
class _Growing:
    """A file that is being written."""

    fd: int
    size: int = 0
    crcs: list[int] = field(default_factory=list)

    def sums(self, piece: Buffer) -> list[int]:
        """The checksums of the blocks in which a piece lies if it follows."""
        view = memoryview(piece)
        begun = self.size % BLOCK
        sums = [zlib.crc32(view[: BLOCK - begun], self.crcs[-1])] if begun else []
        start = BLOCK - begun if begun else 0
        return sums + [zlib.crc32(view[at : at + BLOCK]) for at in range(start, len(view), BLOCK)]

    def add(self, size: int, sums: list[int]) -> None:
        """A piece was written."""
        self.crcs[self.size // BLOCK :] = sums
        self.size += size

    def trailer(self) -> bytes:
        """What follows the data."""
        crcs = struct.pack(f"<{len(self.crcs)}I", *self.crcs)
        return crcs + _TRAILER.pack(_MAGIC, self.size, zlib.crc32(crcs))


def trailer_size(size: int) -> int:
    """Bytes that follow so many bytes of data."""
    return 4 * -(-size // BLOCK) + _TRAILER.size


def _write_at(fd: int, data: Buffer, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = write_at(fd, view, offset)
        offset += written
        view = view[written:]


class PayloadFiles:
    """The payload files of a journal.  What fails can be tried again.

    :param sync: whether files are synced when they are finished.
    :ivar unsynced: names of the files that were finished since somebody took them off this list.
    """

    def __init__(self, directory: Path, sync: bool) -> None:
        self.directory: Path = ensure_private_dir(directory)
        self.unsynced: deque[str] = deque()
        self._sync = sync
        self._growing: dict[str, _Growing] = {}
        # Its thread begins when it is needed.
        self._summing = ThreadPoolExecutor(1, "journal-sums")

    def append(self, name: str, piece: Buffer) -> None:
        """Add a piece to a file, which begins with its first one.

        :raises OSError: when it cannot be written.
        """
        growing = self._growing.get(name)
        if growing is None:
            fd = os.open(self.directory / name, _CREATE, FILE_MODE)
            growing = self._growing[name] = _Growing(fd)
        if len(piece) < LARGE:
            _write_at(growing.fd, piece, growing.size)
            sums = growing.sums(piece)
        else:
            sums = self._write_and_sum(growing, piece)
        growing.add(len(piece), sums)

    def _write_and_sum(self, growing: _Growing, piece: Buffer) -> list[int]:
        """Do both at once: they take about as long, and neither needs the interpreter."""
        try:
            summing = self._summing.submit(growing.sums, piece)
        except RuntimeError:  # no thread can be started now
            _write_at(growing.fd, piece, growing.size)
            return growing.sums(piece)
        try:
            _write_at(growing.fd, piece, growing.size)
        finally:
            sums = summing.result()
        return sums

    def finish(self, name: str) -> None:
        """All pieces are there.

        :raises OSError: when that cannot be written.
        """
        self.append(name, b"")  # there may be no pieces
        growing = self._growing[name]
        _write_at(growing.fd, growing.trailer(), growing.size)
        if self._sync:
            os.fsync(growing.fd)
            sync_directory(self.directory)
        else:
            self.unsynced.append(name)
        del self._growing[name]
        os.close(growing.fd)

    def abandon(self, name: str) -> None:
        """Remove a file that is not finished."""
        growing = self._growing.pop(name, None)
        if growing is not None:
            os.close(growing.fd)
        self.remove([name])

    def remove(self, names: Iterable[str]) -> None:
        """Remove files, those that are there."""
        for name in names:
            with contextlib.suppress(OSError):
                os.unlink(self.directory / name)

    def close(self) -> None:
        """Let go of what is not finished."""
        for name in list(self._growing):
            self.abandon(name)
        self._summing.shutdown()

    def sync(self, names: Iterable[str]) -> None:
        """Have the disk have files that were finished; those that are still there.

        :raises OSError: when that fails.
        """
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                fd = os.open(self.directory / name, _READ)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)
        sync_directory(self.directory)

    def sweep(self, named: Iterable[PayloadFile]) -> list[str]:
        """Remove all files but those that rows name; returns the names of these that are not whole."""
        sizes = {file.name: file.size + trailer_size(file.size) for file in named}
        found = {}
        with os.scandir(self.directory) as entries:
            for entry in entries:
                if entry.name in sizes:
                    status = entry.stat(follow_symlinks=False)
                    found[entry.name] = status.st_size if stat.S_ISREG(status.st_mode) else -1
                else:
                    self.remove([entry.name])
        return [name for name, size in sizes.items() if found.get(name) != size]

    def read(self, file: PayloadFile, offset: int, size: int) -> bytes:
        """Some of the data, checked.

        :raises JournalError: when the file is damaged or gone.
        """
        size = min(size, file.size - offset)
        if size <= 0:
            return b""
        begin = offset - offset % BLOCK
        blocks = range(begin // BLOCK, -(-(offset + size) // BLOCK))
        try:
            fd = os.open(self.directory / file.name, _READ)
            try:
                data = read_at(fd, min(len(blocks) * BLOCK, file.size - begin), begin)
                end = read_at(fd, trailer_size(file.size), file.size)
            finally:
                os.close(fd)
        except OSError as problem:
            raise JournalError(
                f"{self.directory / file.name} cannot be read: {problem.strerror}"
            ) from problem
        if not self._whole(file, data, end, blocks):
            raise JournalError(f"{self.directory / file.name} is damaged")
        return data[offset - begin : offset - begin + size]

    @staticmethod
    def _whole(file: PayloadFile, data: bytes, end: bytes, blocks: range) -> bool:
        if len(end) != trailer_size(file.size):
            return False
        crcs = end[: -_TRAILER.size]
        if _TRAILER.unpack(end[-_TRAILER.size :]) != (_MAGIC, file.size, zlib.crc32(crcs)):
            return False
        known = struct.unpack(f"<{len(crcs) // 4}I", crcs)
        return all(
            zlib.crc32(data[place : place + BLOCK]) == known[block]
            for place, block in zip(range(0, len(data), BLOCK), blocks, strict=True)
        )
