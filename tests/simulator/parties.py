"""The parties of a simulated cluster: a controller, engines, clients; each a process that can be killed and frozen."""

from __future__ import annotations

import struct
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from ipython1.core.failures import ExceptionRecord
from ipython1.kernel.basics.error import KernelError
from ipython1.kernel.basics.taskinterfaces import ITaskController
from ipython1.kernel.calls.clientlink import ClientEnd
from ipython1.kernel.calls.linkkeeper import LinkKeeper
from ipython1.kernel.controller.config import Graces
from ipython1.kernel.controller.controllerservice import ControllerService
from ipython1.kernel.controller.enginefc import FCEngines
from ipython1.kernel.controller.multiengine import IMultiEngine
from ipython1.kernel.controller.multienginefc import IFCMultiEngine
from ipython1.kernel.controller.scheduling.instructions import Instruction, Send
from ipython1.kernel.controller.taskfc import IFCTaskController
from ipython1.kernel.engine.connection import EngineConnection
from ipython1.kernel.engine.end import EngineEnd
from ipython1.kernel.engine.tasks import EngineTasks
from ipython1.kernel.engine.worker import Command, Worker
from ipython1.kernel.tasks.clienttasks import ClientTasks
from ipython1.kernel.tasks.encoder import Encoded
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.messages import Outcome
from ipython1.kernel.wire.tasklinks import Links
from ipython1.kernel.wire.taskwire import DONE_HEAD, OptionsSpec, Status
from tests.simulator.disk import SimJournal
from tests.simulator.pids import HOST, Pids
from tests.simulator.process import MainThread, SimProcess

if TYPE_CHECKING:
    from tests.simulator.world import World

ELSEWHERE = "simulated|elsewhere|0"
FURL = f"pb://{'a' * 32}@tcp:127.0.0.1:1/nobody"
TEMPLATE = b"t" * 16


@dataclass(frozen=True, slots=True)
class Work:
    """What a task or command does.

    :ivar number: which one it is, in all of the history.
    :ivar seconds: how long it takes.
    :ivar end: ``returns``, ``raises`` or ``dies`` (its engine's process ends in the middle).
    :ivar size: bytes of its result.
    """

    number: int
    seconds: float
    end: str = "returns"
    size: int = 0

    _FORM = struct.Struct("<Id8sI")

    def pack(self, padding: int = 0) -> bytes:
        head = self._FORM.pack(self.number, self.seconds, self.end.encode(), self.size)
        return head + bytes(padding)

    @classmethod
    def unpack(cls, data: Any) -> Work:
        number, seconds, end, size = cls._FORM.unpack_from(data, 0)
        return cls(number, seconds, end.rstrip(b"\0").decode(), size)


@dataclass(frozen=True, slots=True)
class Came:
    """What came of it: the payload of its result.

    :ivar run: which run it was, in all of the history.
    """

    number: int
    run: int

    _FORM = struct.Struct("<II")

    def pack(self, size: int) -> bytes:
        return self._FORM.pack(self.number, self.run) + bytes(size)

    @classmethod
    def unpack(cls, data: Any) -> Came:
        return cls(*cls._FORM.unpack_from(data, 0))


