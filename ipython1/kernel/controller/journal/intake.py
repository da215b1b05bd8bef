"""The intake: a small file in which calls are safe before the writer's thread has put them into the database.

A write to it takes some microseconds in the reactor's thread; a commit takes many times as long, and turns of another
thread.  A call is noted only when all before it is safe, so that what is safe is still all up to one ticket.  When the
writer has put what was noted into the database, the file is begun anew.

The file is a head, which tells how far the records go, and the records.  The head is written after each record and
before anybody is told.  So what it does not cover does not count, and what it covers and is not there was lost.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from ipython1.kernel.controller.journal.rows import INLINE, CommandRow, Given, SubmissionRow
from ipython1.kernel.controller.journal.tables import Damaged
from ipython1.kernel.host.private_files import write_private
from ipython1.system import O_BINARY, O_NOFOLLOW, read_at, write_at

LIMIT: Final = 1024 * 1024
"""Bytes that the file may have; when it has half of them, and all of it is in the database, it is begun anew."""

_HEAD: Final = struct.Struct("<8s16sQQ")  # magic, instance, highest ticket, end of the records
_RECORD: Final = struct.Struct("<QcI")  # ticket, kind, bytes of the row
_COMMAND: Final = struct.Struct("<qd")  # number, submitted
_SUBMISSION: Final = struct.Struct("<qqqd?")  # first, last, count, submitted, are there bodies
_CRC: Final = struct.Struct("<I")
_MAGIC: Final = b"ip1take1"
_START: Final = _HEAD.size + _CRC.size

Row: TypeAlias = CommandRow | SubmissionRow


def create_intake(path: Path, instance: bytes) -> None:
    """Make an empty one, and have the disk have it.

    :raises SecurityError: when that fails.
    """
    write_private(path, _head(instance, 0, _START))


class Intake:
    """The file; one thread at a time uses it.

    :param instance: of the journal.
    :param write: writes at a position, as :data:`~ipython1.system.write_at` does.
    :ivar ticket: the highest that was noted.
    """

    def __init__(
        self, path: Path, instance: bytes, write: Callable[[int, bytes, int], int] = write_at
    ) -> None:
        self._fd = os.open(path, os.O_RDWR | O_NOFOLLOW | O_BINARY)
        self._instance = instance
        self._write = write
        self._end = _START
        self.ticket: int = 0

    def read(self) -> Iterator[tuple[int, Row]]:
        """What was noted, with tickets.

        :raises Damaged: at the end at the latest, when not all of it is there.
        """
        data = read_at(self._fd, LIMIT, 0)
        if len(data) < _START or not _is_whole(data[:_START]):
            raise Damaged("the head of its intake is damaged")
        magic, instance, ticket, end = _HEAD.unpack_from(data)
        if (magic, instance) != (_MAGIC, self._instance):
            raise Damaged("its intake is that of another journal")
        self.ticket = ticket
        yield from _records(data, end)

    def note(self, ticket: int, row: Row) -> bool:
        """Note a row, if it is small and there is room; tells whether it is noted."""
        record = _packed(ticket, row)
        end = self._end + len(record)
        if not record or end > LIMIT:
            return False
        try:
            self._put(record, self._end)
            self._put(_head(self._instance, ticket, end), 0)
        except OSError:  # if the writer cannot write either, it says why
            return False
        self.ticket, self._end = ticket, end
        return True

    def written(self, ticket: int) -> None:
        """All up to a ticket is in the database."""
        if self._end > LIMIT // 2 and self.ticket <= ticket:
            with contextlib.suppress(OSError):  # it stays as it is
                self.empty()

    def empty(self) -> None:
        """Begin it anew; all of it must be in the database.

        :raises OSError: when that fails.
        """
        self._put(_head(self._instance, self.ticket, _START), 0)
        self._end = _START
        os.ftruncate(self._fd, _START)

    def _put(self, data: bytes, position: int) -> None:
        if self._write(self._fd, data, position) != len(data):
            raise OSError("the intake was cut short")

    def sync(self) -> None:
        """Have the disk have it.

        :raises OSError: when that fails.
        """
        os.fsync(self._fd)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def _head(instance: bytes, ticket: int, end: int) -> bytes:
    return _with_crc(_HEAD.pack(_MAGIC, instance, ticket, end))


def _with_crc(data: bytes) -> bytes:
    return data + _CRC.pack(zlib.crc32(data))


def _is_whole(data: bytes) -> bool:
    """Whether data end with their checksum."""
    return data[-_CRC.size :] == _CRC.pack(zlib.crc32(data[: -_CRC.size]))


# -- records


def _packed(ticket: int, row: Row) -> bytes:
    """A record; empty if the row is too large, or names a payload file."""
    parts: tuple[Given, ...]
    if isinstance(row, CommandRow):
        kind, numbers = b"C", _COMMAND.pack(row.number, row.submitted)
        targets = struct.pack(f"<{len(row.targets)}q", *row.targets)
        parts = row.origin, row.method.encode(), targets, row.meta, row.payload
    else:
        brought = row.bodies is not None
        kind = b"S"
        numbers = _SUBMISSION.pack(row.first, row.last, row.tasks, row.submitted, brought)
        parts = row.client, row.data, row.bodies or b""
    inline = [part for part in parts if isinstance(part, bytes)]
    sizes = [len(part) for part in inline]
    if len(inline) < len(parts) or sum(sizes) > INLINE:
        return b""
    packed = b"".join((numbers, struct.pack(f"<{len(sizes)}I", *sizes), *inline))
    return _with_crc(_RECORD.pack(ticket, kind, len(packed)) + packed)


def _records(data: bytes, end: int) -> Iterator[tuple[int, Row]]:
    """Tickets and rows in a file.

    :raises Damaged: when one is not whole.
    """
    position = _START
    while position < end:
        try:
            ticket, kind, size = _RECORD.unpack_from(data, position)
        except struct.error:
            raise Damaged("its intake is cut off") from None
        begin = position + _RECORD.size
        position = begin + size + _CRC.size
        if position > min(end, len(data)) or not _is_whole(data[begin - _RECORD.size : position]):
            raise Damaged("a record of its intake is damaged")
        yield ticket, _UNPACK[kind](ticket, data[begin : begin + size])


def _command(_: int, data: bytes) -> CommandRow:
    number, submitted = _COMMAND.unpack_from(data)
    origin, method, packed, meta, payload = _parts(data, _COMMAND.size, 5)
    targets = struct.unpack(f"<{len(packed) // 8}q", packed)
    return CommandRow(origin, number, targets, method.decode(), meta, payload, submitted)


def _submission(ticket: int, data: bytes) -> SubmissionRow:
    first, last, count, submitted, brought = _SUBMISSION.unpack_from(data)
    client, frame, bodies = _parts(data, _SUBMISSION.size, 3)
    return SubmissionRow(
        client, first, last, count, submitted, frame, bodies if brought else None, ticket
    )


_UNPACK: Final[Mapping[bytes, Callable[[int, bytes], Row]]] = {b"C": _command, b"S": _submission}


def _parts(data: bytes, position: int, count: int) -> Iterator[bytes]:
    """Those of a row; their sizes are at a position."""
    sizes = struct.unpack_from(f"<{count}I", data, position)
    position += 4 * count
    for size in sizes:
        yield data[position : position + size]
        position += size
