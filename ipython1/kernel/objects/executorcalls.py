"""What an engine does for an executor; imported by engines, so it imports little."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ipython1.core.failures import ExceptionRecord, record_exception
from ipython1.kernel.basics.error import TaskRejectError


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """What came of a chunk of a map.

    :ivar values: of the items before the one that failed, or of all.
    :ivar failure: what that one raised; those after it were not run.
    """

    values: list[Any]
    failure: ExceptionRecord | None = None


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
