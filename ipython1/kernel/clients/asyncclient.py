"""The asynchronous clients: the methods of the blocking ones, returning Deferreds.

They use the reactor of the program: one of Twisted's, or asyncio's event loop through
``twisted.internet.asyncioreactor``. The Deferreds can be awaited both in Twisted's and in asyncio's coroutines.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.python.failure import Failure

from ipython1.checks import check_int, check_timeout
from ipython1.core.interrupt import raised_by_handler
from ipython1.kernel.basics.error import InvalidDeferredID, NotAPendingResult, ResultNotCompleted
from ipython1.kernel.calls.calls import Reading, Request, Targets
from ipython1.kernel.calls.connect import Connection, open_connection
from ipython1.kernel.calls.enginecount import wait_for_engines
from ipython1.kernel.calls.multienginemethods import MultiEngineMethods
from ipython1.kernel.calls.runningcall import Call
from ipython1.kernel.calls.views import EngineView, Selection
from ipython1.kernel.clients.asyncelements import AsyncElements
from ipython1.kernel.clients.awaitable import (
    AwaitableDeferred,
    awaitable,
    use_running_loop,
)
from ipython1.kernel.wire.messages import Outcome


class CallDeferreds:
    """A call's observer with Deferreds.

    :ivar accepting: of the ids of its engines.
    :ivar over: of the outcomes.
    """

    def __init__(self) -> None:
        self.accepting: Deferred[list[int]] = Deferred()
        self.over: Deferred[list[Outcome]] = Deferred()

    def accepted(self, ids: list[int]) -> None:
        self.accepting.callback(ids)

    def refused(self, problem: BaseException) -> None:
        self.accepting.errback(problem)

    def output(self, engine_id: int, stream: str, text: str) -> None:
        pass

    def done(self, outcomes: list[Outcome]) -> None:
        self.over.callback(outcomes)

    def failed(self, problem: BaseException) -> None:
        self.over.errback(problem)


class AsyncPendingResult(AsyncElements):
    """The result of a call that may still be running.

    ``async for`` gives its elements in order, each as soon as it is there: what each engine gave, or the items of a
    map.
    """

    def __init__(self, request: Request, call: Call, over: Deferred[list[Outcome]]) -> None:
        super().__init__()
        self._request = request.without_data()
        self._call = call
        self._waiting: list[AwaitableDeferred] = []
        self._outcomes: list[Outcome] | None = None
        self._failure: Failure | None = None
        self._read: tuple[Any, Failure | None] | None = None
        self._dropped = False
        self._outputs: dict[int, Mapping[str, Any]] = {}
        self._known: dict[int, Reading] = {}
        over.addCallbacks(self._finished, self._failed)

    @property
    def engine_ids(self) -> list[int]:
        """The ids of the engines that the call runs on."""
        return self._call.ids

    @property
    def ready(self) -> bool:
        """Whether the call is done, with a result or an error."""
        return self._outcomes is not None or self._failure is not None

    @property
    def progress(self) -> tuple[int, int]:
        """The number of engines that are done, and of all engines of the call."""
        return len(self._call.ids) - len(self._call.unfinished), len(self._call.ids)

    @property
    def stdout(self) -> dict[int, str]:
        """The standard output, a dict of texts by engine id, once the call is done."""
        return self._output_of("stdout")

    @property
    def stderr(self) -> dict[int, str]:
        """The standard error, like :attr:`stdout`."""
        return self._output_of("stderr")

    def _output_of(self, stream: str) -> dict[int, str]:
        if self.ready and self._read is None and not self._dropped:
            self._read = self._finish()
        outputs = sorted(self._outputs.items())
        return {engine_id: output[stream] for engine_id, output in outputs if output.get(stream)}

    def get_result(self, default: Any = None, block: bool = True) -> AwaitableDeferred:
        """Return the result.

        :param default: the value to fire with if the call is not done and ``block`` is False.
        :param block: whether to wait; default: True.
        :returns: a Deferred of the result.  It fails with the call's error, and with ``InvalidDeferredID`` if the
            client's ``flush`` dropped the result.
        """
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
        """A Deferred of the result, as returned by :meth:`get_result`."""
        return self.get_result()

    def add_callback(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call ``f(result, *args, **kwargs)`` once the call is done; ``result`` is an exception if it failed."""
        self.get_result().addCallbacks(
            lambda value: f(value, *args, **kwargs),
            lambda failure: f(failure.value, *args, **kwargs),
        )

    def abort(self) -> None:
        """Abort the call: remove it from the queues of engines where it has not begun, interrupt it where it runs."""
        self._call.abort()

    def drop(self) -> None:
        """Discard the result, unless it was read."""
        if self._read is None:
            self._dropped = True
            self._tell_waiting()

    def _gone(self) -> InvalidDeferredID:
        return InvalidDeferredID(f"the result of {self._request.name} was dropped by flush()")

    def _reading(self, key: int) -> Reading:
        if self._dropped:
            raise self._gone()
        return self._request.reading(self._call.outcomes[key], self._known)

    def _tell(self, result: AwaitableDeferred) -> None:
        if self._dropped:
            result.errback(self._gone())
            return
        value, failure = read = self._read or self._finish()
        if failure is None or failure.value is None or not raised_by_handler(failure.value):
            self._read = read
        if failure is None:
            result.callback(value)
        else:
            result.errback(failure)

    def _finish(self) -> tuple[Any, Failure | None]:
        if self._failure is not None:
            return None, self._failure
        try:
            return self._request.finish(self._outcomes or [], self._outputs, self._known), None
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
        self._tell_watching()

    def _tell_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for result in waiting:
            self._tell(result)


