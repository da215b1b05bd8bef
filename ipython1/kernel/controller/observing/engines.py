"""One engine, for those who look: what it does now, and what it has done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from twisted.logger import Logger

from ipython1.kernel.controller.command import Command
from ipython1.kernel.controller.observing.spans import DIGITS, SpanRecord, Spans
from ipython1.kernel.controller.observing.usage import Usage
from ipython1.kernel.controller.queuedengine import QueuedEngine
from ipython1.kernel.controller.scheduling.records import TaskRecord, WorkerRecord
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.failurenotes import Note
from ipython1.kernel.wire.monitoring import COMMAND, TASK, EngineInfo
from ipython1.kernel.wire.taskwire import Result, Status

log: Logger = Logger()

IDLE: Final = "idle"

_LONGEST: Final = 1e8


class Observed(Protocol):
    """What an engine's watch needs of the whole.

    :ivar on: whether somebody looks.
    """

    on: bool
    spans: Spans

    def now(self) -> float:
        """Seconds of the machine's clock."""

    def epoch(self, moment: float) -> float:
        """Seconds since the epoch at a time of that clock."""

    def changed(self, item: Any) -> None:
        """Something has changed that people look at."""

    def what_of(self, record: TaskRecord) -> str:
        """What a task does, in a few words."""

    def worker_of(self, engine_id: int) -> WorkerRecord | None:
        """The tasks' view of an engine."""

    def command_failed(self, engine_id: int, command: Command, error: str, traceback: str) -> None:
        """A command has failed on an engine."""


class EngineWatch:
    """Watches one engine; the engine and those who send to it tell it what happens.

    :ivar usage: what its process uses.
    :ivar gone: whether it is not there any more, and so is not shown.
    """

    def __init__(self, whole: Observed, engine: QueuedEngine) -> None:
        self._whole = whole
        self.engine = engine
        self.usage: Usage = Usage(engine, self.turn)
        self.gone: bool = False
        self._last: SpanRecord | None = None

    # -- events

    def turn(self) -> None:
        """Something about it has changed."""
        if self._whole.on and not self.gone:
            self._whole.changed(self)

    def began(self, command: Command) -> None:
        """A command has been sent to it."""
        command.begun = self._whole.now()

    def ended(
        self,
        command: Command,
        status: int,
        error: tuple[str, str] | None = None,
        note: Note | None = None,
    ) -> None:
        """A command that was sent is over."""
        try:
            self._ended(command, status, error, note)
        except Exception:
            log.failure("a command cannot be shown")

    def _ended(
        self,
        command: Command,
        status: int,
        error: tuple[str, str] | None,
        note: Note | None,
    ) -> None:
        whole = self._whole
        failed = status != messages.OK or note is not None
        if failed:
            if error is not None:
                text = f"{error[0]}: {error[1]}"
            else:
                text = "" if note is None else note.error
            traceback = "" if note is None else note.traceback
            whole.command_failed(self.engine.id, command, text, traceback)
        if whole.on:
            begun, ended = whole.epoch(command.begun), whole.epoch(whole.now())
            self._span(COMMAND, command.number, command.method, None, begun, ended, 1, int(failed))

    def tasks_ended(
        self, outstanding: dict[int, TaskRecord], results: Sequence[Result], age: float
    ) -> None:
        """Runs of tasks are over, of which it has not been heard before.

        :param outstanding: the tasks that it has, these among them.
        :param age: seconds since the last of them ended.
        """
        whole = self._whole
        ended = whole.epoch(whole.now()) - min(age, _LONGEST)
        whole_time = sum([result[3] for result in results])
        if whole_time > _LONGEST:  # what an engine says may be anything
            return
        begun = moment = ended - whole_time
        group: object = None
        first: TaskRecord | None = None
        count = failed = 0
        for task_id, attempt, status, duration, _ in results:
            record = outstanding.get(task_id)
            if record is not None and record.attempt == attempt:
                if record.options.measured is not group:
                    if first is not None:
                        self._tasks(first, group, begun, moment, count, failed)
                    first, group, begun = record, record.options.measured, moment
                    count = failed = 0
                count += 1
                if status:
                    failed += status is not Status.REJECTED
            moment += duration
        if first is not None:
            self._tasks(first, group, begun, moment, count, failed)
        whole.changed(self)

    def _tasks(
        self,
        first: TaskRecord,
        group: object,
        begun: float,
        ended: float,
        count: int,
        failed: int,
    ) -> None:
        what = self._whole.what_of(first)
        self._span(TASK, first.id, what, group, begun, ended, count, failed)

    def _span(
        self,
        kind: str,
        ident: int,
        what: str,
        group: object,
        begun: float,
        ended: float,
        count: int,
        failed: int,
    ) -> None:
        engine_id = self.engine.id
        self._last = self._whole.spans.add(
            self._last, engine_id, kind, ident, what, group, begun, ended, count, failed
        )

    # -- looking

    def told(self) -> EngineInfo:
        """The engine, as it is now."""
        engine = self.engine
        worker = self._whole.worker_of(engine.id)
        doing, what, since = self._doing(worker)
        return EngineInfo(
            engine.id,
            engine.hello.pid,
            engine.hello.host.partition("|")[0],
            engine.away,
            doing,
            engine.commands.queued,
            what,
            None if since is None else round(self._whole.epoch(since), DIGITS),
            0 if worker is None else len(worker.outstanding),
            self.usage.cpu,
            self.usage.memory,
        )

    def _doing(self, worker: WorkerRecord | None) -> tuple[str, str, float | None]:
        command = self.engine.commands.running
        head = None if worker is None else worker.first()
        if command is not None:
            if worker and head and worker.running == head.key and worker.progress <= command.begun:
                # The task began before the command came, which waits for its end.
                return TASK, self._whole.what_of(head), worker.progress
            return command.method, "", command.begun or None
        if self.engine.running_key is not None:
            return COMMAND, "", None  # from before the controller's restart
        if worker is not None and head is not None:
            return TASK, self._whole.what_of(head), max(worker.progress, worker.given)
        return IDLE, "", None
