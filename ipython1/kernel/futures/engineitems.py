"""An executor's items on explicitly named engines: the reactor's side of ``MultiEngineClient.executor()``.

The :class:`~ipython1.kernel.futures.dispatch.Dispatcher` decides which engine gets an item; this module sends the items
and reports their outcomes to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from ipython1.core.texts import compress_ids
from ipython1.kernel.basics.error import (
    BrokenEnginePool,
    ConnectionError,
    EngineDied,
    InvalidEngineID,
    NoEnginesRegistered,
    NotStarted,
    QueueCleared,
)
from ipython1.kernel.calls.connect import Connection
from ipython1.kernel.futures.dispatch import HANDED, OVER, WAITING, Dispatcher, Item, is_first
from ipython1.kernel.futures.executorfuture import Answer, Completions, show_traceback
from ipython1.kernel.futures.items import ExecutorItems, failed
from ipython1.kernel.objects.commands import APPLY, read_failure
from ipython1.kernel.objects.exceptions import exception_of
from ipython1.kernel.objects.executorcalls import Preparation, run_chunk
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.bulk import Incoming
from ipython1.kernel.wire.messages import Outcome
from ipython1.kernel.wire.payload import Buffers
from ipython1.kernel.wire.waits import CommandItem, Needs


def read_outcome(outcome: Outcome) -> Answer:
    """Decode and unpickle an engine's outcome."""
    engine = outcome.engine_id
    if outcome.error is not None:
        return Answer(engine, problem=outcome.error)
    if outcome.status == messages.OK:
        value, output = APPLY.value.read(outcome.buffers)
        return Answer(engine, value, None, output.get("stdout", ""), output.get("stderr", ""))
    record, written = read_failure(outcome.buffers)
    output = written or {}
    problem = exception_of(record)
    show_traceback(problem, record.traceback)
    return Answer(engine, None, problem, output.get("stdout", ""), output.get("stderr", ""))


def kind_of(function: Any, args: Sequence[Any]) -> object:
    """Return an object that is equal for calls that probably take the same time."""
    if function is run_chunk:
        return len(args[1]), kind_of(args[0], ())
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "__code__", None) or type(function)


