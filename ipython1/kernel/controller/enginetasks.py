"""One engine, as the task interface has it: its frames in, and the tasks' frames out.

What goes out keeps its order and waits for room on the link, so an engine is not sent more than it takes.  A run that
still waits here when it is to be given back or to end never gets there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from twisted.python.failure import Failure

from ipython1.kernel.basics.error import (
    JournalError,
    KernelError,
    MessageSizeError,
    to_wire,
)
from ipython1.kernel.controller.filepayload import FilePayload
from ipython1.kernel.controller.journal.interface import Journal
from ipython1.kernel.controller.observing.observer import Observer
from ipython1.kernel.controller.queuedengine import QueuedEngine
from ipython1.kernel.controller.resultgate import ResultGate
from ipython1.kernel.controller.scheduling.instructions import Retract, Send, Stop
from ipython1.kernel.controller.scheduling.machine import TaskMachine
from ipython1.kernel.wire import frames, messages, taskwire
from ipython1.kernel.wire.bulk import WritableBuffer, joined, unpack_reference
from ipython1.kernel.wire.failurenotes import PlacedNote, unpack_notes
from ipython1.kernel.wire.frames import Buffer, Bytes
from ipython1.kernel.wire.link import Link
from ipython1.kernel.wire.taskwire import Status


class Tasks(Protocol):
    """What the face of an engine needs of the task controller."""

    machine: TaskMachine
    journal: Journal
    gate: ResultGate
    observer: Observer

    def now(self) -> float: ...

    def output(self, task_id: int, attempt: int, engine: int, stream: bytes, text: bytes) -> None:
        """A task has written something while it runs."""

    def changed(self) -> None:
        """Something happened; what follows from it is done when this turn is over."""

    def soon(self, call: Callable[[], None]) -> object:
        """Call something when this turn is over, or in a later one."""


Key: TypeAlias = tuple[int, int]
Run: TypeAlias = tuple[int, int, int, Bytes | FilePayload]
"""Task id, attempt, flags, payload."""


class EngineFace:
    """Sends and receives what concerns tasks.

    :ivar functions: digests of the functions that the engine has for certain.
    """

    def __init__(self, tasks: Tasks, engine: QueuedEngine) -> None:
        self._tasks = tasks
        self.engine = engine
        self.functions: set[bytes] = set()
        self._old_functions: set[bytes] = set()
        self._runs: deque[Run] = deque()
        self._waiting = False
        for kind, handler in (
            (taskwire.RESULTS, self._results),
            (taskwire.BEGUN, self._begun),
            (taskwire.GIVEN_BACK, self._given_back),
            (taskwire.DEPENDS, self._depends),
            (taskwire.TASK_OUTPUT, self._output),
            (frames.PROPERTIES, self._properties),
        ):
            engine.handle(kind, handler)

    def gone_away(self) -> None:
        """The link is lost; what was on its way may not have come."""
        self._old_functions |= self.functions
        self.functions.clear()
        self._runs.clear()
        self._waiting = False

    # -- out

    def send_function(self, digest: bytes, data: bytes) -> None:
        """Have the engine know a function."""
        link = self.engine.link
        if digest in self.functions or link is None:
            return
        self.functions.add(digest)
        self._old_functions.discard(digest)
        link.send_bytes(taskwire.FUNCTION, 0, digest, data)

    def forget_function(self, digest: bytes) -> None:
        """No task will refer to a function any more."""
        if digest in self.functions or digest in self._old_functions:
            self.functions.discard(digest)
            self._old_functions.discard(digest)
            self.send(taskwire.FORGET, 0, digest)

    def send_runs(self, send: Send) -> None:
        """Have the engine run tasks."""
        self._tasks.observer.engine_changed(self.engine.id)
        guarded = send.guarded
        self._runs.extend(
            (
                record.id,
                record.attempt,
                taskwire.GUARDED if record.id in guarded else 0,
                record.payload,
            )
            for record in send.records
        )
        self._send_runs()

    def _send_runs(self) -> None:
        """Send runs as long as there is room for them."""
        link = self.engine.link
        while link is not None and self._runs and not self._waiting:
            if not link.has_room:
                self._waiting = True
                link.when_room(lambda: self._go_on(link))
                return
            self._send_some(link)

    def _go_on(self, link: Link) -> None:
        if link is self.engine.link:
            self._waiting = False
            self._send_runs()

    def _send_some(self, link: Link) -> None:
        """Send runs that are not too large together."""
        runs = self._runs
        rows: list[tuple[int, int, int, bytes]] = []
        size = 0
        while runs and size < frames.MAX_BATCH:
            run = runs[0]
            payload = run[3]
            if not isinstance(payload, bytes) or len(payload) > taskwire.INLINE:
                break
            rows.append(run)  # type: ignore[arg-type]  # its payload is not in a file
            runs.popleft()
            size += len(payload)
        for parts, length in taskwire.pack_runs(rows):
            link.send_packed(parts, length)
        if runs and not rows:
            self._send_large(link, *runs.popleft())

    def _send_large(
        self, link: Link, task_id: int, attempt: int, flags: int, payload: Bytes | FilePayload
    ) -> None:
        if isinstance(payload, FilePayload):
            self._read(link, task_id, attempt, flags, payload)
            return

        def ended(reason: str | None) -> None:
            if reason is not None and not link.lost:
                self._refused(task_id, attempt, len(payload), reason)

        head = taskwire.pack_run(task_id, attempt, 0, flags)
        link.send_large(taskwire.RUN, 0, head, [payload], ended)

    def _read(
        self, link: Link, task_id: int, attempt: int, flags: int, payload: FilePayload
    ) -> None:
        """Read a payload, and send it before what waits behind it."""
        self._waiting = True
        placeholder: Run = (task_id, attempt, flags, b"")
        self._runs.appendleft(placeholder)

        def read(data: bytes) -> None:
            if self._runs and self._runs[0] is placeholder:
                self._runs[0] = (task_id, attempt, flags, data)
            self._go_on(link)

        def failed(failure: Failure) -> None:
            if self._runs and self._runs[0] is placeholder:
                self._runs.popleft()
                self._failed(task_id, attempt, JournalError(failure.getErrorMessage()))
            self._go_on(link)

        payload.read(self._tasks.journal).addCallbacks(read, failed)

    def _refused(self, task_id: int, attempt: int, size: int, reason: str) -> None:
        """The engine does not take a task."""
        problem = MessageSizeError(
            f"engine {self.engine.id} did not take task {task_id} ({size} bytes): {reason}"
        )
        self._failed(task_id, attempt, problem)

    def _failed(self, task_id: int, attempt: int, problem: KernelError, row: int = 0) -> None:
        data = messages.pack_json(to_wire(problem))
        self._ended([(task_id, attempt, Status.REFUSED, 0.0, data)], row)

    def stop(self, stop: Stop) -> None:
        """Have the engine drop a run, or interrupt it."""
        if self._take_back([(stop.task_id, stop.attempt)]):
            return
        verdict = b"" if stop.verdict is None else stop.verdict.pack()
        self.send(taskwire.STOP, stop.task_id, taskwire.pack_attempt(stop.attempt), verdict)

    def retract(self, retract: Retract) -> None:
        """Ask the engine for runs."""
        back = self._take_back(retract.runs)
        left = [key for key in retract.runs if key not in back]
        if left:
            self.send(taskwire.RETRACT, 0, b"", taskwire.pack_keys(left))

    def _take_back(self, keys: Sequence[Key]) -> set[Key]:
        """Drop runs that wait here, and give them back."""
        if not self._runs:
            return set()
        wanted = set(keys)
        back = {run[:2] for run in self._runs if run[:2] in wanted}
        if back:
            self._runs = deque(run for run in self._runs if run[:2] not in back)
            # The machine is not told in the middle of its own instructions.
            self._tasks.soon(lambda: self._gave_back(back))
        return back

    def _gave_back(self, runs: set[Key]) -> None:
        self._tasks.machine.retracted(self.engine.id, runs, self._tasks.now())
        self._tasks.changed()

    def send(self, kind: int, ident: int, meta: bytes = b"", payload: bytes = b"") -> None:
        """Send something small."""
        if self.engine.link is not None:
            self.engine.link.send(kind, ident, meta, payload)

    # -- in

    def _results(self, flags: int, first: int, meta: Buffer, payload: Buffer) -> None:
        if not flags & frames.BULK:
            results = taskwire.unpack_results(payload)
            age, notes = unpack_notes(meta)
            self._tasks.observer.runs_ended(self.engine.id, results, age, notes)
            self._ended(results, first, notes)
            return
        task_id, attempt, status, duration = taskwire.unpack_result_head(meta)
        age, notes = unpack_notes(meta[taskwire.RESULT_HEAD :])
        observer = self._tasks.observer
        announced = [(task_id, attempt, status, duration, b"")]
        observer.runs_ended(self.engine.id, announced, age, notes)
        link = self.engine.link
        assert link is not None
        relay = link.bulk.relay(unpack_reference(payload))
        self._tasks.machine.arriving(self.engine.id, task_id, attempt, self._tasks.now(), first)

        def complete(buffers: list[WritableBuffer] | None, reason: str) -> None:
            if buffers is not None:
                whole = joined(buffers)
                self._ended([(task_id, attempt, status, duration, whole)], first, notes)
            elif not link.lost:  # otherwise it will be sent again
                problem = MessageSizeError(f"the result of task {task_id} did not arrive: {reason}")
                self._failed(task_id, attempt, problem, first)

        self._tasks.gate.take(link.bulk, relay, complete)

    def _ended(
        self, results: Sequence[taskwire.Result], first: int, notes: Sequence[PlacedNote] = ()
    ) -> None:
        if notes:
            self._tasks.observer.note(results, notes)
        self._tasks.machine.results(self.engine.id, results, self._tasks.now(), first)
        if notes:
            self._tasks.observer.note((), ())
        self._tasks.changed()

    def _begun(self, flags: int, task_id: int, meta: Buffer, payload: Buffer) -> None:
        attempt = taskwire.unpack_attempt(meta)
        self._tasks.machine.running(self.engine.id, task_id, attempt, self._tasks.now())
        self._tasks.observer.engine_changed(self.engine.id)
        self._tasks.changed()

    def _output(self, flags: int, task_id: int, meta: Buffer, payload: Buffer) -> None:
        size = taskwire.ATTEMPT_SIZE
        attempt = taskwire.unpack_attempt(meta[:size])
        stream, text = bytes(meta[size:]), bytes(payload)
        self._tasks.output(task_id, attempt, self.engine.id, stream, text)

    def _given_back(self, flags: int, ident: int, meta: Buffer, payload: Buffer) -> None:
        runs = taskwire.unpack_keys(payload)
        self._tasks.machine.retracted(self.engine.id, runs, self._tasks.now())
        self._tasks.changed()

    def _depends(self, flags: int, version: int, meta: Buffer, payload: Buffer) -> None:
        depend, answer, problem = taskwire.unpack_depends(meta)
        self._tasks.machine.depend_answer(
            self.engine.id, depend, version, answer, self._tasks.now(), problem
        )
        self._tasks.changed()

    def _properties(self, flags: int, version: int, meta: Buffer, payload: Buffer) -> None:
        self.engine.properties_version = version
        self._tasks.machine.properties_changed(self.engine.id, version, self._tasks.now())
        self._tasks.changed()
