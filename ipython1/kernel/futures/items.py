"""Base class for sending an executor's items, on explicitly named engines or as tasks.

Items can be put, taken back and interrupted in any thread; everything else happens in the reactor's thread.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ipython1.kernel.basics.error import BrokenEnginePool, KernelError, describe_exception
from ipython1.kernel.calls.connect import Connection
from ipython1.kernel.calls.liveview import Running
from ipython1.kernel.calls.twistedutil import blockingCallFromThread, in_reactor_thread
from ipython1.kernel.futures.dispatch import HANDED, OVER, WAITING, Item
from ipython1.kernel.futures.executorfuture import Answer, Completions, RemoteTraceback, log
from ipython1.kernel.objects.executorcalls import Preparation
from ipython1.kernel.wire.waits import Needs


def failed(problem: BaseException) -> Callable[[], Answer]:
    """Return a function that returns an answer with ``problem``, which did not occur on an engine."""
    return lambda: Answer(None, problem=problem)


class ExecutorItems(ABC):
    """The items of an executor.

    :param most: the maximum number of items that run at the same time; None for no limit.
    :param completions: finishes their futures.
    :param preparation: what runs once on each engine before the first item there; None for nothing.
    :ivar broken: why the executor can no longer be used; empty if it can.
    :ivar running: has what the calls write while they run; None if that is not known.
    """

    running: Running | None = None

    def __init__(
        self,
        connection: Connection,
        most: int | None,
        completions: Completions,
        preparation: Preparation | None,
    ) -> None:
        self._connection = connection  # a reference keeps it open
        self._end = connection.end
        self._reactor = connection.reactor
        self._completions = completions
        self._most = most
        self._preparation = preparation
        self._cause: BaseException | None = None
        self._lock = threading.Lock()
        """Protects changes of items' states that concern other threads."""
        self.broken: str = ""

    def _begin(self) -> None:
        """Start to observe the engines and the connection."""
        self._end.on_lost.append(self._link_lost)
        self._reactor.callFromThread(self._watch_engines)

    @property
    @abstractmethod
    def engines(self) -> list[int]:
        """The ids of the engines in use."""

    @property
    def max_workers(self) -> int:
        """The number of items that can run at the same time, at least 1."""
        return self._most or max(len(self.engines), 1)

    # -- from any thread

    @abstractmethod
    def pack(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Any, object]:
        """Pack a call.

        :returns: the packed call, and its kind.
        :raises SerializationError: if it cannot be pickled.
        """

    @abstractmethod
    def put(self, item: Item) -> None:
        """Put an item into the queue."""

    @abstractmethod
    def has_begun(self, item: Item) -> bool:
        """Return whether an engine is running the item, as far as is known."""

    @abstractmethod
    def interrupt(self, items: Sequence[Item]) -> None:
        """Interrupt running items, and end waiting ones."""

    def take_back(self, items: Sequence[Item]) -> list[Item]:
        """Withdraw items that have not begun, if necessary from the controller, and return them."""
        taken: list[Item] = []
        handed: list[Item] = []
        with self._lock:
            for item in items:
                if item.state is WAITING:
                    item.state = OVER
                    item.work = None
                    taken.append(item)
                elif item.state is HANDED:
                    item.cancelling = True
                    handed.append(item)
        if handed:
            self._take_unsent(handed)
            if in_reactor_thread() or all(item.taken_back for item in handed):
                taken += self._settle(handed)
            else:
                taken += blockingCallFromThread(self._recall, handed)
        return taken

    async def _recall(self, handed: list[Item]) -> list[Item]:
        await self._ask_back([item for item in handed if not item.taken_back])
        return self._settle(handed)

    def _settle(self, handed: list[Item]) -> list[Item]:
        """End the withdrawal of items, and return those that were withdrawn."""
        with self._lock:
            for item in handed:
                item.cancelling = False
                item.taken_back = item.taken_back or item.state is WAITING
            back = [item for item in handed if item.taken_back]
            for item in back:
                item.state = OVER
                item.work = None
        self._came_back(back)
        return back

    @abstractmethod
    def _take_unsent(self, handed: list[Item]) -> None:
        """Set ``taken_back`` of the items that have not been sent."""

    @abstractmethod
    async def _ask_back(self, handed: list[Item]) -> None:
        """Ask the controller to end items that have not begun; these become ``taken_back``, or WAITING."""

    @abstractmethod
    def _came_back(self, items: list[Item]) -> None:
        """Note that these items will not run, which may make room for others."""

    # -- waits on an engine that never end, in the reactor's thread

    @abstractmethod
    def needs_of(self, items: Sequence[Item]) -> Needs:
        """Return what has to end before one of the items is done."""

    @abstractmethod
    def give_up(self, items: Sequence[Item], problem: Exception) -> None:
        """Fail items; those that have not begun do not run."""

    # -- the end

    def release(self) -> None:
        """Release resources when the executor is no longer used."""
        self._reactor.callFromThread(self._release)

    def _release(self) -> None:
        if self._link_lost in self._end.on_lost:
            self._end.on_lost.remove(self._link_lost)
            self._end.remove_ids_callback(self._ids_changed)

    def _watch_engines(self) -> None:
        self._end.on_ids_changed(self._ids_changed)
        self._ids_changed(sorted(self._end.ids))

    def _link_lost(self, reason: str) -> None:
        self._break(
            f"the controller is gone ({reason}). Restart it if it ended, and create a new client and executor"
        )

    def broken_pool(self) -> KernelError:
        """Return the error of calls that cannot run because the executor is broken."""
        problem = BrokenEnginePool(self.broken)
        problem.__cause__ = self._cause
        return problem

    def _initializer_failed(self, engine: int | None, problem: BaseException) -> None:
        """Make the executor unusable because its initializer raised an exception."""
        cause = problem if problem.__cause__ is None else problem.__cause__
        notes: list[str] = getattr(problem, "__notes__", [])
        if notes and cause.__cause__ is None and cause.__context__ is None:
            cause.__cause__ = RemoteTraceback(notes[-1])
        self._cause = cause
        log.critical("exception in the initializer on engine %s", engine, exc_info=cause)
        self._break(
            f"the executor's initializer failed on engine {engine}: {describe_exception(cause)}. "
            "Create a new executor with an initializer that works"
        )

    @abstractmethod
    def _ids_changed(self, ids: list[int]) -> None:
        """Handle engines that registered or left."""

    @abstractmethod
    def _break(self, reason: str) -> None:
        """Make the executor unusable; waiting items fail."""
