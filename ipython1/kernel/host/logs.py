"""The log file of a process: bounded in size, readable only by its owner, and without secrets.

Every line passes through :func:`ipython1.kernel.host.furl.redact`, tracebacks included, so the file
never contains a usable FURL, even if a library logs one.  Control characters and ends of lines in messages are
escaped: what a peer, a file name or a user's code says can neither look like another entry nor control a terminal.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
import sys
import threading
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from ipython1.kernel.basics.error import KernelError
from ipython1.kernel.host.furl import redact
from ipython1.ownfiles import open_to_append

if TYPE_CHECKING:
    from twisted.logger import ILogObserver, LogEvent
    from twisted.python.failure import Failure

LOG_FILES_KEPT = 3
"""The number of rotated log files that are kept, from ``.1`` (the latest) to ``.3``."""

_begun = False


@dataclass(frozen=True, slots=True)
class LogOptions:
    """Where a process logs, and how much.

    :ivar path: the file, or ``None`` for standard error.
    :ivar level: the lowest severity that is logged: ``debug``, ``info``, ``warn``, ``error`` or
        ``critical``.
    :ivar size: bytes at which the file is rotated.
    """

    path: Path | None
    level: str = "info"
    size: int = 5 * 1024 * 1024


class RunningLog:
    """A log that is being written, until :meth:`close`."""

    def __init__(self, observer: ILogObserver, file: IO[Any] | RotatedFile) -> None:
        self._observer = observer
        self._file = file

    def close(self) -> None:
        """Stop logging and close the file."""
        from twisted.logger import globalLogPublisher

        globalLogPublisher.removeObserver(self._observer)
        if self._file is not sys.stderr:
            self._file.close()


def start_logging(options: LogOptions) -> RunningLog:
    """Start writing the log of this process, beginning with what it logged since it started.

    :raises KernelError: if the file cannot be opened; the message names the file and the reason.
    """
    global _begun
    from twisted.logger import globalLogBeginner, globalLogPublisher

    file: IO[Any] | RotatedFile
    if options.path is None:
        file = _standard_error()
    else:
        file = open_log_file(options.path, options.size)
    observer = make_observer(file, options.level)
    if _begun:
        globalLogPublisher.addObserver(observer)
    else:
        # The standard streams belong to user code, which expects its warnings there.
        showwarning = warnings.showwarning
        globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
        warnings.showwarning = showwarning
        _begun = True
    return RunningLog(observer, file)


def _standard_error() -> IO[Any]:
    """Return this process's standard error, which stays what it is when user code's output is captured."""
    try:
        return open(os.dup(sys.stderr.fileno()), "w", buffering=1, errors="backslashreplace")
    except (OSError, AttributeError, ValueError):
        return sys.stderr  # something else than a file has been put there


def make_observer(file: IO[Any] | RotatedFile, level: str) -> ILogObserver:
    """Return an observer that writes events of at least this level to a file."""
    from twisted.logger import (
        FileLogObserver,
        FilteringLogObserver,
        LogLevel,
        LogLevelFilterPredicate,
    )

    predicate = LogLevelFilterPredicate(LogLevel.levelWithName(level))
    return FilteringLogObserver(FileLogObserver(cast(Any, file), format_event), [predicate])


def format_event(event: LogEvent) -> str | None:
    """Return the text of an event: one line, and with a traceback further ones that begin with a tab.

    What others had a part in is shown in such a way that it cannot be taken for anything else.
    """
    from twisted.logger import eventAsText

    text = shown(eventAsText(event, includeTraceback=False))
    failure = event.get("log_failure")
    if failure is not None:
        if not text:
            text = shown(eventAsText({**event, "log_format": "failed"}, includeTraceback=False))
        text = "\n\t".join([text, *map(shown, _traceback(failure))])
    return redact(text) + "\n" if text else None


def _traceback(failure: Failure) -> list[str]:
    try:
        return failure.getTraceback().splitlines()
    except Exception as problem:
        return [f"(its traceback cannot be shown: {type(problem).__name__})"]


def shown(text: str) -> str:
    """Return a text with escapes in place of what is not printable, such as the end of a line or a control sequence."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def open_log_file(path: Path, size: int) -> IO[Any] | RotatedFile:
    """Open a log file for appending; a new file is readable only by its owner.

    :param size: bytes at which the file is rotated; 0 means never.
    :raises KernelError: if it cannot be opened, or others could have a hand in it.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = open_to_append(path)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            # Unbuffered: lines that a full disk rejects must not pile up in memory.
            return open(descriptor, "wb", buffering=0)
        return RotatedFile(path, size, descriptor)
    except OSError as exception:
        raise KernelError(
            f"cannot write the log file {path}: {exception.strerror}; choose another file with --logfile"
        ) from exception


class RotatedFile:
    """A text file that others cannot read or replace; at a certain size it is renamed, and a new one begun.

    Several processes may write to it: each write is whole, and goes to the end.

    :param size: bytes; 0 for any number.
    :param descriptor: of the open file.
    :raises OSError: if it cannot be opened.
    """

    def __init__(self, path: Path, size: int, descriptor: int | None = None) -> None:
        self.path = path
        self._limit = size
        self._lock = threading.Lock()
        self._descriptor = open_to_append(path) if descriptor is None else descriptor

    def write(self, text: str) -> None:
        """Write some lines.

        :raises OSError: if that fails.
        """
        with self._lock:
            if self._descriptor < 0:
                raise OSError(errno.EBADF, "it is closed")
            if self._limit and os.fstat(self._descriptor).st_size >= self._limit:
                self._rotate()
            os.write(self._descriptor, text.encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        """Do nothing: what is written is in the file."""

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def _rotate(self) -> None:
        """Begin a new file; if that is impossible, go on with the old one."""
        names = [self.path, *(Path(f"{self.path}.{n + 1}") for n in range(LOG_FILES_KEPT))]
        try:
            for old, new in reversed(list(itertools.pairwise(names))):
                with suppress(FileNotFoundError):
                    os.replace(old, new)
            descriptor = open_to_append(self.path)
        except OSError:
            return
        os.close(self._descriptor)
        self._descriptor = descriptor