class EngineItems(ExecutorItems):
    """The items of an executor.

    An engine gets items once it has run the executor's initializer, which it is told to do when the first item waits.

    :param ids: the engines to use; None for all, including those that register later.
    :raises SerializationError: if the initializer or its arguments cannot be pickled.
    """

    def __init__(
        self,
        connection: Connection,
        ids: Sequence[int] | None,
        most: int | None,
        completions: Completions,
        preparation: Preparation | None = None,
    ) -> None:
        super().__init__(connection, most, completions, preparation)
        self._prepare: Buffers = ()
        if preparation is not None:
            self._prepare = APPLY.pack(preparation.run, (), {}, snapshot=True)
        self._wanted = None if ids is None else frozenset(ids)
        self._inbox: list[Item] = []
        self._awake = False
        self._look: Any = None
        self._last_loss = ""
        self._present = self._usable(self._end.ids)
        self._preparing: dict[int, _Preparing] = {}
        self._ready: set[int] = set()
        self._dispatcher = Dispatcher(() if self._prepare else self._present, most)
        self._known = self.engines
        self._begin()

    def _usable(self, ids: Iterable[int]) -> set[int]:
        present = set(ids)
        return present if self._wanted is None else present & self._wanted

    @property
    def engines(self) -> list[int]:
        """The ids of the engines in use."""
        return sorted(self._present)

    # -- from any thread

    @staticmethod
    def pack(
        function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Buffers, object]:
        """Pack a call.

        :returns: the packed call, and its kind.
        :raises SerializationError: if it cannot be pickled.
        """
        return APPLY.pack(function, args, kwargs, snapshot=True), kind_of(function, args)

    def put(self, item: Item) -> None:
        """Put an item into the queue."""
        with self._lock:
            self._inbox.append(item)
            wake = not self._awake
            self._awake = True
        if wake:
            self._reactor.callFromThread(self._turn)

    @staticmethod
    def has_begun(item: Item) -> bool:
        """Return whether the item is the first one of this executor on its engine."""
        return is_first(item)

    def interrupt(self, items: Sequence[Item]) -> None:
        """Interrupt running items, and remove those that wait in an engine's queue."""
        self._reactor.callFromThread(self._interrupt, list(items))

    # -- in the reactor's thread

    def _release(self) -> None:
        super()._release()
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _turn(self) -> None:
        with self._lock:
            items, self._inbox = self._inbox, []
            self._awake = False
        for item in items:
            self._dispatcher.add(item)
        self._go_on()

    def _go_on(self) -> None:
        """Hand over items as long as engines have room."""
        dispatcher = self._dispatcher
        if self.broken:
            self._fail_waiting()
            return
        if self._prepare:
            self._prepare_engines()
        while (item := dispatcher.next_item()) is not None:
            engine = dispatcher.engine_for(item)
            if engine is None:
                break
            with self._lock:
                mine = item.state is WAITING
                if mine:
                    item.state = HANDED
            if mine:
                dispatcher.hand_over(item, engine, self._reactor.seconds())
                observer = _Observer(self, item)
                number = self._end.submit(
                    APPLY.name, item.work, (engine,), observer, stream=False, announce=False
                )
                if item.state is HANDED:
                    item.number = number
        self._look_later()

    def _ids_changed(self, ids: list[int]) -> None:
        usable = self._present = self._usable(ids)
        if self._prepare:
            self._ready &= usable
            for engine in self._preparing.keys() - usable:
                del self._preparing[engine]
        self._dispatcher.set_engines(self._ready if self._prepare else usable)
        if usable:
            self._known = self.engines
            self._go_on()
        elif not self.broken:
            # The running items fail first, and show how the engines ended.
            self._reactor.callLater(0, self._check_engines)

    def _check_engines(self) -> None:
        if not self._present:
            how = self._last_loss or f"the last was engine {compress_ids(self._known)}"
            self._break(
                f"all engines of this executor are gone ({how}). Start engines, and create a new executor"
            )

    def _break(self, reason: str) -> None:
        if not self.broken:
            self.broken = reason
            self._fail_waiting()

    def _fail_waiting(self) -> None:
        with self._lock:
            items = self._dispatcher.take_all()
            for item in items:
                item.state = OVER
        for item in items:
            self._completions.put(item.future, failed(self.broken_pool()))

    # -- the initializer

    def _prepare_engines(self) -> None:
        """Have engines run the initializer if there is an item for them."""
        if self._dispatcher.next_item() is None:
            return
        for engine in sorted(self._present - self._ready - self._preparing.keys()):
            observer = self._preparing[engine] = _Preparing(self, engine)
            observer.number = self._end.submit(
                APPLY.name, self._prepare, (engine,), observer, stream=False, announce=False
            )

    def prepared(self, observer: _Preparing, outcome: Outcome) -> None:
        """Handle the end of the initializer on an engine."""
        engine = observer.engine
        if self._preparing.get(engine) is not observer or isinstance(outcome.error, EngineDied):
            return
        answer = read_outcome(outcome)
        if isinstance(answer.problem, (KeyboardInterrupt, QueueCleared)):
            del self._preparing[engine]  # it runs again for the next item
        elif answer.problem is not None:
            if not self.broken:
                self._initializer_failed(engine, answer.problem)
        else:
            del self._preparing[engine]
            self._ready.add(engine)
            self._dispatcher.set_engines(self._ready)
        self._go_on()

    def not_prepared(self, problem: Exception) -> None:
        """Handle an initializer that did not reach its engine; those that are gone are unregistered soon."""
        if not isinstance(problem, (InvalidEngineID, NoEnginesRegistered, ConnectionError)):
            self._break(f"the executor's initializer cannot be sent: {problem}")

    # -- outcomes

    def ended(self, item: Item, outcome: Outcome) -> None:
        """Handle the outcome of an item, which may not have run."""
        error = outcome.error
        if item.dropped:
            self._dispatcher.forget(item)
        elif isinstance(error, NotStarted):
            self._give_back(item, False)
        elif isinstance(error, QueueCleared) and item.cancelling:
            self._dispatcher.forget(item)
            item.taken_back = True
        elif isinstance(error, QueueCleared) and item.aborted:
            # It came back from its engine before it could be interrupted there.
            self._over(item, failed(KeyboardInterrupt("the call was aborted before it began")))
        elif isinstance(error, QueueCleared) and item.asked:
            self._give_back(item, True)
        else:
            if isinstance(error, EngineDied):
                self._last_loss = str(error)
            good = outcome.status == messages.OK and error is None
            self._over(item, partial(read_outcome, outcome), good)
        self._go_on()

    def refused(self, item: Item, problem: Exception) -> None:
        """Handle an item that did not reach an engine."""
        if item.dropped:
            self._dispatcher.forget(item)
        elif isinstance(problem, (InvalidEngineID, NoEnginesRegistered)):
            self._give_back(item, False)
            self._go_on()
        elif isinstance(problem, ConnectionError):
            self._over(item, failed(BrokenEnginePool(str(problem))))
        else:
            self._over(item, failed(problem))

    def _give_back(self, item: Item, stuck: bool) -> None:
        self._dispatcher.give_back(item, stuck)

    def _over(self, item: Item, read: Callable[[], Answer], good: bool = False) -> None:
        self._dispatcher.over(item, self._reactor.seconds())
        item.work = None
        self._completions.put(item.future, read, good)

    # -- taking back

    def _take_unsent(self, handed: list[Item]) -> None:
        pass  # items that were handed over are already sent

    async def _ask_back(self, handed: list[Item]) -> None:
        await DeferredList([self._withdraw(item) for item in handed])

    def _came_back(self, items: list[Item]) -> None:
        self._go_on()

    def _withdraw(self, item: Item) -> Deferred[Any]:
        """Ask the controller to remove an item from its engine's queue; never fails."""
        if item.state is not HANDED or item.number is None:
            return DeferredList([])
        item.asked = True
        return self._end.ask("withdraw", number=item.number).addErrback(lambda failure: None)

    def needs_of(self, items: Sequence[Item]) -> Needs:
        engines = tuple(self._dispatcher.engines)
        commands: list[CommandItem] = []
        for item in items:
            load = item.load
            # One that has not begun may move to any engine that has nothing to do.
            able = engines if load is None or load.engine in engines else (load.engine,)
            commands.append((item.number or 0, able))
        return Needs(self._end.origin.hex(), False, commands=tuple(commands))

    def give_up(self, items: Sequence[Item], problem: Exception) -> None:
        with self._lock:
            mine = [(item, item.state) for item in items if item.state is not OVER]
            for item, _ in mine:
                item.state, item.dropped, item.work = OVER, True, None
        for item, before in mine:
            if before is HANDED and item.number is not None:
                self._end.ask("withdraw", number=item.number).addErrback(lambda failure: None)
            self._completions.put(item.future, failed(problem))
        self._go_on()

    def _look_later(self) -> None:
        if self._look is None:
            due = self._dispatcher.next_look()
            if due is not None:
                delay = max(0.0, due - self._reactor.seconds())
                self._look = self._reactor.callLater(delay, self._look_now)

    def _look_now(self) -> None:
        """Take back items that wait although an engine is idle."""
        self._look = None
        for item in self._dispatcher.to_take_back(self._reactor.seconds()):
            self._withdraw(item)
        self._look_later()

    def _interrupt(self, items: list[Item]) -> None:
        for item in items:
            item.aborted = True
        numbers = [item.number for item in items if item.state is HANDED]
        if self._dispatcher.next_item() is None:
            # Nothing waits for the initializer any more.
            numbers += [observer.number for observer in self._preparing.values()]
        for number in numbers:
            if number is not None:
                self._end.ask("abort", number=number).addErrback(lambda failure: None)


