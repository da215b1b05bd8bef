"""The interfaces of the task system.

They are separate from their implementations, so that clients can import them without the controller's modules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from zope.interface import Attribute, Interface


class ITask(Interface):
    """A piece of work that a client submits.

    The task object is pickled and sent to an engine, which calls the first three methods below, in this order.
    ``ipython1.kernel.taskobjects.BaseTask`` is a base class for your own tasks.  The controller sees only the
    numbers among the attributes, never the object.
    """

    retries: int = Attribute(
        "How many times to rerun the task if it fails or its engine dies, an int."
    )
    recovery_task: Any = Attribute("Another ITask to run if all retries failed, or None.")
    depend: Callable[[dict[str, Any]], Any] | None = Attribute(
        "A function of an engine's properties that returns whether the task may run there, or None."
    )
    timeout: float | None = Attribute("Seconds that a run may take, or None.")
    priority: int = Attribute("An int; larger numbers run earlier.")
    after: Sequence[Any] = Attribute("Ids of tasks that it runs after, and perhaps After objects.")
    follow: Sequence[Any] = Attribute("The same, of tasks that it runs where one of them ran.")
    targets: Any = Attribute("Ids of engines, or a dict of properties, or None for any engine.")

    def pre_task(engine: Any) -> None:
        """Prepare the work; called on the engine.

        :param engine: provides ``ITaskEngine``.
        """

    def submit_task(engine: Any) -> Any:
        """Do the work and return the result; called on the engine."""

    def post_task(engine: Any) -> None:
        """Clean up after the work, even if it failed; called on the engine."""

    def process_result(result: Any, engineid: int) -> Any:
        """Convert the result to what the user gets; called in the client."""


class ITaskController(Interface):
    """The Task interface of a controller: engines are a load-balanced pool.

    Clients are identified by uuids (16 bytes); finished tasks are delivered to an :class:`ITaskObserver`.  What a
    client submits is in the controller's journal, if it keeps one, before it is run or confirmed.
    """

    controller: Any = Attribute("The adapted controller.")

    def join(uuid: bytes, observer: Any) -> None:
        """Register a client, perhaps again; it is told nothing before :meth:`begin` or :meth:`resync`.

        :param observer: an :class:`ITaskObserver`.
        """

    def disconnect(uuid: bytes, observer: Any) -> None:
        """Note that a client cannot be reached, and may come back; its tasks keep running."""

    def leave(uuid: bytes) -> None:
        """Note that a client will not come back; its tasks keep running, and others can fetch their results."""

    def lease(uuid: bytes) -> Any:
        """Reserve a block of task ids for a client: a Deferred of the first id and the last plus 1, once it is safe."""

    def begin(uuid: bytes) -> Any:
        """A Deferred of a first block of ids, and of how many tasks and bytes the client may submit in all."""

    def resync(
        uuid: bytes,
        missing: Iterable[tuple[int, int]],
        failed: Iterable[tuple[int, int]],
        functions: Iterable[bytes],
    ) -> Any:
        """Return what is known of a client that is back, and deliver what it lacks.

        :param missing: ranges of its ids of which it has no results.
        :param failed: ranges of the ids of its last failures.
        :param functions: digests of the functions that it takes to be known.
        :returns: a ``ResyncAnswer`` of ``ipython1.kernel.wire.tasksync``.
        """

    def add_function(uuid: bytes, digest: bytes, data: bytes) -> None:
        """Store a function that the client's tasks will refer to by its digest."""

    def forget_function(uuid: bytes, digest: bytes) -> None:
        """Drop a function whose tasks are all done; the client will send it again before submitting others."""

    def submit(
        uuid: bytes, submissions: Iterable[Any], data: Any = b"", bodies: Any = None
    ) -> None:
        """Queue tasks.

        :param data: the bytes that they came as, for the journal.
        :param bodies: their payloads, if a bulk transfer brought these.
        """

    def refuse(uuid: bytes, submissions: Iterable[Any], reason: str) -> None:
        """End tasks whose data did not come with ``MessageSizeError``.

        :param submissions: as for :meth:`submit`, with payloads that have the right lengths.
        """

    def confirm(uuid: bytes, number: int) -> None:
        """Note that the client has received a batch of results."""

    def abort(taskid: int, by_force: bool = True) -> None:
        """Abort a task.

        :param by_force: kill the engine if it does not stop the task in time.
        :raises IndexError: if the task is done or unknown.
        """

    def withdraw(taskid: int) -> bool | None:
        """Cancel a task that has not started.

        :returns: True if it was cancelled, False if it has started or is done, None if its engine has yet to answer;
            in this case call again.
        """

    def has_begun(taskid: int) -> bool:
        """Return whether a task is running now."""

    def fetch(uuid: bytes, taskid: int, wait: bool) -> Any:
        """Return a finished task, False if it is not done, or True if it is done and its result is not in memory.

        :param wait: deliver it to the client once it is done.
        :raises IndexError: if it is unknown.
        """

    def clear(uuid: bytes, taskids: Iterable[int] | None = None) -> None:
        """Forget finished tasks.

        :raises IndexError: if one is unknown.
        """

    def spin() -> None:
        """Try to schedule the waiting tasks again."""

    def queue_status(verbose: bool = False) -> dict[str, Any]:
        """Return the number of tasks in each state, or with ``verbose`` lists of their ids.

        ``warnings`` has a line for each thing that is wrong with the controller.  With ``verbose``, ``reasons`` is a
        list of pairs: why tasks wait for more than their turn, and the ids of these.
        """


