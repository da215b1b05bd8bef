"""The asynchronous clients: the same methods as the blocking ones, with Deferreds.

They run in whatever reactor the program runs: Twisted's own, or asyncio's by way of
``twisted.internet.asyncioreactor``. The Deferreds can be awaited in Twisted's coroutines and in asyncio's alike.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.python.failure import Failure

from ipython1.kernel.basics.error import InvalidDeferredID, NotAPendingResult
from ipython1.kernel.calls.calls import Call, Request, Targets
from ipython1.kernel.calls.connect import Connection, open_connection
from ipython1.kernel.calls.multienginemethods import MultiEngineMethods
from ipython1.kernel.clients.awaitable import AwaitableDeferred, awaitable
from ipython1.kernel.wire.messages import Outcome


class AsyncPendingResult:
    """A call that may not be finished.

    :ivar engine_ids: the engines that it runs on.
    """

    def __init__(self, request: Request, call: Call) -> None:
        self._request = request.without_data()
        self._call = call
        self._waiting: list[AwaitableDeferred] = []
        self._watching: list[Deferred[None]] = []
        self._outcomes: list[Outcome] | None = None
        self._failure: Failure | None = None
        self._read: tuple[Any, Failure | None] | None = None
        self._dropped = False
        call.done.addCallbacks(self._finished, self._failed)

    @property
    def engine_ids(self) -> list[int]:
        """The engines that it runs on."""
        return self._call.ids

    @property
    def ready(self) -> bool:
        """Whether the result, or an error, is there."""
        return self._outcomes is not None or self._failure is not None

    @property
    def progress(self) -> tuple[int, int]:
        """How many engines are done, and on how many it runs."""
        return len(self._call.outcomes), len(self._call.ids)

    def get_result(self, default: Any = None, block: bool = True) -> AwaitableDeferred:
        """A Deferred of the result; with ``block=False`` it fires at once, with ``default`` if it is not there."""
        result = AwaitableDeferred()
        if self.ready or self._dropped:
            self._tell(result)
        elif block:
            self._waiting.append(result)
        else:
            result.callback(default)
        return result

    @property
    def r(self) -> AwaitableDeferred:
        """A Deferred of the result."""
        return self.get_result()

    def add_callback(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call ``f(result, *args, **kwargs)`` when it is finished; ``result`` is an exception if it failed."""
        self.get_result().addCallbacks(
            lambda value: f(value, *args, **kwargs),
            lambda failure: f(failure.value, *args, **kwargs),
        )

    def abort(self) -> None:
        """End it: where it has not begun it is removed from the queue, where it runs it is interrupted."""
        self._call.abort()

    def drop(self) -> None:
        """Forget the result unless it was read already."""
        if self._read is None:
            self._dropped = True
            self._tell_waiting()

    def when_done(self) -> Deferred[None]:
        """A Deferred that fires with None when it is finished, well or not; does not read the result."""
        done: Deferred[None] = Deferred()
        if self.ready:
            done.callback(None)
        else:
            self._watching.append(done)
        return done

    def _tell(self, result: AwaitableDeferred) -> None:
        if self._dropped:
            result.errback(
                InvalidDeferredID(f"the result of {self._request.name} was dropped by flush()")
            )
            return
        if self._read is None:
            self._read = self._finish()
        value, failure = self._read
        if failure is None:
            result.callback(value)
        else:
            result.errback(failure)

    def _finish(self) -> tuple[Any, Failure | None]:
        if self._failure is not None:
            return None, self._failure
        try:
            return self._request.finish(self._outcomes or []), None
        except Exception:
            return None, Failure()

    def _finished(self, outcomes: list[Outcome]) -> None:
        self._outcomes = outcomes
        self._tell_all()

    def _failed(self, failure: Failure) -> None:
        self._failure = failure
        self._tell_all()

    def _tell_all(self) -> None:
        self._tell_waiting()
        watching, self._watching = self._watching, []
        for done in watching:
            done.callback(None)

    def _tell_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for result in waiting:
            self._tell(result)


