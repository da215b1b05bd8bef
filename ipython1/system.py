"""What operating systems do differently: here, with a portable fallback for each.

Everything is chosen once, when this module is imported.  ``IPYTHON1_PORTABLE=1`` in the environment forces the
fallbacks, so that they can be tested on Linux.  Only the checks of who owns a file are made regardless of it.
Processes have a module of their own, :mod:`ipython1.daemon.osprocess`.
"""

from __future__ import annotations

import contextlib
import importlib
import mmap
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

PORTABLE_VARIABLE: Final = "IPYTHON1_PORTABLE"

PORTABLE: Final = os.environ.get(PORTABLE_VARIABLE) == "1"
"""Whether the fallbacks are forced."""

LINUX: Final = (
    sys.platform == "linux"
    and not PORTABLE
    and all(hasattr(os, name) for name in ("fork", "O_CLOEXEC", "set_blocking"))
    and hasattr(socket, "AF_UNIX")
)
"""Whether all calls of Linux may be used."""


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


fcntl: Final = _module("fcntl")
termios: Final = _module("termios")
resource: Final = _module("resource")
msvcrt: Final = _module("msvcrt")
pwd: Final = _module("pwd")
grp: Final = _module("grp")
"""Modules of Python that only some systems have; None on others."""


# -- files

O_CLOEXEC: Final[int] = getattr(os, "O_CLOEXEC", 0)
O_NOFOLLOW: Final[int] = getattr(os, "O_NOFOLLOW", 0)
O_NONBLOCK: Final[int] = getattr(os, "O_NONBLOCK", 0)
O_BINARY: Final[int] = getattr(os, "O_BINARY", 0)
"""Flags for ``os.open``; 0 where there is no such flag."""

PAGE_SIZE: Final = mmap.PAGESIZE
"""Bytes of a page of memory."""


def _nothing(*arguments: object) -> None:
    """Do nothing."""


set_blocking: Final[Callable[[int, bool], None]] = getattr(os, "set_blocking", _nothing)
"""``os.set_blocking``; nothing where descriptors always block."""

set_mode: Final[Callable[[int, int], None]] = getattr(os, "fchmod", _nothing)
"""``os.fchmod``; nothing where files have no modes."""

_position = threading.Lock()


def read_at_portably(fd: int, length: int, offset: int) -> bytes:
    """Like :data:`read_at`; it moves the position of the file for a moment, so no other thread may use it."""
    with _position:
        before = os.lseek(fd, 0, os.SEEK_CUR)
        try:
            os.lseek(fd, offset, os.SEEK_SET)
            return os.read(fd, length)
        finally:
            os.lseek(fd, before, os.SEEK_SET)


def write_at_portably(fd: int, data: Any, offset: int) -> int:
    """Like :data:`write_at`; it moves the position of the file for a moment, so no other thread may use it."""
    with _position:
        before = os.lseek(fd, 0, os.SEEK_CUR)
        try:
            os.lseek(fd, offset, os.SEEK_SET)
            return os.write(fd, data)
        finally:
            os.lseek(fd, before, os.SEEK_SET)


_HAS_POSITIONS = hasattr(os, "pread") and hasattr(os, "pwrite") and not PORTABLE

read_at: Final[Callable[[int, int, int], bytes]] = os.pread if _HAS_POSITIONS else read_at_portably
"""``read_at(fd, length, offset)`` reads a file at a position and leaves its own position alone: ``os.pread``."""

write_at: Final[Callable[[int, Any, int], int]] = os.pwrite if _HAS_POSITIONS else write_at_portably
"""``write_at(fd, data, offset)`` writes a file at a position and leaves its own position alone: ``os.pwrite``."""


_LOCKED_BYTE: Final = 1 << 30
"""On Windows nobody else can read what is locked, so that is a byte that the file does not have."""


def try_lock(fd: int) -> bool:
    """Lock a file until it is closed; False if another process has locked it or it cannot be locked.

    Where there are no locks, all is as if it was locked.
    """
    try:
        if fcntl is not None:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif msvcrt is not None:
            os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
            os.lseek(fd, 0, os.SEEK_SET)
    except OSError:
        return False
    return True


# -- users

HAS_OWNERS: Final = hasattr(os, "geteuid")
"""Whether files have POSIX owners and modes."""


def user_id() -> int | None:
    """Return this user's number, to whom new files belong; None where users have none."""
    return os.geteuid() if hasattr(os, "geteuid") else None


# -- processes and signals


def after_fork_in_child(call: Callable[[], object]) -> None:
    """Have something called in every child that is forked from this process; nothing where nobody can fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=call)


KILL: Final[int] = int(getattr(signal, "SIGKILL", 9))
"""The signal that ends a process at once.  On Windows ``os.kill`` ends it whatever the number."""

PAUSE: Final[int] = int(getattr(signal, "SIGUSR2", 12))
"""The signal that asks a controller to end for a while; only nannies send it, who have a way without signals."""

CONTINUE: Final[int | None] = getattr(signal, "SIGCONT", None)
STACKS: Final[int | None] = getattr(signal, "SIGUSR1", None)
"""Signals that only some systems have."""

OF_TERMINALS: Final = tuple(
    int(getattr(signal, name)) for name in ("SIGINT", "SIGHUP", "SIGQUIT") if hasattr(signal, name)
)
"""Signals by which a terminal ends what runs in it."""


def apart() -> dict[str, Any]:
    """Return the arguments for ``subprocess.Popen`` of a process that no Ctrl-C of this terminal reaches."""
    if os.name == "nt":
        flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
        return {"creationflags": flags | getattr(subprocess, "CREATE_NO_WINDOW", 0)}
    return {"start_new_session": True}


# -- sockets

UNIX_SOCKETS: Final = hasattr(socket, "AF_UNIX") and not PORTABLE
"""Whether processes of this host may connect by sockets that are files."""

PASSES_DESCRIPTORS: Final = UNIX_SOCKETS and hasattr(os, "fork")
"""Whether a started process can inherit a connection, and get descriptors over it."""

SELECTOR: Final[type[selectors.BaseSelector]] = (
    selectors.SelectSelector
    if PORTABLE
    else getattr(selectors, "PollSelector", selectors.SelectSelector)
)
"""What waits for a few descriptors: where possible not ``select``, which knows only those up to 1023."""

LOOPBACK: Final = "127.0.0.1"


def connected_pair() -> tuple[socket.socket, socket.socket]:
    """Return two sockets that are connected with each other."""
    return socket.socketpair() if UNIX_SOCKETS else _loopback_pair()


def listen_on_loopback() -> socket.socket:
    """Return a socket that listens at a free port for processes of this host."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.bind((LOOPBACK, 0))
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener


def _loopback_pair() -> tuple[socket.socket, socket.socket]:
    with listen_on_loopback() as listener:
        ours = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            ours.connect(listener.getsockname())
            while True:
                theirs, address = listener.accept()
                if address == ours.getsockname():
                    return ours, theirs
                theirs.close()  # somebody else has found the port
        except BaseException:
            ours.close()
            raise


def new_token() -> str:
    """Return a secret by which a process recognises another one: 64 hexadecimal digits."""
    return os.urandom(32).hex()


def close_quietly(connection: socket.socket) -> None:
    """Close a socket, whatever has become of it."""
    with contextlib.suppress(OSError):
        connection.close()
