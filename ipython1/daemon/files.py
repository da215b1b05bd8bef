"""Files that a nanny reads and writes for its supervisor, which may be on another host."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ipython1.daemon.children import tail


def write_text(name: str, text: str) -> None:
    """Create or atomically replace a file that only its owner can read; create its directory if missing.

    :param name: ``~`` means the home directory.
    :raises OSError: if the file cannot be written.
    """
    path = Path(os.path.expanduser(name))
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)


def read_text(name: str, lines: int = 0) -> str:
    """Return the text of a file.

    :param name: ``~`` means the home directory.
    :param lines: return only this many lines at the end; 0 for the whole text.
    :raises OSError: if it cannot be read.
    """
    path = os.path.expanduser(name)
    if lines:
        os.stat(path)
        return "\n".join(tail(path, lines))
    return Path(path).read_text()
