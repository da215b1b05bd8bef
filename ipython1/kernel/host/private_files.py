"""Files and directories that only their owner can access; others are refused.

Anyone who can read the kernel's keys, FURLs and state can run code as the user.  So these files are
never accessible to others or half written, not even while they are created, and before one is read,
its owner and mode are checked on the open file itself.  Errors include the command that fixes the
problem.

On platforms without POSIX owners and modes these checks are skipped;
symbolic links are still refused, and files are still replaced atomically.
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
from ipython1.ownfiles import directory_problem
from ipython1.system import HAS_OWNERS, O_BINARY, O_NOFOLLOW, O_NONBLOCK, set_mode, user_id

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
MAX_PRIVATE_FILE = 1024 * 1024
"""The maximum size in bytes; key, FURL and state files are all much smaller."""

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def ensure_unshared_dir(path: str | os.PathLike[str]) -> Path:
    """Create a directory for this user if it is missing; refuse one in which others can replace files.

    :returns: the path.
    :raises SecurityError: the message includes the command that fixes this.
    """
    directory = Path(path)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, DIRECTORY_MODE)
        problem = directory_problem(directory)
    except OSError as exception:
        raise SecurityError(
            f"cannot create the directory {directory}: {_reason(exception)}"
        ) from exception
    if problem:
        raise SecurityError(f"the directory {problem}")
    return directory


def ensure_private_dir(path: str | os.PathLike[str]) -> Path:
    """Create a directory with mode 0700 if it is missing; refuse one that others can access.

    :returns: the path.
    :raises SecurityError: if it is a symbolic link, not a directory, belongs to another user, or is
        accessible to its group or others; the message includes the command that fixes this.
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
            f"{directory} is a symbolic link, which another user may control; "
            f"remove it, and the directory will be created: rm {name}"
        )
    if not stat.S_ISDIR(found.st_mode):
        raise SecurityError(f"{directory} is not a directory; move it away: mv {name} {name}.old")
    _check_owner(found, directory, "directory")
    if HAS_OWNERS and found.st_mode & _OTHERS:
        raise SecurityError(
            f"the directory {directory} is accessible to other users (mode {stat.S_IMODE(found.st_mode):04o}); "
            f"run: chmod 700 {name}"
        )
    return directory