class SimController:
    """A controller; the next one is another object."""

    def __init__(self, world: World) -> None:
        self.process = world.new_process("controller")
        world.controller = self
        self.journal = SimJournal(
            world.disk, self.process, world.chance, world.shape.slowest_commit
        )
        self.service = ControllerService(
            self.process,
            graces=Graces(engine=10.0, restart=60.0, client=world.shape.client_grace),
            watched=Pids(world),
            journal=self.journal,
        )
        self.service.on_unregister_engine_do(self._engine_gone, True)
        engines = FCEngines(self.service)
        self.multiengine = IMultiEngine(self.service)
        self.tasks = ITaskController(self.service)
        self._world = world
        self._uuids: dict[int, str] = {}
        self.service.on_register_engine_do(self._engine_came, True)
        self._tell_oracle()
        self.process.on_death.append(self._forget_unwritten)
        self.service.recover()
        gates = {
            messages.ENGINE: engines.accept,
            messages.MULTIENGINE: IFCMultiEngine(self.multiengine).accept,
            messages.TASK: IFCTaskController(self.tasks).accept,
        }
        world.network.listen(self.process, gates)

    def _tell_oracle(self) -> None:
        """Have the oracle hear what this controller gives out, and what clients have told it."""
        oracle, machine = self._world.oracle, self.tasks.machine
        settle, resynchronised = machine.settle, machine.clients.resynchronised

        def settled(now: float) -> list[Instruction]:
            instructions = settle(now)
            for each in instructions:
                if isinstance(each, Send):
                    for record in each.records:
                        oracle.task_assigned(record.id)
            return instructions

        def told(uuid: bytes, *what: Any) -> Any:
            oracle.resynchronised(uuid)
            return resynchronised(uuid, *what)

        oracle.controller_started()
        machine.settle, machine.clients.resynchronised = settled, told  # type: ignore[method-assign]

    def _engine_came(self, engine_id: int) -> None:
        self._uuids[engine_id] = self.service.engines[engine_id].hello.uuid

    def _engine_gone(self, engine_id: int) -> None:
        self._world.engine_lost(engine_id)
        self._world.say(f"engine {engine_id} is given up")
        self._world.oracle.engine_given_up(self._uuids.get(engine_id, ""))

    def _forget_unwritten(self) -> None:
        """An engine that has just come may not be in the journal; it will be another one for the next controller."""
        for engine in self.service.engines.values():
            if bytes.fromhex(engine.hello.uuid) not in self._world.disk.engines:
                self._world.engine_lost(engine.id)


# -- engines -------------------------------------------------------------------------------------------------------


class SimGate:
    """Interrupts what sleeps in an engine's main thread."""

    def __init__(self, thread: Callable[[], MainThread]) -> None:
        self._thread = thread
        self.current: Hashable | None = None

    @contextmanager
    def running(self, run_id: Hashable) -> Iterator[None]:
        self.current = run_id
        try:
            yield
        finally:
            self.current = None

    def request(self, run_id: Hashable) -> bool:
        if run_id is None or self.current != run_id:
            return False
        self._thread().interrupt()
        return True


class _Nothing:
    """Stands for the lock with which a worker waits for work."""

    def __init__(self, thread: Callable[[], MainThread]) -> None:
        self._thread = thread
        self._locked = True

    def locked(self) -> bool:
        return self._locked

    def release(self) -> None:
        self._locked = False
        self._thread().wake()

    def acquire(self) -> None:
        self._thread().wait(lambda: not self._locked)
        self._locked = True


class _NoOutput:
    peeked_in = 0

    def peek(self) -> tuple[str, str]:
        return "", ""


class SimRunner:
    """Pretends to run commands and tasks: notes them in the oracle, and lets time pass."""

    def __init__(self, engine: SimEngine) -> None:
        self._engine = engine
        self.most_bytes = 0

    def _sleep(self, work: Work) -> None:
        engine = self._engine
        if work.end == "dies":
            engine.process.callLater(work.seconds, engine.process.kill)
            engine.thread.sleep(1e9)
        engine.thread.sleep(work.seconds)

    # -- commands

    def run_command(self, command: Command) -> Outcome:
        engine = self._engine
        if command.problem is not None:
            return Outcome.refused(engine.id, command.problem)
        work = Work.unpack(command.buffers[0])
        run = engine.world.oracle.command_begun(engine, command, work)
        self._sleep(work)
        engine.world.oracle.command_ended(run)
        status = messages.OK if work.end == "returns" else messages.FAILED
        return Outcome(engine.id, status, (Came(work.number, run.number).pack(work.size),))

    def failed(self, record: ExceptionRecord) -> Any:
        return Outcome(self._engine.id, messages.FAILED, (b"interrupted",))

    # -- tasks

    def run_task(self, payload: bytes, stopping: Callable[[], bool]) -> tuple[Status, bytes, float]:
        engine = self._engine
        work = Work.unpack(payload)
        key = engine.tasks.running_key
        assert key is not None
        run = engine.world.oracle.task_begun(engine, *key, work)
        begun = engine.process.seconds()
        try:
            self._sleep(work)
        except KeyboardInterrupt:
            run.stopped = True
            return (Status.STOPPED if stopping() else Status.FAILED), b"", 0.0
        engine.world.oracle.task_ended(run, work.end == "raises")
        status = Status.OK if work.end == "returns" else Status.FAILED
        data = Came(work.number, run.number).pack(work.size)
        return status, data, engine.process.seconds() - begun


