"""Where the controller keeps what slow receivers have not taken yet: some in memory, the rest in one temporary file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from twisted.logger import Logger

from ipython1.kernel.wire.frames import PIECE_SIZE, Buffer
from ipython1.system import read_at, write_at

log: Logger = Logger()

IN_MEMORY: Final = 32 * 2**20
"""Bytes kept in memory; what comes beyond goes into the file."""

IN_FILE: Final = 4 * 2**30
"""Bytes that the file may have."""

RESERVE: Final = 64 * 2**20
"""Bytes of memory for what was on its way already when the sources were asked to wait."""


class SpoolFull(Exception):
    """Nothing more can be kept, not even what was on its way; the message says why."""


class Slot:
    """A piece that is kept.

    :ivar data: the piece, if it is in memory.
    :ivar place: else where it is in the file, in units of ``PIECE_SIZE``.
    """

    __slots__ = ("data", "place", "size")

    def __init__(self, data: Buffer | None, place: int, size: int) -> None:
        self.data: Buffer | None = data
        self.place: int = place
        self.size: int = size


class Spool:
    """Keeps pieces of up to ``PIECE_SIZE`` bytes, for all relays of a process.

    ======  ==================================================  ======================================
    state   meaning                                             ends when
    ======  ==================================================  ======================================
    open    there is room, in memory or in the file             neither takes one more piece: full
    full    the watchers have their sources wait; what was on   half of the memory or a quarter of the
            its way is still taken, up to ``RESERVE``           file is free: open
    ======  ==================================================  ======================================

    A file that cannot be written, on a full disk for example, only makes the spool full earlier.

    :param most: bytes that the file may have.
    :param folder: where the file is; None for the system's temporary directory.  It has no name there.
    """

    def __init__(
        self, memory: int = IN_MEMORY, most: int = IN_FILE, folder: Path | None = None
    ) -> None:
        self._memory = memory
        self._most = most // PIECE_SIZE
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._places = 0
        self._free: list[int] = []
        self._watchers: dict[Callable[[bool], None], None] = {}
        self.problem: str = ""
        """Why the file cannot be written at present."""
        self.in_memory: int = 0
        """Bytes kept in memory."""
        self.full: bool = False

    @property
    def in_file(self) -> int:
        """The number of pieces kept in the file."""
        return self._places - len(self._free)

    def watch(self, call: Callable[[bool], None]) -> None:
        """Call ``call`` with :attr:`full` whenever that changes."""
        self._watchers[call] = None

    def unwatch(self, call: Callable[[bool], None]) -> None:
        """Undo :meth:`watch`."""
        self._watchers.pop(call, None)

    def put(self, data: Buffer) -> Slot:
        """Keep ``data``, which nobody changes any more.

        :raises SpoolFull: if that is not possible.
        """
        size = len(data)
        slot = None
        if self.in_memory + size > self._memory:
            slot = self._write(data)
            if slot is None and self.in_memory + size > self._memory + RESERVE:
                raise SpoolFull(self.problem or "too much waits for slow receivers")
        if slot is None:
            slot = Slot(data, 0, size)
            self.in_memory += size
        if not self.full and self.in_memory + PIECE_SIZE > self._memory and not self._has_place:
            self._change(True)
        return slot

    def get(self, slot: Slot) -> Buffer:
        """Return what is kept in ``slot``.

        :raises OSError: if the file cannot be read.
        """
        if slot.data is not None:
            return slot.data
        assert self._file is not None
        data = read_at(self._file.fileno(), slot.size, slot.place * PIECE_SIZE)
        if len(data) != slot.size:
            raise OSError("the controller's temporary file was cut short")
        return data

    def free(self, slot: Slot) -> None:
        """Forget what is kept in ``slot``."""
        if slot.data is not None:
            slot.data = None
            self.in_memory -= slot.size
        else:
            self._free.append(slot.place)
        if self._file is not None and not self.in_file:
            self._close()
        if self.full and (
            2 * self.in_memory <= self._memory or 4 * len(self._free) >= self._places > 0
        ):
            self.problem = ""
            self._change(False)

    @property
    def _has_place(self) -> bool:
        return not self.problem and (bool(self._free) or self._places < self._most)

    def _write(self, data: Buffer) -> Slot | None:
        """Keep ``data`` in the file; None if that is not possible."""
        if not self._has_place:
            return None
        place = self._free[-1] if self._free else self._places
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 (open until it is empty)
            view = memoryview(data)
            position = place * PIECE_SIZE
            while view:
                written = write_at(self._file.fileno(), view, position)
                view, position = view[written:], position + written
        except OSError as problem:
            self.problem = problem.strerror or str(problem)
            log.warn(
                "the temporary file for what slow receivers have not taken cannot be written: {problem};"
                " senders have to wait until there is room",
                problem=self.problem,
            )
            return None
        if self._free:
            self._free.pop()
        else:
            self._places += 1
        return Slot(None, place, len(data))

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None
        self._places = 0
        self._free.clear()
        self.problem = ""

    def _change(self, full: bool) -> None:
        self.full = full
        for call in list(self._watchers):
            call(full)
