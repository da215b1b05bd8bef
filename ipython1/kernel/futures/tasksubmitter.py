"""``submit`` of task clients: an executor without an end, whose calls wait as tasks do.

It differs from ``tc.executor()`` in four ways: each call may have options of its own; calls wait while there are no
engines; the program may end before they do, as their results stay with the controller; and ``cancel`` aborts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ipython1.kernel.basics.error import ConnectionError
from ipython1.kernel.calls.connect import Connection
from ipython1.kernel.futures.executors import EngineExecutor
from ipython1.kernel.futures.taskfuture import SubmittedCall
from ipython1.kernel.futures.taskitems import TaskItems
from ipython1.kernel.objects.taskoptions import DEFAULTS, TaskOptions, check_options

if TYPE_CHECKING:
    from ipython1.kernel.tasks.clienttasks import ClientTasks
    from ipython1.kernel.tasks.encoder import TaskEncoder


class TaskSubmitter(EngineExecutor):
    """Submits calls as tasks, for as long as there is a client.

    :param connection: the client's connection.
    :param tasks: the client's tasks.
    :param encoder: encodes the tasks.
    """

    _future = SubmittedCall
    _keeps_alive = False
    _items: SubmittedItems

    def __init__(self, connection: Connection, tasks: ClientTasks, encoder: TaskEncoder) -> None:
        super().__init__(
            lambda completions: SubmittedItems(
                connection, tasks, encoder, DEFAULTS, None, completions
            )
        )

    def submit_with(
        self,
        options: TaskOptions,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> SubmittedCall:
        """Submit a call with options of its own.

        :raises TypeError, ValueError: if ``fn`` is not callable, or an option is invalid.
        :raises ConnectionError: if the connection to the controller is lost.
        :raises ClientError: in a process that was forked from the client's, and after the reactor has stopped.
        """
        if not callable(fn):
            raise TypeError(
                f"submit() needs a function and its arguments, as in submit(f, 1, 2), not {fn!r:.100}"
            )
        if options is not DEFAULTS:
            check_options(options)
        future = self._submit(partial(self._items.pack_with, options), fn, args, kwargs)
        assert isinstance(future, SubmittedCall)
        return future


class SubmittedItems(TaskItems):
    """The calls of a submitter; they wait for engines, as all tasks do."""

    def _ids_changed(self, ids: list[int]) -> None:
        """Do nothing: others will come."""

    def _link_lost(self, reason: str) -> None:
        self._break(
            f"the controller is gone ({reason}); calls whose results had not arrived fail. When it is there again, "
            "create a new client; results that it has kept can be fetched by their ids"
        )

    def broken_pool(self) -> ConnectionError:
        """Return the error of calls whose results will not arrive."""
        return ConnectionError(self.broken)
