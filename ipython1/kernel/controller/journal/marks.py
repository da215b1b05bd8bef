"""High-water marks: a small file that tells independently of the database how far the journal was written.

SQLite drops what follows a damaged page of its log without a word, and the database looks like an older one then.  The
marks are written after each commit and before anybody is told that it is safe, so a database that is behind them has
lost something.  They are written in turn to two places in the file, so one of them is always whole.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from ipython1.kernel.controller.journal.tables import Damaged
from ipython1.system import O_BINARY, O_NOFOLLOW, read_at, write_at

_MARKS: Final = struct.Struct("<8s16s16sQQQQBBQQQQd")
_CRC: Final = struct.Struct("<I")
_MAGIC: Final = b"ip1mark1"
_PLACE: Final = 4096
_SIZE: Final = _MARKS.size + _CRC.size


def boot_id() -> bytes:
    """Names this start of the operating system; 16 zeros where it does not say."""
    try:
        return bytes.fromhex(
            Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip().replace("-", "")
        )[:16].ljust(16, b"\0")
    except (OSError, ValueError):
        return bytes(16)


class Marks(NamedTuple):
    """How far the journal was written.

    :ivar boot: the start of the operating system under which it was.
    :ivar synced: whether it was synced to the disk each time.
    :ivar closed: whether it was closed in order.
    :ivar waiting: tasks in submissions.
    :ivar results: tasks whose results are kept.
    :ivar commands: that are not over.
    :ivar outcomes: that are kept.
    :ivar time: of the last commit.
    """

    instance: bytes
    boot: bytes
    commits: int
    ticket: int
    next_task: int
    next_engine: int
    synced: bool
    closed: bool
    waiting: int
    results: int
    commands: int
    outcomes: int
    time: float

    def pack(self) -> bytes:
        """As it is in the file."""
        data = _MARKS.pack(
            _MAGIC,
            self.instance,
            self.boot,
            self.commits,
            self.ticket,
            self.next_task,
            self.next_engine,
            self.synced,
            self.closed,
            self.waiting,
            self.results,
            self.commands,
            self.outcomes,
            self.time,
        )
        return data + _CRC.pack(zlib.crc32(data))

    @classmethod
    def unpack(cls, data: bytes) -> Marks | None:
        """Marks, if this is what it is."""
        if len(data) < _SIZE or _CRC.unpack_from(data, _MARKS.size)[0] != zlib.crc32(
            data[: _MARKS.size]
        ):
            return None
        magic, *values = _MARKS.unpack_from(data)
        if magic != _MAGIC:
            return None
        values[6:8] = map(bool, values[6:8])
        return cls(*values)

    def may_be_ahead(self, boot: bytes) -> bool:
        """Whether the power may have failed since, so that the disk may not have all that was written.

        :param boot: this start of the operating system.
        """
        return not (self.synced or self.closed or self.boot == boot)

    def describe(self) -> str:
        """What there was, for people."""
        counts = (
            (self.waiting, "tasks in submissions"),
            (self.results, "results of tasks"),
            (self.commands, "commands"),
            (self.outcomes, "outcomes of commands"),
        )
        return ", ".join(f"{count:,} {what}" for count, what in counts if count) or "nothing"


class MarksFile:
    """The file.

    :param write: writes at a position, as ``os.pwrite`` does.
    """

    def __init__(self, path: Path, write: Callable[[int, bytes, int], int] = write_at) -> None:
        self._fd = os.open(path, os.O_RDWR | O_NOFOLLOW | O_BINARY)
        self._write = write
        self._turn = 0

    def read(self) -> Marks:
        """The latest marks.

        :raises Damaged: when there are none.
        """
        places = [Marks.unpack(read_at(self._fd, _SIZE, place)) for place in (0, _PLACE)]
        found = [(marks.commits, place) for place, marks in enumerate(places) if marks is not None]
        if not found:
            raise Damaged("its marks are damaged")
        _, place = max(found)
        self._turn = 1 - place
        marks = places[place]
        assert marks is not None
        return marks

    def write(self, marks: Marks) -> None:
        """Replace the older ones.

        :raises OSError: when they cannot be written.
        """
        data = marks.pack()
        if self._write(self._fd, data, self._turn * _PLACE) != len(data):
            raise OSError("the marks were cut short")
        self._turn = 1 - self._turn

    def sync(self) -> None:
        """Have the disk have them."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
