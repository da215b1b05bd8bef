"""An executor's items as tasks: the reactor's side of ``TaskClient.executor()``.

All items are submitted at once, as the controller knows best which engine is free.  If the number of submitted items is
limited, the others wait here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from ipython1.core.texts import compress_ids
from ipython1.kernel.basics.error import ConnectionError, TaskAborted, WaitsForever
from ipython1.kernel.calls.connect import Connection
from ipython1.kernel.calls.twistedutil import blockingCallFromThread, in_reactor_thread
from ipython1.kernel.futures.dispatch import HANDED, OVER, WAITING, Item
from ipython1.kernel.futures.executorfuture import Answer, Completions, show_traceback
from ipython1.kernel.futures.items import ExecutorItems, failed
from ipython1.kernel.objects.executorcalls import InitializerFailed, Preparation
from ipython1.kernel.objects.taskobjects import MapTask
from ipython1.kernel.objects.taskoptions import TaskOptions
from ipython1.kernel.tasks.clienttasks import ClientTasks, Waiter
from ipython1.kernel.tasks.encoder import Encoded, TaskEncoder
from ipython1.kernel.tasks.methods import read_value, wait_for_room
from ipython1.kernel.tasks.runningoutput import RunningOutput
from ipython1.kernel.wire import taskwire
from ipython1.kernel.wire.frames import Bytes
from ipython1.kernel.wire.taskwire import DONE_HEAD
from ipython1.kernel.wire.waits import Needs

ASK_AGAIN: Final = 0.002
"""Seconds after which the controller is asked again whether a task was withdrawn."""

ASK_AT_MOST: Final = 1000

AT_ONCE: Final = 512
"""The maximum number of concurrent questions to the controller."""


def read_result(status: int, payload: Bytes, engine: int) -> Answer:
    """Decode and unpickle a task's result."""
    value = read_value(status, payload, engine, None)
    problem = value.failure
    if problem is not None and status == taskwire.Status.FAILED:
        notes: list[str] = getattr(problem, "__notes__", [])
        if notes:
            show_traceback(problem, notes[-1])
    ran_on = engine if engine >= 0 else None
    return Answer(ran_on, value.result, problem, value.stdout, value.stderr)