class _TaskRunner:
    note = None

    def __init__(self, runner: SimRunner) -> None:
        self.run = runner.run_task

    def failed(self, problem: BaseException) -> bytes:
        return b""

    def depends(self, digest: bytes) -> bool:
        return True

    def add_function(self, digest: bytes, data: bytes) -> None:
        pass

    def forget_function(self, digest: bytes) -> None:
        pass


class _CommandRunner:
    def __init__(self, runner: SimRunner) -> None:
        self.run = runner.run_command
        self.failed = runner.failed


class SimTasks(EngineTasks):
    """The tasks of an engine whose main thread does not wait for the reactor's, as that would wait for ever."""

    def _sync(self) -> None:
        link = self._outbox.link
        if link is not None:
            self._outbox._drain()
            link.flush()


class SimEngine:
    """An engine's process."""

    def __init__(self, world: World, name: str, host: str = HOST) -> None:
        self.world = world
        self.name = name
        self.host = host
        self.process = world.new_process(name)
        self.id = -1
        runner = SimRunner(self)
        self.gate = SimGate(lambda: self.thread)
        self.worker = Worker(
            _CommandRunner(runner),  # type: ignore[arg-type]
            self.gate,  # type: ignore[arg-type]
            lambda command, outcome: self.end.commands.ended(command, outcome),
        )
        self.worker._nothing_new = _Nothing(lambda: self.thread)  # type: ignore[assignment]
        self.end = EngineEnd(
            self.worker,
            self.gate,  # type: ignore[arg-type]
            _NoOutput(),
            self.process,
            self.process.kill,
        )
        self.tasks = SimTasks(
            _TaskRunner(runner),
            self.gate,  # type: ignore[arg-type]
            self.end.outbox,
            self.process,
            self.worker.wake,
        )
        self.worker.source = self.tasks
        self.end.handlers.update(self.tasks.handlers)
        self.hello = messages.Hello(
            uuid=world.uuid(),
            pid=self.process.pid,
            host=host,
            role=messages.ENGINE,
            secret=world.uuid(),
        )
        self._welcome = messages.Welcome()
        # A worker survives what is raised in it; so it must know that it is over.
        self.process.on_death.append(self.worker.stop)
        self.thread = MainThread(self.process, self._main)
        connection = EngineConnection(self._open_link, self.end, self.process, 1e9)
        running = Deferred.fromCoroutine(connection.run(self._registered))
        running.addErrback(self._failed)

    @property
    def uuid(self) -> str:
        return self.hello.uuid

    def _main(self) -> None:
        self.worker.loop()
        # It was told to stop.
        self.process.callLater(0, self._leave)

    def _leave(self) -> None:
        self.end.say_goodbye("it ended")
        self.process.callLater(0.01, self.process.kill)

    async def _open_link(self) -> messages.Welcome:
        hello = replace(self.hello, holds=self.tasks.add_to(self.end.holds()))
        link, welcome = await self.world.network.register(self.process, hello, self.end)
        self._kept = welcome.known and welcome.instance == self._welcome.instance
        self.end.attach(link, welcome, self._kept)
        return welcome

    def _registered(self, welcome: messages.Welcome) -> None:
        self._welcome = welcome
        self.id = welcome.engine_id if welcome.engine_id is not None else -1
        self.world.oracle.engine_registered(self.uuid)
        self.world.say(f"{self.name} is engine {self.id}, {'known' if self._kept else 'new'}")
        self.tasks.registered(self._kept, self.id)

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError) is None and not self.process.dead:
            self.world.say(f"{self.name} ends: {failure.value!r}")
            if failure.check(KernelError) is None:
                self.world.trouble(failure)
            self.process.kill()


# -- clients -------------------------------------------------------------------------------------------------------


class _Silent:
    def __init__(self, reactor: Any, end: ClientEnd) -> None:
        pass

    def begin(self, reason: str) -> None:
        pass

    def end(self) -> None:
        pass


