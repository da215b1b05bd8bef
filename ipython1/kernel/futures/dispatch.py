"""Distribution of an executor's items to engines: a queue in the client, and at most two items per engine.

:class:`Dispatcher` is a pure state machine that decides where the next item goes.  Items wait here instead of in the
engines' queues, so that they can be cancelled, and a slow one does not delay others.

===========  ===============================================  ==================================
an item is   on                                               becomes
===========  ===============================================  ==================================
(new)        :meth:`Dispatcher.add`                           WAITING
WAITING      :meth:`Dispatcher.hand_over`, an engine is free  HANDED to that engine
WAITING      it is cancelled (its state is set to OVER)       (dropped at its turn)
HANDED       :meth:`Dispatcher.over`: it has an outcome       OVER
HANDED       :meth:`Dispatcher.give_back`: it has not begun   WAITING, before all others
HANDED       :meth:`Dispatcher.forget`: cancelled in time     OVER
===========  ===============================================  ==================================

An engine gets one item at a time, and one more in advance if items of this kind were short before.  An item may be
waiting although another engine is idle, because its own engine is busy with something else or with an item that takes
longer than usual; :meth:`Dispatcher.to_take_back` returns such items.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from enum import IntEnum
from typing import Any, Final

SHORT: Final = 0.05
"""Seconds; items that take less are short, so their engine gets the next one in advance."""

LOOK_AFTER: Final = 0.05
"""Seconds after which to check whether an item has begun, if an engine is idle; then at increasing intervals."""

LOOK_LESS_OFTEN: Final = 4.0
LOOK_AT_LEAST: Final = 5.0

_KINDS: Final = 1024
_NEWEST: Final = 0.25


class State(IntEnum):
    """The state of an item; see the table above."""

    WAITING = 0
    HANDED = 1
    OVER = 2


WAITING: Final = State.WAITING
HANDED: Final = State.HANDED
OVER: Final = State.OVER


class Item:
    """A call.

    :ivar future: its future.
    :ivar work: the packed call.
    :ivar kind: a hashable object, equal for items that probably take the same time.
    :ivar number: its number as a command, or its task id; None before it is sent.
    :ivar aborted: whether its user has aborted it.
    :ivar cancelling: whether its user is cancelling it.
    :ivar asked: whether the controller was asked to take it back from its engine.
    :ivar taken_back: whether it was withdrawn and will not run.
    :ivar dropped: whether its future was cancelled, or failed before it was over.
    """

    __slots__ = (
        "aborted",
        "asked",
        "avoid",
        "cancelling",
        "dropped",
        "future",
        "kind",
        "load",
        "look_at",
        "look_gap",
        "number",
        "sent",
        "state",
        "taken_back",
        "work",
    )

    def __init__(self, future: Any, work: Any, kind: object) -> None:
        self.future: Any = future
        self.work: Any = work
        self.kind: object = kind
        self.state: State = WAITING
        self.number: int | None = None
        self.aborted: bool = False
        self.cancelling: bool = False
        self.asked: bool = False
        self.taken_back: bool = False
        self.dropped: bool = False
        self.load: _Load | None = None
        self.avoid: _Load | None = None
        self.sent: float = 0.0
        self.look_at: float = 0.0
        self.look_gap: float = LOOK_AFTER


class _Load:
    """The load of an engine.

    :ivar items: its items, in the order in which it runs them.
    :ivar free_since: the time at which its last item ended.
    :ivar stuck: whether an item was taken back from it because it was busy with something else.
    :ivar gone: whether it is no longer available.
    """

    __slots__ = ("engine", "free_since", "gone", "items", "stuck")

    def __init__(self, engine: int) -> None:
        self.engine: int = engine
        self.items: list[Item] = []
        self.free_since: float = 0.0
        self.stuck: bool = False
        self.gone: bool = False


class Dispatcher:
    """The queue and the engines of one executor.

    :param engines: the ids of the engines.
    :param most: the maximum number of items on all engines together; None for no other limit than that per engine.
    """

    def __init__(self, engines: Iterable[int], most: int | None = None) -> None:
        self._loads: dict[int, _Load] = {}
        self._idle: dict[int, _Load] = {}
        self._with_room: dict[int, _Load] = {}
        """Engines that have one item, of a kind that was short when it was handed over."""
        self._most = most
        self._waiting: deque[Item] = deque()
        self._seconds: OrderedDict[object, float] = OrderedDict()
        self._handed = 0
        self.set_engines(engines)

    @property
    def engines(self) -> list[int]:
        """The ids of the engines, sorted."""
        return sorted(self._loads)

    @property
    def handed(self) -> int:
        """The number of items on the engines."""
        return self._handed

    def set_engines(self, ids: Iterable[int]) -> None:
        """Change the set of engines.

        Items of engines that are gone stay with them until they are :meth:`over` or :meth:`given back <give_back>`.
        """
        ids = set(ids)
        for engine in self._loads.keys() - ids:
            self._loads.pop(engine).gone = True
            self._idle.pop(engine, None)
            self._with_room.pop(engine, None)
        for engine in sorted(ids - self._loads.keys()):
            self._loads[engine] = self._idle[engine] = _Load(engine)

    # -- items

    def add(self, item: Item) -> None:
        """Append a new item to the queue."""
        self._waiting.append(item)

    def next_item(self) -> Item | None:
        """Return the item whose turn it is; None if none is waiting."""
        waiting = self._waiting
        while waiting:
            if waiting[0].state is WAITING:
                return waiting[0]
            waiting.popleft()
        return None

    def engine_for(self, item: Item) -> int | None:
        """Return an engine that has room for ``item``; None if there is none."""
        if self._most is not None and self._handed >= self._most:
            return None
        second_best: int | None = None
        for engine, load in self._idle.items():
            if not load.stuck and load is not item.avoid:
                return engine
            if second_best is None or load is not item.avoid:
                second_best = engine
        if second_best is not None:
            return second_best
        if self._is_short(item):
            while self._with_room:
                engine, load = next(iter(self._with_room.items()))
                if self._is_short(load.items[0]):
                    return engine
                del self._with_room[engine]
        return None

    def _is_short(self, item: Item) -> bool:
        return self._seconds.get(item.kind, SHORT) < SHORT

    def hand_over(self, item: Item, engine: int, now: float) -> None:
        """Hand the item whose turn it is over to ``engine``, at the time ``now`` in seconds."""
        self._waiting.popleft()
        load = item.load = self._loads[engine]
        item.sent = now
        item.look_at = now + item.look_gap
        load.items.append(item)
        self._handed += 1
        self._file(load)

    def _file(self, load: _Load) -> None:
        """Record how much room an engine has."""
        engine = load.engine
        number = len(load.items)
        if load.gone:
            return
        if number == 0:
            self._idle[engine] = load
            self._with_room.pop(engine, None)
            return
        self._idle.pop(engine, None)
        if number == 1 and self._is_short(load.items[0]):
            self._with_room[engine] = load
        else:
            self._with_room.pop(engine, None)

    def _leave(self, item: Item) -> _Load | None:
        load = item.load
        if load is not None:
            load.items.remove(item)
            item.load = None
            self._handed -= 1
        return load

    def over(self, item: Item, now: float) -> None:
        """Note that an engine is done with an item, at the time ``now`` in seconds."""
        load = self._leave(item)
        item.state = OVER
        if load is None:
            return
        seconds = now - max(item.sent, load.free_since)
        load.free_since = now
        load.stuck = False
        known = self._seconds.pop(item.kind, None)
        if known is not None and seconds < SHORT:
            seconds = known + (seconds - known) * _NEWEST
        self._seconds[item.kind] = seconds
        if len(self._seconds) > _KINDS:
            self._seconds.popitem(last=False)
        self._file(load)

    def give_back(self, item: Item, stuck: bool) -> None:
        """Put an item that will not run on its engine back at the head of the queue.

        :param stuck: whether the engine is available, but busy with something else.
        """
        load = self._leave(item)
        item.avoid = load if stuck else None
        item.number = None
        item.asked = False
        item.state = WAITING
        self._waiting.appendleft(item)
        if load is not None:
            load.stuck = stuck and not load.items
            self._file(load)

    def forget(self, item: Item) -> None:
        """Note that an item was handed over, but cancelled before it began."""
        load = self._leave(item)
        item.state = OVER
        if load is not None:
            self._file(load)

    def take_all(self) -> list[Item]:
        """Remove and return all waiting items."""
        items = [item for item in self._waiting if item.state is WAITING]
        self._waiting.clear()
        return items

    # -- items that wait although an engine is idle

    def next_look(self) -> float | None:
        """Return the time, in seconds, to call :meth:`to_take_back`; None if that is not needed at present."""
        full = self._most is not None and self._handed >= self._most
        if not self._idle or (self.next_item() is not None and not full):
            return None
        return min(
            (item.look_at for load in self._loads.values() for item in load.items), default=None
        )

    def to_take_back(self, now: float) -> list[Item]:
        """Return the items to take back if they have not begun, as an engine is idle."""
        if self.next_look() is None:
            return []
        chosen: list[Item] = []
        for load in self._loads.values():
            for item in load.items:
                if item.look_at <= now:
                    item.look_gap = min(item.look_gap * LOOK_LESS_OFTEN, LOOK_AT_LEAST)
                    item.look_at = now + item.look_gap
                    chosen.append(item)
        return chosen


def is_first(item: Item) -> bool:
    """Return whether an item is the first one of its engine; from any thread."""
    load = item.load
    return load is not None and load.items[:1] == [item]
