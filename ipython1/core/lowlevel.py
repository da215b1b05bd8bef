"""The platform-specific calls of an engine's session, each with a portable fallback.

What exists here depends on the operating system: a file in memory, punching holes in it, asking for a file's end
without giving up the interpreter lock, flushing the C library's buffers, and sending a signal to one thread.
Everything else in this package is portable and goes through these functions.
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

_FALLOC_FL_KEEP_SIZE: Final = 0x01
_FALLOC_FL_PUNCH_HOLE: Final = 0x02
_PAGE: Final = 4096

_FIRST_KEPT_DESCRIPTOR: Final = 64
"""Kept descriptors are numbered from here, out of the way of programs that close or reuse low ones."""


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
    except (OSError, TypeError):  # TypeError: Windows has no library called None
        return None


# Calls through PyDLL keep the interpreter lock.  For calls that end within a microsecond this matters: giving the
# lock up after every task would let a busy reactor thread take it for a whole switch interval each time.
_holding_lock = _load(ctypes.PyDLL)
_releasing_lock = _load(ctypes.CDLL)


def set_high(fd: int) -> int:
    """A copy of ``fd`` with a high number, not inherited by programs that are started; ``fd`` is closed."""
    try:
        import fcntl

        high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_KEPT_DESCRIPTOR)
    except (ImportError, OSError):
        return fd
    os.close(fd)
    return high


def open_memory_file(name: str, *, use_memfd: bool = True) -> int:
    """A file descriptor for appending and reading: in memory where the system can, else an unlinked temporary file.

    :param name: shown in ``/proc`` only.
    :raises OSError: when neither can be made.
    """
    if use_memfd and hasattr(os, "memfd_create"):
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
        fd = os.open(path, os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0))
    finally:
        try:
            os.unlink(path)
        except OSError:  # Windows keeps the name of an open file
            pass
    return set_high(fd)


def _append_mode(fd: int) -> None:
    import fcntl

    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)


def end_of_file_portably(fd: int) -> int:
    """As :func:`end_of_file`, but gives up the interpreter lock for a moment."""
    return os.lseek(fd, 0, os.SEEK_END)


def _find_end_function() -> Callable[[int], int]:
    seek = _symbol(_holding_lock, "lseek64") if sys.platform == "linux" else None
    if seek is None:
        return end_of_file_portably
    seek.restype = ctypes.c_int64
    # A ready-made argument and no ``argtypes`` halve the price of the call.
    zero = ctypes.c_int64(0)

    def end_of_file(fd: int) -> int:
        end: int = seek(fd, zero, 2)
        return end

    return end_of_file


end_of_file: Final = _find_end_function()
"""``end_of_file(fd)``: the size of an open file, in bytes; negative when ``fd`` is not open."""


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
"""Write out what C code has printed so far; only for when standard output cannot block."""


def flush_c_streams() -> None:
    """Write out everything that C code has buffered, on any of its streams; may block, without the interpreter lock."""
    flush = _symbol(_releasing_lock, "fflush")
    if flush is not None:
        flush(None)


def punch_hole(fd: int, start: int, stop: int) -> bool:
    """Give back the memory of bytes ``start`` to ``stop`` of a file, whose size stays; whole pages only.

    :return: whether the system could.
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
    """Up to ``length`` bytes of a file from ``offset``, which leaves its position alone where the system can."""
    if not hasattr(os, "pread"):
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, length)
    pieces = []
    while length > 0:
        piece = os.pread(fd, length, offset)
        if not piece:
            break
        pieces.append(piece)
        length -= len(piece)
        offset += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def interrupt_main_thread(main_thread: int) -> None:
    """Deliver SIGINT to the main thread, so that also its blocking system calls return.

    :param main_thread: its ``threading.get_ident()``.
    """
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(main_thread, signal.SIGINT)
    else:
        interrupt_main_thread_portably(main_thread)


def interrupt_main_thread_portably(main_thread: int) -> None:
    """Have the SIGINT handler run in the main thread when that next runs Python code; blocking calls go on."""
    _thread.interrupt_main()