class SimKeeper(LinkKeeper):
    """Keeps a client connected over the simulated network."""

    def __init__(self, world: World, process: SimProcess, end: ClientEnd, hello: Any) -> None:
        super().__init__(process, end, FURL, hello, 1e9, notice=_Silent)  # type: ignore[arg-type]
        self._world = world
        self._process = process

    async def _connect(self, timeout: float) -> None:
        link, welcome = await self._world.network.register(self._process, self._hello, self._end)
        self._end.attach(link, welcome)
        if link.lost:
            self._end.link_lost("the connection was lost while it was made")

    def _stopped(self, failure: Any) -> None:
        if failure.check(CancelledError) is None:
            self._world.trouble(failure)


class _Tasks(ClientTasks):
    """A client's tasks, whose results the oracle sees as its user does: once they are there, they stay as they are."""

    def __init__(self, client: SimClient) -> None:
        self._client = client
        super().__init__(client.tasks_end, client.process)

    def store(self, data: bytes) -> None:
        new = []
        position = 0
        while position < len(data):
            head = DONE_HEAD.unpack_from(data, position)
            start = position + DONE_HEAD.size
            position = start + head[1]
            if self.results.is_open(head[0]):
                new.append((head[0], Status(head[2]), data[start:position]))
        super().store(data)
        for result in new:
            self._client.world.oracle.task_result(self._client, *result)


class SimClient:
    """A client's process: a user of both interfaces."""

    def __init__(self, world: World, name: str, host: str = HOST) -> None:
        self.world = world
        self.name = name
        self.host = host
        self.process = world.new_process(name)
        self.ready = False
        self.commands_end, self._keeper = self._make(messages.MULTIENGINE)
        self.tasks_end, self._task_keeper = self._make(messages.TASK)
        self.tasks = _Tasks(self)
        opening = Deferred.fromCoroutine(self._open())
        opening.addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        """Its user sees the error, and starts another one."""
        if self.process.dead:
            return
        self.world.say(f"{self.name} cannot start: {failure.value}")
        if failure.check(KernelError) is None:
            self.world.trouble(failure)
        self.process.kill()
        self.world.add_client(self.host)

    def _make(self, role: str) -> tuple[ClientEnd, SimKeeper]:
        uuid = self.world.uuid()
        end = ClientEnd(bytes.fromhex(uuid))
        hello = messages.Hello(
            uuid=uuid, pid=self.process.pid, host=self.host, role=role, secret=self.world.uuid()
        )
        return end, SimKeeper(self.world, self.process, end, hello)

    async def _open(self) -> None:
        for keeper in (self._keeper, self._task_keeper):
            await deferLater(self.process, 0.01)  # type: ignore[arg-type]
            await keeper.open(10.0)
        await self.tasks.begin()
        self.ready = True

    # -- tasks

    def submit(
        self, work: Work, retries: int, padding: int = 0, links: Links | None = None
    ) -> int | None:
        """Submit a task; returns its id, or None when there is no room.

        :param links: the tasks that it waits for.
        """
        options = OptionsSpec(TEMPLATE, retries=retries).pack()
        companions = [] if links is None else [(links, b"")]
        return self.tasks.submit(Encoded(options, work.pack(padding), companions))

    def clear(self, task_ids: list[int]) -> None:
        """Have the controller forget tasks whose results are here."""
        self.tasks_end.ask("clear", taskids=task_ids).addErrback(lambda failure: None)

    def abort(self, task_id: int) -> None:
        """End a task, whether it was sent already or not."""
        if not self.tasks.abort_unsent([task_id]):
            self.tasks_end.ask("abort_many", taskids=[task_id]).addErrback(lambda failure: None)

    def flush(self, then: Callable[[], None]) -> None:
        """Call ``then`` when all that was submitted so far is acknowledged."""
        flushed = self.tasks.flushed()
        flushed.addCallbacks(lambda _: then(), lambda failure: None)

    # -- commands

    def execute(
        self, work: Work, targets: Sequence[int], keep: bool, padding: int = 0
    ) -> int | None:
        """Send a command; returns its number.

        :param keep: whether it goes on without this client once it is acknowledged, as with ``block=False``.
        """
        observer = self.world.oracle.observer(self, work, keep)
        data = [work.pack(padding)]
        number = self.commands_end.submit("execute", data, targets, observer, keep=keep)
        if number is not None:
            self.world.oracle.command_sent(self.commands_end.origin, number, work)
        return number
