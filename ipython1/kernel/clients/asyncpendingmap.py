"""The result of a map of the asynchronous task client that may still be running."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail

from ipython1.kernel.clients.awaitable import AwaitableDeferred, Watched
from ipython1.kernel.tasks.maps import MapRun


class AsyncPendingMap(Watched):
    """The result of a map that may still be running."""

    def __init__(self, run: MapRun) -> None:
        super().__init__()
        self._run = run
        self._done: Deferred[MapRun] = run.finished
        self._waiting: list[AwaitableDeferred] = []
        self._result: Any = None
        self._done.addBoth(self._finished)

    @property
    def ready(self) -> bool:
        """Whether the map is done, with values or an error."""
        return self._result is not None

    @property
    def progress(self) -> tuple[int, int]:
        """The number of items that are done, and of all items."""
        return self._run.completed, self._run.total

    @property
    def stdout(self) -> str:
        """The standard output of the items that are done: one text, in the order of the items."""
        return self._run.output("stdout")

    @property
    def stderr(self) -> str:
        """The standard error, like :attr:`stdout`."""
        return self._run.output("stderr")

    @property
    def r(self) -> AwaitableDeferred:
        """A Deferred of the list of values, as returned by :meth:`get_result`."""
        return self.get_result()

    def get_result(self, default: Any = None, block: bool = True) -> AwaitableDeferred:
        """Return the values.

        :param default: the value to fire with if the map is not done and ``block`` is False; default: None.
        :param block: whether to wait; default: True.
        :returns: a Deferred of the list of values. It fails with ``CompositeError`` if calls failed.
        """
        waiting = AwaitableDeferred()
        if self.ready:
            self._tell(waiting)
        elif block:
            self._waiting.append(waiting)
        else:
            waiting.callback(default)
        return waiting

    def abort(self) -> None:
        """Abort the map: drop calls that have not begun, and interrupt those that run."""
        self._run.abort()

    def _finished(self, result: Any) -> None:
        self._result = result
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            self._tell(each)
        self._tell_watching()

    def _tell(self, waiting: AwaitableDeferred) -> None:
        collected = (
            Deferred.fromCoroutine(self._collect())
            if isinstance(self._result, MapRun)
            else fail(self._result)
        )
        collected.addCallbacks(waiting.callback, waiting.errback)

    async def _collect(self) -> list[Any]:
        return self._run.collect()
