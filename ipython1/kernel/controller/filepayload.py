"""A part of a payload file of the journal, which is read when it is needed."""

from __future__ import annotations

from dataclasses import dataclass

from twisted.internet.defer import Deferred

from ipython1.kernel.controller.journal.interface import Journal
from ipython1.kernel.controller.journal.rows import PayloadFile


@dataclass(frozen=True, slots=True)
class FilePayload:
    """Bytes ``start`` to ``stop`` of a file; like ``bytes`` it has a length, and parts."""

    file: PayloadFile
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, part: slice) -> FilePayload:
        start, stop, step = part.indices(len(self))
        assert step == 1, "a part of a file is in one piece"
        return FilePayload(self.file, self.start + start, self.start + max(start, stop))

    def read(self, journal: Journal) -> Deferred[bytes]:
        """The bytes.  Fails with ``JournalError`` when the file is damaged or gone."""
        return journal.read_payload(self.file, self.start, len(self))
