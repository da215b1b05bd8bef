"""Engines behind the standard library's ``concurrent.futures.Executor``: ``mec.executor()`` and ``tc.executor()``.

    >>> with mec.executor() as executor:
    ...     futures = [executor.submit(pow, 2, n) for n in range(4)]
    ...     print([future.result() for future in futures])
    [1, 2, 4, 8]

Whatever is written for a ``ProcessPoolExecutor`` works with them.  What goes to which engine when is the business of
:mod:`~ipython1.kernel.futures.engineitems` and :mod:`~ipython1.kernel.futures.taskitems`.
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
from ipython1.kernel.objects.exceptions import exception_of
from ipython1.kernel.objects.executorcalls import ChunkResult, run_chunk
from ipython1.kernel.objects.serialize import dumps
from ipython1.kernel.objects.taskoptions import TaskOptions, check_options

if TYPE_CHECKING:
    from ipython1.kernel.tasks.clienttasks import ClientTasks
    from ipython1.kernel.tasks.encoder import TaskEncoder


class EngineExecutor(Executor):
    """Calls functions on engines; base of the two executors.

    :param items: makes what brings items to engines; is called with what finishes their futures.
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
        """The engines that it uses."""
        return self._items.engines

    # -- submitting

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> EngineFuture:
        """Have ``fn(*args, **kwargs)`` called on an engine.

        What cannot be pickled makes the future fail, and nothing else.  Arrays of more than 256 KiB are read when they
        are sent: do not change them before the future is running.

        :param fn: the function; ``args`` and ``kwargs`` are its arguments.
        :returns: a ``concurrent.futures.Future`` of what it returns or raises.
        :raises RuntimeError: after :meth:`shutdown`.
        :raises BrokenEnginePool: when all engines, or the controller, are gone.
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

        :param fn: is called with an item of each of ``iterables``, of which the shortest ends the map.
        :param timeout: seconds from now after which the iterator raises ``TimeoutError``; default None, for never.
        :param chunksize: how many calls are sent and run as one, 1 or more; more is faster for short ones. Default 1.
        :returns: an iterator of the values, in order. It raises the exception of the first call that failed, and then
            cancels what has not begun.
        :raises ValueError: when ``chunksize`` is less than 1.
        :raises RuntimeError, BrokenEnginePool: as :meth:`submit` does.
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
        """Take no more calls; engines and the client stay as they are.

        :param wait: return when all futures are done and their callbacks through; the program does not end before in
            any case. Default True.
        :param cancel_futures: cancel those that have not begun; default False.
        """
        if wait:
            refuse_in_reactor_thread()
        with self._lock:
            self._shut_down = True
        if cancel_futures:
            self._cancel(self._unfinished())
        if wait:
            self._completions.wait_idle()
        self._at_end()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for all calls; but after a Ctrl-C end them, as nobody wants to wait for them any more."""
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

    # -- for the futures

    def cancel_items(self, items: list[Item]) -> bool:
        """Cancel what has not begun; whether that was all."""
        if not items:
            return True
        back = self._items.take_back(items)
        with self._lock:
            # Several threads may have asked for the same one.
            mine = [item for item in back if not item.dropped]
            for item in mine:
                item.dropped = True
        for item in mine:
            item.future.cancel_now()
        self._completions.over(len(mine))
        return len(back) == len(items)

    def has_begun(self, item: Item) -> bool:
        """Whether an engine is at it."""
        return self._items.has_begun(item)

    def abort_items(self, items: list[Item]) -> None:
        """Cancel what has not begun, and interrupt the rest."""
        self.cancel_items(items)
        self._items.interrupt([item for item in items if not item.future.done()])

    def call_back(self, callback: Callable[[Any], object], future: EngineFuture) -> None:
        """Have a callback called where it may wait."""
        self._completions.call(callback, future)

    def abort(self) -> None:
        """Cancel all calls that have not begun, and interrupt those that have, as by Ctrl-C."""
        self.abort_items(items_of(self._unfinished()))


class MultiEngineExecutor(EngineExecutor):
    """Calls on explicit engines, each on the one that has least to do.

    Made by :meth:`MultiEngineClient.executor() <ipython1.kernel.clients.multiengineclient.MultiEngineClient.executor>`.

    :param ids: the engines; None for all, also those that come later.
    :param max_workers: calls that may run at the same time; None for as many as there are engines.
    :raises InvalidEngineID, NoEnginesRegistered, ConnectionError: when it cannot work.
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
    """Calls as tasks, shared out among all engines by the controller.

    Made by :meth:`TaskClient.executor() <ipython1.kernel.clients.taskclient.TaskClient.executor>`.

    :param options: those of all calls.
    :param max_workers: calls that may be with the controller at the same time; None for any number.
    :raises TypeError, ValueError: when an option is wrong.
    :raises ConnectionError: when the controller is gone.
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
    """What tells which part of a call cannot be pickled, if it is one of them alone."""
    for part in (fn, *args, *kwargs.values()):
        try:
            dumps(part)
        except SerializationError as found:
            return found
    return problem


def items_of(futures: Iterable[EngineFuture]) -> list[Item]:
    """The items of those that are not done."""
    items = [future._item for future in futures if not future.done()]
    return [item for item in items if item is not None]


def check_max_workers(max_workers: object) -> None:
    """:raises TypeError, ValueError: when it is not a number of workers."""
    if max_workers is None:
        return
    if check_int("max_workers", max_workers) <= 0:
        raise ValueError("max_workers must be greater than 0")
