"""The blocking task client, for load-balanced work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from queue import SimpleQueue
from typing import Any

from ipython1.kernel.basics.attributes import Setting, optional, yes_or_no
from ipython1.kernel.basics.error import ResultNotCompleted, WaitInterrupted, WaitsForever
from ipython1.kernel.basics.publicmethods import reports_errors
from ipython1.kernel.calls.attendance import wait_for_all
from ipython1.kernel.calls.connect import connect_blocking
from ipython1.kernel.calls.liveview import keep_watching, progress_view
from ipython1.kernel.calls.othernames import TASKS
from ipython1.kernel.calls.pendingresult import PendingResult
from ipython1.kernel.calls.twistedutil import (
    blocking_ask,
    blockingCallFromThread,
    reactor_in_thread,
    refuse_in_reactor_thread,
)
from ipython1.kernel.calls.waitnotes import WaitNotes
from ipython1.kernel.clients.taskcalls import TaskCalls
from ipython1.kernel.objects.enginewaits import waiting
from ipython1.kernel.objects.taskobjects import MapTask, StringTask, TaskResult
from ipython1.kernel.objects.taskoptions import DEFAULTS, TaskOptions
from ipython1.kernel.tasks.clienttasks import Waiter
from ipython1.kernel.tasks.history import LIMIT, TaskHistory, history_question, read_history
from ipython1.kernel.tasks.methods import (
    QueueStatus,
    WaitedTasks,
    WaitingTasks,
    check_id,
    check_ids,
    chunks,
    split_waits,
    wait_for_room,
)
from ipython1.kernel.tasks.obstacles import obstacles
from ipython1.kernel.tasks.pendingmap import PendingMap
from ipython1.notebook.frontend import name_of


@reports_errors
class TaskClient(TaskCalls):
    """A blocking client of a controller's Task interface.

    :param furl_or_file: a FURL, a FURL file, a cluster id, a tuple ``(host, port)``, or empty (default) for the default
        FURL file.
    :param timeout: the maximum time to connect, in seconds; default: 10.
    :param reconnect_timeout: how long calls wait for a controller that is out of reach, in seconds; default: the
        setting of the ini file, which is 300; 0 to fail at once.
    :param ssh: a host to log in to with ``ssh``, if the controller can be reached only from there:
        what ``ssh`` accepts, ``[user@]host:port``, or a list with the command, its options and the host.  The FURL file
        is read there.  Default: none.
    :raises SecurityError: if the FURL cannot be found or read, or the controller refuses it.
    :raises ConnectionError: if the controller does not answer.
    :raises ResultNotCompleted: if the controller cannot take tasks within that time, as its disk is full.

    A client that is garbage-collected closes its connection when its tasks have reached the controller, where other
    clients can fetch their results, and its last map is done.

    :ivar progress: whether long waits show their progress: True, False, or None (default) to show it if standard error
        is a terminal.  It is checked when it is set, and other attributes are refused.
    """

    _elsewhere = TASKS

    progress: Setting[bool | None] = Setting(None, optional(yes_or_no))

    def __init__(
        self,
        furl_or_file: Any = "",
        timeout: float = 10.0,
        *,
        reconnect_timeout: float | None = None,
        ssh: str | Sequence[str] | None = None,
    ) -> None:
        connection = connect_blocking(furl_or_file, "task", timeout, reconnect_timeout, ssh)
        super().__init__(connection)
        if connection is not furl_or_file:
            connection.close_when_unused(self._tasks.flushed)
        try:
            blockingCallFromThread(self._tasks.begin, timeout)
        except ResultNotCompleted:
            if connection is not furl_or_file:
                connection.close_blocking()
            raise

    def close(self) -> None:
        """Close the connection.  Tasks continue, and other clients can fetch their results."""
        self._connection.close_blocking()

    def __enter__(self) -> TaskClient:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # -- running

    def run(self, task: Any, block: bool = False) -> Any:
        """Submit a task.  Waits first if very many tasks are still to be sent.

        :param task: a ``Task``, a ``MapTask``, or an object of a custom task type.
        :param block: whether to wait until the task is done; default: False.
        :returns: the id of the task, an int; ids increase.  With ``block=True``, its :class:`TaskResult`.
        :raises TypeError, ValueError: if ``task`` is not a task, or one of its options is invalid.
        :raises SerializationError: if it cannot be pickled.
        :raises MessageSizeError: if it exceeds the controller's limit.
        :raises ConnectionError: if the connection to the controller is lost.
        """
        if reactor_in_thread.ended:
            reactor_in_thread.check()
        encoded = self._encoder.encode(task)
        task_id = self._tasks.submit(encoded)
        while task_id is None:
            self._wait_for_room()
            task_id = self._tasks.submit(encoded)
        kind = type(task)
        if kind is not StringTask and kind is not MapTask:
            self._submitted(task_id, task)
        if not block:
            return task_id
        try:
            return self.get_task_result(task_id, block=True)
        except WaitsForever:
            # Nobody knows its id; it is not to run later.
            self._ask("abort_many", taskids=self._to_abort([task_id], False))
            raise

    def run_many(self, tasks: Iterable[Any]) -> list[int]:
        """Submit several tasks.  If any of them is invalid or cannot be pickled, none is sent.

        :param tasks: tasks as for :meth:`run`.
        :returns: a list of their ids, ints, in the order of the tasks.
        :raises TypeError, ValueError, SerializationError, MessageSizeError, ConnectionError: as for :meth:`run`.
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
        wait_for_room(self._tasks, self._connection.end.origin)

    # -- results

    def get_task_result(self, taskid: int, block: bool = False) -> TaskResult | None:
        """Fetch the result of a task.

        :param taskid: the id of a task, an int, of this client or another one.
        :param block: whether to wait until the task is done; default: False.
        :returns: its :class:`TaskResult`, or None if it is not done and ``block`` is False.
        :raises IndexError: if there is no task with this id.
        :raises TypeError: if the id is not an int.
        :raises ConnectionError: if the controller was gone for good before the result arrived.
        :raises WaitInterrupted: on Ctrl-C; the task continues.
        """
        task_id = check_id(taskid)
        result = self._read(task_id)
        if result is not None:
            return result
        if self._tasks.to_ask_for([task_id]):
            if not self._fetch([task_id], block) and not block:
                return None
        elif not block:
            self._connection.end.check()
            return None
        self._wait([task_id], None, "task")
        return self._read(task_id)

    def barrier(self, taskids: Any, timeout: float | None = None) -> None:
        """Wait until all of the tasks are done, successful or not.

        :param taskids: an id, what a map with ``block=False`` returned, or several of either.
        :param timeout: the maximum time to wait, in seconds; default: no limit.
        :raises ResultNotCompleted: after ``timeout``; the tasks continue.
        :raises IndexError: if there is no task with one of the ids.
        :raises ConnectionError: if the connection to the controller was lost before all results arrived.
        :raises WaitInterrupted: on Ctrl-C; the tasks continue.
        """
        wanted, calls = split_waits(taskids, PendingResult)
        deadline = None if timeout is None else time.monotonic() + timeout
        missing = self._tasks.results.missing(wanted)
        self._fetch(self._tasks.to_ask_for(missing), True)
        if missing:
            self._wait(missing, timeout, "barrier")
        if not calls:
            return
        refuse_in_reactor_thread()
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        unfinished = wait_for_all(calls, left)
        if unfinished:
            raise ResultNotCompleted(
                f"{unfinished} of {len(calls)} maps were not done after {timeout:g} s; they continue"
            )

    def as_completed(self, taskids: Any, timeout: float | None = None) -> Iterator[TaskResult]:
        """Yield the :class:`TaskResult` of each task as soon as it is done.

        :param taskids: an id, or several; duplicates are ignored.
        :param timeout: the maximum time to wait in total, in seconds; default: no limit.
        :returns: an iterator over as many results as there are ids.
        :raises ResultNotCompleted: after ``timeout``; the tasks continue.
        :raises IndexError: if there is no task with one of the ids.
        :raises ConnectionError: if the connection to the controller was lost before all results arrived.
        :raises WaitInterrupted: on Ctrl-C; the tasks continue.
        """
        reactor_in_thread.check()
        wanted = list(dict.fromkeys(check_ids(taskids)))
        self._fetch(self._tasks.to_ask_for(self._tasks.results.unreadable(wanted)), True)
        return self._as_completed(wanted, timeout)

    def _as_completed(self, wanted: list[int], timeout: float | None) -> Iterator[TaskResult]:
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
                    with waiting(WaitedTasks(self._connection.end.origin, waiter, False)):
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
        """Request results that are not sent automatically; return whether all the tasks are done."""
        done = [self._ask("fetch", taskids=part, wait=wait) for part in chunks(task_ids)]
        return all(done)

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
            with waiting(WaitedTasks(self._connection.end.origin, waiter, True)):
                over = self._wait_for(done, waiter, len(wanted), timeout)
            if not over:
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
        """Return the error of a wait for tasks that Ctrl-C ended."""
        name = name_of(self, "tc")
        missing = set(missing)  # a copy, as the reactor's thread changes it
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
        self._connection.end.read_until(done.is_set, timeout)
        tasks = WaitingTasks(self._tasks, waiter, total)
        single = total == 1 and self.progress is not True
        view = progress_view(
            False if single else self.progress,
            "tasks",
            tasks.count,
            notes=self._obstacles(lambda: len(waiter.missing), "task").lines,
            running=self._tasks.running,
        )
        return keep_watching(done.wait, view, timeout)

    def _obstacles(self, left: Callable[[], int], unit: str) -> WaitNotes:
        return obstacles(self._connection.end, self._connection.reactor, left, unit)

    # -- the queue

    def _ask(self, name: str, **args: Any) -> Any:
        return blocking_ask(self._connection.end, name, **args)

    def flush(self) -> None:
        """Wait until all submitted tasks have reached the controller.

        :raises ConnectionError: if the connection to the controller is lost.
        """
        blockingCallFromThread(self._tasks.flushed)

    def queue_status(self, verbose: bool = False) -> QueueStatus:
        """Fetch the number of tasks, of all clients, in each state.

        :param verbose: whether to list ids instead; default: False.
        :returns: a dict with the keys ``scheduled``, ``pending``, ``succeeded`` and ``failed``.  Its attribute
            ``unsatisfied`` is the number, or a list, of the scheduled tasks that no registered engine may run.
        :raises ConnectionError: if the connection to the controller is lost.
        """
        return self._status(verbose, self._ask("queue_status", verbose=bool(verbose)))

    def history(
        self,
        limit: int = LIMIT,
        before: int | None = None,
        states: str | Sequence[str] | None = None,
        own: bool = False,
    ) -> TaskHistory:
        """Fetch what the controller knows of tasks, of all clients and of earlier sessions.

        :param limit: the maximum number of tasks, the last ones of those asked for; at most 10,000.
        :param before: only tasks with ids below this one; default: all.
        :param states: one or several of ``scheduled``, ``pending``, ``succeeded`` and ``failed``; default: all.
        :param own: whether to leave out the tasks of other clients.
        :returns: a list of :class:`~ipython1.kernel.taskclient.TaskEntry`, in the order of the ids.
        :raises TypeError, ValueError: if an argument is invalid.
        :raises ConnectionError: if the controller is gone for good.
        """
        return read_history(self._ask("history", **history_question(limit, before, states, own)))

    def resubmit(self, taskid: int) -> int:
        """Submit a task again as it was submitted, with its functions; also one of another client or session.

        :param taskid: the id of the task, done or not.
        :returns: the id of the new task.
        :raises IndexError: if there is no task with this id.
        :raises ClientError: if what was submitted is not kept.
        :raises ConnectionError: if the controller is gone for good.
        """
        old = check_id(taskid)
        encoded = blockingCallFromThread(self._fetch_submission, old)
        new = self._tasks.submit(encoded)
        while new is None:
            self._wait_for_room()
            new = self._tasks.submit(encoded)
        self._resubmitted(new, old)
        return new

    def abort(self, taskid: Any) -> None:
        """Abort tasks, which then fail with ``TaskAborted``; running tasks are interrupted.

        :param taskid: an id, or several; of several tasks, those that are done are ignored.
        :raises IndexError: if a single task is done, or there is no task with one of the ids.
        :raises ConnectionError: if the connection to the controller is lost.
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
        """Make the controller reconsider all scheduled tasks: evaluate dependencies again, and forget rejections.

        :raises ConnectionError: if the connection to the controller is lost.
        """
        self._ask("spin")

    def clear(self, taskids: Any = None) -> None:
        """Delete finished tasks and their results, to free memory.

        :param taskids: an id, or several; default: all tasks that are done.
        :raises IndexError: if there is no task with one of the ids.
        :raises ResultNotCompleted: if one of the tasks is not done.
        :raises ConnectionError: if the connection to the controller is lost.
        """
        wanted = None if taskids is None else check_ids(taskids)
        for part in chunks(wanted):
            self._ask("clear", taskids=part)
            # In the reactor's thread, so that no waiter is notified of a result that was deleted.
            blockingCallFromThread(self._cleared, part)

    # -- maps

    def map(self, func: Callable[..., Any], *sequences: Any, block: bool = True) -> Any:
        """Map a function over sequences, load-balanced.

        :param func: the function; it is called with one item of each sequence.
        :param sequences: at least one iterable; the shortest determines the number of calls.
        :param block: whether to wait; default: True.
        :returns: a list of the results, in the order of the items; with ``block=False``, at once a
            :class:`~ipython1.kernel.taskclient.PendingMap` of it.
        :raises CompositeError: if calls failed; its ``results`` contain all results, with exceptions in place of those
            that failed.
        :raises SerializationError: if the function cannot be pickled.
        :raises ConnectionError: if the connection to the controller was lost before all results arrived.
        :raises WaitInterrupted: on Ctrl-C, which aborts the map.
        """
        return self.run_map(func, sequences, DEFAULTS, yes_or_no("block", block))

    def run_map(
        self, func: Callable[..., Any], sequences: Sequence[Any], options: TaskOptions, block: bool
    ) -> Any:
        """Map with all options; used by what :meth:`mapper` and :meth:`with_options` create."""
        reactor_in_thread.check()
        if block:
            refuse_in_reactor_thread()
        pending = PendingMap.start(
            self._tasks, self._encoder, self._connection, func, sequences, options, waits=block
        )
        if not block:
            return pending
        finished = threading.Event()
        pending.add_done_callback(lambda future: finished.set())
        notes = self._obstacles(lambda: pending.items_left, "item").lines
        running = self._tasks.running
        view = progress_view(self.progress, "map", pending.count, pending, notes, running)
        pending.view = view
        try:
            with waiting(pending):
                keep_watching(finished.wait, view, None)
        except KeyboardInterrupt:
            pending.abort()
            done, total = pending.progress
            raise WaitInterrupted(
                f"KeyboardInterrupt: the map was aborted when {done} of {total} items were done"
            ) from None
        return pending.result()
