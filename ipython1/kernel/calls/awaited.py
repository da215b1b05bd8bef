"""Errors of calls that are awaited: those that an event loop or a coroutine would take as a signal of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from typing import Any

_SIGNALS = (
    StopIteration,
    StopAsyncIteration,
    asyncio.CancelledError,
    concurrent.futures.CancelledError,
)


def error_for_loop(problem: BaseException) -> BaseException:
    """Return the error that awaiting a call raises.

    ``StopIteration`` cannot be raised from an ``await``: asyncio's futures refuse it and would wait for ever, and
    Twisted takes its value for the result.  Others would end an iteration, a task or the loop of the program that
    awaits.

    :param problem: the exception of the call.
    :returns: ``problem``, or a ``RuntimeError`` caused by it, as Python raises for ``StopIteration`` in coroutines.
    """
    if isinstance(problem, Exception) and not isinstance(problem, _SIGNALS):
        return problem
    name = type(problem).__name__
    error = RuntimeError(
        f"the call raised {name}, which cannot be raised from an await; it is the __cause__"
    )
    error.__cause__ = problem
    return error


class _SeenByLoop:
    """A finished future, as asyncio reads it."""

    def __init__(self, future: concurrent.futures.Future[Any]) -> None:
        self.done = future.done
        self.cancelled = future.cancelled
        self.result = future.result
        self._exception = future.exception

    def exception(self) -> BaseException | None:
        problem = self._exception()
        return None if problem is None else error_for_loop(problem)


def call_back(callback: Callable[[Any], object], future: concurrent.futures.Future[Any]) -> None:
    """Call a callback of a future that is done.

    Those of ``asyncio.wrap_future``, which ``run_in_executor`` uses too, copy the error into a future of asyncio.
    """
    ours = getattr(callback, "__module__", None) != "asyncio.futures"
    callback(future if ours else _SeenByLoop(future))
