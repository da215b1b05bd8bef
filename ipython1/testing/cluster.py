"""A whole cluster in one process and thread, for tests: everything is real but the network and the engines' IPython.

    >>> from ipython1.testing import InMemoryCluster
    >>> cluster = InMemoryCluster(2)
    >>> mec = cluster.multiengine()
    >>> mec.push({'a': 1})
    [None, None]
    >>> mec.pull('a')
    [1, 1]

Code on the engines runs when a call is made, in a plain namespace per engine, without IPython syntax and without
capturing the output of C code. For these, start a real cluster.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred

from ipython1.core.failures import record_exception
from ipython1.core.interrupt import InterruptGate
from ipython1.kernel.basics.taskinterfaces import ITaskController
from ipython1.kernel.calls.calls import Request, Targets
from ipython1.kernel.calls.clientlink import ClientEnd
from ipython1.kernel.calls.connect import Connection
from ipython1.kernel.calls.multienginemethods import MultiEngineMethods
from ipython1.kernel.calls.views import EngineView, Selection
from ipython1.kernel.clients.asyncclient import AsyncMultiEngineClient, AsyncPendingResult
from ipython1.kernel.clients.asynclazymap import AsyncLazyMap
from ipython1.kernel.clients.asynctaskclient import AsyncTaskClient
from ipython1.kernel.controller.controllerservice import ControllerService
from ipython1.kernel.controller.enginefc import FCEngines
from ipython1.kernel.controller.multiengine import IMultiEngine
from ipython1.kernel.controller.multienginefc import IFCMultiEngine
from ipython1.kernel.controller.taskfc import IFCTaskController
from ipython1.kernel.engine.end import EngineEnd
from ipython1.kernel.engine.service import EngineService
from ipython1.kernel.engine.taskrunner import TaskRunner
from ipython1.kernel.engine.tasks import EngineTasks
from ipython1.kernel.engine.worker import (
    Command,
    CommandRunner,
    WorkSource,
)
from ipython1.kernel.host.hosts import host_identity
from ipython1.kernel.objects.taskoptions import DEFAULTS, TaskOptions
from ipython1.kernel.tasks.mapper import MapMethods
from ipython1.kernel.tub.gate import Session
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.link import FrameLink
from ipython1.testing.memory import Pump, connect_in_memory
from ipython1.testing.plaininterpreter import PlainInterpreter


class _NoOutput:
    peeked_in = 0

    def peek(self) -> tuple[str, str]:
        return "", ""


class InlineWorker:
    """Runs each command when its turn comes, unless the worker is held.

    :ivar held: if true, queue commands without running any, like an engine that is busy with the first one.
    :ivar on_stop: stops the engine.
    """

    def __init__(self, runner: CommandRunner, pump: Pump) -> None:
        self._runner = runner
        self._pump = pump
        self._queue: list[Command] = []
        self.end: EngineEnd | None = None
        self.running_since: float = 0.0
        self.held: bool = False
        self.stopped: bool = False
        self._away = False
        self.source: WorkSource | None = None
        self.on_stop: Callable[[], None] = lambda: None

    @property
    def running(self) -> Command | None:
        """The command that it is busy with, or None."""
        return self._queue[0] if self.held and self._queue else None

    @property
    def busy(self) -> bool:
        """Whether it is busy with a command."""
        return self.running is not None

    def put(self, command: Command) -> None:
        self._queue.append(command)
        self._pump.soon(self._work)

    def take_out(self, key: tuple[bytes, int]) -> Command | None:
        """Take out a command that has not begun."""
        for command in self._queue:
            if command.key == key and command is not self.running:
                self._queue.remove(command)
                return command
        return None

    def wake(self) -> None:
        self._pump.soon(self._work)

    def set_away(self, away: bool, owner: object = None) -> None:
        if self._away and not away:
            self.wake()
        self._away = away

    def release(self) -> None:
        """Stop holding, and run the queued commands."""
        self.held = False
        self._pump.soon(self._work)

    def stop(self) -> None:
        self.stopped = True
        if self.running is None:
            self._pump.soon(self.on_stop)

    def request(self, run_id: object) -> bool:
        """Interrupt the current command with ``KeyboardInterrupt``, as an ``InterruptGate`` does."""
        command = self.running
        if command is None or command.key != run_id:
            return False
        self._queue.remove(command)
        self._done(command, self._runner.failed(record_exception(KeyboardInterrupt())))
        return True

    def _work(self) -> None:
        while self._queue and not self.held and not self.stopped and not self._away:
            command = self._queue.pop(0)
            self._done(command, self._runner.run(command))
        if self.source is not None:
            while not self.held and not self.stopped and self.source.run_one():
                pass
            self.source.idle()

    def _done(self, command: Command, outcome: messages.Outcome) -> None:
        if self.end is not None:
            self.end.commands.ended(command, outcome)


class _NoGate(InterruptGate):
    """Interrupts nothing in this process."""

    __slots__ = ()

    def request(self, run_id: object) -> bool:
        return False


class InlineTasks(EngineTasks):
    """The tasks of an engine with a single thread."""

    def _sync(self) -> None:
        if self._link is not None:
            self._link.flush()


class InMemoryEngine:
    """An engine of an :class:`InMemoryCluster`.

    :ivar interpreter: runs the code; ``interpreter.user_ns`` is the engine's namespace.
    :ivar worker: set ``worker.held`` to make the engine busy until ``worker.release()``.
    :ivar link: the engine's end of the link.
    :ivar controller_link: the controller's end of the link.
    """

    link: FrameLink
    controller_link: FrameLink

    def __init__(self, cluster: InMemoryCluster, wanted_id: int | None = None) -> None:
        self.interpreter: PlainInterpreter = PlainInterpreter()
        self._cluster = cluster
        self._service = EngineService(self.interpreter)  # type: ignore[arg-type]
        self.worker: InlineWorker = InlineWorker(CommandRunner(self._service), cluster.pump)
        self.end: EngineEnd = EngineEnd(
            self.worker,  # type: ignore[arg-type]
            self.worker,  # type: ignore[arg-type]
            _NoOutput(),
            cluster.pump,
            self.kill,
        )
        self.worker.end = self.end
        self.worker.on_stop = self.kill
        self.tasks: InlineTasks = InlineTasks(
            TaskRunner(self._service), _NoGate(), self.end.outbox, cluster.pump, self.worker.wake
        )
        self.worker.source = self.tasks
        self.end.handlers.update(self.tasks.handlers)
        self._service.properties.on_change = self.tasks.properties_changed
        self.hello: messages.Hello = messages.Hello(
            uuid=uuid.uuid4().hex,
            pid=os.getpid(),
            host=host_identity(),
            role=messages.ENGINE,
            wanted_id=wanted_id,
            secret=messages.new_secret(),
        )
        self._instance = ""
        self.register()

    def register(self) -> None:
        """Register with the controller; call it again to reconnect after the connection was lost."""
        hello = replace(self.hello, holds=self.tasks.add_to(self.end.holds()))
        session: Session = self._cluster.engines_face.accept(hello)
        self.link, self.controller_link = connect_in_memory(self._cluster.pump, self.end, session)
        welcome = session.attach(self.controller_link)
        self.id: int = welcome.engine_id if welcome.engine_id is not None else -1
        self._service.id = self.id
        kept = welcome.known and welcome.instance == self._instance
        self._instance = welcome.instance
        self.end.attach(self.link, welcome, kept)
        self.tasks.registered(kept, self.id)
        session.opened()

    def kill(self) -> None:
        """Kill the engine as ``kill -9`` would: its connection is lost."""
        self.worker.held = True
        self.link.abort("it was killed")


class InMemoryTaskClient(MapMethods):
    """A task client of an in-memory cluster that returns results instead of Deferreds.

    It has all methods of :class:`AsyncTaskClient`.

    :ivar asynchronous: the underlying asynchronous client.
    """

    def __init__(self, client: AsyncTaskClient, pump: Pump) -> None:
        self.asynchronous = client
        self._pump = pump
        settle(pump, Deferred.fromCoroutine(client.begin()))

    def run_map(
        self, func: Callable[..., Any], sequences: Sequence[Any], options: TaskOptions, block: bool
    ) -> Any:
        return settle(self._pump, self.asynchronous.run_map(func, sequences, options, block))

    def run_submit(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: TaskOptions,
    ) -> Any:
        return settle(self._pump, self.asynchronous.run_submit(func, args, kwargs, options))

    def imap(
        self,
        func: Callable[..., Any],
        *sequences: Any,
        ordered: bool = True,
        outstanding: int | None = None,
    ) -> Iterator[Any]:
        """Return an iterator over the values, as a blocking client does."""
        return self.run_imap(func, sequences, DEFAULTS, ordered, outstanding)

    def run_imap(
        self,
        func: Callable[..., Any],
        sequences: Sequence[Any],
        options: TaskOptions,
        ordered: bool,
        outstanding: int | None,
    ) -> Iterator[Any]:
        values = self.asynchronous.run_imap(func, sequences, options, ordered, outstanding)
        return _SettledValues(values, self._pump)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.asynchronous, name)
        if not callable(attribute):
            return attribute

        def call(*args: Any, **kwargs: Any) -> Any:
            return settle(self._pump, attribute(*args, **kwargs))

        return call


class _SettledValues(Iterator[Any]):
    """The values of a lazy map, without Deferreds."""

    def __init__(self, values: AsyncLazyMap, pump: Pump) -> None:
        self.asynchronous = values
        self._pump = pump

    def __next__(self) -> Any:
        try:
            return settle(self._pump, Deferred.fromCoroutine(self.asynchronous.__anext__()))
        except StopAsyncIteration:
            raise StopIteration from None


class InMemoryPendingResult:
    """An :class:`AsyncPendingResult` that returns results instead of Deferreds."""

    def __init__(self, pending: AsyncPendingResult, settle: Callable[[Any], Any]) -> None:
        self.asynchronous = pending
        self._settle = settle

    def get_result(self, default: Any = None, block: bool = True) -> Any:
        """Return the result of the call, or raise its exception."""
        return self._settle(self.asynchronous.get_result(default, block))

    @property
    def r(self) -> Any:
        """The result."""
        return self.get_result()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.asynchronous, name)


class SyncMultiEngine(MultiEngineMethods):
    """A MultiEngine client of an in-memory cluster that returns results instead of Deferreds.

    :ivar asynchronous: the underlying asynchronous client.
    """

    asynchronous: AsyncMultiEngineClient

    def __init__(self, client: AsyncMultiEngineClient, pump: Pump) -> None:
        super().__init__(client._connection)
        self.asynchronous = client
        self._pump = pump

    def _run(self, request: Request, targets: Targets, block: bool | None) -> Any:
        return self._run_on(request, *self._options(targets, block))

    def _run_on(self, request: Request, ids: tuple[int, ...] | None, blocks: bool) -> Any:
        result = self._settle(self.asynchronous._run_on(request, ids, blocks))
        return result if blocks else InMemoryPendingResult(result, self._settle)

    def _ask(
        self,
        name: str,
        block: bool | None,
        finish: Callable[[Any], Any] = lambda value: value,
        **args: Any,
    ) -> Any:
        return self._settle(self.asynchronous._ask(name, block, finish, **args))

    def get_ids(self) -> list[int]:
        """Return the ids of all registered engines, sorted."""
        return list(self._settle(self.asynchronous.get_ids()))

    def kill(
        self, controller: bool = False, targets: Targets = None, block: bool | None = None
    ) -> None:
        """Stop engines; with ``controller=True`` the controller, too."""
        chosen = self.targets if targets is None else targets
        self._settle(self.asynchronous.kill(controller, chosen, block))

    def flush(self) -> None:
        """Drop unread results of non-blocking calls."""
        self._settle(self.asynchronous.flush())

    def barrier(self, pending_results: Any) -> None:
        """Wait until all ``pending_results`` have finished, successfully or not."""
        if isinstance(pending_results, InMemoryPendingResult):
            pending_results = [pending_results]
        unwrapped = [getattr(each, "asynchronous", each) for each in pending_results]
        self._settle(self.asynchronous.barrier(unwrapped))

    def close(self) -> None:
        """Close the connection."""
        self._settle(self.asynchronous.close())

    def __setitem__(self, key: str, value: Any) -> None:
        self.push({key: value}, block=True)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self.pull(key, block=True)
        return self._view(self._selected(key))

    def _selected(self, which: Any) -> Selection:
        return Selection(which, lambda again: self.get_ids())

    def _view(self, selection: Selection) -> SyncView:
        return SyncView(self, selection, self.block)

    def _settle(self, value: Any) -> Any:
        return settle(self._pump, value)


class SyncView(EngineView, SyncMultiEngine):
    """A view of an in-memory client's engines; see :class:`~ipython1.kernel.multiengineclient.MultiEngineView`."""

    def __init__(self, client: SyncMultiEngine, selection: Selection, block: bool) -> None:
        self._begin(client, selection, block)
        self.asynchronous: AsyncMultiEngineClient = client.asynchronous
        self._pump = client._pump

    def _view(self, selection: Selection) -> SyncView:
        return SyncView(self._client, selection, self.block)

    def get_ids(self) -> list[int]:
        """Return the ids of the engines of the view."""
        return self.ids

    def kill(
        self, controller: bool = False, targets: Targets = None, block: bool | None = None
    ) -> None:
        """Stop engines of the view."""
        self._check_kill(controller)
        self._client.kill(targets=list(self._options(targets, block)[0]))


