"""Executors of ``concurrent.futures`` on engines: ``mec.executor()`` and ``tc.executor()``.

    >>> with mec.executor() as executor:
    ...     futures = [executor.submit(pow, 2, n) for n in range(4)]
    ...     print([future.result() for future in futures])
    [1, 2, 4, 8]

Code for a ``ProcessPoolExecutor`` works with them.  :mod:`~ipython1.kernel.futures.engineitems` and
:mod:`~ipython1.kernel.futures.taskitems` send the calls to engines.
"""

from __future__ import annotations

import itertools
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ipython1.checks import check_int
from ipython1.core.texts import compress_ids
from ipython1.kernel.basics.error import (
    BrokenEnginePool,
    InvalidEngineID,
    NoEnginesRegistered,
    SerializationError,
)
from ipython1.kernel.calls.connect import Connection
from ipython1.kernel.calls.twistedutil import refuse_in_reactor_thread
from ipython1.kernel.futures.dispatch import Item
from ipython1.kernel.futures.engineitems import EngineItems
from ipython1.kernel.futures.executorfuture import (
    CALL_GOES_ON,
    CALLS_ENDED,
    Completions,
    EngineFuture,
    show_traceback,
    was_remote,
)
from ipython1.kernel.futures.items import ExecutorItems, failed
from ipython1.kernel.objects.enginewaits import waiting
from ipython1.kernel.objects.exceptions import exception_of
from ipython1.kernel.objects.executorcalls import ChunkResult, run_chunk
from ipython1.kernel.objects.serialize import dumps
from ipython1.kernel.objects.taskoptions import TaskOptions, check_options
from ipython1.kernel.wire.waits import Needs

if TYPE_CHECKING:
    from ipython1.kernel.tasks.clienttasks import ClientTasks
    from ipython1.kernel.tasks.encoder import TaskEncoder


