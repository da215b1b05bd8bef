"""The result of a map with tasks that may still be running, of a blocking client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from twisted.internet.defer import Deferred

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


class PendingMap(PendingResult):
    """The pending result of a map: a ``PendingResult`` of the list of values, and a sequence of them.

    Its items are there one by one: iteration and an index wait for an item only, and raise the item's own exception if
    its call failed.
    """

    unit = "call"

    _run: MapRun
    _began = 0.0
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
        pending._began = time.monotonic()
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
        return MapItems(self._run.values, self._wait_for_item, completed=False)

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

    def as_completed(self) -> Iterator[tuple[int, Any]]:
        """Iterate over the items in the order in which they are done.

        :returns: an iterator over tuples of an item's index, from 0, and its value.  An item that failed raises its own
            exception; ``next`` then goes on with another one.
        """
        return MapItems(self._run.values, self._wait_for_item, completed=True)

    def get_dict(self) -> dict[int, Any]:
        """Wait for all values, and return them by the indexes of the items.

        :raises CompositeError: if calls failed.
        """
        return dict(enumerate(self.result()))

    @property
    def wall_time(self) -> float:
        """Seconds from the call until the map was done; until now, if it is not."""
        return (time.monotonic() if self._ended is None else self._ended) - self._began

    @property
    def serial_time(self) -> float:
        """Seconds that the calls which are done have taken on engines, added up."""
        return self._run.seconds

    def _wait_for_item(self, there: Callable[[], bool], index: int | None) -> None:
        """Wait until an item is there; raise what the map ended with if it will not be."""
        bell, listeners = Bell(), self._run.values.listeners
        listeners.append(bell.ring)
        try:
            while not there():
                if self.done():
                    if not there():
                        raise (self.exception(0) or TaskAborted("the map has ended"))
                    return
                refuse_in_reactor_thread()
                reactor_in_thread.check()
                with waiting(_WaitedItem(self._run, index)):
                    bell.wait()
        except KeyboardInterrupt:
            raise interrupted([self]) from None
        finally:
            listeners.remove(bell.ring)

    @property
    def progress(self) -> tuple[int, int]:
        """The number of items that are done, and of all items."""
        return self._run.completed, self._run.total

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
