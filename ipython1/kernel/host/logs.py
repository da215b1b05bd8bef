"""The log file of a process: bounded in size, readable only by its owner, and without secrets.

Every line passes through :func:`ipython1.kernel.host.furl.redact`, tracebacks included, so the file
never contains a usable FURL, even if a library logs one.
"""

from __future__ import annotations

import os
import stat
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from ipython1.kernel.basics.error import KernelError
from ipython1.kernel.host.furl import redact

if TYPE_CHECKING:
    from twisted.logger import ILogObserver, LogEvent

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

    def __init__(self, observer: ILogObserver, file: IO[Any] | None) -> None:
        self._observer = observer
        self._file = file

    def close(self) -> None:
        """Stop logging and close the file."""
        from twisted.logger import globalLogPublisher

        globalLogPublisher.removeObserver(self._observer)
        if self._file is not None:
            self._file.close()


def start_logging(options: LogOptions) -> RunningLog:
    """Start writing the log of this process, beginning with what it logged since it started.

    :raises KernelError: if the file cannot be opened; the message names the file and the reason.
    """
    global _begun
    from twisted.logger import globalLogBeginner, globalLogPublisher

    file = None if options.path is None else open_log_file(options.path, options.size)
    observer = make_observer(sys.stderr if file is None else file, options.level)
    if _begun:
        globalLogPublisher.addObserver(observer)
    else:
        # The standard streams belong to user code, which expects its warnings there.
        showwarning = warnings.showwarning
        globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
        warnings.showwarning = showwarning
        _begun = True
    return RunningLog(observer, file)


def make_observer(file: IO[Any], level: str) -> ILogObserver:
    """Return an observer that writes events of at least this level to a file."""
    from twisted.logger import (
        FileLogObserver,
        FilteringLogObserver,
        LogLevel,
        LogLevelFilterPredicate,
        formatEventAsClassicLogText,
    )

    def format_event(event: LogEvent) -> str | None:
        text = formatEventAsClassicLogText(event)
        return None if text is None else redact(text)

    predicate = LogLevelFilterPredicate(LogLevel.levelWithName(level))
    return FilteringLogObserver(FileLogObserver(file, format_event), [predicate])


def open_log_file(path: Path, size: int) -> IO[Any]:
    """Open a log file for appending; a new file is readable only by its owner.

    :param size: bytes at which the file is rotated; 0 means never.
    :raises KernelError: if it cannot be opened.
    """
    from twisted.python.logfile import LogFile

    class AppendedLogFile(LogFile):
        def _openFile(self) -> None:
            super()._openFile()
            _append_only(self._file.fileno())

    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Created here, as Twisted would change the mode of an existing device such as /dev/null.
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o600)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.set_blocking(descriptor, True)
            # Unbuffered: lines that a full disk rejects must not pile up in memory.
            return open(descriptor, "wb", buffering=0)
        os.close(descriptor)
        return cast(
            IO[Any],
            AppendedLogFile(path.name, str(path.parent), size, maxRotatedFiles=LOG_FILES_KEPT),
        )
    except OSError as exception:
        raise KernelError(
            f"cannot write the log file {path}: {exception.strerror}; choose another file with --logfile"
        ) from exception


def _append_only(descriptor: int) -> None:
    """Make every write go to the end, as the process's standard error may be the same file."""
    try:
        import fcntl
    except ImportError:
        return
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_APPEND)