class TaskItems(ExecutorItems):
    """The items of an executor.

    With an initializer, each task calls the :class:`~ipython1.kernel.objects.executorcalls.Preparation`, which is sent
    once, with the function and its arguments.

    :param options: the options of all tasks.
    :raises SerializationError: if the initializer or its arguments cannot be pickled.
    """

    def __init__(
        self,
        connection: Connection,
        tasks: ClientTasks,
        encoder: TaskEncoder,
        options: TaskOptions,
        most: int | None,
        completions: Completions,
        preparation: Preparation | None = None,
    ) -> None:
        super().__init__(connection, most, completions, preparation)
        self._tasks = tasks
        self.running: RunningOutput = tasks.running
        self._encoder = encoder
        self._options = options
        self._prepare = None if preparation is None else encoder.functions.pack(preparation)[0]
        self._waiting: deque[Item] = deque()
        self._handed: dict[int, Item] = {}
        self._under_way = 0
        self._known = sorted(self._end.ids)
        self._waiter = _Waiter(self)
        self._begin()

    @property
    def engines(self) -> list[int]:
        """The ids of all registered engines."""
        return sorted(self._end.ids)

    # -- from any thread

    def pack(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Encoded, object]:
        """Pack a call.

        :returns: the packed call, and None as its kind.
        :raises SerializationError: if it cannot be pickled.
        """
        prepare = self._prepare
        if prepare is not None:
            return self._encoder.encode_call(self._options, prepare, function, args, kwargs), None
        return self.pack_with(self._options, function, args, kwargs)

    def pack_with(
        self,
        options: TaskOptions,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> tuple[Encoded, object]:
        """Pack a call with options of its own, like :meth:`pack`."""
        return self._encoder.encode(MapTask(function, args, kwargs).with_options(options)), None

    def put(self, item: Item) -> None:
        """Submit an item or put it into the queue; waits if very many tasks are still to be sent."""
        with self._lock:
            if self._most is not None and self._under_way >= self._most:
                self._waiting.append(item)
                return
            self._under_way += 1
        self._send(item)

    def _send(self, item: Item) -> None:
        """Submit an item, which is already counted, as a task."""
        while True:
            try:
                with self._lock:
                    if item.state is not WAITING:
                        break
                    if self.broken:
                        raise ConnectionError(self.broken)
                    task_id = self._tasks.submit(item.work)
                    if task_id is not None:
                        item.number = task_id
                        item.state = HANDED
                        item.work = None
                        item.future.taskid = task_id
                        self._handed[task_id] = item
            except ConnectionError as problem:
                self._break(str(problem))
                self._fail([item])
                return
            except Exception as problem:
                self._fail([item], problem)
                break
            if task_id is not None:
                done = self._tasks.watch(self._waiter, [task_id])
                if done:
                    self.told(done)
                if not self._end.usable:
                    self._break("the controller is gone")
                return
            if in_reactor_thread():
                self._tasks.when_room(lambda: self._send(item))
                return
            try:
                wait_for_room(self._tasks, self._end.origin)
            except WaitsForever as problem:
                self._fail([item], problem)
                break
        self._left(1)

    def _left(self, number: int) -> None:
        """Note that a number of items is done, and submit waiting ones."""
        with self._lock:
            self._under_way -= number
            following: list[Item] = []
            while self._waiting and (self._most is None or self._under_way < self._most):
                item = self._waiting.popleft()
                if item.state is WAITING:
                    self._under_way += 1
                    following.append(item)
        for item in following:
            self._send(item)

    def has_begun(self, item: Item) -> bool:
        """Ask the controller whether an engine is running the item."""
        if item.state is not HANDED or in_reactor_thread():
            return False
        try:
            return bool(blockingCallFromThread(self._end.ask, "has_begun", taskid=item.number))
        except ConnectionError:
            return False

    def interrupt(self, items: Sequence[Item]) -> None:
        """Abort running and waiting items, without killing engines."""
        numbers = [item.number for item in items if item.state is HANDED]
        self._reactor.callFromThread(self._interrupt, numbers)

    # -- results, in the reactor's thread or in one that submits

    def told(self, task_ids: Sequence[int]) -> None:
        """Handle tasks that are done."""
        get = self._tasks.results.get
        number = 0
        not_prepared: Answer | None = None
        for task_id in task_ids:
            place = get(task_id)
            if place is None:
                continue
            data, offset = place
            head = DONE_HEAD.unpack_from(data, offset)
            begin = offset + DONE_HEAD.size
            payload = data[begin : begin + head[1]]
            if head[2] == taskwire.Status.FAILED and self._preparation is not None:
                answer = read_result(head[2], payload, head[3])
                if self._is_ours(answer.problem):
                    not_prepared = answer
                    continue
            aborted = head[2] == taskwire.Status.REFUSED and _was_aborted(payload)
            with self._lock:
                item = self._handed.pop(task_id, None)
                if item is None:
                    continue
                item.state = OVER
                number += 1
                if aborted and item.cancelling:
                    item.taken_back = True
                    continue
            read = partial(read_result, head[2], payload, head[3])
            self._completions.put(item.future, read, head[2] == taskwire.Status.OK)
        self._tasks.forget(task_ids)
        if number:
            self._left(number)
        if not_prepared is not None and not_prepared.problem is not None and not self.broken:
            self._initializer_failed(not_prepared.engine, not_prepared.problem)

    def _is_ours(self, problem: BaseException | None) -> bool:
        """Return whether an exception shows that this executor's initializer failed."""
        return (
            isinstance(problem, InitializerFailed)
            and self._preparation is not None
            and problem.executor == self._preparation.executor
        )

    # -- in the reactor's thread

    def _release(self) -> None:
        super()._release()
        self._tasks.remove_waiter(self._waiter)

    def _ids_changed(self, ids: list[int]) -> None:
        if ids:
            self._known = ids
        elif self._known and not self.broken and (self._handed or self._waiting):
            # Who calls nothing does not miss them, and others may come.
            # The running items fail first: the answer arrives after their results.
            self._end.ask("engines").addCallbacks(self._check_engines, lambda failure: None)

    def _check_engines(self, number: int) -> None:
        if number or self._end.ids:
            return
        self._break(
            f"all engines are gone (the last was engine {compress_ids(self._known)}). "
            "Start engines, and create a new executor"
        )

    def _break(self, reason: str) -> None:
        with self._lock:
            if not self.broken:
                self.broken = reason
            items = [*self._waiting, *self._handed.values()]
            numbers = list(self._handed)
            self._waiting.clear()
            self._handed.clear()
        self._fail(items)
        if self._end.usable:
            # They must not run when new engines register.
            self._reactor.callFromThread(self._interrupt, numbers)

    def _fail(self, items: Sequence[Item], problem: Exception | None = None) -> None:
        with self._lock:
            items = [item for item in items if item.state is not OVER]
            for item in items:
                item.state = OVER
        for item in items:
            reason = self.broken_pool() if problem is None else problem
            self._completions.put(item.future, failed(reason))

    def _interrupt(self, task_ids: Sequence[int | None]) -> None:
        for task_id in task_ids:
            self._end.ask("abort", taskid=task_id, by_force=False).addErrback(lambda failure: None)

    def needs_of(self, items: Sequence[Item]) -> Needs:
        with self._lock:
            # Those that wait here do so for those that were submitted.
            sent = {item.number or 0 for item in items if item.state is HANDED} or self._handed
            return Needs(self._end.origin.hex(), False, tuple(sorted(sent)))

    def give_up(self, items: Sequence[Item], problem: Exception) -> None:
        with self._lock:
            sent = [
                item.number
                for item in items
                if item.state is HANDED and self._handed.pop(item.number or 0, None) is not None
            ]
        self._fail(items, problem)
        self._waiter.missing.difference_update(number or 0 for number in sent)
        unsent = self._tasks.take_back(number or 0 for number in sent)
        self._interrupt([number for number in sent if number not in unsent])
        self._left(len(sent))

    # -- taking back

    def _take_unsent(self, handed: list[Item]) -> None:
        unsent = self._tasks.take_back(item.number for item in handed if item.number is not None)
        for item in handed:
            item.taken_back = item.taken_back or item.number in unsent

    async def _ask_back(self, handed: list[Item]) -> None:
        for start in range(0, len(handed), AT_ONCE):
            part = handed[start : start + AT_ONCE]
            for asked in [Deferred.fromCoroutine(self._withdraw(item)) for item in part]:
                await asked

    async def _withdraw(self, item: Item) -> None:
        """Ask the controller to end an item if it has not begun; set ``taken_back`` if it did."""
        for _ in range(ASK_AT_MOST):
            if item.state is not HANDED:
                return
            try:
                answer = await self._end.ask("withdraw", taskid=item.number)
            except ConnectionError:
                return
            if answer is not None:
                if answer:
                    item.taken_back = True
                return
            await deferLater(self._reactor, ASK_AGAIN)

    def _came_back(self, items: list[Item]) -> None:
        with self._lock:
            # Items that are not in the table were withdrawn by an aborted result.
            number = sum(self._handed.pop(item.number or 0, None) is not None for item in items)
        self._waiter.missing.difference_update(item.number or 0 for item in items)
        if number:
            self._left(number)


def _was_aborted(payload: Bytes) -> bool:
    return isinstance(read_value(taskwire.Status.REFUSED, payload, -1, None).failure, TaskAborted)


class _Waiter(Waiter):
    """Observes the executor's tasks."""

    def __init__(self, items: TaskItems) -> None:
        super().__init__(items.told)

    def fail(self, problem: Exception) -> None:
        """Do nothing: the executor itself observes the connection."""
