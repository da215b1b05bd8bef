"""Payloads that are not in memory: those in the journal's files, which are read when they are needed, and lost ones."""

from __future__ import annotations

from dataclasses import dataclass

from twisted.internet.defer import Deferred, fail

from ipython1.kernel.basics.error import ClientError
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


@dataclass(frozen=True, slots=True)
class LostPayload:
    """So many bytes that did not come; like ``bytes`` it has a length, and parts."""

    size: int

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, part: slice) -> LostPayload:
        return LostPayload(len(range(*part.indices(self.size))))

    def read(self, journal: Journal) -> Deferred[bytes]:
        """Fails with ``ClientError``."""
        problem = ClientError(
            "the controller did not get all of the task, so it cannot be submitted again from there; "
            "make the task again and run it"
        )
        return fail(problem)
