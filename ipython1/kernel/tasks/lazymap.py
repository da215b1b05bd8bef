"""The values of a lazy map, for a thread that waits for them: what ``imap`` of the blocking task client returns."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

from ipython1.kernel.basics.error import WaitInterrupted
from ipython1.kernel.calls.answer import Bell
from ipython1.kernel.calls.twistedutil import reactor_in_thread, refuse_in_reactor_thread
from ipython1.kernel.objects.enginewaits import waiting
from ipython1.kernel.tasks.lazyrun import Given, LazyRun
from ipython1.kernel.tasks.lazyvalues import LazyValues


class LazyMap(LazyValues, Iterator[Any]):
    """An iterator over the values of a map whose input is read only as far as necessary.

    A call that fails raises its exception in the place of its value, and ``next`` can go on with the value after it.
    What reading the input raises comes in its place, too; then the iterator ends.  If it is closed or no longer used,
    what has not begun is dropped, and what runs is interrupted.  Several threads can share an iterator.

    :param start: creates the run; called with what the run is to call when it may get further.
    :cvar gives_values: that what it gives must not be taken for ids of tasks.
    """

    gives_values = True

    def __init__(self, start: Callable[[Callable[[], None]], LazyRun]) -> None:
        self._bell = Bell()
        self._turn = threading.RLock()
        self._taking = False
        self._begin(start(self._bell.ring))

    def close(self) -> None:
        """End the map: nothing more is read, what has not begun is dropped, and what runs is interrupted."""
        self._run.close()

    def __enter__(self) -> LazyMap:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __next__(self) -> Any:
        given = self._take()
        problem = given.problem
        if problem is None:
            return given.value
        try:
            raise problem.with_traceback(None)
        finally:
            # The exception refers to this frame, and may be kept; the iterator is not kept with it.
            del problem, given, self

    def _take(self) -> Given:
        with self._turn:
            if self._taking:
                raise ValueError("the input of the map asks for the map's next value")
            self._taking = True
            try:
                return self._next()
            except KeyboardInterrupt:
                self.close()
                raise WaitInterrupted(
                    f"KeyboardInterrupt: the map was aborted after {self._run.given} values"
                ) from None
            finally:
                self._taking = False

    def _next(self) -> Given:
        run = self._run
        while not run.closed:
            given = run.step()
            if given is not None:
                return given
            if run.is_over():
                break
            if run.failure is not None:
                raise run.failure
            refuse_in_reactor_thread()
            reactor_in_thread.check()
            with waiting(run):
                self._bell.wait()
        raise run.broken or StopIteration
