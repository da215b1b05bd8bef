"""The interfaces of the task system.

They are kept apart from what implements them, so that clients can import them without the controller's modules.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from zope.interface import Attribute, Interface


class ITask(Interface):
    """A piece of work that a client submits.

    Objects of classes that provide this are pickled and sent to an engine, which calls the first three methods
    below, in this order.  ``ipython1.kernel.taskobjects.BaseTask`` is a base for classes of your own; the controller
    sees nothing of all this but the numbers.
    """

    retries = Attribute("How often it is run again when it fails or its engine dies, an int.")
    recovery_task = Attribute("Another ITask to run when all that failed, or None.")
    depend = Attribute(
        "A function of the engine's properties that says whether it may run there, or None."
    )
    timeout = Attribute("Seconds that a run may take, or None.")
    priority = Attribute("An int; larger is to run earlier.")

    def pre_task(engine: Any) -> None:
        """On the engine (``ITaskEngine``), before the work."""

    def submit_task(engine: Any) -> Any:
        """On the engine: do the work; returns the result."""

    def post_task(engine: Any) -> None:
        """On the engine, after the work, also if it failed."""

    def process_result(result: Any, engineid: int) -> Any:
        """In the client: what to make of the result."""


class ITaskController(Interface):
    """The Task interface of a controller: engines are a load-balanced pool.

    Clients are known by their uuids (16 bytes); finished tasks are delivered through an :class:`ITaskObserver`.
    """

    controller = Attribute("The adapted controller.")

    def join(uuid: bytes, observer: Any) -> None:
        """A client came."""

    def leave(uuid: bytes, for_good: bool = True) -> None:
        """A client is gone; its tasks go on."""

    def lease(uuid: bytes) -> tuple[int, int]:
        """A block of task ids for a client: the first, and the one after the last."""

    def begin(uuid: bytes) -> tuple[tuple[int, int], tuple[int, int]]:
        """A first block of ids, and the tasks and bytes that the client may submit in all."""

    def add_function(uuid: bytes, digest: bytes, data: bytes) -> None:
        """A function that the client's tasks will refer to by its digest."""

    def forget_function(uuid: bytes, digest: bytes) -> None:
        """All of the client's tasks that refer to a function are done; it is sent again before others do."""

    def submit(uuid: bytes, submissions: Iterable[Any]) -> None:
        """Queue tasks."""

    def confirm(uuid: bytes, number: int) -> None:
        """The client has received a batch of results."""

    def abort(taskid: int, by_force: bool = True) -> None:
        """End a task.

        :param by_force: kill an engine that does not let go of it in time.
        :raises IndexError: when it is done, or unknown.
        """

    def withdraw(taskid: int) -> bool | None:
        """End a task if it has not begun: True when it has ended so, False when it has begun or is done.

        None when its engine is being asked: then ask again.
        """

    def has_begun(taskid: int) -> bool:
        """Whether a task runs now."""

    def fetch(uuid: bytes, taskid: int, wait: bool) -> Any:
        """The finished task, or None; with ``wait``, it is delivered to the client when it is done.

        :raises IndexError: when it is unknown.
        """

    def clear(uuid: bytes, taskids: Iterable[int] | None = None) -> None:
        """Forget finished tasks.

        :raises IndexError: when one is unknown.
        """

    def spin() -> None:
        """Try again what waits."""

    def queue_status(verbose: bool = False) -> dict[str, Any]:
        """The tasks in each state: numbers, or lists of ids."""


class ITaskObserver(Interface):
    """What a task controller tells a client."""

    def deliver(number: int, finished: list[Any]) -> None:
        """Tasks are done; ``number`` is to be confirmed unless it is 0."""

    def credit(accepted: int, tasks: int, size: int) -> None:
        """How many of the client's tasks have arrived, and how many tasks and bytes it may submit in all."""


class IScheduledTask(Interface):
    """A task as a scheduler sees it."""

    taskid = Attribute("Its number.")
    priority = Attribute("An int; larger is to run earlier.")

    def check_depend(properties: Any) -> bool:
        """Whether it may run on the engine whose ``properties`` (of its :class:`IWorker`) these are.

        False also as long as the engine has not been asked; it is asked then, and the scheduler is called again.
        """


class IWorker(Interface):
    """An engine as a scheduler sees it."""

    workerid = Attribute("The engine's id.")
    properties = Attribute(
        "What ``check_depend`` takes.  Opaque: the properties themselves stay on the engine."
    )
    load = Attribute("How many tasks it has.")
    work = Attribute("How many seconds they will take, by what was measured before.")


class IScheduler(Interface):
    """Chooses which task runs next, and where.

    A worker is offered with ``add_worker`` whenever it can take one more task, and is offered again after
    ``schedule`` has given it one, as long as it can take more.  To use a class of your own, name it in the
    controller's ini file.
    """

    nworkers = Attribute("The number of workers on offer.")
    ntasks = Attribute("The number of tasks that wait.")
    workerids = Attribute("The ids of the workers on offer.")
    taskids = Attribute("The ids of the tasks that wait.")

    def add_task(task: Any, **flags: Any) -> None:
        """A task (:class:`IScheduledTask`) wants to run, for the first time or again."""

    def pop_task(taskid: int | None = None) -> Any:
        """Take out the task of this id, or the one that is first in line.

        :raises IndexError: when there is none.
        """

    def add_worker(worker: Any, **flags: Any) -> None:
        """A worker (:class:`IWorker`) can take a task."""

    def pop_worker(workerid: int | None = None) -> Any:
        """Take out the worker of this id, or the one that is first in line.

        :raises IndexError: when there is none.
        """

    def ready() -> bool:
        """Whether there are both tasks and workers."""

    def schedule() -> tuple[Any, Any]:
        """Take out and return a worker and the task that it is to run next; ``(None, None)`` when none fit."""
