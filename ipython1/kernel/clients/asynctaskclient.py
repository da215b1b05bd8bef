"""The asynchronous task client: the methods of the blocking one, returning Deferreds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout

from ipython1.kernel.basics.attributes import yes_or_no
from ipython1.kernel.basics.error import ResultNotCompleted
from ipython1.kernel.calls.connect import Connection
from ipython1.kernel.clients.asynclazymap import AsyncLazyMap
from ipython1.kernel.clients.asyncpendingmap import AsyncPendingMap
from ipython1.kernel.clients.awaitable import AwaitableDeferred, awaitable
from ipython1.kernel.objects.taskobjects import MapTask, TaskResult
from ipython1.kernel.objects.taskoptions import DEFAULTS, TaskOptions
from ipython1.kernel.tasks.clienttasks import Waiter
from ipython1.kernel.tasks.history import LIMIT, history_question, read_history
from ipython1.kernel.tasks.lazyrun import LazyRun
from ipython1.kernel.tasks.maps import MapRun, check_map, columns_of
from ipython1.kernel.tasks.methods import (
    QueueStatus,
    TaskMethods,
    check_id,
    check_ids,
    chunks,
    split_waits,
)


class AsyncTaskClient(TaskMethods):
    """The methods of ``TaskClient``, each returning a Deferred of the result.

    The Deferreds can be awaited both in Twisted's and in asyncio's coroutines. They fail with the errors that the
    methods of ``TaskClient`` raise.

    :param connection: a connection to a controller's Task interface, made by ``get_task_client`` of ``asyncclient``.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)

    def close(self) -> AwaitableDeferred:
        """Close the connection.  Tasks continue, and other clients can fetch their results.

        :returns: a Deferred of None.
        """
        return awaitable(self._connection.close())

    def on_connection_lost(self, callback: Callable[[str], None]) -> None:
        """Register a callback for the loss of the connection to the controller.

        :param callback: called with the reason, a str, in the reactor's thread.
        """
        self._connection.end.on_lost.append(callback)

    async def begin(self, timeout: float | None = None) -> None:
        """Prepare the client; must be called once, before any other method.

        :param timeout: how long the controller may take, in seconds; None (default) for any time.
        :raises ConnectionError: if the connection to the controller is lost.
        :raises ResultNotCompleted: if the time is over; tells what is wrong with the controller (a full disk).
        """
        await self._tasks.begin(timeout)

    # -- running

    def run(self, task: Any, block: bool = False) -> AwaitableDeferred:
        """Submit a task.

        :param task: a ``Task``, a ``MapTask``, or an object of a custom task type.
        :param block: whether to wait until the task is done; default: False.
        :returns: a Deferred of the id of the task, an int; ids increase.  With ``block=True``, a Deferred of its
            :class:`TaskResult`.
        """
        return awaitable(self._run(task, block))

    async def _run(self, task: Any, block: bool) -> Any:
        encoded = self._encoder.encode(task)
        task_id = self._tasks.submit(encoded)
        while task_id is None:
            await self._room()
            task_id = self._tasks.submit(encoded)
        self._submitted(task_id, task)
        if block:
            return await self._get(task_id, True)
        return task_id

    def run_many(self, tasks: Iterable[Any]) -> AwaitableDeferred:
        """Submit several tasks.  If any of them is invalid or cannot be pickled, none is sent.

        :param tasks: tasks as for :meth:`run`.
        :returns: a Deferred of a list of their ids, ints, in the order of the tasks.
        """
        return awaitable(self._run_many(list(tasks)))

    async def _run_many(self, tasks: list[Any]) -> list[int]:
        encoded = [self._encoder.encode(task) for task in tasks]
        task_ids: list[int] = []
        for task, one in zip(tasks, encoded, strict=True):
            task_id = self._tasks.submit(one)
            while task_id is None:
                await self._room()
                task_id = self._tasks.submit(one)
            self._submitted(task_id, task)
            task_ids.append(task_id)
        return task_ids

    def _room(self) -> Deferred[None]:
        room: Deferred[None] = Deferred()
        self._tasks.when_room(lambda: room.callback(None))
        return room

    # -- results

    def get_task_result(self, taskid: int, block: bool = False) -> AwaitableDeferred:
        """Fetch the result of a task.

        :param taskid: the id of a task, an int, of this client or another one.
        :param block: whether to wait until the task is done; default: False.
        :returns: a Deferred of its :class:`TaskResult`, or of None if it is not done and ``block`` is False. It fails
            with ``IndexError`` if there is no task with this id.
        """
        return awaitable(self._get(taskid, block))

    async def _get(self, taskid: int, block: bool) -> TaskResult | None:
        task_id = check_id(taskid)
        result = self._read(task_id)
        if result is not None:
            return result
        if self._tasks.to_ask_for([task_id]):
            if not await self._fetch([task_id], block) and not block:
                return None
        elif not block:
            self._connection.end.check()
            return None
        await self._wait([task_id], None)
        return self._read(task_id)

    def barrier(self, taskids: Any, timeout: float | None = None) -> AwaitableDeferred:
        """Wait until all of the tasks are done, successful or not.

        :param taskids: an id, an :class:`AsyncPendingMap`, or several of either.
        :param timeout: the maximum time to wait, in seconds; default: no limit.
        :returns: a Deferred of None. It fails with ``ResultNotCompleted`` after ``timeout``, and with ``IndexError`` if
            there is no task with one of the ids.
        """
        return awaitable(self._barrier(taskids, timeout))

    async def _barrier(self, taskids: Any, timeout: float | None) -> None:
        ids, maps = split_waits(taskids, AsyncPendingMap)
        clock = self._connection.reactor
        begun = clock.seconds()
        wanted = await self._known(ids, read=False)
        await self._wait(wanted, timeout)
        if not maps:
            return
        done: Deferred[None] = Deferred()
        gatherResults([each.when_done() for each in maps]).addCallback(
            lambda _: None if done.called else done.callback(None)
        )
        if timeout is not None:
            done.addTimeout(max(0.0, timeout - (clock.seconds() - begun)), clock)
        try:
            await done
        except DeferredTimeout:
            left = sum(not each.ready for each in maps)
            raise ResultNotCompleted(
                f"{left} of {len(maps)} maps were not done after {timeout:g} s; they continue"
            ) from None

    async def _known(self, taskids: Any, read: bool) -> list[int]:
        """Return the unique ids of tasks, after requesting those results that are not sent automatically.

        :param read: whether the results will be read.
        """
        wanted = list(dict.fromkeys(check_ids(taskids)))
        missing = self._tasks.results.unreadable if read else self._tasks.results.missing
        await self._fetch(self._tasks.to_ask_for(missing(wanted)), True)
        return wanted

    async def as_completed(self, taskids: Any) -> AsyncIterator[TaskResult]:
        """Yield the :class:`TaskResult` of each task as soon as it is done (``async for``).

        :param taskids: an id, or several; duplicates are ignored.
        :returns: an asynchronous iterator over as many results as there are ids.
        :raises IndexError: if there is no task with one of the ids.
        :raises ConnectionError: if the connection to the controller was lost before all results arrived.
        """
        # The caller's coroutine may be one of asyncio's.
        wanted = await awaitable(self._known(taskids, read=True))
        news: list[int] = []
        waiting: list[Deferred[None]] = []

        def tell(task_ids: list[int]) -> None:
            news.extend(task_ids)
            # Whoever is called may wait again at once.
            called, waiting[:] = list(waiting), []
            for each in called:
                each.callback(None)

        waiter = Waiter(tell)
        try:
            missing = self._tasks.add_waiter(waiter, wanted)
            news.extend(task_id for task_id in wanted if task_id not in missing)
            outstanding = len(wanted)
            while outstanding:
                while news:
                    result = self._read(news.pop(0))
                    outstanding -= 1
                    if result is not None:
                        yield result
                if waiter.failure is not None:
                    raise waiter.failure
                if outstanding:
                    more: Deferred[None] = Deferred()
                    waiting.append(more)
                    await awaitable(more)
        finally:
            self._tasks.remove_waiter(waiter)

    async def _fetch(self, task_ids: list[int], wait: bool) -> bool:
        done = [await self._ask("fetch", taskids=part, wait=wait) for part in chunks(task_ids)]
        return all(done)

    async def _wait(self, task_ids: Sequence[int], timeout: float | None) -> None:
        done: Deferred[None] = Deferred()

        def tell(ids: list[int]) -> None:
            if (not waiter.missing or waiter.failure) and not done.called:
                done.callback(None)

        waiter = Waiter(tell)
        if not self._tasks.add_waiter(waiter, task_ids):
            return
        if timeout is not None:
            done.addTimeout(timeout, self._connection.reactor)
        try:
            await done
        except DeferredTimeout:
            raise ResultNotCompleted(
                f"{len(waiter.missing)} of {len(task_ids)} tasks were not done after {timeout:g} s; they continue"
            ) from None
        finally:
            self._tasks.remove_waiter(waiter)
        if waiter.failure is not None:
            raise waiter.failure

    # -- the queue

    def _ask(self, name: str, **args: Any) -> Deferred[Any]:
        return self._connection.end.ask(name, **args)

    def flush(self) -> AwaitableDeferred:
        """Return a Deferred that fires with None once all submitted tasks have reached the controller."""
        return awaitable(self._tasks.flushed())

    def queue_status(self, verbose: bool = False) -> AwaitableDeferred:
        """Fetch the number of tasks, of all clients, in each state.

        :param verbose: whether to list ids instead; default: False.
        :returns: a Deferred of a dict with the keys ``scheduled``, ``pending``, ``succeeded`` and ``failed``, as
            returned by ``TaskClient.queue_status``.
        """

        def finish(told: dict[str, Any]) -> QueueStatus:
            return self._status(verbose, told)

        return awaitable(self._ask("queue_status", verbose=bool(verbose)).addCallback(finish))

    def history(
        self,
        limit: int = LIMIT,
        before: int | None = None,
        states: str | Sequence[str] | None = None,
        own: bool = False,
    ) -> AwaitableDeferred:
        """Fetch what the controller knows of tasks, of all clients and of earlier sessions.

        :param limit: the maximum number of tasks, the last ones of those asked for; at most 10,000.
        :param before: only tasks with ids below this one; default: all.
        :param states: one or several of ``scheduled``, ``pending``, ``succeeded`` and ``failed``; default: all.
        :param own: whether to leave out the tasks of other clients.
        :returns: a Deferred of a list, as returned by ``TaskClient.history``.
        """
        question = history_question(limit, before, states, own)
        return awaitable(self._ask("history", **question).addCallback(read_history))

    def resubmit(self, taskid: int) -> AwaitableDeferred:
        """Submit a task again as it was submitted, with its functions; also one of another client or session.

        :param taskid: the id of the task, done or not.
        :returns: a Deferred of the id of the new task. It fails with ``IndexError`` if there is no task with this id,
            and with ``ClientError`` if what was submitted is not kept.
        """
        return awaitable(self._resubmit(taskid))

    async def _resubmit(self, taskid: int) -> int:
        old = check_id(taskid)
        encoded = await self._fetch_submission(old)
        new = self._tasks.submit(encoded)
        while new is None:
            await self._room()
            new = self._tasks.submit(encoded)
        self._resubmitted(new, old)
        return new

    def abort(self, taskid: Any) -> AwaitableDeferred:
        """Abort tasks, which then fail with ``TaskAborted``; running tasks are interrupted.

        :param taskid: an id, or several; of several tasks, those that are done are ignored.
        :returns: a Deferred of None. It fails with ``IndexError`` if a single task is done, or there is no task with
            one of the ids.
        """
        return awaitable(self._abort(taskid))

    async def _abort(self, taskid: Any) -> None:
        wanted = check_ids(taskid)
        alone = hasattr(taskid, "__index__")
        left = self._to_abort(wanted, alone)
        for part in chunks(left):
            if alone:
                await self._ask("abort", taskid=left[0])
            else:
                await self._ask("abort_many", taskids=part)

    def spin(self) -> AwaitableDeferred:
        """Make the controller reconsider all scheduled tasks: evaluate dependencies again, and forget rejections.

        :returns: a Deferred of None.
        """
        return awaitable(self._ask("spin"))

    def clear(self, taskids: Any = None) -> AwaitableDeferred:
        """Delete finished tasks and their results, to free memory.

        :param taskids: an id, or several; default: all tasks that are done.
        :returns: a Deferred of None. It fails with ``IndexError`` if there is no task with one of the ids, and with
            ``ResultNotCompleted`` if one of the tasks is not done.
        """
        return awaitable(self._clear(taskids))

    async def _clear(self, taskids: Any) -> None:
        wanted = None if taskids is None else check_ids(taskids)
        for part in chunks(wanted):
            await self._ask("clear", taskids=part)
            self._cleared(part)

    # -- maps

    def submit(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> AwaitableDeferred:
        """Call ``func(*args, **kwargs)`` on an engine, as a task.

        For a call with options, use ``tc.with_options(retries=2).submit(func, ...)``.

        :param func: the function.
        :param args: its positional arguments.
        :param kwargs: its keyword arguments, all of them.
        :returns: a Deferred of what it returns. It fails with the exception of the call. If it is cancelled, the call
            is aborted.
        """
        return self.run_submit(func, args, kwargs, DEFAULTS)

    def run_submit(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: TaskOptions,
    ) -> AwaitableDeferred:
        """Submit a call with all options; used by what :meth:`with_options` creates."""
        task = MapTask(func, args, kwargs).with_options(options)
        running = Deferred.fromCoroutine(self._run_submit(task))
        result = AwaitableDeferred(lambda _: running.cancel())

        def tell(value: Any) -> None:
            if not result.called:
                result.callback(value)  # or its failure

        running.addBoth(tell)
        return result

    async def _run_submit(self, task: MapTask) -> Any:
        task_id = await self._run(task, False)
        try:
            result = await self._get(task_id, True)
        except CancelledError:
            await self._abort([task_id])
            raise
        assert result is not None
        self._tasks.forget([task_id])
        return result.result

    def map(
        self, func: Callable[..., Any], *sequences: Any, block: bool = True
    ) -> AwaitableDeferred:
        """Map a function over sequences, load-balanced.

        :param func: the function; it is called with one item of each sequence.
        :param sequences: at least one iterable; the shortest determines the number of calls.
        :param block: whether to wait; default: True.
        :returns: a Deferred of the list of results, in the order of the items; with ``block=False``, of an
            :class:`AsyncPendingMap`. It fails with ``CompositeError`` if calls failed; its ``results`` contain all
            results, with exceptions in place of those that failed.
        """
        return self.run_map(func, sequences, DEFAULTS, yes_or_no("block", block))

    def imap(
        self,
        func: Callable[..., Any],
        *sequences: Any,
        ordered: bool = True,
        outstanding: int | None = None,
    ) -> AsyncLazyMap:
        """Map a function over sequences that may be long or endless, and read them only as needed (``async for``).

        The parameters are those of ``TaskClient.imap``. The sequences are read in the reactor's thread.

        :returns: an asynchronous iterator over the values.
        :raises TypeError, ValueError: if an argument is invalid.
        :raises SerializationError: if the function cannot be pickled.
        :raises ConnectionError: if the connection to the controller is lost; the iterator raises it, too.
        """
        return self.run_imap(func, sequences, DEFAULTS, ordered, outstanding)

    def run_imap(
        self,
        func: Callable[..., Any],
        sequences: Sequence[Any],
        options: TaskOptions,
        ordered: bool,
        outstanding: int | None,
    ) -> AsyncLazyMap:
        """Map lazily with all options; used by what :meth:`with_options` creates."""
        self._connection.end.check()
        client = self._tasks, self._encoder, self._connection
        order = yes_or_no("ordered", ordered)
        return AsyncLazyMap(
            lambda ring: LazyRun(*client, func, sequences, options, order, outstanding, ring)
        )

    def run_map(
        self, func: Callable[..., Any], sequences: Sequence[Any], options: TaskOptions, block: bool
    ) -> AwaitableDeferred:
        """Map with all options; used by the mappers that :meth:`mapper` creates."""
        check_map(func, options)
        run = MapRun(
            self._tasks,
            self._encoder,
            self._connection,
            func,
            columns_of(sequences),
            options,
            waits=False,
        )
        Deferred.fromCoroutine(run.begin())
        pending = AsyncPendingMap(run)
        return pending.get_result() if block else awaitable(succeed(pending))
