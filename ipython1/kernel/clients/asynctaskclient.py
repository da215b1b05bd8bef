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
        """A Deferred of the list of values; with ``block=False`` it fires at once, with ``default`` if it is
        not there."""
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
    """The methods of ``TaskClient``, each giving a Deferred of what that returns."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)

    def close(self) -> AwaitableDeferred:
        """End the connection.  Tasks go on, and their results can be fetched by another client."""
        return awaitable(self._connection.close())

    def on_connection_lost(self, callback: Callable[[str], None]) -> None:
        """Call ``callback(reason)`` when the controller is gone."""
        self._connection.end.on_lost.append(callback)

    async def begin(self) -> None:
        """Get ready; called once, before anything else."""
        await self._tasks.begin()

    # -- running

    def run(self, task: Any, block: bool = False) -> AwaitableDeferred:
        """Submit a task; a Deferred of its id, or with ``block=True`` of its :class:`TaskResult`."""
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
        """Submit several tasks; a Deferred of their ids.  When one of them cannot be sent, none is."""
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
        """A Deferred of the result of a task; of None if it is not done and ``block`` is false."""
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
        """A Deferred that fires with None when all of some tasks (one id or several) are done, well or not.

        It fails with ``ResultNotCompleted`` after ``timeout`` seconds.
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
        """Yield the :class:`TaskResult` of each of some tasks as soon as it is done (``async for``)."""
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
                f"{len(waiter.missing)} of {len(task_ids)} tasks are not done after {timeout:g} s; they go on"
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
        """A Deferred of the tasks of all clients by state: numbers, or lists of ids."""

        def finish(told: dict[str, Any]) -> QueueStatus:
            return self._status(verbose, told)

        return awaitable(self._ask("queue_status", verbose=bool(verbose)).addCallback(finish))

    def abort(self, taskid: Any) -> AwaitableDeferred:
        """End a task, or several; the Deferred fails with IndexError when the one is done, or unknown."""
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
        """Have the controller try everything again."""
        return awaitable(self._ask("spin"))

    def clear(self, taskids: Any = None) -> AwaitableDeferred:
        """Forget finished tasks: those given, or all."""
        return awaitable(self._clear(taskids))

    async def _clear(self, taskids: Any) -> None:
        wanted = None if taskids is None else check_ids(taskids)
        for part in chunks(wanted):
            await self._ask("clear", taskids=part)
            self._cleared(part)

    # -- maps

    def map(self, func: Callable[..., Any], *sequences: Any) -> AwaitableDeferred:
        """A Deferred of ``list(map(func, *sequences))``, shared out among the engines."""
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