def settle(pump: Pump, value: Any) -> Any:
    """Run ``pump`` until it is idle, and return the result of a Deferred; return other values unchanged.

    :raises TimeoutError: if the Deferred still has not fired.
    """
    if not isinstance(value, Deferred):
        return value
    pump.run()
    results: list[Any] = []
    failures: list[Any] = []
    value.addCallbacks(results.append, failures.append)
    if failures:
        failures[0].raiseException()
    if not results:
        raise TimeoutError("the call cannot finish; is it waiting for a held engine?")
    return results[0]


class InMemoryCluster:
    """A controller with engines.

    :param n: the number of engines.
    :param pump: replaces the default :class:`~ipython1.testing.memory.Pump`, which acts only on ``run()``.
    :param controller: the controller; default: one that keeps nothing, and waits for nobody whose connection is lost.
    :ivar pump: runs everything; ``pump.run()`` processes all pending events.
    """

    def __init__(
        self, n: int = 4, pump: Pump | None = None, controller: ControllerService | None = None
    ) -> None:
        self.pump: Pump = pump if pump is not None else Pump()
        self.use(ControllerService(self.pump) if controller is None else controller)
        self.engines: list[InMemoryEngine] = [self.add_engine() for _ in range(n)]

    def use(self, controller: ControllerService) -> None:
        """Have this controller, which nobody is connected to; engines and clients connect to it from now on."""
        self.controller = controller
        self.engines_face: FCEngines = FCEngines(self.controller)
        self.multiengine_face: IFCMultiEngine = IFCMultiEngine(IMultiEngine(self.controller))
        self.task_face: IFCTaskController = IFCTaskController(ITaskController(self.controller))
        controller.recover()

    def add_engine(self, wanted_id: int | None = None) -> InMemoryEngine:
        """Start and return another engine.

        :param wanted_id: the id to ask for; default the controller chooses.
        """
        return InMemoryEngine(self, wanted_id)

    def connect(self, face: Any, role: str = messages.MULTIENGINE) -> tuple[Connection, ClientEnd]:
        """Open a new client connection to one face of the controller."""
        origin = uuid.uuid4()
        end = ClientEnd(origin.bytes)
        session: Session = face.accept(
            messages.Hello(
                uuid=origin.hex,
                pid=os.getpid(),
                host=host_identity(),
                role=role,
                secret=messages.new_secret(),
            )
        )
        link, there = connect_in_memory(self.pump, end, session)
        end.attach(link, session.attach(there))
        session.opened()
        return Connection(self.pump, None, end, "memory"), end

    def async_multiengine(self) -> AsyncMultiEngineClient:
        """Return an asynchronous client; it makes progress only while ``pump`` runs."""
        return AsyncMultiEngineClient(self.connect(self.multiengine_face)[0])

    def multiengine(self) -> SyncMultiEngine:
        """Return a client whose calls run the cluster until they have a result."""
        return SyncMultiEngine(self.async_multiengine(), self.pump)

    def async_task(self) -> AsyncTaskClient:
        """Return an asynchronous task client; call its ``begin``.  It makes progress only while ``pump`` runs."""
        return AsyncTaskClient(self.connect(self.task_face, messages.TASK)[0])

    def task(self) -> InMemoryTaskClient:
        """Return a task client whose calls run the cluster until they have a result."""
        return InMemoryTaskClient(self.async_task(), self.pump)
