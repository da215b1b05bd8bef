"""Messages about processes that failed."""

from __future__ import annotations

import re

from ipython1.daemon.processes import ProcessStatus
from ipython1.kernel.launchers.mpiwords import mpi_cause

_WORD = re.compile(r"\w")
_LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT")


def reason_and_lines(status: ProcessStatus) -> tuple[str, tuple[str, ...]]:
    """Return why a process ended, with the cause if its output tells it, and else with the last lines of that."""
    cause = mpi_cause(status.lines) if status.status != 0 else ""
    return (f"{status.reason}: {cause}", ()) if cause else (status.reason, status.lines)


def describe_failure(status: ProcessStatus) -> str:
    """Return one line on why a process ended, with the last line of its output, if any."""
    said = [line for line in status.lines if _WORD.search(line) and not _LOG_LINE.match(line)]
    words = (mpi_cause(said) or said[-1]) if said and status.status != 0 else ""
    return f"{status.title} {status.reason}" + (f": {words}" if words else "")
