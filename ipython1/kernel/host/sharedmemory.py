"""Memory without a name that one process writes and others read; it is gone with the last of them, however they end.

Linux only (``memfd``, seals, and passing descriptors over Unix sockets); :func:`is_available` tells.  The descriptors
are not inherited by other programs, and a forked child does not have the memory.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import socket
import struct
import sys
import weakref
from typing import Any, Final

from ipython1.kernel.host.memory import available_memory
from ipython1.system import O_CLOEXEC, UNIX_SOCKETS, after_fork_in_child, fcntl, user_id

SWITCH: Final = "IPYTHON1_SHARED_MEMORY"
"""The environment variable that turns shared memory off for a process, if it is ``0``."""

SPARE: Final = 8
"""Memory is made only if this many times as much is available."""

MOST: Final = 64 * 2**20
"""Bytes of the largest memory that is taken from another process."""

_NAME: Final = "ipython1.shared"
SHOWN: Final = f"/memfd:{_NAME}"
"""How the operating system shows it; nothing else needs the name."""

_ADD_SEALS: Final = 1033
_GET_SEALS: Final = 1034
_SEALED: Final = 0x1
_NOT_SHRINKING: Final = 0x2
_NOT_GROWING: Final = 0x4
_NO_NEW_WRITERS: Final = 0x10
_ALL_SEALS: Final = _SEALED | _NOT_SHRINKING | _NOT_GROWING | _NO_NEW_WRITERS

_CREDENTIALS: Final = struct.Struct("3i")


def is_available() -> bool:
    """Whether this system has all that is needed, and it was not turned off."""
    return (
        os.environ.get(SWITCH, "1") != "0"
        and UNIX_SOCKETS
        and hasattr(os, "memfd_create")
        and hasattr(socket, "SO_PEERCRED")
        and hasattr(socket, "MSG_CMSG_CLOEXEC")
    )


class SharedMemory:
    """Memory that only this object can write; nobody can make it shorter, so reading it cannot fail.

    :ivar fd: its descriptor, with which others can map it for reading.
    :raises OSError: if there is too little memory, or the system does not support it.
    """

    def __init__(self, size: int) -> None:
        if available_memory() < SPARE * size:
            raise MemoryError("too little memory is available to share some")
        self.fd: int = os.memfd_create(_NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.fd, size)
            mapped = _map(self.fd, size, mmap.PROT_READ | mmap.PROT_WRITE)
            _fcntl(self.fd, _ADD_SEALS, _ALL_SEALS)
        except BaseException:
            self.close()
            raise
        self.view: memoryview[int] = memoryview(mapped)

    def close(self) -> None:
        """Close the descriptor; the memory is there as long as it is mapped."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def map_readable(fd: int) -> memoryview:
    """Map the memory of another process; the descriptor is not needed afterwards.

    :raises OSError, ValueError: if it is something else than sealed memory of a reasonable size.
    """
    if _fcntl(fd, _GET_SEALS, 0) & _ALL_SEALS != _ALL_SEALS:
        raise ValueError("it is not sealed")
    size = os.fstat(fd).st_size
    if not 0 < size <= MOST:
        raise ValueError("it has an impossible size")
    return memoryview(_map(fd, size, mmap.PROT_READ))


def _fcntl(fd: int, command: int, argument: int) -> int:
    return int(fcntl.fcntl(fd, command, argument))


_NO_DESCRIPTOR: Final[dict[str, Any]] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
"""Before Python 3.13, each mapping keeps a descriptor."""


def _map(fd: int, size: int, access: int) -> mmap.mmap:
    mapped = mmap.mmap(fd, size, prot=access, **_NO_DESCRIPTOR)
    mapped.madvise(mmap.MADV_DONTFORK)
    _mappings[id(mapped)] = mapped
    _let_go_in_children()
    return mapped


_mappings: weakref.WeakValueDictionary[int, mmap.mmap] = weakref.WeakValueDictionary()


@functools.cache
def _let_go_in_children() -> None:
    """Have forked children let go of memory to which they inherit a descriptor."""
    after_fork_in_child(_let_go)


def _let_go() -> None:
    for mapped in list(_mappings.values()):
        # A child does not have the memory, and something else may be at its place when it would be unmapped.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(mapped))
    nothing = os.open(os.devnull, os.O_RDONLY | O_CLOEXEC)
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith(SHOWN):
                # Not closed, as the object that has it will do that.
                os.dup2(nothing, int(name), inheritable=False)
        except OSError:
            pass  # it was that of the directory
    os.close(nothing)


# -- sockets


def listen(name: bytes) -> socket.socket:
    """Listen at a name that no file has, so that nothing is left of it; only processes of this host can connect.

    :raises OSError: if that is not possible.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    try:
        listener.bind(b"\0" + name)
        listener.listen(1024)
    except BaseException:
        listener.close()
        raise
    return listener


def connect(name: bytes) -> socket.socket:
    """Connect to who listens at ``name`` on this host.

    :raises OSError: if nobody does, or not as this user.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    try:
        connection.connect(b"\0" + name)
        if peer_user(connection) != user_id():
            raise PermissionError("another user listens there")
    except BaseException:
        connection.close()
        raise
    return connection


def peer_user(connection: socket.socket) -> int:
    """The user id of the process at the other end, as the operating system knows it."""
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(told)[1]
    return uid


def send(connection: socket.socket, message: bytes, fd: int | None = None) -> None:
    """Send a message, perhaps with a descriptor.

    :raises OSError: if it cannot be sent at once.
    """
    rights: list[Any] = []
    if fd is not None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", fd))]
    connection.sendmsg([message], rights, socket.MSG_NOSIGNAL)


def receive(connection: socket.socket, most: int) -> tuple[bytes, int | None]:
    """Receive a message, and the descriptor that came with it, which is the caller's.

    :raises OSError: if none has come.
    """
    space = socket.CMSG_SPACE(4)
    message, control, _, _ = connection.recvmsg(most, space, socket.MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds += struct.unpack(f"{len(data) // 4}i", data[: len(data) // 4 * 4])
    for extra in fds[1:]:
        os.close(extra)
    return message, fds[0] if fds else None
