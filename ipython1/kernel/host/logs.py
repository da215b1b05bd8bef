"""The log file of a process: bounded in size, for its owner only, and without secrets.

Every line goes through :func:`ipython1.kernel.host.furl.redact`, tracebacks too, so a FURL that a
library logs does not get into the file as one that works.
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
"""Full log files that stay beside the one in use, as ``.1`` (the latest) to ``.3``."""

_begun = False


@dataclass(frozen=True, slots=True)
class LogOptions:
    """Where a process logs, and how much.

    :ivar path: the file, or ``None`` for standard error.
    :ivar level: the least severe messages that are kept: ``debug``, ``info``, ``warn``, ``error``
        or ``critical``.
    :ivar size: bytes at which the file is put aside and a new one begun.
    """

    path: Path | None
    level: str = "info"
    size: int = 5 * 1024 * 1024


class RunningLog:
    """A log that is being written; :meth:`close` ends it."""

    def __init__(self, observer: ILogObserver, file: IO[Any] | None) -> None:
        self._observer = observer
        self._file = file

    def close(self) -> None:
        """Write no more, and close the file."""
        from twisted.logger import globalLogPublisher

        globalLogPublisher.removeObserver(self._observer)
        if self._file is not None:
            self._file.close()


def start_logging(options: LogOptions) -> RunningLog:
    """Write what this process logs from now on, and what it logged since its start, as the options
    say.

    :raises KernelError: when the file cannot be opened; it names the file and the reason.
    """
    global _begun
    from twisted.logger import globalLogBeginner, globalLogPublisher

    file = None if options.path is None else open_log_file(options.path, options.size)
    observer = make_observer(sys.stderr if file is None else file, options.level)
    if _begun:
        globalLogPublisher.addObserver(observer)
    else:
        # User code owns the standard streams, and is to see its warnings there.
        showwarning = warnings.showwarning
        globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
        warnings.showwarning = showwarning
        _begun = True
    return RunningLog(observer, file)


def make_observer(file: IO[Any], level: str) -> ILogObserver:
    """What writes the log's events of this level and above to a file, one line or more each."""
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
    """Open a file to append log lines to; a new one is for its owner only, a full one is put aside.

    :param size: bytes; 0 for a file that is never put aside.
    :raises KernelError: when it cannot be opened.
    """
    from twisted.python.logfile import LogFile

    class AppendedLogFile(LogFile):
        def _openFile(self) -> None:
            super()._openFile()
            _append_only(self._file.fileno())

    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Made here and not by Twisted, which would change the mode of a device such as /dev/null.
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o600)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.set_blocking(descriptor, True)
            # Unbuffered: what a full disk refused must not pile up in memory.
            return open(descriptor, "wb", buffering=0)
        os.close(descriptor)
        return cast(
            IO[Any],
            AppendedLogFile(path.name, str(path.parent), size, maxRotatedFiles=LOG_FILES_KEPT),
        )
    except OSError as exception:
        raise KernelError(
            f"cannot write the log file {path}: {exception.strerror}; choose another one with --logfile"
        ) from exception


def _append_only(descriptor: int) -> None:
    """Have every write go to the end: the process's standard error may lead to the same file."""
    try:
        import fcntl
    except ImportError:
        return
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_APPEND)
