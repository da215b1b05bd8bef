"""All that the controller knows for those who look.

:class:`Observer` is told what happens, by the registry of engines, by the engines' commands and by the Task interface,
and answers :meth:`Observer.news`.  A mark names what its holder knows: up to which version the present, and up to
which the timeline.  An answer to a mark that is not known has all of the present; the timeline follows in pieces, so
that nothing else has to wait for it.

==============  =========================================  ==========================================================
it is           on                                         becomes
==============  =========================================  ==========================================================
off             :meth:`~Observer.news`                     beginning: the question is answered at the next tick
beginning       a tick                                     on
on, beginning   nobody has asked for :data:`PATIENCE` s    off; all marks are void
==============  =========================================  ==========================================================
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol, TypeAlias

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from ipython1.kernel.controller.command import Command
from ipython1.kernel.controller.idset import IdSet
from ipython1.kernel.controller.observing.changes import Changes
from ipython1.kernel.controller.observing.engines import EngineWatch
from ipython1.kernel.controller.observing.failures import FailureRecord, Failures
from ipython1.kernel.controller.observing.meters import Lateness, Rate
from ipython1.kernel.controller.observing.spans import DIGITS, SpanRecord, Spans
from ipython1.kernel.controller.observing.works import WorkRecord, Works
from ipython1.kernel.controller.queuedengine import QueuedEngine
from ipython1.kernel.controller.scheduling.accounts import Finished
from ipython1.kernel.controller.scheduling.machine import TaskMachine
from ipython1.kernel.controller.scheduling.records import TaskRecord, WorkerRecord
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.failurenotes import Note, PlacedNote
from ipython1.kernel.wire.monitoring import COMMAND, TASK, News, TaskCounts, Traffic
from ipython1.kernel.wire.taskwire import Result, Status

log: Logger = Logger()

PATIENCE: Final = 10.0
"""Seconds after the last question for which things are gathered."""

TICK: Final = 0.25
"""Seconds between looks at what has to be looked at."""

PER_SECOND: Final = 200
"""Engines whose processes are looked at in a second, if there are so many."""

SURVEYED: Final = 2000
"""Engines that are gone through in a second to count what runs."""

_MOST_GONE: Final = 1000

_FEW = 5000
"""Tasks with failed items that are looked for each time among those that were not cleared."""
_MOST_MARKS: Final = 5000


class Counts(Protocol):
    """Counts the bytes of messages.

    :ivar received: from engines and clients so far.
    :ivar sent: to them.
    """

    received: int
    sent: int


class NoCounts:
    """Counts nothing."""

    received = 0
    sent = 0


class Gone:
    """An engine is not there any more."""

    __slots__ = ("engine_id",)

    def __init__(self, engine_id: int) -> None:
        self.engine_id: int = engine_id


Item: TypeAlias = EngineWatch | WorkRecord | FailureRecord | Gone


class Observer:
    """Gathers, and tells.

    :param clock: the machine's.
    :param label_of: who a client is, for people, by its uuid.
    :param clients: tells how many are connected.
    :param wall: seconds since the epoch.
    :ivar on: whether somebody looks.
    :ivar name: the cluster id.
    """

    def __init__(
        self,
        clock: IReactorTime,
        label_of: Callable[[bytes], str],
        clients: Callable[[], int],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._label_of = label_of
        self._clients = clients
        self._wall = wall
        self._offset = wall() - clock.seconds()
        self.started: float = self.epoch(clock.seconds())
        self.name: str = ""
        self.on: bool = False
        self._changes: Changes[Item] = Changes()
        self._timeline: Changes[SpanRecord] = Changes()
        # The marks of an earlier controller are others, as it gave fewer than a million in a second.
        self._mark = int(wall() * 1e6)
        self._marks: OrderedDict[int, tuple[int, int]] = OrderedDict()
        self.changed: Callable[[Item], None] = self._changes.changed
        self.spans: Spans = Spans(self._timeline.changed, self._timeline.forget)
        self.works: Works = Works(self.changed, self._changes.forget, self.epoch)
        self.failures: Failures = Failures(self.changed, self._changes.forget)
        self._engines: dict[int, EngineWatch] = {}
        self._gone: OrderedDict[int, Gone] = OrderedDict()
        self._notes: dict[tuple[int, int], Note] = {}
        self._machine: TaskMachine | None = None
        self.counts: Counts = NoCounts()
        self.done: int = 0
        self._rate = Rate(3)
        self._lateness = Lateness()
        self._timer: Any = None
        self._due = self._asked = self._surveyed = 0.0
        self._tasks = TaskCounts()
        self._partly: set[int] = set()
        self._succeeded_before = 0
        self._looked = 0.0
        self._next_looks: list[EngineWatch] = []
        self._waiting: list[Deferred[None]] = []

    # -- time

    def now(self) -> float:
        return self._clock.seconds()

    def epoch(self, moment: float) -> float:
        return moment + self._offset

    # -- engines

    def engine_came(self, engine: QueuedEngine) -> None:
        """There is an engine, perhaps with the id of one that was there before."""
        old = self._engines.get(engine.id)
        if old is not None:
            self._not_there(old)
        watch = self._engines[engine.id] = EngineWatch(self, engine)
        engine.watched_by(watch)
        self.engine_changed(engine.id)
        self.spans.engines_are(len(self._engines))

    def engine_changed(self, engine_id: int) -> None:
        """An engine is another one, is out of reach, or is back; or it has other tasks."""
        watch = self._engines.get(engine_id)
        if self.on and watch is not None:
            self.changed(watch)
            gone = self._gone.pop(engine_id, None)
            if gone is not None:
                self._changes.forget(gone)

    def engine_gone(self, engine_id: int) -> None:
        """An engine is not there any more."""
        watch = self._engines.pop(engine_id, None)
        if watch is None:
            return
        self._not_there(watch)
        self.spans.engines_are(len(self._engines))
        if self.on:
            gone = self._gone[engine_id] = Gone(engine_id)
            self.changed(gone)
            if len(self._gone) > _MOST_GONE:
                _, oldest = self._gone.popitem(last=False)
                self._changes.forget(oldest)

    def _not_there(self, watch: EngineWatch) -> None:
        watch.gone = True
        self._changes.forget(watch)

    def command_failed(self, engine_id: int, command: Command, error: str, traceback: str) -> None:
        self.failures.add(
            COMMAND,
            command.number,
            command.method,
            engine_id,
            error,
            traceback,
            self.epoch(self.now()),
        )

    # -- tasks

    def tasks_are(self, machine: TaskMachine) -> None:
        """The tasks of this controller, some of them from before its restart."""
        self._machine = machine
        machine.store.observer = self
        records = list(machine.tasks.values())
        if records:
            self.works.submitted(records, self.now())

    def worker_of(self, engine_id: int) -> WorkerRecord | None:
        return None if self._machine is None else self._machine.workers.get(engine_id)

    def what_of(self, record: TaskRecord) -> str:
        return self.works.what_of(record.options)

    def accepted(self, records: Sequence[TaskRecord]) -> None:
        """Tasks of one client are there."""
        try:
            self.works.submitted(records, self.now())
        except Exception:
            log.failure("new tasks cannot be shown")

    def runs_ended(
        self,
        engine_id: int,
        results: Sequence[Result],
        age: float,
        notes: Sequence[PlacedNote] = (),
    ) -> None:
        """Runs have ended on an engine; the machine is told after this.

        :param age: seconds since the last of them ended.
        """
        watch, worker = self._engines.get(engine_id), self.worker_of(engine_id)
        if not self.on or watch is None or worker is None:
            return
        if notes:
            noted = {place for place, _ in notes}
            results = [
                (*row[:2], Status.FAILED if place in noted else row[2], *row[3:])
                for place, row in enumerate(results)
            ]
        try:
            watch.tasks_ended(worker.outstanding, results, age)
        except Exception:
            log.failure("what engine {id} did cannot be shown", id=engine_id)

    def note(self, results: Sequence[Result], notes: Iterable[PlacedNote]) -> None:
        """This is told of some of the results that the machine gets now, by their place among them."""
        self._notes = {results[place][:2]: note for place, note in notes if place < len(results)}

    def finished(self, done: Sequence[Finished]) -> None:
        """Tasks are done."""
        self.done += len(done)
        try:
            self._finished(done)
        except Exception:
            # Whatever is wrong with what is shown, their results must not suffer.
            log.failure("tasks that are done cannot be shown")

    def _finished(self, done: Sequence[Finished]) -> None:
        self.works.finished(done)
        if self._notes or done[0].status or done[-1].status:
            for finished in done:
                note = self._notes.pop((finished.id, finished.attempt), None)
                if finished.status or note is not None:
                    self._failed(finished, note)

    def _failed(self, finished: Finished, note: Note | None) -> None:
        task: Any = finished.task
        if note is not None and not finished.status:
            self.works.items_failed(task, note.items)
            self._partly.add(finished.id)
        error, traceback = ("", "") if note is None else (note.error, note.traceback)
        if finished.error is not None:
            error = ": ".join(finished.error)
        elif note is None and finished.status and finished.payload:
            error = _refusal(finished)
        self.failures.add(
            TASK,
            finished.id,
            self.what_of(task),
            finished.engine if finished.engine >= 0 else None,
            error,
            traceback,
            self.epoch(finished.completed),
        )

    # -- looking

    def engine(self, engine_id: int) -> EngineWatch | None:
        """The watch of an engine."""
        return self._engines.get(engine_id)

    def news(self, mark: int = 0) -> Deferred[News]:
        """What has changed since ``mark``; everything if that is 0 or not known."""
        self._asked = self.now()
        if not self.on:
            self._begin()
        if not self._waiting:
            return succeed(self._news(mark))
        begun: Deferred[None] = Deferred()
        self._waiting.append(begun)
        return begun.addCallback(lambda _: self._news(mark))

    def _begin(self) -> None:
        self.on = True
        self._offset = self._wall() - self._clock.seconds()
        self._marks.clear()
        for gone in self._gone.values():
            self._changes.forget(gone)
        self._gone.clear()
        self._rate.clear()
        self._lateness.clear()
        self._sample()
        self.spans.expire(self.epoch(self.now()))
        for watch in self._engines.values():
            watch.usage.begin()
            watch.usage.look(self.now(), TICK)
            self.changed(watch)
        self._waiting.append(Deferred())
        self._due = self.now() + TICK
        self._timer = self._clock.callLater(TICK, self._tick, True)

    def _tick(self, is_first: bool = False) -> None:
        now = self.now()
        self._timer = None
        self._lateness.came(now, self._due)
        self._sample()
        self.spans.expire(self.epoch(now))
        if now - self._asked > PATIENCE:
            self.stop()
            return
        self._look(now, len(self._engines) if is_first else 0)
        self._due = now + TICK
        self._timer = self._clock.callLater(TICK, self._tick)
        waiting, self._waiting = self._waiting, []
        for begun in waiting:
            begun.callback(None)

    def stop(self) -> None:
        """Gather nothing until somebody asks."""
        self.on = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waiting = []

    def _sample(self) -> None:
        self._rate.sample(self.now(), self.done, self.counts.received, self.counts.sent)

    def _look(self, now: float, at_least: int) -> None:
        """Look at the processes of some engines."""
        engines = len(self._engines)
        interval = max(1.0, engines / PER_SECOND)
        count = max(at_least, int((now - self._looked) * engines / interval))
        if not count:
            return
        self._looked = now
        while count > 0 and engines:
            if not self._next_looks:
                self._next_looks = list(self._engines.values())[:engines]
                engines = 0
            part, self._next_looks = self._next_looks[:count], self._next_looks[count:]
            count -= len(part)
            for watch in part:
                watch.usage.look(now, interval)

    def _survey(self, now: float) -> None:
        """Count what runs, not too often."""
        machine = self._machine
        if machine is None or now < self._surveyed:
            return
        self._surveyed = now + max(0.0, len(machine.workers) / SURVEYED - 0.02)
        heads = [head for worker in machine.workers.values() if (head := worker.first())]
        self.works.running_are(heads)
        store = machine.store
        partly = self._count_partly(store.succeeded)
        known = len(machine.tasks) + len(machine.clients.arriving())
        self._tasks = TaskCounts(
            known - len(heads),
            len(heads),
            len(store.succeeded) - partly,
            len(store.failed) + partly,
        )

    def _count_partly(self, succeeded: IdSet) -> int:
        """Return how many tasks that succeeded hold items that failed, without those that were cleared."""
        if len(succeeded) < self._succeeded_before or len(self._partly) <= _FEW:
            self._partly = {task_id for task_id in self._partly if task_id in succeeded}
        self._succeeded_before = len(succeeded)
        return len(self._partly)

    def _news(self, mark: int) -> News:
        now = self.now()
        self._survey(now)
        changes, timeline = self._changes, self._timeline
        changes.release(now)
        timeline.release(now)
        known = self._marks.get(mark)
        items, present = changes.everything() if known is None else changes.since(known[0])
        spans, past = timeline.since(0 if known is None else known[1])
        whole = known is None
        if known != (present, past):
            mark = self._new_mark(present, past)
        done, received, sent = self._rate.rates()
        tasks = self._tasks
        counts = (tasks.scheduled, tasks.pending, tasks.succeeded, tasks.failed)
        return News(
            mark,
            whole,
            round(self.epoch(now), DIGITS),
            round(self.started, DIGITS),
            self.name,
            self._clients(),
            TaskCounts(*counts, round(done, 1)),
            Traffic(round(received), round(sent), round(self._lateness.worst, 5)),
            tuple(each.told() for each in items if type(each) is EngineWatch),
            tuple(each.engine_id for each in items if type(each) is Gone and not whole),
            tuple(
                each.told(self._label_of(each.client)) for each in items if type(each) is WorkRecord
            ),
            tuple(each.told() for each in spans),
            tuple(each.told for each in items if type(each) is FailureRecord),
        )

    def _new_mark(self, present: int, past: int) -> int:
        self._mark += 1
        self._marks[self._mark] = (present, past)
        if len(self._marks) > _MOST_MARKS:
            self._marks.popitem(last=False)
        return self._mark


def _refusal(finished: Finished) -> str:
    """The kernel's error in a result."""
    try:
        name, message = messages.unpack_json(finished.payload)
    except Exception:
        return ""  # it is what user code raised, which clients only can read
    return f"{name}: {message}"
