"""The asynchronous task client: the methods of the blocking one, with Deferreds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout

from ipython1.kernel.basics.error import ResultNotCompleted
from ipython1.kernel.calls.connect import Connection
from ipython1.kernel.clients.awaitable import AwaitableDeferred, awaitable
from ipython1.kernel.objects.taskobjects import TaskResult
from ipython1.kernel.objects.taskoptions import TaskOptions
from ipython1.kernel.tasks.clienttasks import Waiter
from ipython1.kernel.tasks.maps import MapRun, check_map, columns_of
from ipython1.kernel.tasks.methods import QueueStatus, TaskMethods, check_id, check_ids, chunks


class AsyncPendingMap:
    """A map that may not be finished."""

    def __init__(self, run: MapRun) -> None:
        self._run = run
        self._values: list[Any] | None = None
        self._done: Deferred[MapRun] = run.finished
        self._waiting: list[AwaitableDeferred] = []
        self._result: Any = None
        self._done.addBoth(self._finished)

    @property
    def ready(self) -> bool:
        """Whether the values, or an error, are there."""
        return self._result is not None

    @property
    def progress(self) -> tuple[int, int]:
        """How many items are done, and how many there are."""
        return self._run.completed, self._run.total

    @property
    def r(self) -> AwaitableDeferred:
        """A Deferred of the list of values."""
        return self.get_result()

    def get_result(self, default: Any = None, block: bool = True) -> AwaitableDeferred:
        """The values.

        :param default: what stands for them when they are not there and ``block`` is false; default None.
        :param block: wait for them; default True.
        :returns: a Deferred of the list of values. It fails with ``CompositeError`` when calls failed.
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
        """End it: what has not begun is dropped, what runs is interrupted."""
        self._run.abort()

    def _finished(self, result: Any) -> None:
        self._result = result
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            self._tell(each)

    def _tell(self, waiting: AwaitableDeferred) -> None:
        collected = (
            Deferred.fromCoroutine(self._collect())
            if isinstance(self._result, MapRun)
            else fail(self._result)
        )
        collected.addCallbacks(waiting.callback, waiting.errback)

    async def _collect(self) -> list[Any]:
        if self._values is None:
            self._values = self._run.collect()
        return self._values