def write_private(path: str | os.PathLike[str], data: bytes, replace: bool = True) -> Path:
    """Write a file with mode 0600, atomically: readers see the old content or the new, even after a
    crash.

    :param replace: replace an existing file.
    :returns: the path.
    :raises FileExistsError: if the file exists and ``replace`` is false.
    :raises SecurityError: if it cannot be written (a full disk, no permission); no partial file is
        left behind.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.urandom(8).hex()}.tmp")
    try:
        with _removed_on_failure(temporary):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | O_NOFOLLOW | O_BINARY
            with open(os.open(temporary, flags, FILE_MODE), "wb") as file:
                if HAS_OWNERS:
                    # Set the mode explicitly: a umask can remove even the owner's access.
                    set_mode(file.fileno(), FILE_MODE)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            _put_in_place(temporary, target, replace)
        sync_directory(target.parent)
    except FileExistsError:
        raise
    except OSError as exception:
        raise SecurityError(f"cannot write {target}: {_reason(exception)}") from exception
    return target


def read_private(
    path: str | os.PathLike[str], what: str = "file", *, limit: int = MAX_PRIVATE_FILE
) -> bytes:
    """Return the content of a private file.

    :param what: how messages refer to the file, such as ``"FURL file"``.
    :param limit: the most bytes that it may have.
    :raises SecurityError: if it is missing, empty, too large, unreadable, a symbolic link or not a
        regular file, belongs to another user, is accessible to others, or lies in a directory where
        others can replace it.
    """
    data = read_private_if_there(path, what, limit=limit)
    if data is None:
        raise SecurityError(f"the {what} {path} does not exist")
    return data


def read_private_if_there(
    path: str | os.PathLike[str], what: str = "file", *, limit: int = MAX_PRIVATE_FILE
) -> bytes | None:
    """Like :func:`read_private`, but return ``None`` if the file does not exist."""
    target = Path(path)
    flags = os.O_RDONLY | O_BINARY
    # Do not block if the file is a named pipe.
    flags |= O_NOFOLLOW | O_NONBLOCK
    try:
        if target.is_symlink():
            raise SecurityError(_link_message(target, what))
        with open(os.open(target, flags), "rb") as file:
            found = os.fstat(file.fileno())
            _check_file(found, target, what)
            _check_parent(target, what)
            data = file.read(min(limit, found.st_size) + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exception:
        if exception.errno == errno.ELOOP:
            raise SecurityError(_link_message(target, what)) from exception
        raise SecurityError(f"cannot read the {what} {target}: {_reason(exception)}") from exception
    if not data:
        raise SecurityError(
            f"the {what} {target} is empty; remove it, and it will be recreated: rm {_quoted(target)}"
        )
    if len(data) > limit:
        raise SecurityError(f"{target} is larger than {limit} bytes, so it is not a {what}")
    return data


def check_private_file(path: str | os.PathLike[str], what: str = "file") -> None:
    """Check a file that another program opens, such as a database.

    :raises SecurityError: as :func:`read_private`, if it is there.
    """
    target = Path(path)
    try:
        found = os.lstat(target)
    except FileNotFoundError:
        return
    if stat.S_ISLNK(found.st_mode):
        raise SecurityError(_link_message(target, what))
    _check_file(found, target, what)
    _check_parent(target, what)


def _check_file(found: os.stat_result, target: Path, what: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise SecurityError(f"the {what} {target} is not a regular file")
    _check_owner(found, target, what)
    if HAS_OWNERS and found.st_mode & _OTHERS:
        raise SecurityError(
            f"the {what} {target} is accessible to other users (mode {stat.S_IMODE(found.st_mode):04o}); "
            f"run: chmod 600 {_quoted(target)}"
        )


def _check_parent(target: Path, what: str) -> None:
    if not HAS_OWNERS:
        return
    found = os.stat(target.parent)
    if found.st_uid not in (0, user_id()):
        raise SecurityError(
            f"the directory of the {what} {target} belongs to another user (uid {found.st_uid}), who could replace "
            "it; use a copy in a directory of your own"
        )
    # In a sticky directory such as /tmp users cannot replace each other's files.
    if found.st_mode & _WRITABLE_BY_OTHERS and not found.st_mode & stat.S_ISVTX:
        raise SecurityError(
            f"the directory of the {what} {target} is writable by other users "
            f"(mode {stat.S_IMODE(found.st_mode):04o}); run: chmod go-w {_quoted(target.parent)}"
        )


def _check_owner(found: os.stat_result, target: Path, what: str) -> None:
    if HAS_OWNERS and found.st_uid != user_id():
        raise SecurityError(
            f"the {what} {target} belongs to another user (uid {found.st_uid}, you are {user_id()}); "
            f"use your own, or if you trust this one, run: sudo chown {user_id()} {_quoted(target)}"
        )


def _put_in_place(temporary: Path, target: Path, replace: bool) -> None:
    if replace:
        os.replace(temporary, target)
    elif HAS_OWNERS:
        os.link(temporary, target)
        os.unlink(temporary)
    else:
        os.rename(temporary, target)


def sync_directory(directory: Path) -> None:
    """Have the disk have the names in a directory.

    :raises OSError: when that fails.
    """
    if not HAS_OWNERS:
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as exception:
        # Some network file systems cannot sync a directory; the rename is valid anyway.
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
        f"the {what} {target} is a symbolic link, which another user may control; "
        f"replace it by the file itself, or give the path of that file"
    )


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _reason(exception: OSError) -> str:
    return exception.strerror or str(exception)
