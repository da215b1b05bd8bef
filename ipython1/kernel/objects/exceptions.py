"""The exceptions of engines, rebuilt where they are to be raised."""

from __future__ import annotations

from ipython1.core.failures import ExceptionRecord, rebuild_exception
from ipython1.kernel.basics.error import UnpickleableException


def exception_of(record: ExceptionRecord) -> BaseException:
    """An engine's exception, of its real type if it can be rebuilt here."""
    exception = rebuild_exception(record, UnpickleableException)
    if exception is None:
        text = f"{record.ename}: {record.evalue}" if record.evalue else record.ename
        exception = UnpickleableException(text)
        exception.add_note(record.traceback)
    return exception
