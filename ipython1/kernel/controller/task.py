"""The task interface of a controller: engines are a load-balanced pool.

:class:`TaskController` adapts a controller.  It feeds what happens into the state machine of ``scheduling`` and
carries out what that asks for.  It runs nothing of the users' and reads none of their data.

===================  ===========================================================
module               holds
===================  ===========================================================
``task``             this
``taskfc``           its Foolscap face
``enginetasks``      one engine: its frames in, and the tasks' frames out
``taskintake``       tasks into the machine, by way of the journal
``taskfunctions``    the functions that they refer to
``resultkeeper``     results into the journal
``resultpost``       results to one client
``taskrows``         results as they are sent and kept
``tasksettings``     its settings, and its scheduler
``taskhistory``      what was
===================  ===========================================================
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.components import registerAdapter
from zope.interface import implementer

from ipython1.kernel.basics.error import JournalError
from ipython1.kernel.basics.taskinterfaces import (
    ITaskController,
)
from ipython1.kernel.controller.controllerservice import ControllerService, IControllerBase
from ipython1.kernel.controller.enginetasks import EngineFace
from ipython1.kernel.controller.journal.interface import Journal, trouble_of
from ipython1.kernel.controller.observing import observer as observing
from ipython1.kernel.controller.queuedengine import QueuedEngine
from ipython1.kernel.controller.resultgate import ResultGate
from ipython1.kernel.controller.resultkeeper import ResultKeeper
from ipython1.kernel.controller.scheduling.accounts import Batch, Finished
from ipython1.kernel.controller.scheduling.instructions import (
    AskDepend,
    Credit,
    Deliver,
    Instruction,
    Keep,
    Kill,
    Locate,
    Note,
    Refuse,
    Retract,
    Safe,
    Send,
    Stop,
    Tell,
)
from ipython1.kernel.controller.scheduling.machine import TaskMachine
from ipython1.kernel.controller.scheduling.outlook import TaskOutlook
from ipython1.kernel.controller.scheduling.records import Submission, TaskTerms
from ipython1.kernel.controller.taskfunctions import TaskFunctions
from ipython1.kernel.controller.taskhistory import TaskHistory
from ipython1.kernel.controller.taskintake import TaskIntake
from ipython1.kernel.controller.taskrows import TaskRows
from ipython1.kernel.controller.taskschedulers import (
    FIFOScheduler,
    assigner_for,
)
from ipython1.kernel.controller.tasksettings import make_scheduler, settings_from
from ipython1.kernel.wire import taskwire
from ipython1.kernel.wire.frames import Buffer, Bytes
from ipython1.kernel.wire.tasksync import LeaseState, ResyncAnswer

log: Logger = Logger()


class Observer(Protocol):
    """See :class:`ITaskObserver`."""

    def deliver(self, batch: Batch) -> None: ...

    def tell(self, finished: list[Finished]) -> None: ...

    def refuse(self, task_id: int, error: tuple[str, str]) -> None: ...

    def credit(self, accepted: int, tasks: int, size: int) -> None: ...

    def note(self, text: str) -> None: ...

    def output(self, task_id: int, engine: int, stream: bytes, text: bytes) -> None: ...


@implementer(ITaskController)
class TaskController:
    """Adapts a controller to :class:`ITaskController`."""

    def __init__(self, controller: ControllerService) -> None:
        self.controller = controller
        config = controller.task_config
        settings = settings_from(config, controller)
        scheduler = FIFOScheduler() if config is None else make_scheduler(config.scheduler)
        self.machine: TaskMachine = TaskMachine(
            assigner_for(scheduler, settings.prefetch), settings, self._is_held
        )
        self.journal: Journal = controller.journal
        self.now: Callable[[], float] = controller.clock.seconds
        self.soon: Callable[[Callable[[], None]], object] = controller.call_soon
        self.observer: observing.Observer = controller.observer
        self.rows: TaskRows = TaskRows(self._time)
        self.functions: TaskFunctions = TaskFunctions(self.journal, self._function_forgotten)
        self.intake: TaskIntake = TaskIntake(
            self.machine, self.journal, self.now, self._time, self.changed
        )
        self.history: TaskHistory = TaskHistory(
            self.machine, self.journal, self.rows, controller.clients
        )
        self._keeper = ResultKeeper(
            self.machine.clients, self.journal, controller.clock, self.rows, self.changed
        )
        self.machine.clients.closed = lambda: self._keeper.full
        self.gate: ResultGate = ResultGate(lambda: self._keeper.unsafe, self.soon)
        self._faces: dict[int, EngineFace] = {}
        self._observers: dict[bytes, Observer] = {}
        self._leaving: set[bytes] = set()
        self._settling = False
        self._timer: Any = None
        self._due = 0.0
        controller.waits.tasks = TaskOutlook(self.machine)
        controller.drains.tasks = self
        controller.loads.machine = self.machine
        self._begin()

    def _begin(self) -> None:
        """Take over what there is, and hear of changes."""
        controller, recovered = self.controller, self.journal.recovered
        self.functions.restore(recovered.functions)
        self.intake.restore(recovered, self.options)
        owners = {client for row in recovered.functions for client in row.clients}
        self._leaving = owners - {client.uuid for client in recovered.clients}
        self.journal.on_room_do(self.changed)
        controller.observer.tasks_are(self.machine)
        for engine_id in sorted(controller.engines):
            self._engine_came(engine_id)
        controller.on_register_engine_do(self._engine_came, True)
        controller.on_unregister_engine_do(self._engine_went, True)
        controller.on_engine_away_do(self._engine_away, True)
        controller.on_engine_back_do(self._engine_back, True)
        controller.clients.on_client_gone_do(self.leave)
        controller.on_end_do(self.stop)
        self.changed()

    # -- engines

    def _is_held(self, engine_id: int) -> bool:
        engine = self.controller.engines.get(engine_id)
        return engine is not None and engine.running_key is not None

    def _command_turn(self) -> None:
        """An engine is held by a direct command, or free again; tasks may have to move."""
        self.controller.turned()
        if self.machine.tasks:
            self.changed()

    def _engine_came(self, engine_id: int) -> None:
        engine = self.controller.engines[engine_id]
        self._faces[engine_id] = EngineFace(self, engine)
        engine.on_turn = self._command_turn
        stale = not engine.away and bool(engine.hello.holds.runs)
        version, now = engine.properties_version, self.now()
        since = now - (time.time() - engine.registered)
        self.machine.worker_joined(engine_id, version, now, stale, known=False, since=since)
        if engine.away:
            self.machine.worker_away(engine_id)
        self.journal.when_safe(engine.row, lambda: self._engine_known(engine))
        self.changed()

    def _engine_known(self, engine: QueuedEngine) -> None:
        face = self._faces.get(engine.id)
        if face is not None and face.engine is engine:
            self.machine.worker_known(engine.id)
            self.changed()

    def _engine_away(self, engine_id: int) -> None:
        self._faces[engine_id].gone_away()
        self.machine.worker_away(engine_id)
        self.changed()

    def _engine_back(self, engine_id: int) -> None:
        holds = self.controller.engines[engine_id].hello.holds
        self.machine.worker_back(engine_id, holds.runs, holds.ended, self.now())
        self.changed()

    def _engine_went(self, engine_id: int) -> None:
        face = self._faces.pop(engine_id, None)
        if face is not None:
            engine = face.engine
            how = engine.loss_reason, engine.lost_command, engine.blameless
            self.machine.worker_lost(engine_id, self.now(), *how)
            self.changed()

    def drain(self, engine_id: int, draining: bool) -> None:
        self.machine.drain(engine_id, draining)
        self.changed()

    def outstanding(self, engine_id: int) -> int:
        worker = self.machine.workers.get(engine_id)
        return 0 if worker is None else len(worker.outstanding)

    @property
    def engines(self) -> int:
        """How many engines there are."""
        return len(self._faces)

    # -- clients

    def join(self, uuid: bytes, observer: Observer) -> None:
        self._observers[uuid] = observer
        self._leaving.discard(uuid)
        self.machine.clients.joined(uuid)

    def disconnect(self, uuid: bytes, observer: Observer) -> None:
        if self._observers.get(uuid) is observer:
            del self._observers[uuid]
            self.machine.clients.left(uuid)

    def leave(self, uuid: bytes) -> None:
        self._observers.pop(uuid, None)
        self.machine.clients.gone(uuid, self.now())
        self._leaving.add(uuid)
        self.changed()

    def lease(self, uuid: bytes) -> Deferred[tuple[int, int]]:
        lease = self.machine.clients.lease(uuid)
        # A later controller must not give the same ids to somebody else.
        leased: Deferred[tuple[int, int]] = Deferred()
        ticket = self.journal.lease_given(uuid, lease.start, lease.stop)
        self.journal.when_safe(ticket, lambda: leased.callback((lease.start, lease.stop)))
        return leased

    def begin(self, uuid: bytes) -> Deferred[tuple[tuple[int, int], tuple[int, int]]]:
        granted = self.machine.clients.begun(uuid).granted
        return self.lease(uuid).addCallback(lambda block: (block, granted))

    def resync(
        self,
        uuid: bytes,
        missing: Iterable[tuple[int, int]],
        failed: Iterable[tuple[int, int]],
        functions: Iterable[bytes],
    ) -> ResyncAnswer:
        account = self.machine.clients.resynchronised(uuid, missing, self.now(), failed)
        self.changed()
        return ResyncAnswer(
            tuple(LeaseState(each.start, each.stop, each.next) for each in account.leases),
            account.arrived,
            account.arrived_size,
            account.accepted,
            account.granted,
            self.functions.lacking(uuid, functions),
        )

    def add_function(self, uuid: bytes, digest: bytes, data: bytes) -> None:
        self.functions.add(uuid, digest, data)

    def forget_function(self, uuid: bytes, digest: bytes) -> None:
        self._keeper.flush()  # see _forget_functions
        self.functions.forget(uuid, digest)

    def options(self, packed: bytes) -> TaskTerms:
        """What the machine takes for packed options.

        :raises ProtocolError: when they name a function that was not sent.
        """
        spec = taskwire.OptionsSpec.unpack(packed)
        self.functions.check((*spec.functions, *((spec.depend,) if spec.depend else ())))
        return TaskTerms(
            self.machine.templates.get(spec.template),
            spec.retries,
            spec.priority,
            spec.timeout,
            spec.weight,
            spec.depend,
            spec.functions,
            spec.private,
            packed,
            frozenset(spec.targets) if spec.targets else None,
            spec.by_properties,
            spec.aborted,
        )

    def submit(
        self,
        uuid: bytes,
        submissions: Iterable[Submission],
        data: Buffer = b"",
        bodies: Bytes | None = None,
    ) -> None:
        self.intake.submit(uuid, submissions, data, bodies)
        self.changed()

    def refuse(self, uuid: bytes, submissions: Iterable[Submission], reason: str) -> None:
        self.intake.refuse(uuid, submissions, reason)
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

    def fetch(self, uuid: bytes, taskid: int, wait: bool) -> Finished | bool:
        return self.machine.clients.fetch(uuid, taskid, wait)

    def clear(self, uuid: bytes, taskids: Iterable[int] | None = None) -> None:
        cleared = self.machine.clients.clear(uuid, taskids)
        if cleared and self.journal.keeps:
            self._keeper.clear(cleared)

    def spin(self) -> None:
        self.machine.spin(self.now())
        self.changed()

    def queue_status(self, verbose: bool = False) -> dict[str, Any]:
        machine, trouble = self.machine, trouble_of(self.journal)
        status: dict[str, Any] = dict(machine.status() if verbose else machine.counts())
        status["warnings"] = self.controller.warnings
        if verbose:
            reasons: dict[str, list[int]] = {}
            for task_id, why in machine.survey.waiting(trouble):
                reasons.setdefault(why, []).append(task_id)
            status["reasons"] = list(reasons.items())
        return status

    def obstacles(self, uuid: bytes) -> dict[str, Any]:
        return self.machine.survey.obstacles(uuid)

    def output(self, task_id: int, attempt: int, engine: int, stream: bytes, text: bytes) -> None:
        """A task has written something while it runs, which its client is told."""
        record = self.machine.tasks.get(task_id)
        if record is not None and record.attempt == attempt:
            observer = self._observers.get(record.client.uuid)
            if observer is not None:
                observer.output(task_id, engine, stream, text)

    # -- carrying out

    def changed(self) -> None:
        """Something happened; what follows from it is done when this turn is over."""
        if not self._settling:
            self._settling = True
            self.soon(self._settle)

    def _settle(self) -> None:
        self._settling = False
        now = self.now()
        for instruction in self.machine.settle(now):
            try:
                self._carry_out(instruction)
            except Exception:
                log.failure("an instruction of the scheduler could not be carried out")
        due = self.machine.next_tick()
        if due is not None and (self._timer is None or due < self._due):
            if self._timer is not None:
                self._timer.cancel()
            self._due = due
            self._timer = self.controller.clock.callLater(max(0.0, due - now), self._tick)
        if self._leaving:
            self._forget_functions()
        self.controller.turned()
        self.gate.go_on()
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
        self._keeper.stop()

    def _carry_out(self, instruction: Instruction) -> None:
        if isinstance(instruction, Keep):
            self._keeper.add(instruction.batch)
        elif isinstance(instruction, Locate):
            Deferred.fromCoroutine(self._locate(instruction.task_ids))
        elif isinstance(instruction, Deliver | Tell | Refuse | Credit | Note):
            if isinstance(instruction, Deliver):
                self._keeper.delivered(instruction.batch)
            observer = self._observers.get(instruction.client)
            if observer is not None:
                self._tell_client(observer, instruction)
        else:
            face = self._faces.get(instruction.engine)
            if face is not None:
                self._tell_engine(face, instruction)

    async def _locate(self, task_ids: tuple[int, ...]) -> None:
        """Find out where tasks ran that others follow."""
        try:
            engines = await self.history.engines(task_ids, self._faces)
        except JournalError as problem:
            log.warn("it is not known where tasks ran: {reason}", reason=str(problem))
            engines = dict.fromkeys(task_ids)
        self.machine.predecessors.located(engines)
        self.changed()

    def _tell_client(
        self, observer: Observer, instruction: Deliver | Tell | Refuse | Credit | Note
    ) -> None:
        if isinstance(instruction, Deliver):
            if instruction.batch.client.connected:
                observer.deliver(instruction.batch)
        elif isinstance(instruction, Tell):
            observer.tell([instruction.finished])
        elif isinstance(instruction, Refuse):
            observer.refuse(instruction.task_id, instruction.error)
        elif isinstance(instruction, Note):
            observer.note(instruction.text)
        else:
            observer.credit(instruction.accepted, instruction.tasks, instruction.size)

    def _tell_engine(
        self, face: EngineFace, instruction: Send | Retract | Stop | Kill | AskDepend | Safe
    ) -> None:
        if isinstance(instruction, Send):
            self._send_functions(face, instruction)
            face.send_runs(instruction)
        elif isinstance(instruction, Safe):
            face.send(taskwire.SAFE, instruction.row)
        elif isinstance(instruction, Retract):
            face.retract(instruction)
        elif isinstance(instruction, Stop):
            face.stop(instruction)
        elif isinstance(instruction, AskDepend):
            face.send_function(instruction.depend, self.functions.data(instruction.depend))
            face.send(taskwire.ASK_DEPEND, instruction.properties_version, instruction.depend)
        else:
            log.info(
                "engine {id} is killed: {reason}", id=instruction.engine, reason=instruction.reason
            )
            face.engine.kill()

    def _send_functions(self, face: EngineFace, send: Send) -> None:
        last = None
        for record in send.records:
            options = record.options
            if options is not last:
                last = options
                for digest in options.functions:
                    if digest not in face.functions:
                        face.send_function(digest, self.functions.data(digest))

    def _function_forgotten(self, digest: bytes) -> None:
        for face in self._faces.values():
            face.forget_function(digest)

    def _forget_functions(self) -> None:
        """Let go of the functions of clients that are gone and have no tasks left."""
        gone = {uuid for uuid in self._leaving if uuid not in self.machine.clients.accounts}
        self._leaving -= gone
        if gone:
            # A later controller must not find tasks that are not done, and no function for them.
            self._keeper.flush()
        for uuid in gone:
            self.functions.forget_client(uuid)

    def _time(self, now: float) -> float:
        """Seconds since the epoch at a time of the machine."""
        return time.time() - self.now() + now


registerAdapter(TaskController, IControllerBase, ITaskController)
