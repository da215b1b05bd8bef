"""The blocking MultiEngine client, for controlling engines from a prompt or a script."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, overload

from ipython1.checks import check_bool, check_timeout
from ipython1.kernel.basics.error import NotAPendingResult, ResultNotCompleted
from ipython1.kernel.basics.publicmethods import reports_errors
from ipython1.kernel.calls import requests
from ipython1.kernel.calls.attendance import wait_for_all
from ipython1.kernel.calls.calls import Reading, Request, Targets
from ipython1.kernel.calls.connect import connect_blocking
from ipython1.kernel.calls.contexts import RemoteContext
from ipython1.kernel.calls.enginecount import wait_for_engines_blocking
from ipython1.kernel.calls.failedsofar import note_failures
from ipython1.kernel.calls.multienginemethods import MultiEngineMethods
from ipython1.kernel.calls.pendingresult import PendingResult
from ipython1.kernel.calls.runningcall import Call
from ipython1.kernel.calls.stacklist import StackList
from ipython1.kernel.calls.twistedutil import (
    blocking_ask,
    blockingCallFromThread,
    reactor_in_thread,
    refuse_in_reactor_thread,
)
from ipython1.kernel.calls.views import EngineView, Selection
from ipython1.kernel.clients.active import activate
from ipython1.kernel.clients.daskmethods import DaskMethods
from ipython1.kernel.host.turns import turns_of
from ipython1.notebook.frontend import name_of, person_waits

if TYPE_CHECKING:
    from ipython1.kernel.calls.modules import SyncImports
    from ipython1.kernel.futures.executors import MultiEngineExecutor


@reports_errors
class MultiEngineClient(MultiEngineMethods, RemoteContext, DaskMethods):
    """A blocking client of a controller's MultiEngine interface.

    :param furl_or_file: a FURL, a FURL file, a cluster id, a tuple ``(host, port)``, or empty (default) for the default
        FURL file.
    :param timeout: the maximum time to connect, in seconds; default: 10.
    :param reconnect_timeout: how long calls wait for a controller that is out of reach, in seconds; default: the
        setting of the ini file, which is 300; 0 to fail at once.
    :param ssh: a host to log in to with ``ssh``, if the controller can be reached only from there:
        what ``ssh`` accepts, ``[user@]host:port``, or a list with the command, its options and the host.  The FURL file
        is read there.  Default: none.
    :raises NoController: if there is no FURL file, or nothing listens at the address in it.
    :raises SecurityError: if the FURL is damaged or not private, or the controller refuses it.
    :raises ConnectionError: if the controller does not answer.

    With ``block=False``, calls return a :class:`PendingResult`.  A client that is garbage-collected closes its
    connection when its last call is done.

    ``mec['name'] = value`` pushes an object to ``mec.targets``, and ``mec['name']`` pulls it; both block.

    ``mec[0]``, ``mec[1:3]`` and ``mec[[0, 2]]`` are views: see :class:`MultiEngineView`.

    In a ``with`` statement, :func:`~ipython1.kernel.contexts.remote` sends the rest of the block to the engines.
    """

    def __init__(
        self,
        furl_or_file: Any = "",
        timeout: float = 10.0,
        *,
        reconnect_timeout: float | None = None,
        ssh: str | Sequence[str] | None = None,
    ) -> None:
        connection = connect_blocking(furl_or_file, "multiengine", timeout, reconnect_timeout, ssh)
        if connection is not furl_or_file:
            connection.close_when_unused()
        super().__init__(connection)
        self._unread: weakref.WeakSet[PendingResult] = weakref.WeakSet()
        self._unread_lock = threading.Lock()
        self._under_way: dict[PendingResult, None] = {}

    @property
    def pending(self) -> list[PendingResult]:
        """This client's calls that are not done, oldest first, including those whose wait Ctrl-C ended."""
        return [call for call in list(self._under_way) if not call.done()]

    @property
    def connected(self) -> bool:
        """Whether the client is connected to the controller now; a lost connection is made again."""
        return self._connection.end.connected

    def close(self) -> None:
        """Close the connection; engines and their commands are not affected.  Dask's workers end."""
        self.stop_dask()
        self._connection.close_blocking()

    def _run(self, request: Request, targets: Targets, block: bool | None) -> Any:
        __tracebackhide__ = True
        ids, blocks = self._options(targets, block)
        return self._run_on(request, ids, blocks)

    def _run_on(self, request: Request, ids: tuple[int, ...] | None, blocks: bool) -> Any:
        __tracebackhide__ = True
        pending = self._start(self._addressed(request, ids), ids, announce=not blocks)
        if blocks:
            return self._wait(pending)
        pending.wait_accepted()
        self._note_unread(pending)
        return pending

    def _addressed(self, request: Request, ids: tuple[int, ...] | None) -> Request:
        """Give each engine its part here, in the caller's thread, at the time of the call."""
        if request.for_targets is None:
            return request
        refuse_in_reactor_thread()
        end = self._connection.end
        known = end.resolve(ids)
        if known is None:
            known = blocking_ask(end, "resolve", targets=ids)
        return request.addressed(known)

    def _note_unread(self, pending: PendingResult) -> None:
        with self._unread_lock:
            self._unread.add(pending)

    def _start(
        self, request: Request, ids: tuple[int, ...] | None, announce: bool
    ) -> PendingResult:
        refuse_in_reactor_thread()
        reactor_in_thread.check()
        outputs: dict[int, Mapping[str, Any]] = {}
        bare = request.without_data()
        known: dict[int, Reading] = {}
        finish = partial(bare.finish, outputs=outputs, known=known)
        pending = PendingResult(
            finish, request.name, self, outputs, request.prints, announce, known
        )
        pending.streams_output = request.stream
        self._under_way[pending] = None
        pending.when_over(self._no_longer_under_way)
        connection = self._connection
        call_in_reactor = turns_of(connection.reactor).call

        def begin() -> None:
            call = Call(request, connection.end, pending.observer, bare)
            pending.follow(call, call_in_reactor)
            call.start(ids, announce)

        call_in_reactor(begin)
        return pending

    def _no_longer_under_way(self, pending: Any) -> None:
        self._under_way.pop(pending, None)

    def _wait(self, pending: PendingResult) -> Any:
        __tracebackhide__ = True
        return pending.result()

    def _stacks(self, rows: list[Any]) -> StackList:
        stacks = super()._stacks(rows)
        note_failures(stacks, self.pending)
        return stacks

    def _streams(self) -> bool:
        return person_waits()

    def _ask(
        self,
        name: str,
        block: bool | None,
        finish: Callable[[Any], Any] = lambda value: value,
        **args: Any,
    ) -> Any:
        blocks = self._block(block)
        if blocks:
            return finish(blocking_ask(self._connection.end, name, **args))
        reactor_in_thread.check()
        pending = PendingResult(finish, name, self)
        end = self._connection.end
        self._connection.reactor.callFromThread(
            lambda: pending.follow_deferred(end.ask(name, **args))
        )
        self._note_unread(pending)
        return pending

    @property
    def ids(self) -> list[int]:
        """The sorted ids of all registered engines, as :meth:`get_ids` returns them."""
        return self.get_ids()

    def get_ids(self) -> list[int]:
        """Return the sorted ids of all registered engines."""
        return list(self._ask("get_ids", True))

    def wait_for_engines(self, n: int, timeout: float | None = None) -> list[int]:
        """Wait until at least ``n`` engines are registered; at a prompt, a line shows how many there are.

        :param n: the number of engines, at least 1.
        :param timeout: the maximum time to wait, in seconds; default: no limit.
        :returns: the sorted ids of all engines.
        :raises ResultNotCompleted: if there are fewer after ``timeout``; it is a ``TimeoutError``, and says how many.
        :raises ConnectionError: if the connection to the controller is lost for good.
        :raises WaitInterrupted: on Ctrl-C.
        """
        return wait_for_engines_blocking(self._connection.end, n, timeout)

    def kill(
        self, controller: bool = False, targets: Targets = None, block: bool | None = None
    ) -> Any:
        """End engines, and wait until they have unregistered.

        :param controller: whether to end the controller too; default: False.
        :param targets: the engines; default: ``self.targets``.
        :param block: whether to wait; default: ``self.block``.
        :raises ResultNotCompleted: if that takes more than 10 seconds.
        :raises TypeError: if ``controller`` is not a bool.
        """
        if not isinstance(controller, bool):
            raise TypeError(
                f"controller must be True or False, not {controller!r}; use targets= for engines"
            )
        ids, blocks = self._options(targets, block)
        connection = self._connection

        async def kill() -> None:
            await connection.kill(ids, controller)

        if blocks:
            blockingCallFromThread(kill)
            return None
        from twisted.internet.defer import ensureDeferred

        reactor_in_thread.check()
        pending = PendingResult(lambda value: None, "kill", self)
        connection.reactor.callFromThread(lambda: pending.follow_deferred(ensureDeferred(kill())))
        return pending

    def __setitem__(self, key: str, value: Any) -> None:
        self._run(requests.push({key: value}, False), None, True)

    @overload
    def __getitem__(self, key: str) -> Any: ...

    @overload
    def __getitem__(self, key: int | slice | Sequence[int]) -> MultiEngineView: ...

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self._run(requests.pull(key, self._names_all(None)), None, True)
        return self._view(self._selected(key))

    def _selected(self, which: Any) -> Selection:
        known = self._connection.end
        return Selection(which, lambda again: self.get_ids() if again else sorted(known.ids))

    def _view(self, selection: Selection) -> MultiEngineView:
        return MultiEngineView(self, selection, self.block)

    def executor(
        self,
        targets: Targets = None,
        max_workers: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Sequence[Any] = (),
    ) -> MultiEngineExecutor:
        """Create a ``concurrent.futures.Executor`` that sends each call to the engine with the fewest calls.

        :param targets: the engines; ``'all'`` includes engines that register later; default: ``self.targets``.
        :param max_workers: the maximum number of calls that run at the same time, at least 1; default: one per engine.
        :param initializer: a function that each engine calls once, before its first call; if it raises an exception,
            all calls fail with ``BrokenEnginePool``; default: None.
        :param initargs: its arguments, a tuple; default: none.
        :returns: an executor, which must be shut down (as ``with`` does); the client stays open.
        :raises TypeError, ValueError: if an argument is invalid.
        :raises SerializationError: if the initializer or its arguments cannot be pickled.
        """
        from ipython1.kernel.futures.executors import MultiEngineExecutor

        ids, _ = self._options(targets, True)
        return MultiEngineExecutor(self._connection, ids, max_workers, initializer, initargs)

    def sync_imports(self, targets: Targets = None, quiet: bool = False) -> SyncImports:
        """Import modules both here and on the engines, in a ``with`` block of import statements.

        :param targets: the engines; default: ``self.targets``.
        :param quiet: whether to omit the list of imports; default: False.
        :returns: a context manager.  It raises ``ClientError`` if the block contains anything but imports, and
            ``CompositeError`` if an import fails on an engine.
        """
        from ipython1.kernel.calls.modules import SyncImports

        ids, _ = self._options(targets, True)
        check_bool("quiet", quiet)
        return SyncImports(self, ids, quiet)

    def debug(self, targets: Targets = None) -> None:
        """Debug user code on an engine, at a prompt here, with the commands of ``pdb``.

        That is what has reached a ``breakpoint()`` or ``%debug`` there; or else the last exception of a command
        (``execute`` or ``apply``), with all its variables.

        The prompt goes on until the command is done. Ctrl-C at the prompt leaves it: what waits at a breakpoint goes on
        waiting, for another ``debug`` or ``interrupt``. Ctrl-C while the code runs interrupts it. One person at a time
        can debug an engine.

        :param targets: one engine; default: ``self.targets``. Of several engines, it is the only one at a breakpoint.
        :raises ClientError: if there is nothing to debug, or somebody else does that; it says what can be done.
        """
        from ipython1.kernel.calls.debugging import debug

        ids, _ = self._options(targets, True)
        debug(
            self._connection.end,
            ids,
            partial(self._run, requests.debug()),
            name_of(self, "mec"),
        )

    def flush(self) -> None:
        """Discard the unread results of non-blocking calls; running calls continue."""
        with self._unread_lock:
            unread = list(self._unread)
            self._unread.clear()
        for pending in unread:
            pending.drop()

    def activate(self) -> None:
        """Make ``%px``, ``%%px``, ``%autopx``, ``%result`` and ``%pxresult`` use this client.

        :raises ClientError: outside IPython.
        """
        activate(self)

    def barrier(
        self, pending_results: PendingResult | Iterable[PendingResult], timeout: float | None = None
    ) -> None:
        """Wait until all of the calls are done, successful or not.

        :param pending_results: a :class:`PendingResult`, or several.
        :param timeout: the maximum time to wait, in seconds; default: no limit.
        :raises ResultNotCompleted: if some are not done after ``timeout``; they keep running.
        :raises NotAPendingResult: if anything else is given.
        :raises WaitInterrupted: on Ctrl-C; the calls keep running.
        """
        refuse_in_reactor_thread()
        timeout = check_timeout("timeout", timeout)
        if isinstance(pending_results, PendingResult):
            pending_results = [pending_results]
        if not isinstance(pending_results, Iterable):
            raise NotAPendingResult(f"barrier takes PendingResults, not {pending_results!r}")
        waiting = list(pending_results)
        for pending in waiting:
            if not isinstance(pending, PendingResult):
                raise NotAPendingResult(f"barrier takes PendingResults, not {pending!r}")
        unfinished = wait_for_all(waiting, timeout)
        if unfinished:
            raise ResultNotCompleted(
                f"{unfinished} of {len(waiting)} calls did not finish within {timeout:g} s"
            )


