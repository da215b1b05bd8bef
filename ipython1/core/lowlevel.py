"""The platform-specific calls of an engine's session, each with a portable fallback.

These functions depend on the operating system: opening in-memory files, punching holes in them, finding a file's end
without releasing the interpreter lock, flushing the C library's buffers, and sending a signal to one thread.
Everything else in this package is portable and uses these functions.
"""

from __future__ import annotations

import _thread
import ctypes
import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final

from ipython1 import system
from ipython1.system import fcntl

_FALLOC_FL_KEEP_SIZE: Final = 0x01
_FALLOC_FL_PUNCH_HOLE: Final = 0x02
_PAGE: Final = 4096

_FIRST_KEPT_DESCRIPTOR: Final = 64
"""The lowest number of descriptors that are kept, beyond the low ones that programs close or reuse."""


def _symbol(library: Any, *names: str) -> Any:
    for name in names:
        try:
            return getattr(library, name)
        except (AttributeError, ValueError):
            continue
    return None


def _load(kind: Callable[[None], Any]) -> Any:
    try:
        return kind(None)
    except (OSError, TypeError):  # TypeError: Windows does not accept None
        return None


# Calls through PyDLL keep the interpreter lock.  For calls of about a microsecond this matters: releasing the lock
# after every task would let a busy reactor thread take it for a whole switch interval each time.
_holding_lock = _load(ctypes.PyDLL)
_releasing_lock = _load(ctypes.CDLL)


def set_high(fd: int) -> int:
    """Duplicate ``fd`` to a high number, not inherited by started programs, and close ``fd``; return the copy."""
    if fcntl is None:
        return fd
    try:
        high: int = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_KEPT_DESCRIPTOR)
    except OSError:
        return fd
    os.close(fd)
    return high


def open_memory_file(name: str, *, use_memfd: bool = True) -> int:
    """Open a file for appending and reading: in memory if the system supports it, else an unlinked temporary file.

    :param name: only shown in ``/proc``.
    :returns: the file descriptor.
    :raises OSError: if neither can be created.
    """
    if use_memfd and not system.PORTABLE and fcntl is not None and hasattr(os, "memfd_create"):
        try:
            fd = os.memfd_create(name, os.MFD_CLOEXEC)
        except OSError:
            pass
        else:
            _append_mode(fd)
            return set_high(fd)
    import tempfile

    fd, path = tempfile.mkstemp(prefix=f"{name}-")
    try:
        os.close(fd)
        fd = os.open(path, os.O_RDWR | os.O_APPEND | system.O_BINARY)
    finally:
        try:
            os.unlink(path)
        except OSError:  # Windows cannot unlink an open file
            pass
    return set_high(fd)


def _append_mode(fd: int) -> None:
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)


def end_of_file_portably(fd: int) -> int:
    """Like :func:`end_of_file`, but releases the interpreter lock for a moment."""
    return os.lseek(fd, 0, os.SEEK_END)


def _find_end_function() -> Callable[[int], int]:
    seek = _symbol(_holding_lock, "lseek64") if sys.platform == "linux" else None
    if seek is None:
        return end_of_file_portably
    seek.restype = ctypes.c_int64
    # Prepared arguments without ``argtypes`` halve the cost of the call.
    zero = ctypes.c_int64(0)

    def end_of_file(fd: int) -> int:
        end: int = seek(fd, zero, 2)
        return end

    return end_of_file


end_of_file: Final = _find_end_function()
"""``end_of_file(fd)`` returns the size of an open file in bytes; negative if ``fd`` is not open."""


def _find_flush_stdout() -> Callable[[], object]:
    flush = _symbol(_holding_lock, "fflush")
    if flush is not None:
        for name in ("stdout", "__stdoutp"):
            try:
                stream = ctypes.c_void_p.in_dll(_holding_lock, name)
            except ValueError:
                continue
            return functools.partial(flush, stream)
    return lambda: None


flush_c_stdout: Final = _find_flush_stdout()
"""Flush the C library's standard output; only for when standard output cannot block."""


def flush_c_streams() -> None:
    """Flush all streams of the C library; may block, but without holding the interpreter lock."""
    flush = _symbol(_releasing_lock, "fflush")
    if flush is not None:
        flush(None)


def punch_hole(fd: int, start: int, stop: int) -> bool:
    """Free the memory of bytes ``start`` to ``stop`` of a file without changing its size; whole pages only.

    :return: whether the system supports this.
    """
    fallocate = _symbol(_holding_lock, "fallocate64") if sys.platform == "linux" else None
    first = -(-start // _PAGE) * _PAGE
    length = stop // _PAGE * _PAGE - first
    if fallocate is None:
        return False
    if length <= 0:
        return True
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    done: int = fallocate(fd, _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE, first, length)
    return done == 0


def read_at(fd: int, length: int, offset: int) -> bytes:
    """Read up to ``length`` bytes of a file at ``offset``, without moving its position if the system supports it."""
    pieces = []
    while length > 0:
        piece = system.read_at(fd, length, offset)
        if not piece:
            break
        pieces.append(piece)
        length -= len(piece)
        offset += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def interrupt_main_thread(main_thread: int, signum: int = signal.SIGINT) -> None:
    """Send a signal to the main thread, which also interrupts blocking system calls.

    :param main_thread: its ``threading.get_ident()``.
    :param signum: the signal; SIGINT by default.
    """
    if _pthread_kill is not None:
        _pthread_kill(main_thread, signum)
    else:
        interrupt_main_thread_portably(main_thread, signum)


def interrupt_main_thread_portably(main_thread: int, signum: int = signal.SIGINT) -> None:
    """Make the main thread run a signal's handler when it next runs Python code; blocking calls continue."""
    _thread.interrupt_main(signum)  # type: ignore[arg-type]


_pthread_kill: Final = getattr(signal, "pthread_kill", None)

RESERVE_SIGNAL: Final[int | None] = signal.SIGRTMAX - 2 if hasattr(signal, "SIGRTMAX") else None
"""A signal that programs do not use, for when user code ignores SIGINT; None if the system has none."""