class AsyncMultiEngineClient(MultiEngineMethods):
    """The methods of ``MultiEngineClient``, each returning a Deferred of the result.

    Cancelling the Deferred, as ``asyncio.wait_for`` does after its time-out, aborts the call on the engines.

    With ``block=False``, the Deferred fires with an :class:`AsyncPendingResult` once the controller has queued the
    call.  Such a call can be ended only with its ``abort``.

    :param connection: a connection to a controller's MultiEngine interface, made by ``get_multiengine_client`` of
        ``asyncclient``.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._unread: weakref.WeakSet[AsyncPendingResult] = weakref.WeakSet()

    def close(self) -> AwaitableDeferred:
        """Close the connection; engines and their commands are not affected.

        :returns: a Deferred of None.
        """
        return awaitable(self._connection.close())

    def on_engines_changed(self, callback: Callable[[list[int]], None]) -> None:
        """Call ``callback(ids)`` with the sorted ids of all engines when an engine registers or leaves."""
        self._connection.end.on_ids_changed(callback)

    def on_warnings(self, callback: Callable[[list[str]], None]) -> None:
        """Call ``callback(lines)``, with a list of str, now and when it changes what is wrong with the controller.

        Such as a full disk; the list is empty while all is well.
        """
        self._connection.end.warnings.observe(callback)

    def on_connection_lost(self, callback: Callable[[str], None]) -> None:
        """Call ``callback(reason)``, with a str, when the connection to the controller is lost."""
        self._connection.end.on_lost.append(callback)

    def _snapshot(self, block: bool | None) -> bool:
        self._block(block)
        return True  # every call returns at once

    def _run(self, request: Request, targets: Targets, block: bool | None) -> AwaitableDeferred:
        ids, blocks = self._options(targets, block)
        return self._run_on(request, ids, blocks)

    def _run_on(
        self, request: Request, ids: tuple[int, ...] | None, blocks: bool
    ) -> AwaitableDeferred:
        end = self._connection.end
        request = request.addressed(end.resolve(ids))
        observer = CallDeferreds()
        call = Call(request, end, observer)
        # Nothing else refers to the call, so cancelling the Deferred aborts it.
        result = AwaitableDeferred((lambda _: call.abort()) if blocks else None)
        if blocks:
            observer.accepting.addErrback(lambda failure: None)
            finish = request.without_data().finish

            def tell(outcome: Any) -> None:
                if not result.called:  # else it was cancelled
                    result.callback(outcome)

            observer.over.addCallback(finish).addBoth(tell)
        else:
            pending = AsyncPendingResult(request, call, observer.over)
            self._unread.add(pending)
            observer.accepting.addCallbacks(lambda ids: result.callback(pending), result.errback)
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

    def _then(self, value: Any, function: Callable[[Any], Any]) -> Any:
        return awaitable(value.addCallback(function))

    def __getitem__(self, which: int | slice | Sequence[int]) -> AsyncMultiEngineView:
        if isinstance(which, str):
            raise TypeError(
                f"use await mec.pull({which!r}); an index is an id, a slice or a list of ids"
            )
        return self._view(self._selected(which))

    def _selected(self, which: Any) -> Selection:
        return Selection(which, lambda again: sorted(self._connection.end.ids))

    def _view(self, selection: Selection) -> AsyncMultiEngineView:
        return AsyncMultiEngineView(self, selection, self.block)

    def get_ids(self) -> AwaitableDeferred:
        """Return a Deferred of the sorted ids of all registered engines."""
        return self._ask("get_ids", True)

    def wait_for_engines(self, n: int, timeout: float | None = None) -> AwaitableDeferred:
        """Return a Deferred of the sorted ids of all engines, which fires as soon as at least ``n`` are registered.

        :param n: the number of engines, at least 1.
        :param timeout: the maximum time to wait, in seconds; default: no limit.  It fails with
            ``ResultNotCompleted``, a ``TimeoutError`` that says how many there are, if there are fewer after that.
        """
        n, timeout = check_int("n", n, 1), check_timeout("timeout", timeout)
        connection = self._connection
        return awaitable(wait_for_engines(connection.end, connection.reactor, n, timeout))

    def kill(
        self, controller: bool = False, targets: Targets = None, block: bool | None = None
    ) -> AwaitableDeferred:
        """End engines.

        :param controller: whether to end the controller too; default: False.
        :param targets: the engines; default: ``self.targets``.
        :returns: a Deferred of None, which fires when they have unregistered.  It fails with ``ResultNotCompleted`` if
            that takes more than 10 seconds.
        """
        ids, _ = self._options(targets, block)
        return awaitable(self._connection.kill(ids, controller))

    def flush(self) -> AwaitableDeferred:
        """Discard the unread results of non-blocking calls; running calls continue.

        :returns: a Deferred of None.
        """
        for pending in list(self._unread):
            pending.drop()
        self._unread.clear()
        result = AwaitableDeferred()
        result.callback(None)
        return result

    def barrier(
        self, pending_results: AsyncPendingResult | Iterable[AsyncPendingResult]
    ) -> AwaitableDeferred:
        """Wait until all of the calls are done, successful or not.

        :param pending_results: an :class:`AsyncPendingResult`, or several.
        :returns: a Deferred of None.
        :raises NotAPendingResult: at once, if anything else is given.
        """
        if isinstance(pending_results, AsyncPendingResult):
            pending_results = [pending_results]
        if not isinstance(pending_results, Iterable):
            raise NotAPendingResult(f"barrier takes AsyncPendingResults, not {pending_results!r}")
        waiting = []
        for pending in pending_results:
            if not isinstance(pending, AsyncPendingResult):
                raise NotAPendingResult(f"barrier takes AsyncPendingResults, not {pending!r}")
            waiting.append(pending.when_done())
        return awaitable(gatherResults(waiting).addCallback(lambda values: None))


class AsyncMultiEngineView(EngineView, AsyncMultiEngineClient):
    """Some engines of an :class:`AsyncMultiEngineClient`, with its methods, over its connection.

    ``mec[0]``, ``mec[1:3]`` and ``mec[[0, 2]]`` are such views; see
    :class:`~ipython1.kernel.multiengineclient.MultiEngineView`.
    """

    def __init__(self, client: AsyncMultiEngineClient, selection: Selection, block: bool) -> None:
        self._begin(client, selection, block)
        self._unread = weakref.WeakSet()

    def _run(self, request: Request, targets: Targets, block: bool | None) -> AwaitableDeferred:
        result: AwaitableDeferred = super()._run(request, targets, block)
        if not self._block(block):
            result.addCallback(self._note)
        return result

    def _note(self, pending: AsyncPendingResult) -> AsyncPendingResult:
        self._unread.add(pending)
        return pending

    def _view(self, selection: Selection) -> AsyncMultiEngineView:
        return AsyncMultiEngineView(self._client, selection, self.block)

    def get_ids(self) -> AwaitableDeferred:
        """Return a Deferred of the ids of the engines of the view, in its order."""
        result = AwaitableDeferred()
        result.callback(self.ids)
        return result

    def kill(
        self, controller: bool = False, targets: Targets = None, block: bool | None = None
    ) -> AwaitableDeferred:
        """End engines of the view.

        :param controller: must be False.
        :param targets: the engines; default: ``self.targets``.
        :returns: as for the client.
        """
        self._check_kill(controller)
        return AsyncMultiEngineClient.kill(self, controller, targets, block)


def get_multiengine_client(
    furl_or_file: Any = "",
    timeout: float = 10.0,
    *,
    reconnect_timeout: float | None = None,
    ssh: str | Sequence[str] | None = None,
) -> AwaitableDeferred:
    """Connect an asynchronous client to the MultiEngine interface, in the program's reactor.

    :param furl_or_file: as for ``MultiEngineClient``.
    :param timeout: the maximum time to connect, in seconds; default: 10.
    :param reconnect_timeout: as for ``MultiEngineClient``.
    :param ssh: as for ``MultiEngineClient``.
    :returns: a Deferred of an :class:`AsyncMultiEngineClient`.  It fails with a ``KernelError`` if it cannot connect.
    :raises ClientError: in a program of asyncio if Twisted's reactor is already one that does not use its event loop.
    """
    use_running_loop()
    from twisted.internet import reactor

    async def connect() -> AsyncMultiEngineClient:
        return AsyncMultiEngineClient(
            await open_connection(
                reactor, furl_or_file, "multiengine", timeout, reconnect_timeout, ssh
            )
        )

    return awaitable(connect())


def get_task_client(
    furl_or_file: Any = "",
    timeout: float = 10.0,
    *,
    reconnect_timeout: float | None = None,
    ssh: str | Sequence[str] | None = None,
) -> AwaitableDeferred:
    """Connect an asynchronous client to the Task interface, in the program's reactor.

    :param furl_or_file: as for ``TaskClient``.
    :param timeout: the maximum time to connect, in seconds; default: 10.
    :param reconnect_timeout: as for ``MultiEngineClient``.
    :param ssh: as for ``MultiEngineClient``.
    :returns: a Deferred of an :class:`~ipython1.kernel.asynctaskclient.AsyncTaskClient`.  It fails with a
        ``KernelError`` if it cannot connect.
    :raises ClientError: in a program of asyncio if Twisted's reactor is already one that does not use its event loop.
    """
    use_running_loop()
    from twisted.internet import reactor

    from ipython1.kernel.clients.asynctaskclient import AsyncTaskClient

    async def connect() -> AsyncTaskClient:
        client = AsyncTaskClient(
            await open_connection(reactor, furl_or_file, "task", timeout, reconnect_timeout, ssh)
        )
        try:
            await client.begin(timeout)
        except ResultNotCompleted:
            await client.close()
            raise
        return client

    return awaitable(connect())
