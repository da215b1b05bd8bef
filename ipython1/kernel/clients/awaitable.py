"""Deferreds that can be awaited both in Twisted's and in asyncio's coroutines."""

from __future__ import annotations

import asyncio
import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Generator
from types import FrameType
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ipython1.kernel.basics.error import ClientError
from ipython1.kernel.calls.awaited import error_for_loop
from ipython1.kernel.calls.twistedutil import event_loop_of
from ipython1.notebook.frontend import session_shell


class AwaitableDeferred(Deferred[Any]):
    """A Deferred that can also be awaited in asyncio's coroutines."""

    def __await__(self) -> Generator[Any, None, Any]:
        try:
            task = asyncio.current_task()
        except RuntimeError:
            task = None
        self.addErrback(_for_loop)
        if task is None or _twisted_runs(sys._getframe(1)):
            return super().__await__()
        return self.asFuture(asyncio.get_running_loop()).__await__()

    __iter__ = __await__


def use_running_loop() -> None:
    """Have Twisted use this thread's asyncio loop, if one runs; nothing else could fire what is awaited there.

    In IPython's prompts and notebooks the loop is left alone, as blocking clients there need a reactor of their own.

    :raises ClientError: if Twisted has a reactor already, and it is another one, or on a loop that has ended.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    if "twisted.internet.reactor" not in sys.modules and session_shell() is None:
        from twisted.internet import asyncioreactor

        asyncioreactor.install(loop)
    from twisted.internet import reactor

    own = event_loop_of(reactor)
    if own is loop:
        return
    if own is not None and own.is_closed():
        raise ClientError(
            "Twisted's reactor is on an event loop that has ended, and a program has one reactor: do everything "
            "asynchronous with clusters and clients within one asyncio.run()"
        )
    raise ClientError(
        "asynchronous clients need Twisted's reactor on this event loop, and it is another one: call "
        "twisted.internet.asyncioreactor.install(asyncio.get_running_loop()) before anything imports the reactor, "
        "or await what a blocking client's calls with block=False return"
    )


def _for_loop(failure: Failure) -> Failure:
    problem = failure.value
    if problem is None:
        return failure
    error = error_for_loop(problem)
    return failure if error is problem else Failure(error)


_COROUTINES: Final = (
    inspect.CO_COROUTINE
    | inspect.CO_GENERATOR
    | inspect.CO_ITERABLE_COROUTINE
    | inspect.CO_ASYNC_GENERATOR
)


def _twisted_runs(frame: FrameType | None) -> bool:
    """Return whether Twisted runs the coroutine of this frame, even if asyncio's code has just started it."""
    while frame is not None and frame.f_code.co_flags & _COROUTINES:
        frame = frame.f_back
    return frame is not None and frame.f_globals.get("__name__") == "twisted.internet.defer"


class Watched(ABC):
    """Something pending that tells when it is done."""

    @property
    @abstractmethod
    def ready(self) -> bool:
        """Whether it is done, with a result or an error."""

    def __init__(self) -> None:
        self._watching: list[Deferred[None]] = []

    def when_done(self) -> Deferred[None]:
        """Return a Deferred that fires with None once it is done, successful or not; does not read the result."""
        done: Deferred[None] = Deferred()
        if self.ready:
            done.callback(None)
        else:
            self._watching.append(done)
        return done

    def _tell_watching(self) -> None:
        watching, self._watching = self._watching, []
        for done in watching:
            done.callback(None)


def awaitable(source: Deferred[Any] | Coroutine[Any, Any, Any]) -> AwaitableDeferred:
    """Convert a Deferred or coroutine to an :class:`AwaitableDeferred`."""
    result = AwaitableDeferred()
    deferred = source if isinstance(source, Deferred) else Deferred.fromCoroutine(source)
    deferred.addCallbacks(result.callback, result.errback)
    return result
