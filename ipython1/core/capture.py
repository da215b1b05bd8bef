"""Captures what a command prints: from Python, from C code and from the programs it starts.

File descriptors 1 and 2 are replaced by append-only in-memory files.  These need no reader while user code runs, so
unlike pipes they cannot fill up and block code that prints while it holds the interpreter lock.  The files are the
only copy of the output: the memory of output that was fetched, and of the middle of very long output, is freed by
punching holes.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
import threading
from typing import Final

from ipython1.core.lowlevel import (
    end_of_file,
    flush_c_stdout,
    flush_c_streams,
    open_memory_file,
    punch_hole,
    read_at,
    set_high,
)
from ipython1.core.terminaltext import rendered

DEFAULT_MAX_BYTES: Final = 8 << 20
PEEK_BYTES: Final = 256 << 10
"""The maximum that one :meth:`OutputCapture.peek` returns per stream, in bytes."""

_RELEASE_STEP: Final = 1 << 20
_TRUNCATE_ABOVE: Final = 64 << 20
_NOTHING: Final = ("", "")


def cut_mark(count: int) -> str:
    """Return the line that replaces ``count`` bytes of output."""
    return f"\n[... {count} bytes of output were cut here ...]\n"


class _Channel:
    """A redirected descriptor.  Offsets count bytes from the beginning of the file.

    ``start`` is where the current command's output begins, ``peeked`` the end of what :meth:`peek` has returned,
    ``hole`` the end of the part cut out of very long output, ``released`` the end of the memory that was freed.
    """

    def __init__(self, target: int, name: str, max_bytes: int, *, use_memfd: bool) -> None:
        self.target = target
        self.name = name
        self.head_bytes = max_bytes // 4
        self.tail_bytes = max_bytes - self.head_bytes
        self.max_bytes = max_bytes
        self.file = open_memory_file(f"ipython1-{name}", use_memfd=use_memfd)
        self.start = self.peeked = self.hole = self.released = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        try:
            self.original = set_high(os.dup(target))
        except OSError:  # the process was started without this descriptor
            self.original = set_high(os.open(os.devnull, os.O_WRONLY))
        os.dup2(self.file, target, inheritable=True)
        self.stream = self._open_stream()

    def _open_stream(self) -> io.TextIOWrapper:
        raw = io.FileIO(self.target, "w", closefd=False)
        raw.name = f"<{self.name}>"
        return io.TextIOWrapper(
            io.BufferedWriter(raw),
            encoding="utf-8",
            errors="backslashreplace",
            newline="\n",
            line_buffering=True,
        )

    def flush(self) -> None:
        """Flush this stream and the one that user code may have replaced it with."""
        if not hasattr(sys, self.name):  # user code deleted it
            setattr(sys, self.name, self.stream)
        current = getattr(sys, self.name)
        if current is not self.stream:
            try:
                current.flush()
            except BaseException:  # the user's stream may do anything
                if _is_closed(current):
                    setattr(sys, self.name, self.stream)
        try:
            self.stream.flush()
        except (
            ValueError
        ):  # user code closed it, which must not suppress the output of later commands
            self._see_to_descriptor()
            closed, self.stream = self.stream, self._open_stream()
            for name in (self.name, f"__{self.name}__"):
                if getattr(sys, name, None) is closed:
                    setattr(sys, name, self.stream)
        except OSError:  # user code closed or replaced the descriptor
            if self._see_to_descriptor():
                with contextlib.suppress(OSError):
                    self.stream.flush()

    def _see_to_descriptor(self) -> bool:
        """Reopen the descriptor if user code closed it; return whether it did."""
        try:
            os.fstat(self.target)
        except OSError:
            os.dup2(self.file, self.target, inheritable=True)
            return True
        return False

    def peek(self) -> str:
        end = end_of_file(self.file)
        if end - self.start > self.max_bytes:
            self._cut(end)
        skipped = end - self.peeked - PEEK_BYTES
        if skipped > 0:
            before = self._decoder.decode(b"", final=True)
            self._decoder.reset()
            data = _whole_characters(read_at(self.file, PEEK_BYTES, end - PEEK_BYTES))
            text = before + cut_mark(skipped) + self._decoder.decode(data)
        elif end > self.peeked:
            text = self._decoder.decode(read_at(self.file, end - self.peeked, self.peeked))
        else:
            return ""
        self.peeked = end
        return text

    def _cut(self, end: int) -> None:
        """Free the middle of very long output while it continues."""
        first = max(self.hole, self.start + self.head_bytes)
        last = end - self.tail_bytes
        if last - first >= _RELEASE_STEP:
            punch_hole(self.file, first, last)
            self.hole = last

    def finish(self) -> str:
        start = self.start
        end = end_of_file(self.file)
        if end <= start:
            return ""
        length = end - start
        if length <= self.max_bytes:
            text = read_at(self.file, length, start).decode("utf-8", "replace")
        else:
            head = codecs.getincrementaldecoder("utf-8")("replace").decode(
                read_at(self.file, self.head_bytes, start)
            )
            tail = _whole_characters(read_at(self.file, self.tail_bytes, end - self.tail_bytes))
            cut = cut_mark(length - self.max_bytes)
            text = head + cut + tail.decode("utf-8", "replace")
        text = rendered(text)
        self._decoder.reset()
        self.start = self.peeked = self.hole = end
        if end - self.released >= _RELEASE_STEP:
            self._release(end)
        return text

    def _release(self, end: int) -> None:
        if punch_hole(self.file, self.released, end):
            self.released = end
        elif end >= _TRUNCATE_ABOVE:
            # Without holes, truncate the file; a thread that prints at this very moment may lose a line.
            os.ftruncate(self.file, 0)
            self.start = self.peeked = self.hole = self.released = 0

    def close(self) -> None:
        try:
            self.stream.flush()
        except (ValueError, OSError):
            pass
        os.dup2(self.original, self.target)
        os.close(self.original)
        os.close(self.file)


def _is_closed(stream: object) -> bool:
    """Return whether a stream of the user's is closed or does not even say so."""
    try:
        return getattr(stream, "closed", False) is True
    except BaseException:
        return True


