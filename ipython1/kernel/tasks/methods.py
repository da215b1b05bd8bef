"""The common base of the blocking and asynchronous task clients."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ipython1.core.interrupt import raised_by_handler
from ipython1.kernel.basics.attributes import CheckedAttributes
from ipython1.kernel.basics.error import from_wire
from ipython1.kernel.calls.connect import Connection
from ipython1.kernel.objects.enginewaits import waiting
from ipython1.kernel.objects.taskcodec import unpack_result
from ipython1.kernel.objects.taskobjects import BaseTask, TaskResult, TaskValue
from ipython1.kernel.tasks.again import Submissions
from ipython1.kernel.tasks.clienttasks import IDS_AT_ONCE, ClientTasks, Waiter
from ipython1.kernel.tasks.encoder import Encoded, TaskEncoder
from ipython1.kernel.tasks.mapper import MapMethods
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.frames import Bytes
from ipython1.kernel.wire.taskwire import DONE_HEAD, Status
from ipython1.kernel.wire.waits import Needs

REFUSED = Status.REFUSED


def chunks(task_ids: list[int] | None) -> Iterator[list[int] | None]:
    """Split ids into parts that fit into questions; None, which means all, is one part."""
    if task_ids is None:
        yield None
        return
    for start in range(0, len(task_ids), IDS_AT_ONCE):
        yield task_ids[start : start + IDS_AT_ONCE]


class QueueStatus(dict[str, Any]):
    """The number or the ids of the tasks in each state: ``scheduled``, ``pending``, ``succeeded`` and ``failed``.

    :ivar unsatisfied: the scheduled tasks that no registered engine may run, because their ``depend`` returned false
        for all engines, or they have rejected all of them, or none of their targets is there.
    :ivar reasons: why scheduled tasks wait for more than their turn, by their ids; empty unless ids were asked for.
    :ivar warnings: what is wrong with the controller, such as a full disk, and what to do; one line each.
    """

    def __init__(
        self,
        states: Mapping[str, Any],
        unsatisfied: Any,
        reasons: Mapping[int, str],
        warnings: Iterable[str] = (),
    ) -> None:
        super().__init__(states)
        self.unsatisfied = unsatisfied
        self.reasons: dict[int, str] = dict(reasons)
        self.warnings: list[str] = list(warnings)

    def __repr__(self) -> str:
        return "\n".join((super().__repr__(), *self.warnings))

    def _repr_html_(self) -> str:
        from ipython1.notebook.cards import task_queue_html

        return task_queue_html(self, self.unsatisfied, self.reasons, self.warnings)


def check_id(taskid: Any) -> int:
    """Return a task id as an int.

    :raises TypeError: if it is not an int.
    :raises IndexError: if it is negative or too large.
    """
    if isinstance(taskid, bool) or not hasattr(taskid, "__index__"):
        raise TypeError(f"a task id must be an int, as returned by run, not {taskid!r}")
    number = operator.index(taskid)
    if not 0 <= number < 2**63:
        raise IndexError(f"there is no task {number}")
    return number


def check_ids(taskids: Any) -> list[int]:
    """Return one or several ids as a list.

    :raises TypeError: if they are not ints.
    """
    if hasattr(taskids, "__index__"):
        return [check_id(taskids)]
    if isinstance(taskids, (str, bytes)) or not isinstance(taskids, Iterable):
        raise TypeError(
            f"the tasks must be given by a task id (an int, as returned by run) or a list of task ids, "
            f"not {taskids!r:.100}"
        )
    return [check_id(taskid) for taskid in taskids]


def split_waits(tasks: Any, *kinds: type) -> tuple[list[int], list[Any]]:
    """Split what ``barrier`` is given.

    :param tasks: a task id, a pending call, or several of either.
    :param kinds: the classes of pending calls.
    :returns: the ids, and the pending calls.
    :raises TypeError: if it is given anything else.
    """
    if isinstance(tasks, kinds):
        return [], [tasks]
    if isinstance(tasks, Iterable) and not isinstance(tasks, (str, bytes)):
        given = list(tasks)
        calls = [each for each in given if isinstance(each, kinds)]
        return check_ids([each for each in given if not isinstance(each, kinds)]), calls
    return check_ids(tasks), []


def read_value(
    status: int, payload: Bytes, engine: int, process: Callable[[Any, int], Any] | None
) -> TaskValue:
    """Decode the payload of a result; errors become its failure."""
    try:
        if status == REFUSED:
            name, message = messages.unpack_json(payload)
            return TaskValue(failure=from_wire(name, message))
        value = unpack_result(payload)
        if process is not None and value.failure is None:
            value.result = process(value.result, engine)
            value.named = isinstance(value.result, dict)
        return value
    except Exception as problem:
        if raised_by_handler(problem):
            raise
        return TaskValue(failure=problem)


class WaitedTasks:
    """Tasks that code on an engine waits for; see :mod:`~ipython1.kernel.objects.enginewaits`.

    :param every: whether it waits for all of them, or for the next one.
    """

    def __init__(self, origin: bytes, waiter: Waiter, every: bool) -> None:
        self._origin = origin.hex()
        self._waiter = waiter
        self._every = every

    def needs(self) -> Needs | None:
        """Return the tasks that are not done."""
        missing = tuple(sorted(self._waiter.missing))
        return Needs(self._origin, self._every, missing) if missing else None

    def give_up(self, problem: Exception) -> None:
        """End the wait."""
        self._waiter.fail(problem)


class WaitingTasks:
    """How far a wait for tasks is.

    :param waiter: waits for them.
    :param total: how many there are.
    """

    def __init__(self, tasks: ClientTasks, waiter: Waiter, total: int) -> None:
        self._results = tasks.results
        self._waiter = waiter
        self._total = total
        self._left = list(waiter.missing)
        self._failed = 0

    def count(self) -> tuple[int, int, int, str]:
        """Return how many are done, of how many, how many of those failed since the wait began, and ``task``."""
        missing = set(self._waiter.missing)  # a copy, as the reactor's thread changes it
        for task_id in self._left:
            if task_id not in missing and self._has_failed(task_id):
                self._failed += 1
        self._left = [each for each in self._left if each in missing]
        return self._total - len(missing), self._total, self._failed, "task"

    def _has_failed(self, task_id: int) -> bool:
        place = self._results.get(task_id)
        return place is not None and DONE_HEAD.unpack_from(*place)[2] != Status.OK


class WaitedRoom(WaitedTasks):
    """Room for more tasks, which any task makes that ends.

    :param waiter: is told if there will be none.
    """

    def __init__(self, origin: bytes, waiter: Waiter) -> None:
        super().__init__(origin, waiter, False)

    def needs(self) -> Needs:
        """Return that any task will do."""
        return Needs(self._origin, every=False, more=True)


def wait_for_room(tasks: ClientTasks, origin: bytes) -> None:
    """Wait until more tasks may be submitted.

    :raises WaitsForever: on an engine, if there will never be room.
    """
    room = threading.Event()
    waiter = Waiter(lambda task_ids: room.set())
    tasks.when_room(room.set)
    with waiting(WaitedRoom(origin, waiter)):
        room.wait()
    if waiter.failure is not None:
        raise waiter.failure


class TaskMethods(MapMethods, CheckedAttributes):
    """Base of the task clients."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._tasks = ClientTasks(connection.end, connection.reactor)
        self._submissions = Submissions(connection.end)
        self._encoder = TaskEncoder()
        self._processors: dict[int, Callable[[Any, int], Any]] = {}

    def __repr__(self) -> str:
        state = "" if self._connection.end.connected else ", not connected"
        return f"<{type(self).__name__}: controller at {self._connection.location}{state}>"

    def _repr_html_(self) -> str:
        from ipython1.notebook.cards import client_html

        end = self._connection.end
        return client_html(type(self).__name__, self._connection.location, end.connected, end.ids)

    def _submitted(self, task_id: int, task: Any) -> None:
        """Record what is needed to read a task's result."""
        if (
            not isinstance(task, BaseTask)
            or type(task).process_result is not BaseTask.process_result
        ):
            self._processors[task_id] = task.process_result

    def _resubmitted(self, task_id: int, old: int) -> None:
        """Record that a task was submitted again, for its result to be read like that of the first one."""
        process = self._processors.get(old)
        if process is not None:
            self._processors[task_id] = process

    async def _fetch_submission(self, task_id: int) -> Encoded:
        """Return a task as it was submitted; in the reactor's thread."""
        if task_id in self._tasks.unsent():
            await self._tasks.flushed()
        return await self._submissions.fetch(task_id)

    def _read(self, task_id: int) -> TaskResult | None:
        """Return the result of a task, or None if it has not arrived."""
        place = self._tasks.results.get(task_id)
        if place is None:
            return None
        data, offset = place
        head = DONE_HEAD.unpack_from(data, offset)
        begin = offset + DONE_HEAD.size
        engine = head[3]
        process = self._processors.get(task_id) if self._processors else None
        return TaskResult(
            task_id,
            engine if engine >= 0 else None,
            head[5],
            head[6],
            head[7],
            read_value,
            head[2],
            data[begin : begin + head[1]],
            process,
        )

    def _to_abort(self, task_ids: list[int], alone: bool) -> list[int]:
        """Abort tasks in the outbox, and return those that the controller must abort.

        :raises IndexError: if there is only one task, and it is done.
        """
        taken = self._tasks.abort_unsent(task_ids)
        results = self._tasks.results
        left = [each for each in task_ids if each not in taken and each not in results]
        if alone and not taken and not left:
            raise IndexError(f"task {task_ids[0]} is completed already; it cannot be aborted")
        return left

    def _status(self, verbose: bool, told: Mapping[str, Any]) -> QueueStatus:
        """Add the tasks in the outbox to the controller's report on the queue."""
        states = dict(told)
        unsatisfied = states.pop("unsatisfied")
        told_reasons = states.pop("reasons", ())
        warnings = states.pop("warnings", ())
        reasons = {task_id: why for why, task_ids in told_reasons for task_id in task_ids}
        unsent = self._tasks.unsent()
        if verbose:
            states["scheduled"] = sorted([*states["scheduled"], *unsent])
        else:
            states["scheduled"] += len(unsent)
        return QueueStatus(states, unsatisfied, reasons, warnings)

    def _cleared(self, task_ids: list[int] | None) -> None:
        self._tasks.cleared(task_ids)
        if task_ids is None:
            self._processors.clear()
        else:
            for task_id in task_ids:
                self._processors.pop(task_id, None)
