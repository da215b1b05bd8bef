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
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ipython1.checks import check_int, is_int
from ipython1.core.failures import ExceptionRecord
from ipython1.core.interrupt import raised_by_handler
from ipython1.core.texts import compress_ids
from ipython1.kernel.basics.error import (
    InvalidEngineID,
    NoEnginesRegistered,
    SerializationError,
    WaitInterrupted,
)
from ipython1.kernel.calls.connect import Connection
from ipython1.kernel.calls.twistedutil import reactor_in_thread, refuse_in_reactor_thread
from ipython1.kernel.futures.arguments import (
    check_kinds,
    check_max_workers,
    check_sequence,
    make_preparation,
    part_of,
)
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
from ipython1.kernel.futures.progress import MapProgress
from ipython1.kernel.futures.taskfuture import TaskFuture
from ipython1.kernel.objects.daskcalls import adapted
from ipython1.kernel.objects.enginewaits import waiting
from ipython1.kernel.objects.exceptions import exception_of
from ipython1.kernel.objects.executorcalls import ChunkResult, run_chunk
from ipython1.kernel.objects.taskoptions import TaskOptions, check_options
from ipython1.kernel.wire.waits import Needs

if TYPE_CHECKING:
    from ipython1.kernel.tasks.clienttasks import ClientTasks
    from ipython1.kernel.tasks.encoder import TaskEncoder