def _whole_characters(data: bytes) -> bytes:
    """Strip the remaining bytes of a UTF-8 character whose beginning was cut off."""
    for index in range(min(3, len(data))):
        if data[index] & 0xC0 != 0x80:
            return data[index:]
    return data[3:]


class OutputCapture:
    """Captures standard output and standard error of this process until :meth:`close`.

    :param max_bytes: how much of one command's output is kept, per stream; if there is more, the first quarter and
        the last three quarters are kept with a line between them that says how much was cut.
    :param use_memfd: False uses temporary files instead, as on systems without in-memory files.
    :param redirect_stdin: give user code an empty standard input, so that ``input()`` raises :class:`EOFError`.

    :ivar original_stdout: a file descriptor of the original standard output, for example for a log.
    :ivar original_stderr: the same for standard error.
    :ivar ended: how many commands have ended that had printed something.
    :ivar peeked_in: what this was at the last :meth:`peek`.

    Call :meth:`begin`, :meth:`take` and :meth:`finish` only in the thread that runs commands, and :meth:`peek` in any
    thread at any time.  To limit the memory that very long output takes, call :meth:`peek` a few times a second while
    a command runs.  Output that arrives between two commands belongs to the later one.
    """

    def __init__(
        self,
        max_bytes: int = DEFAULT_MAX_BYTES,
        *,
        use_memfd: bool = True,
        redirect_stdin: bool = True,
    ) -> None:
        if max_bytes < 1024:
            raise ValueError(f"max_bytes must be at least 1024, not {max_bytes}")
        self._lock = threading.Lock()
        self._closed = False
        self.ended: int = 0
        self.peeked_in: int = 0
        self._saved = (sys.stdin, sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (ValueError, OSError, AttributeError):
                pass
        flush_c_streams()
        self._out = _Channel(1, "stdout", max_bytes, use_memfd=use_memfd)
        self._err = _Channel(2, "stderr", max_bytes, use_memfd=use_memfd)
        self.original_stdout: int = self._out.original
        self.original_stderr: int = self._err.original
        sys.stdout = sys.__stdout__ = self._out.stream  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = self._err.stream  # type: ignore[misc]
        self._original_stdin: int | None = None
        if redirect_stdin:
            self._empty_stdin()

    def _empty_stdin(self) -> None:
        nothing = os.open(os.devnull, os.O_RDONLY)
        try:
            self._original_stdin = set_high(os.dup(0))
        except OSError:
            self._original_stdin = os.dup(nothing)
        if nothing != 0:
            os.dup2(nothing, 0)
            os.close(nothing)
        sys.stdin = io.TextIOWrapper(
            io.BufferedReader(io.FileIO(0, closefd=False)), encoding="utf-8"
        )

    def begin(self) -> None:
        """Start a command: make sure that the streams are open."""
        self._out.flush()
        self._err.flush()

    def take(self) -> tuple[str, str]:
        """Do the same as :meth:`finish`, but take only two microseconds if nothing was printed."""
        out, err = self._out, self._err
        try:
            if sys.stdout is out.stream and sys.stderr is err.stream:
                out.stream.flush()
                err.stream.flush()
                flush_c_stdout()
                if end_of_file(out.file) == out.start and end_of_file(err.file) == err.start:
                    return _NOTHING
        except (AttributeError, ValueError, OSError):
            pass  # user code deleted or closed a stream
        return self.finish()

    def finish(self) -> tuple[str, str]:
        """End a command.

        :returns: what was printed to standard output and to standard error since the last call; of lines that were
            written several times, as by progress bars, the last state.
        """
        with self._lock:
            if self._closed:
                return _NOTHING
            self._out.flush()
            self._err.flush()
            flush_c_streams()
            self.ended += 1
            return self._out.finish(), self._err.finish()

    def peek(self) -> tuple[str, str]:
        """Return what the current command has printed since the last call, to standard output and error."""
        with self._lock:
            if self._closed:
                return _NOTHING
            self._out.flush()
            self._err.flush()
            flush_c_stdout()
            self.peeked_in = self.ended
            return self._out.peek(), self._err.peek()

    def close(self) -> None:
        """Restore the process's original streams; further calls do nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            flush_c_streams()
            self._out.close()
            self._err.close()
            if self._original_stdin is not None:
                os.dup2(self._original_stdin, 0)
                os.close(self._original_stdin)
            sys.stdin, sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__ = self._saved  # type: ignore[misc]
