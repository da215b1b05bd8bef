"""What an engine tells in plain text of an exception of user code, for those who look."""

from __future__ import annotations

from ipython1.core.failures import ExceptionRecord
from ipython1.core.results import CallOutcome
from ipython1.kernel.objects.mapparts import MapPart
from ipython1.kernel.wire.failurenotes import MOST_ERROR, MOST_TRACEBACK, Note


def note_of(failure: ExceptionRecord, items: int = 0) -> Note:
    """What those who look are told of an exception.

    :param items: how many items of a map failed, of which it is the first.
    """
    message = " ".join(failure.evalue[:MOST_ERROR].split())
    error = f"{failure.ename}: {message}" if message else failure.ename
    return Note(error, failure.traceback[-MOST_TRACEBACK - 1 :], items)


def note_of_value(value: object) -> Note | None:
    """What those who look are told of what a command gave: of items of a map that failed; None for all else."""
    part = value.value if isinstance(value, CallOutcome) else value
    if not isinstance(part, MapPart) or not part.failures:
        return None
    return note_of(part.failures[min(part.failures)].record, len(part.failures))
