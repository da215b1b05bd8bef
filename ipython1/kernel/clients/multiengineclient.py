"""The blocking MultiEngine client: steer engines from a prompt or a script."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ipython1.kernel.basics.error import NotAPendingResult, ResultNotCompleted
from ipython1.kernel.calls import requests
from ipython1.kernel.calls.attendance import interrupted
from ipython1.kernel.calls.calls import Call, Request, Targets
from ipython1.kernel.calls.connect import connect_blocking
from ipython1.kernel.calls.contexts import RemoteContext
from ipython1.kernel.calls.multienginemethods import MultiEngineMethods
from ipython1.kernel.calls.pendingresult import PendingResult
from ipython1.kernel.calls.twistedutil import (
    blockingCallFromThread,
    reactor_in_thread,
    refuse_in_reactor_thread,
)
from ipython1.kernel.clients.active import activate
from ipython1.notebook.frontend import person_waits

if TYPE_CHECKING:
    from ipython1.kernel.calls.modules import SyncImports
    from ipython1.kernel.futures.executors import MultiEngineExecutor


class MultiEngineClient(MultiEngineMethods, RemoteContext):
    """A connection to a controller's MultiEngine interface, for code that blocks.

    :param furl_or_file: a FURL, a FURL file, a cluster id, a tuple ``(host, port)``, or empty for the default
        FURL file.
    :param timeout: seconds within which the connection must be made.
    :raises SecurityError: when the FURL cannot be found, read, or is refused.
    :raises ConnectionError: when nobody answers.

    With ``block=False`` calls return a :class:`PendingResult`.  A client that nobody has any more closes its
    connection when its last call is finished.

    In a ``with`` statement, :func:`~ipython1.kernel.contexts.remote` sends the rest of the block to the engines.
    """

    def __init__(self, furl_or_file: Any = "", timeout: float = 10.0) -> None:
        connection = connect_blocking(furl_or_file, "multiengine", timeout)
        if connection is not furl_or_file:
            connection.close_when_unused()
        super().__init__(connection)
        self._unread: weakref.WeakSet[PendingResult] = weakref.WeakSet()
        self._unread_lock = threading.Lock()
        self._under_way: dict[PendingResult, None] = {}

    @property
    def pending(self) -> list[PendingResult]:
        """This client's calls that are not finished, oldest first; also those that Ctrl-C stopped waiting for."""
        return [call for call in list(self._under_way) if not call.done()]

    @property
    def connected(self) -> bool:
        """Whether there is a connection to the controller; one that is lost does not come back."""
        return self._connection.end.connected

    def close(self) -> None:
        """End the connection; engines and what they run are not touched."""
        self._connection.close_blocking()

    def _run(self, request: Request, targets: Targets, block: bool | None) -> Any:
        ids, blocks = self._options(targets, block)
        pending = self._start(request, ids, announce=not blocks)
        if blocks:
            return self._wait(pending)
        pending.wait_accepted()
        self._note_unread(pending)
        return pending

    def _note_unread(self, pending: PendingResult) -> None:
        with self._unread_lock:
            self._unread.add(pending)

    def _start(
        self, request: Request, ids: tuple[int, ...] | None, announce: bool
    ) -> PendingResult:
        refuse_in_reactor_thread()
        reactor_in_thread.check()
        pending = PendingResult(request.without_data().finish, request.name, self)
        self._under_way[pending] = None
        pending.add_done_callback(self._no_longer_under_way)
        connection = self._connection
        call_from_thread = connection.reactor.callFromThread

        def begin() -> None:
            call = Call(request, connection.end)
            pending.follow(call, call_from_thread)
            call.start(ids, announce)

        call_from_thread(begin)
        return pending

    def _no_longer_under_way(self, pending: Any) -> None:
        self._under_way.pop(pending, None)

    def _wait(self, pending: PendingResult) -> Any:
        return pending.result()

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
            return finish(blockingCallFromThread(self._connection.end.ask, name, **args))
        reactor_in_thread.check()
        pending = PendingResult(finish, name, self)
        end = self._connection.end
        self._connection.reactor.callFromThread(
            lambda: pending.follow_deferred(end.ask(name, **args))
        )
        self._note_unread(pending)
        return pending

    def get_ids(self) -> list[int]:
        """The ids of all registered engines, sorted."""
        return list(self._ask("get_ids", True))

    def kill(
        self, controller: bool = False, targets: Targets = None, block: bool | None = None
    ) -> Any:
        """End engines; with ``controller=True`` the controller as well.

        Returns when they are gone.
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

    def __getitem__(self, key: str) -> Any:
        return self._run(requests.pull(key), None, True)

    def executor(
        self, targets: Targets = None, max_workers: int | None = None
    ) -> MultiEngineExecutor:
        """The engines as a ``concurrent.futures.Executor``: each call goes to the one that has least to do.

        :param targets: ``'all'`` means also engines that come later.
        :param max_workers: calls that may run at the same time; None for as many as there are engines.
        """
        from ipython1.kernel.futures.executors import MultiEngineExecutor

        ids, _ = self._options(targets, True)
        return MultiEngineExecutor(self._connection, ids, max_workers)

    def sync_imports(self, targets: Targets = None, quiet: bool = False) -> SyncImports:
        """Import modules both here and on the engines, in a ``with`` block of import statements.

        :param quiet: do not tell what is imported.
        """
        from ipython1.kernel.calls.modules import SyncImports

        ids, _ = self._options(targets, True)
        return SyncImports(self, ids, quiet)

    def flush(self) -> None:
        """Drop the results of non-blocking calls that were not read; what runs goes on."""
        with self._unread_lock:
            unread = list(self._unread)
            self._unread.clear()
        for pending in unread:
            pending.drop()

    def activate(self) -> None:
        """Make ``%px``, ``%%px``, ``%autopx`` and ``%result`` act on this client.

        :raises ClientError: outside of IPython.
        """
        activate(self)

    def barrier(
        self, pending_results: PendingResult | Iterable[PendingResult], timeout: float | None = None
    ) -> None:
        """Wait until all ``pending_results`` are finished, well or not.

        :param timeout: seconds to wait at most.
        :raises ResultNotCompleted: after ``timeout``.
        :raises NotAPendingResult: when something else is given.
        """
        from concurrent.futures import wait

        refuse_in_reactor_thread()
        if isinstance(pending_results, PendingResult):
            pending_results = [pending_results]
        waiting = list(pending_results)
        for pending in waiting:
            if not isinstance(pending, PendingResult):
                raise NotAPendingResult(f"barrier takes PendingResults, not {pending!r}")
        try:
            _, unfinished = wait(waiting, timeout)
        except KeyboardInterrupt:
            raise interrupted(waiting) from None
        if unfinished:
            raise ResultNotCompleted(
                f"{len(unfinished)} of {len(waiting)} calls did not finish within {timeout:g} s"
            )
