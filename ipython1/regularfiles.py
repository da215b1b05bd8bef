"""Reading files whose names users give.

Reading a named pipe waits for somebody who writes to it, and reading a device such as ``/dev/zero`` may never end.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

from ipython1.system import O_BINARY, O_NONBLOCK

_KINDS = (
    (stat.S_ISFIFO, "a named pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)

_FLAGS = os.O_RDONLY | O_BINARY | O_NONBLOCK


def check_regular(path: str | os.PathLike[str]) -> None:
    """Check that a path leads to a regular file; symbolic links are followed.

    :raises OSError: if it leads to something else or nothing.
    """
    _check(os.stat(path).st_mode, path)


def read_regular(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a regular file; symbolic links are followed.

    :raises OSError: if it is not a regular file, or cannot be read.
    """
    check_regular(path)  # opening a device could have effects
    with open(os.open(path, _FLAGS), "rb") as file:
        _check(os.fstat(file.fileno()).st_mode, path)
        return file.read()


def read_regular_text(path: str | os.PathLike[str], encoding: str = "utf-8") -> str:
    """Return the text of a regular file, with ``\\n`` at the ends of lines.

    :raises OSError: if it is not a regular file, or cannot be read.
    :raises UnicodeDecodeError: if it is not in this encoding.
    """
    with io.TextIOWrapper(io.BytesIO(read_regular(path)), encoding) as text:
        return text.read()


def _check(mode: int, path: str | os.PathLike[str]) -> None:
    if stat.S_ISREG(mode):
        return
    name = str(Path(path))
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
    kind = next((text for is_kind, text in _KINDS if is_kind(mode)), "something else")
    raise OSError(errno.EINVAL, f"Is {kind}, not a regular file", name)