@reports_errors
class MultiEngineView(EngineView, MultiEngineClient):
    """Some engines of a :class:`MultiEngineClient`, with its methods, over its connection.

    The client creates it: ``mec[0]`` is the view of engine 0, ``mec[[0, 2]]`` that of engines 0 and 2, ``mec[1:3]``
    that of those engines with ids from 1 to 2 that there are now, ``mec[:]`` that of all.  Ids are not positions.

    ``targets`` and ``block`` of the view are its own, and ``'all'`` means all engines of the view; others are refused.
    ``len()``, iteration and ``in`` tell its ids.  A view keeps its client's connection open.

    The view of one id, such as ``mec[0]``, returns single values instead of lists, and raises the engine's exception
    instead of :class:`~ipython1.kernel.error.CompositeError`.  Only its maps return a list and raise a
    ``CompositeError``, as several items can fail.
    """

    def __init__(self, client: MultiEngineClient, selection: Selection, block: bool) -> None:
        self._begin(client, selection, block)
        self._unread = weakref.WeakSet()
        self._unread_lock = threading.Lock()

    @property
    def pending(self) -> list[PendingResult]:
        """The client's calls that are not done on engines of this view, oldest first."""
        own = set(self._selection.ids)
        calls: list[PendingResult] = self._client.pending
        return [call for call in calls if not own.isdisjoint(call.unfinished)]

    def _run(self, request: Request, targets: Targets, block: bool | None) -> Any:
        __tracebackhide__ = True
        result = super()._run(request, targets, block)
        if isinstance(result, PendingResult):
            self._note_unread(result)
        return result

    def _view(self, selection: Selection) -> MultiEngineView:
        return MultiEngineView(self._client, selection, self.block)

    def get_ids(self) -> list[int]:
        """Return the ids of the engines of the view, in its order."""
        return self.ids

    def kill(
        self, controller: bool = False, targets: Targets = None, block: bool | None = None
    ) -> Any:
        """End engines of the view, and wait until they have unregistered.

        :param controller: must be False.
        :param targets: the engines; default: ``self.targets``.
        :param block: whether to wait; default: ``self.block``.
        :raises ResultNotCompleted: if that takes more than 10 seconds.
        """
        self._check_kill(controller)
        return MultiEngineClient.kill(self, controller, targets, block)

    def activate(self) -> None:
        """Make ``%px``, ``%%px``, ``%autopx`` and ``%result`` use these engines.

        :raises ClientError: outside IPython.
        """
        one = self._selection.single
        activate(self._view(self._selected(self.ids)) if one else self)
