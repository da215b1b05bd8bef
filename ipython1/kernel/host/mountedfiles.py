"""Files that a user names and an administrator may have put there, such as the mounted secrets of a container.

Kubernetes mounts a secret like this, so that all files of it change at once::

    engine.furl -> ..data/engine.furl
    ..data -> ..2026_11_30_23_12_45.123
    ..2026_11_30_23_12_45.123/engine.furl       of root, mode 0444, or 0440 for the group of the container

The rule for such a path asks who could put another file in its place.  Symbolic links are followed.  The file, the
links, and all directories on the way must belong to root or this user, and nobody else may write to them; in a
sticky directory nobody else can replace what belongs to root or this user.  Whoever owns the file decides who may
read it.  If that is this user, nobody else may, unless the file system is mounted read-only: then another has decided.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ipython1.kernel.basics.error import SecurityError
from ipython1.kernel.host.private_files import MAX_PRIVATE_FILE, read_private_if_there
from ipython1.ownfiles import others_can_write
from ipython1.system import HAS_OWNERS, O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK, user_id

MOST_LINKS = 40
"""Links on the way to a file; the kernel follows as many."""

ATTEMPTS = 5
"""A mounted secret may be replaced while its links are followed."""


def read_named_if_there(
    path: str | os.PathLike[str], what: str = "file", *, limit: int = MAX_PRIVATE_FILE
) -> bytes | None:
    """Return the content of a file that the user has named; None if it does not exist.

    :param what: how messages refer to the file, such as ``"FURL file"``.
    :param limit: the most bytes that it may have.
    :raises SecurityError: if it is this user's own but not private, or somebody else could replace it; and if it is
        empty, too large or unreadable.
    """
    target = Path(path).absolute()
    for _ in range(ATTEMPTS):
        try:
            if not _is_put_there(target):
                return read_private_if_there(target, what, limit=limit)
            return _read(_Way(target, what).follow(), target, what, limit)
        except (FileNotFoundError, NotADirectoryError):
            if not _is_there(target):
                return None
        except OSError as problem:
            raise SecurityError(
                f"cannot read the {what} {target}: {problem.strerror or problem}"
            ) from problem
    return None


def _is_there(target: Path) -> bool:
    """Whether a path has an entry, and if that is a link, it leads to something."""
    try:
        return target.exists()
    except OSError:
        return False


def _is_put_there(target: Path) -> bool:
    """Whether a file may be one that another user has put there: it is a link, another user's, or cannot be changed."""
    if not HAS_OWNERS:
        return False
    found = os.lstat(target)
    return stat.S_ISLNK(found.st_mode) or found.st_uid != user_id() or _is_read_only(target)


def _is_read_only(target: Path) -> bool:
    return HAS_OWNERS and bool(os.statvfs(target).f_flag & os.ST_RDONLY)


def _is_trusted(found: os.stat_result) -> bool:
    return found.st_uid in (0, user_id())


class _Way:
    """The way from the root directory to a file."""

    def __init__(self, target: Path, what: str) -> None:
        self._target = target
        self._what = what

    def follow(self) -> Path:
        """Follow all links.

        :returns: the file's path without links.
        :raises SecurityError: if somebody else could change the way.
        :raises OSError: if it leads nowhere.
        """
        place, links = Path("/"), 0
        waiting = list(reversed(self._target.parts[1:]))
        self._check_directory(os.lstat(place), place)
        while waiting:
            part = waiting.pop()
            if part == "..":
                place = place.parent
                continue
            entry = place / part
            found = os.lstat(entry)
            if stat.S_ISLNK(found.st_mode):
                links += 1
                if links > MOST_LINKS:
                    raise self._refused(f"{entry} is one of too many symbolic links")
                self._check_owner(found, entry, "the symbolic link")
                words = Path(os.readlink(entry))
                if words.is_absolute():
                    place = Path("/")
                waiting += [each for each in reversed(words.parts) if each != "/"]
            else:
                place = entry
                if waiting:
                    self._check_directory(found, place)
        return place

    def _check_directory(self, found: os.stat_result, directory: Path) -> None:
        self._check_owner(found, directory, "the directory")
        if others_can_write(found) and not found.st_mode & stat.S_ISVTX:
            raise self._refused(
                f"the directory {directory} is writable by other users (mode {stat.S_IMODE(found.st_mode):04o})"
            )

    def _check_owner(self, found: os.stat_result, path: Path, kind: str) -> None:
        if not _is_trusted(found):
            raise self._refused(f"{kind} {path} belongs to another user (uid {found.st_uid})")

    def _refused(self, why: str) -> SecurityError:
        return SecurityError(
            f"the {self._what} {self._target} could be replaced by another user: {why}; use a copy that only you can "
            "change"
        )


def _read(place: Path, target: Path, what: str, limit: int) -> bytes:
    flags = os.O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC
    with open(os.open(place, flags), "rb") as file:
        found = os.fstat(file.fileno())
        problem = _problem(found, place)
        if problem:
            raise SecurityError(f"the {what} {target} {problem}")
        data = file.read(min(limit, found.st_size) + 1)
    if not data:
        raise SecurityError(f"the {what} {target} is empty")
    if len(data) > limit:
        raise SecurityError(f"{target} is larger than {limit} bytes, so it is not a {what}")
    return data


def _problem(found: os.stat_result, place: Path) -> str:
    mode = f"mode {stat.S_IMODE(found.st_mode):04o}"
    if not stat.S_ISREG(found.st_mode):
        return "is not a regular file"
    if not _is_trusted(found):
        return f"belongs to another user (uid {found.st_uid}), who could change it; use a copy of your own"
    if others_can_write(found):
        return f"can be changed by other users ({mode})"
    others = found.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    if found.st_uid == user_id() and others and not _is_read_only(place):
        return f"is accessible to other users ({mode}); run: chmod 600 {place}"
    return ""
