"""The result of a map with tasks that may still be running, of a blocking client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION
from typing import Any, Final

from twisted.internet.defer import Deferred

from ipython1.checks import check_timeout
from ipython1.kernel.basics.error import TaskAborted
from ipython1.kernel.calls.answer import Bell
from ipython1.kernel.calls.attendance import interrupted
from ipython1.kernel.calls.connect import Connection
from ipython1.kernel.calls.pendingresult import PendingResult
from ipython1.kernel.calls.twistedutil import reactor_in_thread, refuse_in_reactor_thread
from ipython1.kernel.objects.enginewaits import waiting
from ipython1.kernel.objects.taskoptions import TaskOptions
from ipython1.kernel.tasks.clienttasks import ClientTasks
from ipython1.kernel.tasks.encoder import TaskEncoder
from ipython1.kernel.tasks.maps import MapRun, check_map, columns_of
from ipython1.kernel.tasks.mapvalues import MapItems
from ipython1.kernel.wire.waits import Needs

CONDITIONS: Final = (ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION)


class PendingMap(PendingResult):
    """The pending result of a map: a ``PendingResult`` of the list of values, and a sequence of them.

    Its items are there one by one: iteration and an index wait for an item only, and raise the item's own exception if
    its call failed.
    """

    unit = "item"

    _run: MapRun
    _begun = 0.0
    _ended: float | None = None

    @classmethod
    def start(
        cls,
        tasks: ClientTasks,
        encoder: TaskEncoder,
        connection: Connection,
        func: Callable[..., Any],
        sequences: Sequence[Any],
        options: TaskOptions,
        waits: bool,
    ) -> PendingMap:
        """Start a map; from any thread.

        :param waits: whether the caller waits until it is done.
        :raises TypeError, ValueError: if an argument is invalid.
        :raises SerializationError: if the function or an option cannot be pickled.
        """
        check_map(func, options)
        run = MapRun(tasks, encoder, connection, func, columns_of(sequences), options, waits)
        pending = cls(lambda finished: finished.collect(), "map", prints=True)
        pending._run = run
        pending._begun = time.monotonic()
        pending.when_over(_note_end)
        run.on_output = pending._output

        def begin() -> None:
            pending.follow_deferred(run.finished)
            Deferred.fromCoroutine(run.begin())

        connection.reactor.callFromThread(begin)
        return pending

    def __len__(self) -> int:
        return self._run.total

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the values in the order of the items, each as soon as it is there.

        An item that failed raises its own exception in its place; ``next`` then goes on with the one after it.
        """
        return MapItems(self._run.values, self._wait_for_item, completed=False, numbered=False)

    def __getitem__(self, index: Any) -> Any:
        """Return the value of an item, or a list of those of a slice, as soon as they are there.

        :raises IndexError: if there is no such item.
        :raises TypeError: if the index is neither an int nor a slice.
        """
        numbers = range(self._run.total)[index]
        if isinstance(numbers, range):
            return [self[number] for number in numbers]
        values = self._run.values
        if not values.is_there(numbers):
            self._wait_for_item(lambda: values.is_there(numbers), numbers)
        value, problem = values.read(numbers)
        if problem is not None:
            raise problem.with_traceback(None)
        return value

    def as_completed(self, *, numbered: bool = False) -> Iterator[Any]:
        """Iterate over the values in the order in which they are done.

        :param numbered: whether to yield pairs of an item's index, from 0, and its value; default: False.
        :returns: an iterator.  An item that failed raises its own exception; ``next`` then goes on with another one.
        """
        return MapItems(self._run.values, self._wait_for_item, completed=True, numbered=numbered)

    def get_dict(self, timeout: float | None = None) -> dict[int, Any]:
        """Wait for all values, and return them by engine.

        :param timeout: the maximum time to wait, in seconds; default: no limit.
        :returns: by the id of each engine, the list of the values that it has computed, in the order of the items.
        :raises ResultNotCompleted: after ``timeout``; the map continues.
        :raises CompositeError: if calls failed.
        """
        self.get_result(timeout=timeout)
        return self._run.values.by_engine()

    def wait(self, timeout: float | None = None, return_when: str = ALL_COMPLETED) -> bool:
        """Wait until items are done; does not raise their errors.

        :param timeout: the maximum time to wait, in seconds; default: no limit.
        :param return_when: one of the constants of ``concurrent.futures``: ``ALL_COMPLETED`` (default),
            ``FIRST_COMPLETED`` (one item is done), or ``FIRST_EXCEPTION`` (one item failed, or all are done).
        :returns: whether it is so.
        :raises ValueError: if ``return_when`` is none of them.
        :raises WaitInterrupted: on Ctrl-C; the map continues.
        """
        if return_when not in CONDITIONS:
            raise ValueError(
                f"return_when must be one of {', '.join(CONDITIONS)}, not {return_when!r}"
            )
        run = self._run
        over = {
            FIRST_COMPLETED: lambda: run.completed > 0,
            FIRST_EXCEPTION: run.values.has_failures,
        }.get(return_when, self.done)
        return self._wait_until_over(over, None, check_timeout("timeout", timeout))

    @property
    def wall_time(self) -> float:
        """Seconds from the call until the map was done; until now, if it is not."""
        return (time.monotonic() if self._ended is None else self._ended) - self._begun

    @property
    def serial_time(self) -> float:
        """Seconds that the calls which are done have taken on engines, added up."""
        return self._run.seconds

    def _wait_for_item(self, there: Callable[[], bool], index: int | None) -> None:
        """Wait until an item is there; raise what the map ended with if it will not be."""
        self._wait_until_over(there, index, None)
        if not there():
            raise self.exception(0) or TaskAborted("the map has ended")

    def _wait_until_over(
        self, over: Callable[[], bool], index: int | None = None, timeout: float | None = None
    ) -> bool:
        """Wait until ``over``, or the map is.

        :param index: the item that is waited for, if it is a certain one.
        :returns: whether one of these is so; False after ``timeout`` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        bell, listeners = Bell(), self._run.values.listeners
        listeners.append(bell.ring)
        try:
            while not over() and not self.done():
                refuse_in_reactor_thread()
                reactor_in_thread.check()
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                with waiting(_WaitedItem(self._run, index)):
                    bell.wait(left)
            return True
        except KeyboardInterrupt:
            raise interrupted([self]) from None
        finally:
            listeners.remove(bell.ring)

    @property
    def progress(self) -> tuple[int, int]:
        """The number of items that are done, and of all items."""
        return self._run.completed, self._run.total

    @property
    def failed_so_far(self) -> int:
        return self._run.failed

    @property
    def items_left(self) -> int:
        """How many items are not done."""
        return self._run.total - self._run.completed

    def count(self) -> tuple[int, int, int, str]:
        return self._run.completed, self._run.total, self._run.failed, self.unit

    @property
    def stdout(self) -> str:  # type: ignore[override]
        """The standard output of the items that are done: one text, in the order of the items."""
        return self._run.output("stdout")

    @property
    def stderr(self) -> str:  # type: ignore[override]
        """The standard error, like :attr:`stdout`."""
        return self._run.output("stderr")

    @property
    def outputs(self) -> dict[int, dict[str, str]]:
        return self._run.outputs()

    def abort(self) -> None:
        """Abort the map: drop calls that have not begun, and interrupt those that run."""
        self._run._connection.reactor.callFromThread(self._run.abort)

    def needs(self) -> Needs | None:
        return self._run.needs()

    def give_up(self, problem: Exception) -> None:
        self._run.abort(problem)


def _note_end(pending: PendingMap) -> None:
    pending._ended = time.monotonic()


class _WaitedItem:
    """An item of a map that code on an engine waits for; see :mod:`~ipython1.kernel.objects.enginewaits`."""

    def __init__(self, run: MapRun, index: int | None) -> None:
        self._run = run
        self._index = index

    def needs(self) -> Needs | None:
        return self._run.needs_of(self._index)

    def give_up(self, problem: Exception) -> None:
        self._run.abort(problem)
