"""The end of a log file, and what is added to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ipython1.kernel.basics.error import ClusterError, SecurityError
from ipython1.kernel.host.logs import shown
from ipython1.ownfiles import NotOwnFile, open_to_read

TAIL: Final = 4 << 20
"""Bytes at the end of a file that are looked through for its last lines."""

PIECE: Final = 1 << 20
"""Bytes that are read at once."""


class LogTail:
    """Reads a log file of this user, also when it is rotated or begun anew meanwhile.

    Lines are shown as they are, with escapes in place of what could control a terminal.

    :param path: the file; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._rest = b""

    def exists(self) -> bool:
        """Whether there is such a file."""
        return self._path.exists()

    def last(self, count: int) -> Iterator[str]:
        """Give the last lines, each with its end.

        :raises SecurityError: if the file is a link or another user's.
        :raises ClusterError: if it cannot be read.
        """
        if not self._open():
            return
        size = os.fstat(self._descriptor).st_size
        begin = max(0, size - TAIL)
        os.lseek(self._descriptor, begin, os.SEEK_SET)
        data = b"".join(self._pieces(size - begin))
        lines = data.splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            self._rest = lines.pop()
        if begin:
            lines = lines[1:]
        yield from map(_text, lines[-count:] if count else [])

    def more(self) -> Iterator[str]:
        """Give the lines that were added since the last call.

        :raises SecurityError: and :raises ClusterError: see :meth:`last`.
        """
        if self._descriptor < 0 and not self._open():
            return
        yield from self._added()
        if self._replaced():
            # What came between the last look and the rotation.
            yield from self._added()
            self.close()
            if self._open():
                yield from self._added()

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self._rest = b""

    def _added(self) -> Iterator[str]:
        found = os.fstat(self._descriptor)
        if found.st_size < os.lseek(self._descriptor, 0, os.SEEK_CUR):
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            self._rest = b""
        while data := os.read(self._descriptor, PIECE):
            *lines, self._rest = (self._rest + data).split(b"\n")
            yield from (_text(line + b"\n") for line in lines)

    def _pieces(self, count: int) -> Iterator[bytes]:
        while count > 0 and (data := os.read(self._descriptor, min(PIECE, count))):
            count -= len(data)
            yield data

    def _replaced(self) -> bool:
        try:
            now = os.stat(self._path, follow_symlinks=False)
        except OSError:
            return False
        mine = os.fstat(self._descriptor)
        return (now.st_dev, now.st_ino) != (mine.st_dev, mine.st_ino)

    def _open(self) -> bool:
        """Open the file from its beginning; False if there is none (yet)."""
        try:
            if os.path.islink(self._path):
                raise SecurityError(
                    f"the log {self._path} is a symbolic link, which is not followed"
                )
            self._descriptor = open_to_read(self._path)
        except FileNotFoundError:
            return False
        except NotOwnFile:
            raise SecurityError(
                f"the log {self._path} is not a file of yours, and is not shown"
            ) from None
        except OSError as problem:
            raise ClusterError(f"cannot read the log {self._path}: {problem.strerror}") from None
        return True


def _text(line: bytes) -> str:
    return shown_line(line.decode(errors="replace").rstrip("\r\n")) + "\n"


def shown_line(text: str) -> str:
    """A line as it is shown: it cannot control a terminal, and the tabs of tracebacks stay."""
    return "\t".join(map(shown, text.split("\t")))
