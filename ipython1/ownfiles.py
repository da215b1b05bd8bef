"""Whose files and directories are, who else can change them, and opening files for this user's own lines."""

from __future__ import annotations

import errno
import os
import shlex
import stat
from pathlib import Path

from ipython1 import system
from ipython1.system import HAS_OWNERS, user_id


def others_can_write(found: os.stat_result) -> bool:
    """Return whether others than the owner can write to a file or directory.

    A group of the same name as this user, with no other member, counts as the user: many systems give each user one,
    and make everything writable by it.
    """
    if not HAS_OWNERS or not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return False
    return bool(found.st_mode & stat.S_IWOTH) or not _is_own_group(found.st_gid)


def _is_own_group(gid: int) -> bool:
    try:
        user = system.pwd.getpwuid(user_id())
        group = system.grp.getgrgid(gid)
    except KeyError:
        return False
    return (group.gr_gid, group.gr_name) == (user.pw_gid, user.pw_name) and set(group.gr_mem) <= {
        user.pw_name
    }


def directory_problem(path: str | os.PathLike[str]) -> str:
    """Say why others could replace what is in a directory, and the command that mends it; empty if they cannot.

    In a sticky directory such as /tmp users cannot replace each other's files.

    :raises OSError: if there is no such directory.
    """
    found = os.stat(path)
    name = shlex.quote(str(Path(path)))
    if HAS_OWNERS and found.st_uid not in (user_id(), 0):
        return (
            f"{path} belongs to another user (uid {found.st_uid}, you are {user_id()}), who could replace the "
            f"files in it; use your own, or if you trust this one, run: sudo chown {user_id()} {name}"
        )
    if others_can_write(found) and not found.st_mode & stat.S_ISVTX:
        return (
            f"{path} is writable by other users (mode {stat.S_IMODE(found.st_mode):04o}), who could replace the "
            f"files in it; run: chmod go-w {name}"
        )
    return ""


class NotOwnFile(PermissionError):
    """There is something else in the place of a file of this user's own."""


def open_to_read(path: str | os.PathLike[str]) -> int:
    """Open this user's own file to read it, without following a symbolic link or waiting for a named pipe's writer.

    :returns: the descriptor.
    :raises NotOwnFile: if it is not a regular file, or another user's.
    :raises OSError: if it cannot be opened, or is a symbolic link.
    """
    flags = os.O_RDONLY | system.O_NOFOLLOW | system.O_NONBLOCK
    descriptor = os.open(path, flags | system.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise NotOwnFile(f"{Path(path).name} is not a regular file")
        if HAS_OWNERS and found.st_uid != user_id():
            raise NotOwnFile(f"{Path(path).name} belongs to another user")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_to_append(path: str | os.PathLike[str]) -> int:
    """Open this user's own file, or a device, to append to it; create it for this user alone if it is missing.

    As long as it is open, the file is in use: :func:`remove_unused` leaves it alone.

    :returns: the descriptor.
    :raises OSError: if it cannot be opened, is a symbolic link or another user's, others can write to it or replace
        it, or somebody may have given another file this name.
    """
    while True:
        descriptor = _open_to_append(path)
        if _lock(descriptor, shared=True) and os.fstat(descriptor).st_nlink == 0:
            os.close(descriptor)  # it was removed a moment ago
            continue
        return descriptor


def remove_unused(path: str | os.PathLike[str]) -> bool:
    """Remove this user's own file, unless a process has it open to append to it.

    :returns: whether it was removed.
    :raises OSError: if that is impossible.
    """
    try:
        descriptor = open_to_read(path)
    except NotOwnFile:
        return False
    try:
        if not _lock(descriptor, shared=False):
            return False
        if HAS_OWNERS:
            os.unlink(path)
    finally:
        os.close(descriptor)
    if not HAS_OWNERS:
        # Here a file that is open cannot be removed at all.
        os.unlink(path)
    return True


def _lock(descriptor: int, shared: bool) -> bool:
    """Lock a file while this descriptor or a copy of it is open; False if others keep this one from it.

    Where there are no such locks, all is as if it was locked.
    """
    fcntl = system.fcntl
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        if not shared:
            return False  # the file system has no locks, so nobody knows who uses the file
    return True


def _open_to_append(path: str | os.PathLike[str]) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | system.O_CLOEXEC
    # Do not wait for the reader of a named pipe.
    flags |= system.O_NOFOLLOW | system.O_NONBLOCK
    if os.path.islink(path):
        raise _refused("it is a symbolic link, which another user may control; remove it")
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as problem:
        if problem.errno == errno.ELOOP:
            raise _refused("it is a symbolic link, which another user may control") from None
        raise
    try:
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode):
            _check_own(found, path)
        system.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_own(found: os.stat_result, path: str | os.PathLike[str]) -> None:
    if not HAS_OWNERS:
        return
    name = shlex.quote(str(Path(path)))
    if found.st_uid != user_id():
        raise _refused(f"it belongs to another user (uid {found.st_uid}); run: sudo rm {name}")
    parent = Path(path).parent
    if found.st_nlink > 1 and others_can_write(os.stat(parent)):
        raise _refused(f"it has another name, too (a hard link); run: rm {name}")
    if others_can_write(found):
        raise _refused(f"it is writable by other users; run: chmod go-w {name}")
    problem = directory_problem(parent)
    if problem:
        raise _refused(f"the directory {problem}")


def _refused(why: str) -> OSError:
    return PermissionError(errno.EPERM, why)
