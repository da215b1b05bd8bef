"""The task interface of a controller: engines are a load-balanced pool.

:class:`TaskController` adapts a controller.  It feeds what happens into the state machine of ``scheduling`` and
carries out what that asks for.  It runs nothing of the users' and reads none of their data.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from twisted.logger import Logger
from twisted.python.components import registerAdapter
from twisted.python.reflect import namedAny
from zope.interface import implementer

from ipython1.kernel.basics.error import ClientError, MessageSizeError, ProtocolError, to_wire
from ipython1.kernel.basics.taskinterfaces import (
    IScheduler,
    ITaskController,
)
from ipython1.kernel.controller.config import TaskConfig
from ipython1.kernel.controller.controllerservice import ControllerService, IControllerBase
from ipython1.kernel.controller.queuedengine import QueuedEngine
from ipython1.kernel.controller.scheduling.accounts import Finished
from ipython1.kernel.controller.scheduling.instructions import (
    AskDepend,
    Credit,
    Deliver,
    Instruction,
    Kill,
    Retract,
    Send,
    Stop,
)
from ipython1.kernel.controller.scheduling.machine import Submission, TaskMachine
from ipython1.kernel.controller.scheduling.outlook import TaskOutlook
from ipython1.kernel.controller.scheduling.prefetch import Prefetch
from ipython1.kernel.controller.scheduling.records import TaskTerms
from ipython1.kernel.controller.scheduling.seams import TaskSettings
from ipython1.kernel.controller.taskschedulers import (
    FIFOScheduler,
    assigner_for,
)
from ipython1.kernel.wire import frames, messages, taskwire
from ipython1.kernel.wire.bulk import WritableBuffer, unpack_reference
from ipython1.kernel.wire.bulkport import collect
from ipython1.kernel.wire.frames import Buffer

log = Logger()


class Observer(Protocol):
    """See :class:`ITaskObserver`."""

    def deliver(self, number: int, finished: list[Finished]) -> None: ...

    def credit(self, accepted: int, tasks: int, size: int) -> None: ...


def settings_from(config: TaskConfig) -> TaskSettings:
    """The machine's settings, as the ini file gives them."""
    return TaskSettings(
        max_deaths=config.kill_limit,
        grace=config.abort_grace,
        keep_size=config.result_size,
        keep_age=config.result_age,
        prefetch=Prefetch(
            ahead=config.prefetch_seconds,
            fewest=config.prefetch_min,
            most=max(config.prefetch_min, config.prefetch_max),
        ),
    )


def make_scheduler(name: str) -> Any:
    """A scheduler of the class of this dotted name.

    :raises ClientError: when there is no such class, or it is no scheduler.
    """
    try:
        scheduler = namedAny(name)()
    except Exception as problem:
        raise ClientError(
            f"the scheduler {name} named in ipython1.kernel.ini cannot be created: "
            f"{type(problem).__name__}: {problem}"
        ) from None
    if not IScheduler.providedBy(scheduler):
        raise ClientError(
            f"{name}, which ipython1.kernel.ini names as the scheduler, does not provide "
            "ipython1.kernel.task.IScheduler"
        )
    return scheduler


