"""The methods of the blocking task client that call functions: ``submit``, ``imap`` and ``executor``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from ipython1.kernel.basics.attributes import yes_or_no
from ipython1.kernel.basics.publicmethods import reports_errors
from ipython1.kernel.calls.connect import Connection
from ipython1.kernel.calls.twistedutil import reactor_in_thread
from ipython1.kernel.objects.taskoptions import (
    DEFAULTS,
    OptionKeywords,
    TaskOptions,
    make_options,
    shows_options,
)
from ipython1.kernel.tasks.methods import TaskMethods

if TYPE_CHECKING:
    from ipython1.kernel.futures.executors import TaskExecutor
    from ipython1.kernel.futures.taskfuture import SubmittedCall
    from ipython1.kernel.futures.tasksubmitter import TaskSubmitter
    from ipython1.kernel.tasks.lazymap import LazyMap


@reports_errors
class TaskCalls(TaskMethods):
    """Base of the blocking task client."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._submitter: TaskSubmitter | None = None

    def submit(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> SubmittedCall:
        """Call ``func(*args, **kwargs)`` on an engine, as a task.

        For a call with options, use ``tc.with_options(retries=2).submit(func, ...)``.

        :param func: the function.
        :param args: its positional arguments.
        :param kwargs: its keyword arguments, all of them.
        :returns: a future of what it returns, a :class:`~ipython1.kernel.executorfuture.SubmittedCall`: a
            ``concurrent.futures.Future`` that can be awaited, has the id of the task as ``taskid``, and whose
            ``cancel`` aborts the call.  If the call cannot be pickled, the future fails.
        :raises TypeError: if ``func`` is not callable.
        :raises ConnectionError: if the connection to the controller is lost.
        """
        return self.run_submit(func, args, kwargs, DEFAULTS)

    def run_submit(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: TaskOptions,
    ) -> SubmittedCall:
        """Submit a call with all options; used by what :meth:`with_options` creates."""
        submitter = self._submitter
        if submitter is None:
            from ipython1.kernel.futures.tasksubmitter import TaskSubmitter

            reactor_in_thread.check()
            self._connection.end.check()
            # Another thread may make one, too; the futures of each keep it.
            submitter = TaskSubmitter(self._connection, self._tasks, self._encoder)
            self._submitter = submitter
        return submitter.submit_with(options, func, args, kwargs)

    def imap(
        self,
        func: Callable[..., Any],
        *sequences: Any,
        ordered: bool = True,
        outstanding: int | None = None,
    ) -> LazyMap:
        """Map a function over sequences that may be long or endless, load-balanced, and read them only as needed.

        The sequences are read in the thread that asks for values, while it does so.  Items are pickled as soon as they
        are read, and short ones are grouped, as in :meth:`map`.

        :param func: the function; it is called with one item of each sequence.
        :param sequences: at least one iterable; the shortest determines the number of calls.
        :param ordered: whether the values come in the order of the items (default), or as soon as they are there.
        :param outstanding: the maximum number of items that are read and whose values have not been asked for, at least
            1; default: 8 per engine, and more if they are short, up to about 80 ms of work.
        :returns: an iterator over the values, a :class:`~ipython1.kernel.taskclient.LazyMap`.
        :raises TypeError, ValueError: if an argument is invalid.
        :raises SerializationError: if the function cannot be pickled.
        :raises ConnectionError: if the connection to the controller is lost; the iterator raises it, too.

        The iterator raises the exception of a call that failed in the place of its value; ``next`` then goes on with
        the value after it.  A loop that is left for any reason, Ctrl-C among them, aborts the rest.
        """
        return self.run_imap(func, sequences, DEFAULTS, ordered, outstanding)

    def run_imap(
        self,
        func: Callable[..., Any],
        sequences: Sequence[Any],
        options: TaskOptions,
        ordered: bool,
        outstanding: int | None,
    ) -> LazyMap:
        """Map lazily with all options; used by what :meth:`with_options` creates."""
        from ipython1.kernel.tasks.lazymap import LazyMap
        from ipython1.kernel.tasks.lazyrun import LazyRun

        reactor_in_thread.check()
        self._connection.end.check()
        client = self._tasks, self._encoder, self._connection
        order = yes_or_no("ordered", ordered)
        return LazyMap(
            lambda ring: LazyRun(*client, func, sequences, options, order, outstanding, ring)
        )

    @shows_options
    def executor(
        self,
        max_workers: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Sequence[Any] = (),
        **options: Unpack[OptionKeywords],
    ) -> TaskExecutor:
        """Create a ``concurrent.futures.Executor`` that makes a task with these options of each call.

        :param max_workers: the maximum number of calls that are submitted at the same time, at least 1; default: no
            limit.
        :param initializer: a function that each engine calls once, before its first call; if it raises an exception,
            all calls fail with ``BrokenEnginePool``; default: None.
        :param initargs: its arguments, a tuple; default: none.
        {options}
        :returns: an executor, which must be shut down (as ``with`` does); the client stays open.
        :raises TypeError, ValueError: if an argument is invalid.
        :raises SerializationError: if the initializer or its arguments cannot be pickled.
        :raises ConnectionError: if the connection to the controller is lost.
        """
        from ipython1.kernel.futures.executors import TaskExecutor

        return TaskExecutor(
            self._connection,
            self._tasks,
            self._encoder,
            make_options("executor()", **options),
            max_workers,
            initializer,
            initargs,
        )
