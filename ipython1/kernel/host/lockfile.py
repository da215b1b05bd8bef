"""A file lock that is released when its process ends."""

from __future__ import annotations

import os
from pathlib import Path

from ipython1.kernel.basics.error import ClientError
from ipython1.system import O_CLOEXEC, O_NOFOLLOW, try_lock


class LockFile:
    """A lock held by at most one process, whose pid is in the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def acquire(self) -> bool:
        """Take the lock.

        :returns: False if another process holds it.
        :raises ClientError: if its file cannot be written.
        """
        flags = os.O_RDWR | os.O_CREAT | O_NOFOLLOW | O_CLOEXEC
        fd = None
        try:
            fd = os.open(self._path, flags, 0o600)
            if not try_lock(fd):
                os.close(fd)
                return False
            _write_holder(fd)
        except OSError as problem:
            if fd is not None:
                os.close(fd)
            raise ClientError(
                f"cannot write the lock file {self._path}: {problem.strerror}"
            ) from None
        self._fd = fd
        return True

    def holder(self) -> int | None:
        """Return the pid of the process that holds it, or None if the file does not say."""
        try:
            return int(self._path.read_text())
        except (OSError, ValueError):
            return None

    def fileno(self) -> int:
        """Return the file descriptor that holds the lock; processes that inherit it hold the lock, too."""
        assert self._fd is not None, "the lock is not held"
        return self._fd

    def release(self) -> None:
        """Release the lock; the file stays."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _write_holder(fd: int) -> None:
    """Write the pid over that of the last holder, so that a full disk keeps nobody from starting again."""
    line = f"{os.getpid()}\n".encode()
    os.write(fd, line)
    os.ftruncate(fd, len(line))