class AsyncMultiEngineClient(MultiEngineMethods):
    """The methods of ``MultiEngineClient``, each giving a Deferred of what that returns.

    Cancelling one, as ``asyncio.wait_for`` does after its time, ends the call on the engines like ``abort``.

    With ``block=False`` it is a Deferred of an :class:`AsyncPendingResult`, as soon as the controller has
    queued the call.  That is ended by its ``abort`` only.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._unread: weakref.WeakSet[AsyncPendingResult] = weakref.WeakSet()

    def close(self) -> AwaitableDeferred:
        """End the connection; engines and what they run are not touched."""
        return awaitable(self._connection.close())

    def on_engines_changed(self, callback: Callable[[list[int]], None]) -> None:
        """Call ``callback(ids)`` with the sorted ids of all engines whenever one comes or goes."""
        self._connection.end.on_ids_changed(callback)

    def on_connection_lost(self, callback: Callable[[str], None]) -> None:
        """Call ``callback(reason)`` when the controller is gone."""
        self._connection.end.on_lost.append(callback)

    def _run(self, request: Request, targets: Targets, block: bool | None) -> AwaitableDeferred:
        ids, blocks = self._options(targets, block)
        call = Call(request, self._connection.end)
        # Who gives up waiting for a call that nobody else has, gives the call up.
        result = AwaitableDeferred((lambda _: call.abort()) if blocks else None)
        if blocks:
            call.accepted.addErrback(lambda failure: None)
            finish = request.without_data().finish

            def tell(outcome: Any) -> None:
                if not result.called:  # else it was cancelled
                    result.callback(outcome)

            call.done.addCallback(finish).addBoth(tell)
        else:
            pending = AsyncPendingResult(request, call)
            self._unread.add(pending)
            call.accepted.addCallbacks(lambda ids: result.callback(pending), result.errback)
        call.start(ids, announce=not blocks)
        return result

    def _ask(
        self,
        name: str,
        block: bool | None,
        finish: Callable[[Any], Any] = lambda value: value,
        **args: Any,
    ) -> AwaitableDeferred:
        return awaitable(self._connection.end.ask(name, **args).addCallback(finish))

    def get_ids(self) -> AwaitableDeferred:
        """A Deferred of the ids of all registered engines, sorted."""
        return self._ask("get_ids", True)

    def kill(
        self, controller: bool = False, targets: Targets = None, block: bool | None = None
    ) -> AwaitableDeferred:
        """End engines; with ``controller=True`` the controller as well.  Fires when they are gone."""
        ids, _ = self._options(targets, block)
        return awaitable(self._connection.kill(ids, controller))

    def flush(self) -> AwaitableDeferred:
        """Drop the results of non-blocking calls that were not read; what runs goes on."""
        for pending in list(self._unread):
            pending.drop()
        self._unread.clear()
        result = AwaitableDeferred()
        result.callback(None)
        return result

    def barrier(
        self, pending_results: AsyncPendingResult | Iterable[AsyncPendingResult]
    ) -> AwaitableDeferred:
        """A Deferred that fires with None when all ``pending_results`` are finished, well or not."""
        if isinstance(pending_results, AsyncPendingResult):
            pending_results = [pending_results]
        waiting = []
        for pending in pending_results:
            if not isinstance(pending, AsyncPendingResult):
                raise NotAPendingResult(f"barrier takes AsyncPendingResults, not {pending!r}")
            waiting.append(pending.when_done())
        return awaitable(gatherResults(waiting).addCallback(lambda values: None))


def get_multiengine_client(furl_or_file: Any = "", timeout: float = 10.0) -> AwaitableDeferred:
    """A Deferred of an :class:`AsyncMultiEngineClient`, in the reactor that this program runs.

    :param furl_or_file: as for ``MultiEngineClient``.
    :param timeout: seconds within which the connection must be made.
    """
    from twisted.internet import reactor

    async def connect() -> AsyncMultiEngineClient:
        return AsyncMultiEngineClient(
            await open_connection(reactor, furl_or_file, "multiengine", timeout)
        )

    return awaitable(connect())


def get_task_client(furl_or_file: Any = "", timeout: float = 10.0) -> AwaitableDeferred:
    """A Deferred of an :class:`~ipython1.kernel.asynctaskclient.AsyncTaskClient`, in this program's reactor.

    :param furl_or_file: as for ``TaskClient``.
    :param timeout: seconds within which the connection must be made.
    """
    from twisted.internet import reactor

    from ipython1.kernel.clients.asynctaskclient import AsyncTaskClient

    async def connect() -> AsyncTaskClient:
        client = AsyncTaskClient(await open_connection(reactor, furl_or_file, "task", timeout))
        await client.begin()
        return client

    return awaitable(connect())
