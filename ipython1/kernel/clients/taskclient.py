"""The blocking task client: farm out work to whatever engine is free."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Unpack

from ipython1.kernel.basics.error import ResultNotCompleted, WaitInterrupted
from ipython1.kernel.calls.connect import connect_blocking
from ipython1.kernel.calls.twistedutil import (
    blockingCallFromThread,
    reactor_in_thread,
    refuse_in_reactor_thread,
)
from ipython1.kernel.objects.taskobjects import TaskResult
from ipython1.kernel.objects.taskoptions import OptionKeywords, TaskOptions, shows_options
from ipython1.kernel.tasks.clienttasks import Waiter
from ipython1.kernel.tasks.maps import PendingMap
from ipython1.kernel.tasks.methods import QueueStatus, TaskMethods, check_id, check_ids, chunks
from ipython1.kernel.tasks.progress import progress_line
from ipython1.notebook.frontend import name_of

if TYPE_CHECKING:
    from ipython1.kernel.futures.executors import TaskExecutor


class TaskClient(TaskMethods):
    """A connection to a controller's Task interface, for code that blocks.

    :param furl_or_file: a FURL, a FURL file, a cluster id, a tuple ``(host, port)``, or empty for the default
        FURL file.
    :param timeout: seconds within which the connection must be made.
    :raises SecurityError: when the FURL cannot be found, read, or is refused.
    :raises ConnectionError: when nobody answers.

    :ivar progress: whether long waits show how far they are: True, False, or None for "when standard error is
        a terminal".
    """

    def __init__(self, furl_or_file: Any = "", timeout: float = 10.0) -> None:
        super().__init__(connect_blocking(furl_or_file, "task", timeout))
        self.progress: bool | None = None
        blockingCallFromThread(self._tasks.begin, timeout=timeout)

    def close(self) -> None:
        """End the connection.  Tasks go on, and their results can be fetched by another client."""
        self._connection.close_blocking()

    def __enter__(self) -> TaskClient:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # -- running

    def run(self, task: Any, block: bool = False) -> Any:
        """Submit a task.  Waits only when very many tasks are waiting to be sent already.

        :param task: a ``Task``, a ``MapTask``, or an object of a type of your own.
        :param block: wait until it is done; default False.
        :returns: its id, an int, which rises with each task; with ``block=True`` its :class:`TaskResult`.
        :raises TypeError, ValueError: when it is no task, or an option of it is wrong.
        :raises SerializationError: when something in it cannot be pickled.
        :raises MessageSizeError: when it is larger than the controller takes.
        :raises ConnectionError: when the controller is gone.
        """
        reactor_in_thread.check()
        encoded = self._encoder.encode(task)
        tasks = self._tasks
        task_id = tasks.submit(encoded)
        while task_id is None:
            self._wait_for_room()
            task_id = tasks.submit(encoded)
        self._submitted(task_id, task)
        if block:
            return self.get_task_result(task_id, block=True)
        return task_id

    def run_many(self, tasks: Iterable[Any]) -> list[int]:
        """Submit several tasks.  When one of them is wrong or cannot be pickled, none is sent.

        :param tasks: any number of what :meth:`run` takes.
        :returns: their ids, a list of ints in the order of the tasks.
        :raises TypeError, ValueError, SerializationError, MessageSizeError, ConnectionError: as :meth:`run` does.
        """
        reactor_in_thread.check()
        tasks = list(tasks)
        encoded = [self._encoder.encode(task) for task in tasks]
        task_ids: list[int] = []
        for task, one in zip(tasks, encoded, strict=True):
            task_id = self._tasks.submit(one)
            while task_id is None:
                self._wait_for_room()
                task_id = self._tasks.submit(one)
            self._submitted(task_id, task)
            task_ids.append(task_id)
        return task_ids

    def _wait_for_room(self) -> None:
        refuse_in_reactor_thread()
        room = threading.Event()
        self._tasks.when_room(room.set)
        room.wait()

    # -- results

    def get_task_result(self, taskid: int, block: bool = False) -> TaskResult | None:
        """The result of a task.

        :param taskid: its id, an int; it may be another client's task.
        :param block: wait until it is done; default False.
        :returns: its :class:`TaskResult`, or None when it is not done and ``block`` is false.
        :raises IndexError: when there is no task of this id.
        :raises TypeError: when the id is not an int.
        :raises ConnectionError: when the controller is gone, and the result had not come.
        """
        task_id = check_id(taskid)
        result = self._read(task_id)
        if result is not None:
            return result
        if self._tasks.to_ask_for([task_id]):
            if not self._fetch([task_id], block) and not block:
                return None
        elif not block:
            self._raise_if_lost()
            return None
        self._wait([task_id], None, "task")
        return self._read(task_id)

    def barrier(self, taskids: Any, timeout: float | None = None) -> None:
        """Wait until all of some tasks are done, well or not.

        :param taskids: an id, or several.
        :param timeout: seconds to wait at most; default None, for any time.
        :raises ResultNotCompleted: after ``timeout``; the tasks go on.
        :raises IndexError: when there is no task of one of the ids.
        :raises ConnectionError: when the controller is gone, and not all results had come.
        """
        wanted = check_ids(taskids)
        missing = self._tasks.results.missing(wanted)
        self._fetch(self._tasks.to_ask_for(sorted(missing)), True)
        if missing:
            self._wait(missing, timeout, "barrier")

    def as_completed(self, taskids: Any, timeout: float | None = None) -> Iterator[TaskResult]:
        """Yield the :class:`TaskResult` of each of some tasks as soon as it is done.

        :param taskids: an id, or several; each counts once.
        :param timeout: seconds to wait at most, in all; default None, for any time.
        :returns: an iterator of as many results as there are ids.
        :raises ResultNotCompleted: after ``timeout``; the tasks go on.
        :raises IndexError: when there is no task of one of the ids.
        :raises ConnectionError: when the controller is gone, and not all results had come.
        """
        reactor_in_thread.check()
        wanted = list(dict.fromkeys(check_ids(taskids)))
        missing = self._tasks.results.missing(wanted)
        self._fetch(self._tasks.to_ask_for(sorted(missing)), True)
        return self._as_completed(wanted, timeout)

    def _as_completed(self, wanted: list[int], timeout: float | None) -> Iterator[TaskResult]:
        import time
        from queue import Empty

        deadline = None if timeout is None else time.monotonic() + timeout
        news: SimpleQueue[list[int]] = SimpleQueue()
        waiter = Waiter(news.put)
        try:
            left = self._tasks.add_waiter(waiter, wanted)
            ready = [task_id for task_id in wanted if task_id not in left]
            outstanding = len(wanted)
            while True:
                for task_id in ready:
                    outstanding -= 1
                    result = self._read(task_id)
                    if result is not None:
                        yield result
                if not outstanding:
                    return
                refuse_in_reactor_thread()
                limit = None if deadline is None else max(0.0, deadline - time.monotonic())
                try:
                    ready = news.get(timeout=limit)
                except Empty:
                    raise ResultNotCompleted(
                        f"{outstanding} of {len(wanted)} tasks were not done after {timeout:g} s; they continue"
                    ) from None
                if waiter.failure is not None:
                    raise waiter.failure
        except KeyboardInterrupt:
            raise self._interrupted(waiter.missing, len(wanted)) from None
        finally:
            self._tasks.remove_waiter(waiter)

    def _fetch(self, task_ids: list[int], wait: bool) -> bool:
        """Have results sent that do not come by themselves; False when not all tasks are done yet."""
        done = [self._ask("fetch", taskids=part, wait=wait) for part in chunks(task_ids)]
        return all(done)

    def _raise_if_lost(self) -> None:
        if not self._connection.end.connected:
            self._connection.end.link  # noqa: B018 (raises the error that says why)

    def _wait(self, task_ids: Iterable[int], timeout: float | None, what: str) -> None:
        refuse_in_reactor_thread()
        reactor_in_thread.check()
        wanted = set(task_ids)
        done = threading.Event()

        def tell(ids: list[int]) -> None:
            if not waiter.missing or waiter.failure is not None:
                done.set()

        waiter = Waiter(tell)
        if not self._tasks.add_waiter(waiter, wanted):
            return
        try:
            if not self._wait_for(done, waiter, len(wanted), timeout):
                raise ResultNotCompleted(
                    f"{len(waiter.missing)} of {len(wanted)} tasks were not done after {timeout:g} s; they continue"
                )
        except KeyboardInterrupt:
            raise self._interrupted(waiter.missing, len(wanted)) from None
        finally:
            self._tasks.remove_waiter(waiter)
        if waiter.failure is not None:
            raise waiter.failure

    def _interrupted(self, missing: Collection[int], total: int) -> WaitInterrupted:
        """What Ctrl-C makes of waiting for tasks."""
        name = name_of(self, "tc")
        missing = set(missing)  # what a waiter misses changes in the reactor's thread
        if len(missing) == 1:
            [task_id] = missing
            text = f"task {task_id} is not done and continues; {name}.abort({task_id}) ends it"
        else:
            text = (
                f"{len(missing)} of {total} tasks are not done and continue; "
                f"{name}.abort(taskids) ends them, {name}.queue_status(verbose=True) lists them"
            )
        return WaitInterrupted(f"KeyboardInterrupt: {text}")

    def _wait_for(
        self, done: threading.Event, waiter: Waiter, total: int, timeout: float | None
    ) -> bool:
        if total == 1 and self.progress is not True:
            return done.wait(timeout)
        return progress_line(
            self.progress, done.wait, lambda: (total - len(waiter.missing), total), timeout
        )

    # -- as an executor

    @shows_options
    def executor(
        self, max_workers: int | None = None, **options: Unpack[OptionKeywords]
    ) -> TaskExecutor:
        """The engines as a ``concurrent.futures.Executor``: each call is a task with these options.

        :param max_workers: calls that may be with the controller at the same time, 1 or more; default None, for any
            number.
        {options}
        :returns: an executor, which is to be shut down (``with`` does it) and leaves the client as it is.
        :raises TypeError, ValueError: when an option is wrong.
        :raises ConnectionError: when the controller is gone.
        """
        from ipython1.kernel.futures.executors import TaskExecutor

        return TaskExecutor(
            self._connection, self._tasks, self._encoder, TaskOptions(**options), max_workers
        )

    # -- the queue

    def _ask(self, name: str, **args: Any) -> Any:
        return blockingCallFromThread(self._connection.end.ask, name, **args)

    def flush(self) -> None:
        """Wait until all tasks that were submitted have reached the controller.

        :raises ConnectionError: when it is gone.
        """
        blockingCallFromThread(self._tasks.flushed)

    def queue_status(self, verbose: bool = False) -> QueueStatus:
        """The tasks of all clients by state: ``scheduled``, ``pending``, ``succeeded`` and ``failed``.

        :param verbose: lists of ids instead of numbers; default False.
        :returns: a dict by these names. Its attribute ``unsatisfied`` tells how many, or which, of the scheduled ones
            no present engine may run.
        :raises ConnectionError: when the controller is gone.
        """
        return self._status(verbose, self._ask("queue_status", verbose=bool(verbose)))

    def abort(self, taskid: Any) -> None:
        """End a task: one that has not begun fails with ``TaskAborted``, one that runs is interrupted and does so too.

        :param taskid: its id, or those of several tasks; of several, those that are done are left alone.
        :raises IndexError: when it is done, or there is none of this id.
        :raises ConnectionError: when the controller is gone.
        """
        wanted = check_ids(taskid)
        alone = hasattr(taskid, "__index__")
        left = self._to_abort(wanted, alone)
        for part in chunks(left):
            if alone:
                self._ask("abort", taskid=left[0])
            else:
                self._ask("abort_many", taskids=part)

    def spin(self) -> None:
        """Have the controller try everything again: dependencies are asked for anew, rejections are forgotten."""
        self._ask("spin")

    def clear(self, taskids: Any = None) -> None:
        """Forget finished tasks, so that their results need no memory any more.

        :param taskids: an id, or several; default None, for all that are done.
        :raises IndexError: when there is no task of one of the ids.
        :raises ResultNotCompleted: when one of them is not done.
        :raises ConnectionError: when the controller is gone.
        """
        wanted = None if taskids is None else check_ids(taskids)
        for part in chunks(wanted):
            self._ask("clear", taskids=part)
            # There, so that nobody who is told of a result finds it gone.
            blockingCallFromThread(self._cleared, part)

    # -- maps

    def map(self, func: Callable[..., Any], *sequences: Any) -> list[Any]:
        """``list(map(func, *sequences))``, shared out among the engines.

        :param func: is called on engines with an item of each sequence.
        :param sequences: one or more things to iterate over; the shortest ends the map.
        :returns: the values, in order.
        :raises CompositeError: when calls failed; its ``results`` hold all values, and an exception in each
            failed place.
        :raises SerializationError: when the function cannot be pickled.
        :raises ConnectionError: when the controller is gone before all values are here.
        """
        result: list[Any] = self.mapper().map(func, *sequences)
        return result

    def run_map(
        self, func: Callable[..., Any], sequences: Sequence[Any], options: TaskOptions, block: bool
    ) -> Any:
        """A map with all options; for what :meth:`mapper` makes."""
        reactor_in_thread.check()
        pending = PendingMap.start(
            self._tasks, self._encoder, self._connection, func, sequences, options
        )
        if not block:
            return pending
        refuse_in_reactor_thread()
        finished = threading.Event()
        pending.add_done_callback(lambda future: finished.set())
        try:
            progress_line(
                self.progress, finished.wait, lambda: pending.progress, None, what="items"
            )
        except KeyboardInterrupt:
            pending.abort()
            done, total = pending.progress
            raise WaitInterrupted(
                f"KeyboardInterrupt: the map was aborted when {done} of {total} items were done"
            ) from None
        return pending.result()