class AsyncTaskClient(TaskMethods):
    """The methods of ``TaskClient``, each giving a Deferred of what that returns.

    The Deferreds can be awaited, in coroutines of Twisted's and of asyncio's. What the methods of ``TaskClient``
    raise, these Deferreds fail with.

    :param connection: to a controller's Task interface; ``get_task_client`` of ``asyncclient`` makes it.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)

    def close(self) -> AwaitableDeferred:
        """End the connection.  Tasks go on, and their results can be fetched by another client."""
        return awaitable(self._connection.close())

    def on_connection_lost(self, callback: Callable[[str], None]) -> None:
        """Have something called when the controller is gone.

        :param callback: is called with the reason, a str, in the reactor's thread.
        """
        self._connection.end.on_lost.append(callback)

    async def begin(self) -> None:
        """Get ready; called once, before anything else.

        :raises ConnectionError: when the controller is gone.
        """
        await self._tasks.begin()

    # -- running

    def run(self, task: Any, block: bool = False) -> AwaitableDeferred:
        """Submit a task.

        :param task: a ``Task``, a ``MapTask``, or an object of a type of your own.
        :param block: wait until it is done; default False.
        :returns: a Deferred of its id, an int, which rises with each task; with ``block=True`` of its
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
        """Submit several tasks.  When one of them is wrong or cannot be pickled, none is sent.

        :param tasks: any number of what :meth:`run` takes.
        :returns: a Deferred of their ids, a list of ints in the order of the tasks.
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
        """The result of a task.

        :param taskid: its id, an int; it may be another client's task.
        :param block: wait until it is done; default False.
        :returns: a Deferred of its :class:`TaskResult`, or of None when it is not done and ``block`` is false. It
            fails with IndexError when there is no task of this id.
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
            self._connection.end.link  # noqa: B018 (raises the error that says why)
            return None
        await self._wait([task_id], None)
        return self._read(task_id)

    def barrier(self, taskids: Any, timeout: float | None = None) -> AwaitableDeferred:
        """Wait until all of some tasks are done, well or not.

        :param taskids: an id, or several.
        :param timeout: seconds to wait at most; default None, for any time.
        :returns: a Deferred of None. It fails with ``ResultNotCompleted`` after ``timeout``, and with IndexError when
            there is no task of one of the ids.
        """
        return awaitable(self._barrier(taskids, timeout))

    async def _barrier(self, taskids: Any, timeout: float | None) -> None:
        wanted = await self._known(taskids)
        await self._wait(wanted, timeout)

    async def _known(self, taskids: Any) -> list[int]:
        """Ids all of whose results will come here."""
        wanted = list(dict.fromkeys(check_ids(taskids)))
        missing = self._tasks.results.missing(wanted)
        await self._fetch(self._tasks.to_ask_for(sorted(missing)), True)
        return wanted

    async def as_completed(self, taskids: Any) -> AsyncIterator[TaskResult]:
        """Yield the :class:`TaskResult` of each of some tasks as soon as it is done (``async for``).

        :param taskids: an id, or several; each counts once.
        :returns: an asynchronous iterator of as many results as there are ids.
        :raises IndexError: when there is no task of one of the ids.
        :raises ConnectionError: when the controller is gone, and not all results had come.
        """
        # The caller's own coroutine may be one of asyncio's.
        wanted = await awaitable(self._known(taskids))
        news: list[int] = []
        waiting: list[Deferred[None]] = []

        def tell(task_ids: list[int]) -> None:
            news.extend(task_ids)
            while waiting:
                waiting.pop().callback(None)

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
        """A Deferred that fires with None when all tasks that were submitted have reached the controller."""
        return awaitable(self._tasks.flushed())

    def queue_status(self, verbose: bool = False) -> AwaitableDeferred:
        """The tasks of all clients by state: ``scheduled``, ``pending``, ``succeeded`` and ``failed``.

        :param verbose: lists of ids instead of numbers; default False.
        :returns: a Deferred of a dict by these names, as ``TaskClient.queue_status`` gives it.
        """

        def finish(told: dict[str, Any]) -> QueueStatus:
            return self._status(verbose, told)

        return awaitable(self._ask("queue_status", verbose=bool(verbose)).addCallback(finish))

    def abort(self, taskid: Any) -> AwaitableDeferred:
        """End a task: one that has not begun fails with ``TaskAborted``, one that runs is interrupted and does so too.

        :param taskid: its id, or those of several tasks; of several, those that are done are left alone.
        :returns: a Deferred of None. It fails with IndexError when the task is done, or there is none of this id.
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
        """Have the controller try everything again: dependencies are asked for anew, rejections are forgotten.

        :returns: a Deferred of None.
        """
        return awaitable(self._ask("spin"))

    def clear(self, taskids: Any = None) -> AwaitableDeferred:
        """Forget finished tasks, so that their results need no memory any more.

        :param taskids: an id, or several; default None, for all that are done.
        :returns: a Deferred of None. It fails with IndexError when there is no task of one of the ids, and with
            ``ResultNotCompleted`` when one of them is not done.
        """
        return awaitable(self._clear(taskids))

    async def _clear(self, taskids: Any) -> None:
        wanted = None if taskids is None else check_ids(taskids)
        for part in chunks(wanted):
            await self._ask("clear", taskids=part)
            self._cleared(part)

    # -- maps

    def map(self, func: Callable[..., Any], *sequences: Any) -> AwaitableDeferred:
        """``list(map(func, *sequences))``, shared out among the engines.

        :param func: is called on engines with an item of each sequence.
        :param sequences: one or more things to iterate over; the shortest ends the map.
        :returns: a Deferred of the values, in order. It fails with ``CompositeError`` when calls failed, whose
            ``results`` hold all values, and an exception in each failed place.
        """
        result: AwaitableDeferred = self.mapper().map(func, *sequences)
        return result

    def run_map(
        self, func: Callable[..., Any], sequences: Sequence[Any], options: TaskOptions, block: bool
    ) -> AwaitableDeferred:
        """A map with all options; for what :meth:`mapper` makes."""
        check_map(func, options)
        run = MapRun(
            self._tasks, self._encoder, self._connection, func, columns_of(sequences), options
        )
        Deferred.fromCoroutine(run.begin())
        pending = AsyncPendingMap(run)
        return pending.get_result() if block else awaitable(succeed(pending))
