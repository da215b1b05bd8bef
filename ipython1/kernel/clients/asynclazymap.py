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


class _Turn:
    """A coroutine that asks for a value; the first one in the queue of these may look for it.

    :ivar asleep: fires when there may be a value, or it is first; None while the coroutine runs.
    """

    asleep: AwaitableDeferred | None = None


class AsyncLazyMap(LazyValues, AsyncIterator[Any]):
    """An asynchronous iterator over the values of a map whose input is read only as far as necessary.

    It does what a :class:`~ipython1.kernel.taskclient.LazyMap` does, and several coroutines can use it at once: they
    get the values in the order in which they asked.  A coroutine takes its value itself when it runs, so that none is
    lost, or overtakes another, if a coroutine is cancelled.

    :param start: creates the run; called with what the run is to call when it may get further.
    """

    def __init__(self, start: Callable[[Callable[[], None]], LazyRun]) -> None:
        self._turns: deque[_Turn] = deque()
        self._rung = False
        self._waking = False
        reference = weakref.ref(self)

        def ring() -> None:
            this = reference()
            if this is not None:
                this._wake()

        self._begin(start(ring))

    def __aiter__(self) -> AsyncLazyMap:
        return self

    async def __anext__(self) -> Any:
        """Return the next value; can be awaited in Twisted's and in asyncio's coroutines."""
        turn = _Turn()
        self._turns.append(turn)
        try:
            given = await self._take(turn)
        finally:
            self._turns.remove(turn)
            self._wake()
        if given.problem is not None:
            raise error_for_loop(given.problem).with_traceback(None)
        return given.value

    async def _take(self, turn: _Turn) -> Given:
        while True:
            if self._turns[0] is turn:
                self._rung = False
                given = self._next()
                if given is not None:
                    return given
                if self._rung:
                    continue
            turn.asleep = AwaitableDeferred()
            await turn.asleep

    def _next(self) -> Given | None:
        """Return the next item, or None if it is not there yet."""
        run = self._run
        if not run.closed:
            given = run.step()
            if given is not None:
                return given
            if not run.closed and not run.is_over():
                if run.failure is None:
                    return None
                raise run.failure
        raise run.broken or StopAsyncIteration

    def aclose(self) -> AwaitableDeferred:
        """End the map: nothing more is read, what has not begun is dropped, and what runs is interrupted.

        :returns: a Deferred of None.
        """
        self._run.close()
        return awaitable(succeed(None))

    def _wake(self) -> None:
        """Let the coroutine whose turn it is look for its value."""
        self._rung = True
        if self._waking:
            return  # what wakes goes on
        self._waking = True
        try:
            while self._rung and self._turns and self._turns[0].asleep is not None:
                self._rung = False
                asleep, self._turns[0].asleep = self._turns[0].asleep, None
                if not asleep.called:  # it may be cancelled, and about to leave
                    asleep.callback(None)
        finally:
            self._waking = False