class EngineExecutor(Executor):
    """Calls functions on engines; the base class of both executors.

    :param items: creates the object that sends the calls; called with the object that finishes the futures.
    """

    _future: type[EngineFuture] = EngineFuture

    _keeps_alive = True
    """Whether the program does not end before all futures are done."""

    def __init__(self, items: Callable[[Completions], ExecutorItems]) -> None:
        name = f"{type(self).__name__}-callbacks"
        self._completions = Completions(name, self._keeps_alive)
        self._items = items(self._completions)
        self._lock = threading.Lock()
        self._shut_down = False
        self._futures: weakref.WeakSet[EngineFuture] = weakref.WeakSet()
        self._at_end = weakref.finalize(self, _release, self._completions, self._items)
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

    @property
    def _max_workers(self) -> int:
        """The number of calls that can run at the same time; libraries read it, as the standard executors have it."""
        return self._items.max_workers

    @property
    def _broken(self) -> str:
        """Why the executor can no longer be used, or an empty string; as the standard executors have it."""
        return self._items.broken

    # -- submitting

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> EngineFuture:
        """Call ``fn(*args, **kwargs)`` on an engine.

        If the call cannot be pickled, only its future fails.  Everything is pickled now, and can be changed as soon as
        this returns.

        :param fn: the function.
        :param args: its positional arguments.
        :param kwargs: its keyword arguments.
        :returns: an :class:`~ipython1.kernel.futures.executorfuture.EngineFuture`, a ``concurrent.futures.Future``, of
            the returned value.
        :raises RuntimeError: after :meth:`shutdown`, and when the program is ending.
        :raises BrokenEnginePool: if all engines are gone, the connection to the controller is lost, or the initializer
            failed.
        :raises ClientError: in a process that was forked from the client's, and after the reactor has stopped.
        """
        if getattr(fn, "__module__", None) == "dask.local":
            args = adapted(fn, args)
        return self._submit(self._items.pack, fn, args, kwargs)

    def _submit(
        self,
        pack: Callable[..., tuple[Any, object]],
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> EngineFuture:
        """Submit a call, packed as :meth:`ExecutorItems.pack` does."""
        reactor_in_thread.check()
        future = self._future(self)
        with self._lock:
            if self._items.broken:
                raise self._items.broken_pool()
            if self._shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._completions.expect()
            self._futures.add(future)
        try:
            work, kind = pack(fn, args, kwargs)
        except SerializationError as problem:
            self._completions.put(future, failed(part_of(problem, fn, args, kwargs)))
        except Exception as problem:
            if raised_by_handler(problem):
                self._completions.over(1)
                raise
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
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """Like the built-in ``map``, with all calls submitted at once, unless ``buffersize`` limits their number.

        :param fn: the function; it is called with one item of each iterable.
        :param iterables: at least one iterable; the shortest determines the number of calls.
        :param timeout: seconds from now after which the iterator raises ``TimeoutError``; default: no limit.
        :param chunksize: the number of calls that are sent and run together, at least 1; default: 1.  Larger values
            are faster for short calls.
        :param buffersize: the number of calls (of chunks, with a ``chunksize``) that are submitted at once; another one
            is submitted for each value that the iterator is asked for; default: all.
        :returns: an iterator over the values, in order. It raises the exception of the first call that failed, and then
            cancels the calls that have not begun.
        :raises TypeError, ValueError: if ``chunksize`` or ``buffersize`` is less than 1, or no int.
        :raises RuntimeError, BrokenEnginePool, ClientError: as for :meth:`submit`.
        """
        reactor_in_thread.check()
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None:
            if not is_int(buffersize):
                raise TypeError("buffersize must be an integer or None")
            if buffersize < 1:
                raise ValueError("buffersize must be None or > 0")
        end = None if timeout is None else time.monotonic() + timeout
        futures: deque[EngineFuture] = deque()
        submitted = self._submissions(fn, zip(*iterables, strict=False), chunksize)
        try:
            futures.extend(itertools.islice(submitted, buffersize))
        except BaseException:
            self._cancel(futures)
            raise
        total = sum(map(_size, futures)) if buffersize is None else 0
        progress = MapProgress(futures, total, _size, self._items.running)
        return self._values(futures, submitted, end, progress)

    def _submissions(
        self, fn: Callable[..., Any], rows: Iterator[Sequence[Any]], chunksize: int
    ) -> Iterator[EngineFuture]:
        """Submit one call after the other, as the iterator is asked for their futures."""
        if chunksize == 1:
            for args in rows:
                yield self.submit(fn, *args)
        else:
            while chunk := list(itertools.islice(rows, chunksize)):
                future = self.submit(run_chunk, fn, chunk)
                future.calls = len(chunk)
                yield future

    def _values(
        self,
        futures: deque[EngineFuture],
        submitted: Iterator[EngineFuture],
        end: float | None,
        progress: MapProgress,
    ) -> Iterator[Any]:
        # Neither this frame nor the futures keep a value that the caller has got, or an exception.
        try:
            while futures:
                futures.extend(itertools.islice(submitted, 1))
                self._show(progress, futures, end)
                values, failure = self._take(futures, end)
                while values:
                    yield values.pop()
                if failure is not None:
                    raise _rebuild(failure)
        finally:
            self._cancel(futures)

    @staticmethod
    def _show(progress: MapProgress, futures: deque[EngineFuture], end: float | None) -> None:
        """Show progress while the next value is waited for."""
        if reactor_in_thread.trouble():
            return
        try:
            progress.wait(futures[0], None if end is None else end - time.monotonic())
        except KeyboardInterrupt:
            raise WaitInterrupted(CALL_GOES_ON) from None

    def _take(
        self, futures: deque[EngineFuture], end: float | None
    ) -> tuple[list[Any], ExceptionRecord | None]:
        """Remove the first of the futures: return its values in reverse order, and what ended its chunk."""
        future = futures.popleft()
        try:
            value = future.take(None if end is None else end - time.monotonic())
        except BaseException:
            self._cancel([future])
            raise
        finally:
            del future
        if isinstance(value, ChunkResult):
            return value.values[::-1], value.failure
        return [value], None

    # -- ending

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more calls; engines and the client are not affected.

        :param wait: whether to wait until all futures are done and their callbacks have returned; default: True.  The
            program does not end before that in any case.
        :param cancel_futures: whether to cancel the calls that have not begun; default: False.
        :raises WaitInterrupted: on Ctrl-C; the calls continue.

        In a process that was forked from the client's, and after the reactor has stopped, there is nothing to wait for.
        """
        if reactor_in_thread.trouble():
            self._shut_down = True
            return
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
        interrupted = isinstance(problem, KeyboardInterrupt) and not was_remote(problem)
        if problem is not None and interrupted and not reactor_in_thread.trouble():
            self.abort()
            if problem.args == (CALL_GOES_ON,):
                problem.args = (CALLS_ENDED,)
        self.shutdown(wait=True)

    def _unfinished(self) -> list[EngineFuture]:
        with self._lock:
            return [future for future in self._futures if not future.done()]

    def _cancel(self, futures: Iterable[EngineFuture]) -> None:
        if not reactor_in_thread.trouble():
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
        """Cancel all calls that have not begun, and interrupt those that run, as Ctrl-C would.

        :raises ClientError: as for :meth:`submit`.
        """
        reactor_in_thread.check()
        self.abort_items(items_of(self._unfinished()))


class MultiEngineExecutor(EngineExecutor):
    """Calls functions on explicitly named engines, each on the engine with the fewest calls.

    :meth:`MultiEngineClient.executor() <ipython1.kernel.multiengineclient.MultiEngineClient.executor>` creates
    one.

    :param connection: the client's connection.
    :param ids: the engines; default: all, including those that register later.
    :param max_workers: the maximum number of calls that run at the same time, at least 1; default: one per engine.
    :param initializer: a function that each engine calls once, before its first call; default: None.
    :param initargs: its arguments, a tuple; default: none.
    :raises InvalidEngineID: if one of the engines does not exist.
    :raises NoEnginesRegistered: if no engine is registered.
    :raises ConnectionError: if the connection to the controller is lost.
    :raises ClientError: in a process that was forked from the client's, and after the reactor has stopped.
    :raises TypeError, ValueError: if an argument is invalid.
    :raises SerializationError: if the initializer or its arguments cannot be pickled.
    """

    def __init__(
        self,
        connection: Connection,
        ids: Sequence[int] | None = None,
        max_workers: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Sequence[Any] = (),
    ) -> None:
        check_kinds("MultiEngineClient", connection)
        if ids is not None:
            ids = [check_int("an engine id", engine) for engine in check_sequence("ids", ids)]
        check_max_workers(max_workers)
        preparation = make_preparation(initializer, initargs)
        reactor_in_thread.check()
        connection.end.check()
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
        super().__init__(
            lambda completions: EngineItems(connection, ids, max_workers, completions, preparation)
        )


class TaskExecutor(EngineExecutor):
    """Calls functions as tasks, which the controller distributes to all engines.

    :meth:`TaskClient.executor() <ipython1.kernel.taskclient.TaskClient.executor>` creates one.

    :param connection: the client's connection.
    :param tasks: the client's tasks.
    :param encoder: encodes the tasks.
    :param options: the options of all calls.
    :param max_workers: the maximum number of calls that are submitted at the same time, at least 1; default: no limit.
    :param initializer: a function that each engine calls once, before its first call; default: None.
    :param initargs: its arguments, a tuple; default: none.
    :raises ConnectionError: if the connection to the controller is lost.
    :raises ClientError: in a process that was forked from the client's, and after the reactor has stopped.
    :raises TypeError, ValueError: if an argument is invalid.
    :raises SerializationError: if the initializer or its arguments cannot be pickled.
    """

    _future = TaskFuture

    def __init__(
        self,
        connection: Connection,
        tasks: ClientTasks,
        encoder: TaskEncoder,
        options: TaskOptions,
        max_workers: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Sequence[Any] = (),
    ) -> None:
        from ipython1.kernel.futures.taskitems import TaskItems
        from ipython1.kernel.tasks.clienttasks import ClientTasks
        from ipython1.kernel.tasks.encoder import TaskEncoder

        check_kinds(
            "TaskClient",
            connection,
            (tasks, ClientTasks),
            (encoder, TaskEncoder),
            (options, TaskOptions),
        )
        check_max_workers(max_workers)
        preparation = make_preparation(initializer, initargs)
        check_options(options)
        reactor_in_thread.check()
        connection.end.check()
        super().__init__(
            lambda completions: TaskItems(
                connection, tasks, encoder, options, max_workers, completions, preparation
            )
        )


def _release(completions: Completions, items: ExecutorItems) -> None:
    """Release the resources of an executor that is no longer used, after its last call."""
    if not reactor_in_thread.trouble():
        completions.when_idle(items.release)


def _size(future: Any) -> int:
    """Return how many calls of a map a future stands for."""
    calls: int = future.calls
    return calls


def _rebuild(failure: ExceptionRecord) -> BaseException:
    """Return the exception of an engine, with its traceback as its cause."""
    problem = exception_of(failure)
    show_traceback(problem, failure.traceback)
    return problem


def items_of(futures: Iterable[EngineFuture]) -> list[Item]:
    """Return the items of the futures that are not done."""
    items = [future._item for future in futures if not future.done()]
    return [item for item in items if item is not None]