class _Function:
    """A function's bytes, kept as long as a client that sent it may have tasks."""

    __slots__ = ("clients", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.clients: set[bytes] = set()


class _EngineFace:
    """What the task controller has of one engine: its frames in, and the tasks' frames out."""

    def __init__(self, tasks: TaskController, engine: QueuedEngine) -> None:
        self._tasks = tasks
        self.engine = engine
        self.functions: set[bytes] = set()
        self.cancelled = False
        self._last_row = 0
        self._arriving: set[int] = set()
        for kind, handler in (
            (taskwire.RESULTS, self._results),
            (taskwire.BEGUN, self._begun),
            (taskwire.GIVEN_BACK, self._given_back),
            (taskwire.DEPENDS, self._depends),
            (frames.PROPERTIES, self._properties),
        ):
            engine.handle(kind, handler)

    # -- out

    def send_function(self, digest: bytes, data: bytes) -> None:
        """Have the engine know a function."""
        link = self.engine.link
        if digest in self.functions or link is None:
            return
        self.functions.add(digest)
        link.send_bytes(taskwire.FUNCTION, 0, digest, data)

    def forget_function(self, digest: bytes) -> None:
        """No task will refer to a function any more."""
        if digest in self.functions:
            self.functions.discard(digest)
            self.send(taskwire.FORGET, 0, digest)

    def send_runs(self, send: Send) -> None:
        """Have the engine run tasks."""
        link = self.engine.link
        if link is None:
            return
        guarded = send.guarded
        rows: list[tuple[int, int, int, bytes]] = []
        for record in send.records:
            flags = taskwire.GUARDED if record.id in guarded else 0
            if len(record.payload) <= taskwire.INLINE:
                rows.append((record.id, record.attempt, flags, record.payload))
                continue
            for parts, size in taskwire.pack_runs(rows):
                link.send_packed(parts, size)
            rows = []
            head = taskwire.pack_run(record.id, record.attempt, 0, flags)
            link.send_large(taskwire.RUN, 0, head, [record.payload])
        for parts, size in taskwire.pack_runs(rows):
            link.send_packed(parts, size)

    def send(self, kind: int, ident: int, meta: bytes = b"", payload: bytes = b"") -> None:
        """Send something small."""
        if self.engine.link is not None:
            self.engine.link.send(kind, ident, meta, payload)

    # -- in

    def _results(self, flags: int, ident: int, meta: Buffer, payload: Buffer) -> None:
        if not flags & frames.BULK:
            results = taskwire.unpack_results(payload)
            self._ended(results)
            self._last_row = ident + len(results) - 1
            self._tell_safe()
            return
        task_id, attempt, status, duration = taskwire.unpack_result_head(meta)
        link = self.engine.link
        assert link is not None
        self._tasks.machine.arriving(self.engine.id, task_id, attempt, self._tasks.now())

        self._last_row = ident
        self._arriving.add(ident)

        def complete(buffers: list[WritableBuffer] | None, reason: str) -> None:
            self._arriving.discard(ident)
            self._tell_safe()
            if buffers is not None:
                data = b"".join(buffers)
                self._ended([(task_id, attempt, status, duration, data)])
            elif not link.lost:  # the loss of an engine is settled elsewhere
                problem = MessageSizeError(f"the result of task {task_id} did not arrive: {reason}")
                data = messages.pack_json(to_wire(problem))
                refused = (task_id, attempt, taskwire.Status.REFUSED, duration, data)
                self._ended([refused])

        clock = self._tasks.controller.clock
        collect(
            link.bulk.relay(unpack_reference(payload)),
            complete,
            lambda call: clock.callLater(0, call),
        )

    def _tell_safe(self) -> None:
        row = min(self._arriving) - 1 if self._arriving else self._last_row
        self.send(taskwire.SAFE, row)

    def _ended(self, results: Sequence[taskwire.Result]) -> None:
        self._tasks.machine.results(self.engine.id, results, self._tasks.now())
        self._tasks.changed()

    def _begun(self, flags: int, task_id: int, meta: Buffer, payload: Buffer) -> None:
        attempt = taskwire.unpack_attempt(meta)
        self._tasks.machine.running(self.engine.id, task_id, attempt, self._tasks.now())
        self._tasks.changed()

    def _given_back(self, flags: int, ident: int, meta: Buffer, payload: Buffer) -> None:
        runs = taskwire.unpack_keys(payload)
        self._tasks.machine.retracted(self.engine.id, runs, self._tasks.now())
        self._tasks.changed()

    def _depends(self, flags: int, version: int, meta: Buffer, payload: Buffer) -> None:
        depend, answer = taskwire.unpack_depends(meta)
        self._tasks.machine.depend_answer(
            self.engine.id, depend, version, answer, self._tasks.now()
        )
        self._tasks.changed()

    def _properties(self, flags: int, version: int, meta: Buffer, payload: Buffer) -> None:
        self.engine.properties_version = version
        self._tasks.machine.properties_changed(self.engine.id, version, self._tasks.now())
        self._tasks.changed()


@implementer(ITaskController)
class TaskController:
    """Adapts a controller to :class:`ITaskController`."""

    def __init__(self, controller: ControllerService) -> None:
        self.controller = controller
        config = controller.task_config
        settings = TaskSettings() if config is None else settings_from(config)
        scheduler = FIFOScheduler() if config is None else make_scheduler(config.scheduler)
        self.machine = TaskMachine(
            assigner_for(scheduler, settings.prefetch), settings, self._is_held
        )
        self.now: Callable[[], float] = controller.clock.seconds
        self._faces: dict[int, _EngineFace] = {}
        self._observers: dict[bytes, Observer] = {}
        self._functions: dict[bytes, _Function] = {}
        self._leaving: set[bytes] = set()
        self._settling = False
        self._timer: Any = None
        controller.waits.tasks = TaskOutlook(self.machine)
        for engine_id in sorted(controller.engines):
            self._engine_came(engine_id)
        controller.on_register_engine_do(self._engine_came, True)
        controller.on_unregister_engine_do(self._engine_went, True)
        controller.clients.on_client_gone_do(self.leave)

    # -- engines

    def _is_held(self, engine_id: int) -> bool:
        engine = self.controller.engines.get(engine_id)
        return engine is not None and engine.running_key is not None

    def _command_turn(self) -> None:
        """An engine is held by a direct command, or free again; tasks may have to move."""
        if self.machine.tasks:
            self.changed()

    def _engine_came(self, engine_id: int) -> None:
        engine = self.controller.engines[engine_id]
        self._faces[engine_id] = _EngineFace(self, engine)
        engine.on_turn = self._command_turn
        self.machine.worker_joined(engine_id, engine.properties_version, self.now())
        self.changed()

    def _engine_went(self, engine_id: int) -> None:
        face = self._faces.pop(engine_id, None)
        if face is not None:
            engine = face.engine
            self.machine.worker_lost(engine_id, self.now(), engine.loss_reason, engine.lost_command)
            self.changed()

    @property
    def engines(self) -> int:
        """How many engines there are."""
        return len(self._faces)

    # -- clients

    def join(self, uuid: bytes, observer: Observer) -> None:
        self._observers[uuid] = observer
        self._leaving.discard(uuid)
        self.machine.clients.joined(uuid)
        self.changed()

    def leave(self, uuid: bytes, for_good: bool = True) -> None:
        self._observers.pop(uuid, None)
        self.machine.clients.left(uuid, self.now(), for_good)
        self._leaving.add(uuid)
        self.changed()

    def lease(self, uuid: bytes) -> tuple[int, int]:
        lease = self.machine.clients.lease(uuid)
        return lease.start, lease.stop

    def begin(self, uuid: bytes) -> tuple[tuple[int, int], tuple[int, int]]:
        lease = self.lease(uuid)
        return lease, self.machine.clients.accounts[uuid].credit

    def add_function(self, uuid: bytes, digest: bytes, data: bytes) -> None:
        function = self._functions.get(digest)
        if function is None:
            function = self._functions[digest] = _Function(data)
        function.clients.add(uuid)

    def forget_function(self, uuid: bytes, digest: bytes) -> None:
        function = self._functions.get(digest)
        if function is not None:
            self._drop_clients(digest, function, {uuid})

    def _drop_clients(self, digest: bytes, function: _Function, gone: set[bytes]) -> None:
        function.clients -= gone
        if not function.clients:
            del self._functions[digest]
            for face in self._faces.values():
                face.forget_function(digest)

    def options(self, packed: bytes) -> TaskTerms:
        """What the machine takes for packed options.

        :raises ProtocolError: when they name a function that was not sent.
        """
        spec = taskwire.OptionsSpec.unpack(packed)
        for digest in (*spec.functions, *((spec.depend,) if spec.depend else ())):
            if digest not in self._functions:
                raise ProtocolError("a task refers to a function that was not sent")
        return TaskTerms(
            self.machine.templates.get(spec.template),
            spec.retries,
            spec.priority,
            spec.timeout,
            spec.weight,
            spec.depend,
            spec.functions,
        )

    def submit(self, uuid: bytes, submissions: Iterable[Submission]) -> None:
        self.machine.submit(uuid, submissions, self.now())
        self.changed()

    def confirm(self, uuid: bytes, number: int) -> None:
        self.machine.clients.confirm(uuid, number, self.now())
        self.changed()

    def abort(self, taskid: int, by_force: bool = True) -> None:
        self.machine.abort(taskid, self.now(), by_force)
        self.changed()

    def withdraw(self, taskid: int) -> bool | None:
        answer = self.machine.withdraw(taskid, self.now())
        self.changed()
        return answer

    def has_begun(self, taskid: int) -> bool:
        return self.machine.has_begun(taskid)

    def fetch(self, uuid: bytes, taskid: int, wait: bool) -> Finished | None:
        return self.machine.clients.fetch(uuid, taskid, wait)

    def clear(self, uuid: bytes, taskids: Iterable[int] | None = None) -> None:
        self.machine.clients.clear(uuid, taskids)

    def spin(self) -> None:
        self.machine.spin(self.now())
        self.changed()

    def queue_status(self, verbose: bool = False) -> dict[str, Any]:
        return dict(self.machine.status() if verbose else self.machine.counts())

    # -- carrying out

    def changed(self) -> None:
        """Something happened; what follows from it is done when this turn is over."""
        if not self._settling:
            self._settling = True
            self.controller.clock.callLater(0, self._settle)

    def _settle(self) -> None:
        self._settling = False
        now = self.now()
        for instruction in self.machine.settle(now):
            try:
                self._carry_out(instruction)
            except Exception:
                log.failure("an instruction of the scheduler could not be carried out")
        due = self.machine.next_tick()
        if due is not None and (self._timer is None or due < self._timer.getTime()):
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.controller.clock.callLater(max(0.0, due - now), self._tick)
        if self._leaving:
            self._forget_functions()
        self.controller.waits.changed()

    def _tick(self) -> None:
        self._timer = None
        self.machine.tick(self.now())
        self.changed()

    def stop(self) -> None:
        """Do nothing any more; for the end of the process."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _carry_out(self, instruction: Instruction) -> None:
        if isinstance(instruction, Deliver):
            observer = self._observers.get(instruction.client)
            if observer is not None:
                observer.deliver(instruction.number, instruction.finished)
            return
        if isinstance(instruction, Credit):
            observer = self._observers.get(instruction.client)
            if observer is not None:
                observer.credit(instruction.accepted, instruction.tasks, instruction.size)
            return
        face = self._faces.get(instruction.engine)
        if face is None:
            return
        if isinstance(instruction, Send):
            self._send_functions(face, instruction)
            face.send_runs(instruction)
        elif isinstance(instruction, Retract):
            face.send(taskwire.RETRACT, 0, b"", taskwire.pack_keys(instruction.runs))
        elif isinstance(instruction, Stop):
            meta = taskwire.pack_attempt(instruction.attempt)
            face.send(taskwire.STOP, instruction.task_id, meta)
        elif isinstance(instruction, AskDepend):
            face.send_function(instruction.depend, self._functions[instruction.depend].data)
            face.send(taskwire.ASK_DEPEND, instruction.properties_version, instruction.depend)
        elif isinstance(instruction, Kill):
            log.info(
                "engine {id} is killed: {reason}", id=instruction.engine, reason=instruction.reason
            )
            face.engine.kill()

    def _send_functions(self, face: _EngineFace, send: Send) -> None:
        last = None
        for record in send.records:
            options = record.options
            if options is not last:
                last = options
                for digest in options.functions:
                    if digest not in face.functions:
                        face.send_function(digest, self._functions[digest].data)

    def _forget_functions(self) -> None:
        """Let go of the functions of clients that are gone and have no tasks left."""
        gone = {uuid for uuid in self._leaving if uuid not in self.machine.clients.accounts}
        if not gone:
            return
        self._leaving -= gone
        for digest, function in list(self._functions.items()):
            self._drop_clients(digest, function, gone)

    def epoch(self) -> float:
        """What to add to the machine's times to get seconds since the epoch."""
        return time.time() - self.now()


registerAdapter(TaskController, IControllerBase, ITaskController)