class _Observer:
    """Observes the command of an item."""

    __slots__ = ("_item", "_items")

    def __init__(self, items: EngineItems, item: Item) -> None:
        self._items = items
        self._item = item

    def accepted(self, ids: Sequence[int]) -> None:
        pass

    def output(self, engine_id: int, stream: str, text: str) -> None:
        pass

    def outcome_begins(self, engine_id: int, incoming: Incoming) -> None:
        pass

    def outcome(self, outcome: Outcome) -> None:
        self._items.ended(self._item, outcome)

    def failed(self, problem: Exception) -> None:
        self._items.refused(self._item, problem)


class _Preparing:
    """Observes the initializer on an engine."""

    __slots__ = ("_items", "engine", "number")

    def __init__(self, items: EngineItems, engine: int) -> None:
        self._items = items
        self.engine: int = engine
        self.number: int | None = None

    def accepted(self, ids: Sequence[int]) -> None:
        pass

    def output(self, engine_id: int, stream: str, text: str) -> None:
        pass

    def outcome_begins(self, engine_id: int, incoming: Incoming) -> None:
        pass

    def outcome(self, outcome: Outcome) -> None:
        self._items.prepared(self, outcome)

    def failed(self, problem: Exception) -> None:
        self._items.not_prepared(problem)
