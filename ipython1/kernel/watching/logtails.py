"""The ends of a cluster's log files, for the monitor's page."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from typing import Final

from ipython1.kernel.host.security import ClusterFiles
from ipython1.ownfiles import open_to_read

TAIL: Final = 48 * 1024
"""The most bytes that are read of a file at once."""

MOST: Final = 2000
"""Log files that are listed; the latest."""


@dataclass(frozen=True, slots=True)
class Tail:
    """A part of a log file.

    :ivar text: whole lines.
    :ivar next: where the next part begins, in bytes.
    :ivar fresh: whether it does not go on where the one before ended: the first part, or the file was replaced.
    """

    text: str
    next: str
    fresh: bool


class LogTails:
    """Reads this user's log files of one cluster."""

    def __init__(self, files: ClusterFiles) -> None:
        self._files = files

    def names(self) -> list[str]:
        """The names of the files, the controller's first, then those of engines in natural order."""
        files = self._files
        first = [files.controller_log.name, files.cluster_log.name]
        found: list[tuple[float, str]] = []
        others = self._other_clusters()
        for path in files.dirs.log.glob(files.engine_log("*").name):
            if not path.name.startswith(others):
                with contextlib.suppress(OSError):
                    found.append((path.stat().st_mtime, path.name))
        engines = sorted((name for _, name in sorted(found)[-MOST:]), key=_natural)
        return [name for name in first if (files.dirs.log / name).is_file()] + engines

    def _other_clusters(self) -> tuple[str, ...]:
        """How names begin that are of clusters with longer ids than this one's."""
        own = self._files.engine_log("").name.removesuffix(".log")
        program = self._files.controller_log.name.removesuffix(".log")
        ids = [
            path.name.removesuffix(".log").removeprefix(program)[1:]
            for path in self._files.dirs.log.glob(f"{program}-*.log")
        ]
        return tuple(f"{own}{each}-" for each in ids)

    def read(self, name: str, place: str = "") -> Tail:
        """Read the end of a file.

        :param name: one of :meth:`names`.
        :param place: ``next`` of the part before; empty for the first.
        :raises FileNotFoundError: if there is no such file.
        :raises OSError: if it cannot be read, or is not this user's own.
        """
        if name not in self.names():
            raise FileNotFoundError(name)
        path = self._files.dirs.log / name
        with open(open_to_read(path), "rb") as file:
            found = os.fstat(file.fileno())
            inode, _, offset = place.partition(".")
            known = inode == str(found.st_ino) and offset.isdecimal() and len(offset) < 20
            goes_on = known and int(offset) <= found.st_size
            begin = int(offset) if goes_on else 0
            skip = begin < found.st_size - TAIL
            begin = max(begin, found.st_size - TAIL)
            file.seek(begin)
            data = file.read(TAIL)
        end = data.rfind(b"\n") + 1
        start = data.find(b"\n") + 1 if skip else 0
        text = data[start:end].decode(errors="replace")
        return Tail(text, f"{found.st_ino}.{begin + end}", not goes_on or skip)


def _natural(name: str) -> list[tuple[int, str]]:
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)
    ]
