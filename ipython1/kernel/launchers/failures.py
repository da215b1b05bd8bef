"""Messages about processes that failed."""

from __future__ import annotations

import re

from ipython1.daemon.processes import ProcessStatus

_WORD = re.compile(r"\w")
_LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT")


def describe_failure(status: ProcessStatus) -> str:
    """Return one line on why a process ended, with the last line of its output, if any."""
    said = [line for line in status.lines if _WORD.search(line) and not _LOG_LINE.match(line)]
    words = said[-1] if said and status.status != 0 else ""
    return f"{status.title} {status.reason}" + (f": {words}" if words else "")
