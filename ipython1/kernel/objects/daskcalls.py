"""What dask's schedulers give an executor to call, changed so that all of it can be sent.

``dask.threaded`` expects the traceback of an exception as an object, which cannot be sent; engines give the exception
with its traceback as a note, as elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from ipython1.core.failures import ExceptionRecord, record_exception
from ipython1.kernel.objects.exceptions import exception_of

_PACKER: Final = 5
"""The position of the function that packs an exception among the arguments of ``dask.local.execute_task``."""


def adapted(function: Callable[..., Any], args: Sequence[Any]) -> tuple[Any, ...]:
    """Return the arguments of a function of the module ``dask.local``, as they are to be sent."""
    if getattr(function, "__name__", "") != "batch_execute_tasks" or len(args) != 1:
        return tuple(args)
    return ([_adapted_call(call) for call in args[0]],)


def _adapted_call(call: Any) -> Any:
    if not isinstance(call, tuple) or len(call) <= _PACKER:
        return call
    if getattr(call[_PACKER], "__module__", "") != "dask.threaded":
        return call
    return (*call[:_PACKER], pack_exception, *call[_PACKER + 1 :])


def pack_exception(problem: BaseException, dumps: Callable[[Any], Any]) -> tuple[Any, None]:
    """Return an exception and its traceback, as a scheduler of dask's expects them from an engine."""
    return _Raised(record_exception(problem)), None


class _Raised:
    """An exception of an engine; where this is unpickled, it is the exception itself."""

    def __init__(self, record: ExceptionRecord) -> None:
        self._record = record

    def __reduce__(self) -> Any:
        return exception_of, (self._record,)
