"""Deferreds that can be awaited in Twisted's coroutines and in asyncio's alike."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Coroutine, Generator
from types import FrameType
from typing import Any, Final

from twisted.internet.defer import Deferred


class AwaitableDeferred(Deferred[Any]):
    """A Deferred that asyncio's coroutines can await as well."""

    def __await__(self) -> Generator[Any, None, Any]:
        try:
            task = asyncio.current_task()
        except RuntimeError:
            task = None
        if task is None or _twisted_runs(sys._getframe(1)):
            return super().__await__()
        return self.asFuture(asyncio.get_running_loop()).__await__()

    __iter__ = __await__


_COROUTINES: Final = (
    inspect.CO_COROUTINE
    | inspect.CO_GENERATOR
    | inspect.CO_ITERABLE_COROUTINE
    | inspect.CO_ASYNC_GENERATOR
)


def _twisted_runs(frame: FrameType | None) -> bool:
    """Whether the coroutine of this frame is run by Twisted, be it that one of asyncio has just begun it."""
    while frame is not None and frame.f_code.co_flags & _COROUTINES:
        frame = frame.f_back
    return frame is not None and frame.f_globals.get("__name__") == "twisted.internet.defer"


def awaitable(source: Deferred[Any] | Coroutine[Any, Any, Any]) -> AwaitableDeferred:
    """``source`` as an :class:`AwaitableDeferred`."""
    result = AwaitableDeferred()
    deferred = source if isinstance(source, Deferred) else Deferred.fromCoroutine(source)
    deferred.addCallbacks(result.callback, result.errback)
    return result
