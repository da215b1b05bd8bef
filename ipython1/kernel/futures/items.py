"""How an executor's items get to engines: what is the same for explicit engines and for tasks.

Items are put, taken back and interrupted in any thread; all else happens in the reactor's.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ipython1.kernel.calls.connect import Connection
from ipython1.kernel.calls.twistedutil import blockingCallFromThread, in_reactor_thread
from ipython1.kernel.futures.dispatch import HANDED, OVER, WAITING, Item
from ipython1.kernel.futures.executorfuture import Answer, Completions


def failed(problem: BaseException) -> Callable[[], Answer]:
    """Reads as a failure in the client or on the way."""
    return lambda: Answer(None, problem=problem)


class ExecutorItems(ABC):
    """The items of one executor.

    :param completions: finishes their futures.
    :ivar broken: why it cannot be used any more; empty as long as it can.
    """

    def __init__(self, connection: Connection, completions: Completions) -> None:
        self._connection = connection  # which ends when nothing refers to it
        self._end = connection.end
        self._reactor = connection.reactor
        self._completions = completions
        self._lock = threading.Lock()
        """Held by whoever changes an item's state in a way that matters to other threads."""
        self.broken = ""

    def _begin(self) -> None:
        """Hear of engines, and of the end of the connection."""
        self._end.on_lost.append(self._link_lost)
        self._reactor.callFromThread(self._watch_engines)

    @property
    @abstractmethod
    def engines(self) -> list[int]:
        """The ids of the engines that it uses."""

    # -- from any thread

    @abstractmethod
    def pack(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Any, object]:
        """A call as bytes, and what names its kind.

        :raises SerializationError: when it cannot be pickled.
        """

    @abstractmethod
    def put(self, item: Item) -> None:
        """Run an item when its turn comes."""

    @abstractmethod
    def has_begun(self, item: Item) -> bool:
        """Whether an engine is at it, as far as that can be known."""

    @abstractmethod
    def interrupt(self, items: Sequence[Item]) -> None:
        """Interrupt those that run, and end those that wait."""

    def take_back(self, items: Sequence[Item]) -> list[Item]:
        """Those of ``items`` that have not begun, and will not; may have to ask the controller."""
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
        """Nobody wants these back any more; returns those that have come."""
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
        """Note which of these have not left this process (``taken_back``)."""

    @abstractmethod
    async def _ask_back(self, handed: list[Item]) -> None:
        """Have the controller end what has not begun, and note what has so ended: ``taken_back``, or WAITING."""

    @abstractmethod
    def _came_back(self, items: list[Item]) -> None:
        """These will not run; others may move up."""

    # -- the end

    def release(self) -> None:
        """It is not used any more."""
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

    @abstractmethod
    def _ids_changed(self, ids: list[int]) -> None:
        """Engines came or went."""

    @abstractmethod
    def _break(self, reason: str) -> None:
        """It cannot be used any more: whatever waits fails."""
