"""Files and directories that only their owner can read, and the refusal of those that others can.

Keys, FURLs and state of the kernel give whoever reads them the power to run code as the user.  So
they are created without a moment in which they are open to others or half written, and before
anything is read from one, its owner and its access mode are checked on the open file itself.  What
is refused is named together with the command that mends it.

On a platform without owners and modes in the POSIX sense (:data:`POSIX` is false) those checks fall
away, and what is left are the refusal of symbolic links, and the atomic replacement.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from ipython1.kernel.basics.error import SecurityError

POSIX = hasattr(os, "geteuid")
"""Whether files have an owner and an access mode here."""

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
MAX_PRIVATE_FILE = 1024 * 1024
"""Bytes; no key, FURL or state file comes near it, so a larger one is some other file."""

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def ensure_private_dir(path: str | os.PathLike[str]) -> Path:
    """Make the directory with mode 0700 when it is missing, and refuse one that others can get at.

    :returns: the path.
    :raises SecurityError: when it is a symbolic link, no directory, belongs to another user, or its
        group or others have any access to it; the message holds the command that mends it.
    """
    directory = Path(path)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, DIRECTORY_MODE)
        found = os.lstat(directory)
    except OSError as exception:
        raise SecurityError(
            f"cannot create the directory {directory}: {_reason(exception)}"
        ) from exception
    name = shlex.quote(str(directory))
    if stat.S_ISLNK(found.st_mode):
        raise SecurityError(
            f"{directory} is a symbolic link, which somebody else may control; "
            f"remove it and let the command create the directory: rm {name}"
        )
    if not stat.S_ISDIR(found.st_mode):
        raise SecurityError(f"{directory} is not a directory; move it away: mv {name} {name}.old")
    _check_owner(found, directory, "directory")
    if POSIX and found.st_mode & _OTHERS:
        raise SecurityError(
            f"the directory {directory} is open to other users (mode {stat.S_IMODE(found.st_mode):04o}); "
            f"close it: chmod 700 {name}"
        )
    return directory


def write_private(path: str | os.PathLike[str], data: bytes, replace: bool = True) -> Path:
    """Write a file of mode 0600 so that a reader, also after a crash, sees the old content or the
    new, never a part.

    :param replace: false gives the first writer the file: an existing one is left as it is.
    :returns: the path.
    :raises FileExistsError: when the file exists and ``replace`` is false.
    :raises SecurityError: when it cannot be written (a full disk, no permission); nothing is left
        behind.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.urandom(8).hex()}.tmp")
    try:
        with _removed_on_failure(temporary):
            flags = (
                os.O_WRONLY
                | os.O_CREAT
                | os.O_EXCL
                | getattr(os, "O_NOFOLLOW", 0)
                | getattr(os, "O_BINARY", 0)
            )
            with open(os.open(temporary, flags, FILE_MODE), "wb") as file:
                if POSIX:
                    # A umask can take the owner's own access away; the mode is stated, not hoped
                    # for.
                    os.fchmod(file.fileno(), FILE_MODE)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            _put_in_place(temporary, target, replace)
        _sync_directory(target.parent)
    except FileExistsError:
        raise
    except OSError as exception:
        raise SecurityError(f"cannot write {target}: {_reason(exception)}") from exception
    return target


def read_private(path: str | os.PathLike[str], what: str = "file") -> bytes:
    """The content of a private file.

    :param what: what the file is to the user, for the messages (``"FURL file"``).
    :raises SecurityError: when it is missing, empty, too large, unreadable, a symbolic link or not
        a plain file, belongs to another user, is open to others, or lies in a directory where
        others can replace it.
    """
    data = read_private_if_there(path, what)
    if data is None:
        raise SecurityError(f"the {what} {path} does not exist")
    return data


def read_private_if_there(path: str | os.PathLike[str], what: str = "file") -> bytes | None:
    """As :func:`read_private`, but ``None`` for a file that does not exist."""
    target = Path(path)
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0)
    # Opening a named pipe that someone put there must not wait for its other end.
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        if target.is_symlink():
            raise SecurityError(_link_message(target, what))
        with open(os.open(target, flags), "rb") as file:
            _check_file(os.fstat(file.fileno()), target, what)
            _check_parent(target, what)
            data = file.read(MAX_PRIVATE_FILE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exception:
        if exception.errno == errno.ELOOP:
            raise SecurityError(_link_message(target, what)) from exception
        raise SecurityError(f"cannot read the {what} {target}: {_reason(exception)}") from exception
    if not data:
        raise SecurityError(
            f"the {what} {target} is empty; remove it, so that it can be made again: rm {_quoted(target)}"
        )
    if len(data) > MAX_PRIVATE_FILE:
        raise SecurityError(
            f"the {what} {target} is larger than {MAX_PRIVATE_FILE} bytes, so it is something else"
        )
    return data


def _check_file(found: os.stat_result, target: Path, what: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise SecurityError(f"the {what} {target} is not a plain file")
    _check_owner(found, target, what)
    if POSIX and found.st_mode & _OTHERS:
        raise SecurityError(
            f"the {what} {target} is open to other users (mode {stat.S_IMODE(found.st_mode):04o}); "
            f"close it: chmod 600 {_quoted(target)}"
        )


def _check_parent(target: Path, what: str) -> None:
    if not POSIX:
        return
    found = os.stat(target.parent)
    # In a sticky directory such as /tmp nobody can replace the files of others.
    if found.st_mode & _WRITABLE_BY_OTHERS and not found.st_mode & stat.S_ISVTX:
        raise SecurityError(
            f"the directory of the {what} {target} can be written by other users "
            f"(mode {stat.S_IMODE(found.st_mode):04o}); close it: chmod go-w {_quoted(target.parent)}"
        )


def _check_owner(found: os.stat_result, target: Path, what: str) -> None:
    if POSIX and found.st_uid != os.geteuid():
        raise SecurityError(
            f"the {what} {target} belongs to another user (uid {found.st_uid}, you are {os.geteuid()}); "
            f"use one of your own, or if you trust it: sudo chown {os.geteuid()} {_quoted(target)}"
        )


def _put_in_place(temporary: Path, target: Path, replace: bool) -> None:
    if replace:
        os.replace(temporary, target)
    elif POSIX:
        os.link(temporary, target)
        os.unlink(temporary)
    else:
        os.rename(temporary, target)


def _sync_directory(directory: Path) -> None:
    if not POSIX:
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as exception:
        # Some network file systems cannot do it for a directory; the rename stands all the same.
        if exception.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _removed_on_failure(temporary: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _link_message(target: Path, what: str) -> str:
    return (
        f"the {what} {target} is a symbolic link, which somebody else may control; "
        f"put the file itself there, or name the file it leads to"
    )


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _reason(exception: OSError) -> str:
    return exception.strerror or str(exception)