class EngineExecutor(Executor):
    """Calls functions on engines; the base class of both executors.

    :param items: creates the object that sends the calls; called with the object that finishes the futures.
    """

    def __init__(self, items: Callable[[Completions], ExecutorItems]) -> None:
        self._completions = Completions(f"{type(self).__name__}-callbacks")
        self._items = items(self._completions)
        self._lock = threading.Lock()
        self._shut_down = False
        self._futures: weakref.WeakSet[EngineFuture] = weakref.WeakSet()
        self._at_end = weakref.finalize(self, self._completions.when_idle, self._items.release)
        self._at_end.atexit = False

    def __repr__(self) -> str:
        state = "shut down" if self._shut_down else f"{len(self.engine_ids)} engines"
        if self._items.broken:
            state = "broken"
        return (
            f"<{type(self).__name__}: {state}, {self._completions.outstanding} calls not finished>"
        )

    @property
    def engine_ids(self) -> list[int]:
        """The sorted ids of the engines that the executor uses."""
        return self._items.engines

    # -- submitting

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> EngineFuture:
        """Call ``fn(*args, **kwargs)`` on an engine.

        If the call cannot be pickled, only its future fails.  Arrays of more than 256 KiB are read when they are sent:
        do not change them before the future is running.

        :param fn: the function.
        :param args: its positional arguments.
        :param kwargs: its keyword arguments.
        :returns: an :class:`~ipython1.kernel.futures.executorfuture.EngineFuture`, a ``concurrent.futures.Future``, of
            the returned value.
        :raises RuntimeError: after :meth:`shutdown`.
        :raises BrokenEnginePool: if all engines are gone, or the connection to the controller is lost.
        """
        future = EngineFuture(self)
        with self._lock:
            if self._items.broken:
                raise BrokenEnginePool(self._items.broken)
            if self._shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._completions.expect()
            self._futures.add(future)
        try:
            work, kind = self._items.pack(fn, args, kwargs)
        except SerializationError as problem:
            self._completions.put(future, failed(_part_of(problem, fn, args, kwargs)))
        except Exception as problem:
            self._completions.put(future, failed(problem))
        except BaseException:
            self._completions.over(1)
            raise
        else:
            item = Item(future, work, kind)
            future.follow(item)
            self._items.put(item)
        return future

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Iterator[Any]:
        """Like the built-in ``map``, with all calls submitted at once.

        :param fn: the function; it is called with one item of each iterable.
        :param iterables: at least one iterable; the shortest determines the number of calls.
        :param timeout: seconds from now after which the iterator raises ``TimeoutError``; default: no limit.
        :param chunksize: the number of calls that are sent and run together, at least 1; default: 1.  Larger values
            are faster for short calls.
        :returns: an iterator over the values, in order. It raises the exception of the first call that failed, and then
            cancels the calls that have not begun.
        :raises ValueError: if ``chunksize`` is less than 1.
        :raises RuntimeError, BrokenEnginePool: as for :meth:`submit`.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        end = None if timeout is None else time.monotonic() + timeout
        futures: list[EngineFuture] = []
        try:
            rows = zip(*iterables, strict=False)
            if chunksize == 1:
                futures.extend(self.submit(fn, *args) for args in rows)
            else:
                while chunk := list(itertools.islice(rows, chunksize)):
                    futures.append(self.submit(run_chunk, fn, chunk))
        except BaseException:
            self._cancel(futures)
            raise
        return self._values(futures, end)

    def _values(self, futures: list[EngineFuture], end: float | None) -> Iterator[Any]:
        futures.reverse()
        try:
            while futures:
                value = futures[-1].result(None if end is None else end - time.monotonic())
                futures.pop()
                if isinstance(value, ChunkResult):
                    yield from value.values
                    if value.failure is not None:
                        problem = exception_of(value.failure)
                        show_traceback(problem, value.failure.traceback)
                        raise problem
                else:
                    yield value
        finally:
            self._cancel(futures)

    # -- ending

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more calls; engines and the client are not affected.

        :param wait: whether to wait until all futures are done and their callbacks have returned; default: True.  The
            program does not end before that in any case.
        :param cancel_futures: whether to cancel the calls that have not begun; default: False.
        :raises WaitInterrupted: on Ctrl-C; the calls continue.
        """
        if wait:
            refuse_in_reactor_thread()
        with self._lock:
            self._shut_down = True
        if cancel_futures:
            self._cancel(self._unfinished())
        if wait:
            with waiting(self):
                self._completions.wait_idle()
        self._at_end()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Shut down and wait for all calls, which are aborted first if Ctrl-C left the ``with`` block."""
        if isinstance(problem, KeyboardInterrupt) and not was_remote(problem):
            self.abort()
            if problem.args == (CALL_GOES_ON,):
                problem.args = (CALLS_ENDED,)
        self.shutdown(wait=True)

    def _unfinished(self) -> list[EngineFuture]:
        with self._lock:
            return [future for future in self._futures if not future.done()]

    def _cancel(self, futures: Iterable[EngineFuture]) -> None:
        self.cancel_items(items_of(futures))

    # -- for those who wait on an engine (see ``objects.enginewaits``), in the reactor's thread

    def needs(self) -> Needs | None:
        """Return what has to end before all futures are done; None if they are."""
        futures = self._unfinished()
        return self.needs_of(items_of(futures)) if futures else None

    def give_up(self, problem: Exception) -> None:
        """Fail all futures, as they would never be done."""
        self.give_up_items(items_of(self._unfinished()), problem)

    def needs_of(self, items: list[Item]) -> Needs:
        """Return what has to end before one of the items is done."""
        return self._items.needs_of(items)

    def give_up_items(self, items: list[Item], problem: Exception) -> None:
        """Fail items that would never be done."""
        self._items.give_up(items, problem)

    # -- for the futures

    def cancel_items(self, items: list[Item]) -> bool:
        """Cancel items that have not begun, and return whether these are all."""
        if not items:
            return True
        back = self._items.take_back(items)
        with self._lock:
            # Several threads may have cancelled the same item.
            mine = [item for item in back if not item.dropped]
            for item in mine:
                item.dropped = True
        for item in mine:
            item.future.cancel_now()
        self._completions.over(len(mine))
        return len(back) == len(items)

    def has_begun(self, item: Item) -> bool:
        """Return whether an engine is running the item."""
        return self._items.has_begun(item)

    def abort_items(self, items: list[Item]) -> None:
        """Cancel items that have not begun, and interrupt the others."""
        self.cancel_items(items)
        self._items.interrupt([item for item in items if not item.future.done()])

    def call_back(self, callback: Callable[[Any], object], future: EngineFuture) -> None:
        """Call a callback in a thread where it may block."""
        self._completions.call(callback, future)

    def abort(self) -> None:
        """Cancel all calls that have not begun, and interrupt those that run, as Ctrl-C would."""
        self.abort_items(items_of(self._unfinished()))


class MultiEngineExecutor(EngineExecutor):
    """Calls functions on explicitly named engines, each on the engine with the fewest calls.

    :meth:`MultiEngineClient.executor() <ipython1.kernel.multiengineclient.MultiEngineClient.executor>` creates
    one.

    :param connection: the client's connection.
    :param ids: the engines; default: all, including those that register later.
    :param max_workers: the maximum number of calls that run at the same time, at least 1; default: one per engine.
    :raises InvalidEngineID: if one of the engines does not exist.
    :raises NoEnginesRegistered: if no engine is registered.
    :raises ConnectionError: if the connection to the controller is lost.
    :raises TypeError, ValueError: if ``max_workers`` is invalid.
    """

    def __init__(
        self,
        connection: Connection,
        ids: Sequence[int] | None = None,
        max_workers: int | None = None,
    ) -> None:
        check_max_workers(max_workers)
        connection.end.link  # noqa: B018 (raises the error that says why it is lost)
        known = connection.end.ids
        if not known:
            raise NoEnginesRegistered(
                "no engine is registered with the controller; start some (ipengine, or ipcluster engines -n 4)"
            )
        missing = sorted(set(ids or ()) - known)
        if missing:
            raise InvalidEngineID(
                f"there is no engine {compress_ids(missing)}; the engines are {compress_ids(known)}"
            )
        super().__init__(lambda completions: EngineItems(connection, ids, max_workers, completions))


class TaskExecutor(EngineExecutor):
    """Calls functions as tasks, which the controller distributes to all engines.

    :meth:`TaskClient.executor() <ipython1.kernel.taskclient.TaskClient.executor>` creates one.

    :param connection: the client's connection.
    :param tasks: the client's tasks.
    :param encoder: encodes the tasks.
    :param options: the options of all calls.
    :param max_workers: the maximum number of calls that are submitted at the same time, at least 1; default: no limit.
    :raises TypeError, ValueError: if an option or ``max_workers`` is invalid.
    :raises ConnectionError: if the connection to the controller is lost.
    """

    def __init__(
        self,
        connection: Connection,
        tasks: ClientTasks,
        encoder: TaskEncoder,
        options: TaskOptions,
        max_workers: int | None = None,
    ) -> None:
        from ipython1.kernel.futures.taskitems import TaskItems

        check_max_workers(max_workers)
        check_options(options)
        connection.end.link  # noqa: B018 (raises the error that says why it is lost)
        super().__init__(
            lambda completions: TaskItems(
                connection, tasks, encoder, options, max_workers, completions
            )
        )


def _part_of(
    problem: SerializationError, fn: object, args: Iterable[object], kwargs: Mapping[str, object]
) -> SerializationError:
    """Return the error of the first part of a call that cannot be pickled, or ``problem`` if each part can."""
    for part in (fn, *args, *kwargs.values()):
        try:
            dumps(part)
        except SerializationError as found:
            return found
    return problem


def items_of(futures: Iterable[EngineFuture]) -> list[Item]:
    """Return the items of the futures that are not done."""
    items = [future._item for future in futures if not future.done()]
    return [item for item in items if item is not None]


def check_max_workers(max_workers: object) -> None:
    """Check a maximum number of workers.

    :raises TypeError, ValueError: if it is neither None nor an int of at least 1.
    """
    if max_workers is None:
        return
    if check_int("max_workers", max_workers) <= 0:
        raise ValueError("max_workers must be greater than 0")