class ITaskObserver(Interface):
    """A client as a task controller sees it."""

    def deliver(batch: Any) -> None:
        """Receive a batch of finished tasks; the client confirms its number."""

    def tell(finished: list[Any]) -> None:
        """Receive finished tasks that the client has asked for."""

    def refuse(task_id: int, error: tuple[str, str]) -> None:
        """Learn that there is nothing to tell of a task, and the name and message of the reason."""

    def credit(accepted: int, tasks: int, size: int) -> None:
        """Learn how many of the client's tasks have arrived, and how many tasks and bytes it may submit in total."""

    def note(text: str) -> None:
        """Learn something about the client's tasks that its user is to know."""

    def output(task_id: int, engine: int, stream: bytes, text: bytes) -> None:
        """Learn what a task has written to a stream, or displayed, while it runs on an engine."""


class IScheduledTask(Interface):
    """A task as a scheduler sees it."""

    taskid: int = Attribute("The task's id, an int.")
    priority: int = Attribute("An int; larger numbers run earlier.")

    def check_depend(properties: Any) -> bool:
        """Return whether the task may run on an engine.

        False until the engine has answered; the call sends it the question, and the scheduler is called again
        after the answer.

        :param properties: the ``properties`` of the engine's :class:`IWorker`.
        """


class IWorker(Interface):
    """An engine as a scheduler sees it."""

    workerid: int = Attribute("The engine's id.")
    properties: dict[str, Any] = Attribute(
        "The argument for ``check_depend``; opaque, as the properties themselves stay on the engine."
    )
    load: int = Attribute("How many tasks it has, an int.")
    work: float = Attribute("How many seconds they will take, estimated from earlier tasks.")


class IScheduler(Interface):
    """Chooses which task runs next, and where.

    ``add_worker`` offers a worker that can take one more task; after ``schedule`` has assigned it one, it is
    offered again if it can take more.  To use your own class, name it in the controller's ini file.
    """

    nworkers: int = Attribute("The number of available workers.")
    ntasks: int = Attribute("The number of waiting tasks.")
    workerids: list[int] = Attribute("The ids of the available workers.")
    taskids: list[int] = Attribute("The ids of the waiting tasks.")

    def add_task(task: Any, **flags: Any) -> None:
        """Add a task (:class:`IScheduledTask`), for the first time or again."""

    def pop_task(taskid: int | None = None) -> Any:
        """Remove and return the task with this id, by default the first in line.

        :raises IndexError: if there is none.
        """

    def add_worker(worker: Any, **flags: Any) -> None:
        """Add a worker (:class:`IWorker`) that can take a task."""

    def pop_worker(workerid: int | None = None) -> Any:
        """Remove and return the worker with this id, by default the first in line.

        :raises IndexError: if there is none.
        """

    def ready() -> bool:
        """Return whether there are both tasks and workers."""

    def schedule() -> tuple[Any, Any]:
        """Remove and return a worker and its next task, or ``(None, None)`` if no pair fits."""
