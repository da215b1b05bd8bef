"""What an engine does for an executor; imported by engines, so it imports little."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ipython1.core.failures import ExceptionRecord, record_exception
from ipython1.kernel.basics.error import KernelError, TaskRejectError, describe_exception
from ipython1.kernel.objects.homes import settle

MOST_PREPARED: Final = 10_000
"""The number of executors for which an engine remembers that their initializers have run."""

_prepared: OrderedDict[bytes, None] = OrderedDict()
"""In an engine: the executors whose initializers have run in this process, the one that was used last at the end."""


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """What came of a chunk of a map.

    :ivar values: of the items before the one that failed, or of all.
    :ivar failure: what that one raised; those after it were not run.
    """

    values: list[Any]
    failure: ExceptionRecord | None = None


class InitializerFailed(KernelError):
    """An executor's initializer raised an exception on an engine; the cause is that exception.

    :ivar executor: identifies the executor.
    """

    def __init__(self, message: str, executor: bytes) -> None:
        super().__init__(message, executor)
        self.executor = executor

    def __str__(self) -> str:
        return str(self.args[0])


class Preparation:
    """An executor's initializer, and its arguments.

    Calling it calls a function, after the initializer has run in this process.  An engine keeps it for all calls.

    :ivar executor: identifies the executor.
    """

    __ipython1_steady__ = True

    def __init__(self, initializer: Callable[..., Any], args: Sequence[Any]) -> None:
        self.executor: bytes = os.urandom(16)
        self._initializer = initializer
        self._args = tuple(args)

    def __call__(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        __tracebackhide__ = True
        self.run()
        return function(*args, **kwargs)

    def run(self) -> None:
        """Run the initializer, unless it has run in this process for this executor.

        :raises InitializerFailed: if it fails.
        """
        __tracebackhide__ = True
        if self.executor in _prepared:
            _prepared.move_to_end(self.executor)
            return
        try:
            self._initializer(*self._args)
        except (TaskRejectError, KeyboardInterrupt):
            raise
        except BaseException as problem:
            message = f"the executor's initializer failed: {describe_exception(problem)}"
            raise InitializerFailed(message, self.executor) from problem
        settle()
        _prepared[self.executor] = None
        if len(_prepared) > MOST_PREPARED:
            _prepared.popitem(last=False)


def run_chunk(function: Callable[..., Any], chunk: Sequence[Sequence[Any]]) -> ChunkResult:
    """Call ``function`` with each of several lists of arguments, until one fails."""
    __tracebackhide__ = True
    values: list[Any] = []
    for args in chunk:
        try:
            values.append(function(*args))
        except (TaskRejectError, KeyboardInterrupt):
            raise
        except BaseException as problem:
            return ChunkResult(values, record_exception(problem))
    return ChunkResult(values)
