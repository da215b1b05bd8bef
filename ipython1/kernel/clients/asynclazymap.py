"""The values of a lazy map as an asynchronous iterator: what ``imap`` of the asynchronous task client returns."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from twisted.internet.defer import succeed

from ipython1.kernel.calls.awaited import error_for_loop
from ipython1.kernel.clients.awaitable import AwaitableDeferred, awaitable
from ipython1.kernel.tasks.lazyrun import Given, LazyRun
from ipython1.kernel.tasks.lazyvalues import LazyValues


class _Next(AwaitableDeferred):
    """A Deferred of the next item, or of None at the end.

    :ivar item: the item, once it was given to this.
    """

    item: Given | None = None


class AsyncLazyMap(LazyValues, AsyncIterator[Any]):
    """An asynchronous iterator over the values of a map whose input is read only as far as necessary.

    It does what a :class:`~ipython1.kernel.taskclient.LazyMap` does, and can be used by several coroutines at once.

    :param start: creates the run; called with what the run is to call when it may get further.
    """

    def __init__(self, start: Callable[[Callable[[], None]], LazyRun]) -> None:
        self._waiting: deque[_Next] = deque()
        self._serving = False
        self._rings = 0
        reference = weakref.ref(self)

        def ring() -> None:
            this = reference()
            if this is not None:
                this._serve()

        self._begin(start(ring))

    def __aiter__(self) -> AsyncLazyMap:
        return self

    async def __anext__(self) -> Any:
        """Return the next value; can be awaited in Twisted's and in asyncio's coroutines."""
        given = None
        if not self._waiting and not self._serving and not self._run.closed:
            given = self._run.step()
        if given is None:
            given = await self._wait()
        if given is None:
            raise StopAsyncIteration
        if given.problem is not None:
            raise error_for_loop(given.problem).with_traceback(None)
        return given.value

    async def _wait(self) -> Given | None:
        waiting = _Next()
        self._waiting.append(waiting)
        self._serve()
        try:
            return await waiting
        except BaseException:
            # Nobody waits any more; no value may be lost by that.
            if waiting.item is not None:
                self._run.give_back(waiting.item)
                self._serve()
            else:
                waiting.cancel()
            raise

    def aclose(self) -> AwaitableDeferred:
        """End the map: nothing more is read, what has not begun is dropped, and what runs is interrupted.

        :returns: a Deferred of None.
        """
        self._run.close()
        return awaitable(succeed(None))

    def _serve(self) -> None:
        """Give values to those who wait."""
        self._rings += 1
        if self._serving:
            return  # the one that serves goes on
        self._serving = True
        try:
            while self._rings:
                self._rings = 0
                while self._waiting and self._serve_one():
                    pass
        finally:
            self._serving = False

    def _serve_one(self) -> bool:
        """Fire the first Deferred that was not cancelled; returns False if there is no value for it now."""
        waiting = self._waiting[0]
        if waiting.called:  # it was cancelled
            self._waiting.popleft()
            return True
        run = self._run
        try:
            if run.broken is not None:
                raise run.broken
            given = None if run.closed else run.step()
            if given is None and not run.closed and not run.is_over():
                if run.failure is None:
                    return False
                raise run.failure
        except BaseException as problem:
            self._waiting.popleft()
            waiting.errback(problem)
            return True
        self._waiting.popleft()
        waiting.item = given
        waiting.callback(given)
        return True
