"""The exceptions of engines, rebuilt where they are to be raised."""

from __future__ import annotations

import contextlib

from ipython1.core.failures import ExceptionRecord, rebuild_exception
from ipython1.kernel.basics.error import UnpickleableException


def exception_of(record: ExceptionRecord) -> BaseException:
    """An engine's exception, of its real type if it can be rebuilt here."""
    exception = rebuild_exception(record, UnpickleableException)
    if exception is None:
        text = f"{record.ename}: {record.evalue}" if record.evalue else record.ename
        exception = UnpickleableException(text)
        exception.add_note(record.traceback)
    with contextlib.suppress(Exception):  # a class may allow no attributes
        exception._ipython_engine_line = record.line  # type: ignore[attr-defined]
    return exception


def line_of(exception: BaseException) -> str:
    """The user's line that raised an engine's exception, like ``work.py, line 12: return 1 / x``; or empty."""
    line = ""
    with contextlib.suppress(Exception):
        line = vars(exception).get("_ipython_engine_line", "")
    return line if isinstance(line, str) else ""
