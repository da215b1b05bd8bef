"""Pretended engines and clients around a real task machine, on a virtual clock; used by several tests.

:class:`World` runs by itself, for timing.  The property test drives :class:`PretendedEngine` step by step.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from ipython1.kernel.controller.scheduling.accounts import Finished
from ipython1.kernel.controller.scheduling.assigners import Assigner, BulkAssigner
from ipython1.kernel.controller.scheduling.instructions import (
    AskDepend,
    Credit,
    Deliver,
    Instruction,
    Kill,
    Note,
    Retract,
    Safe,
    Send,
    Stop,
    Tell,
)
from ipython1.kernel.controller.scheduling.machine import TaskMachine
from ipython1.kernel.controller.scheduling.prefetch import Prefetch
from ipython1.kernel.controller.scheduling.queues import FIFOLine
from ipython1.kernel.controller.scheduling.records import TaskRecord, TaskTerms
from ipython1.kernel.controller.scheduling.seams import TaskSettings
from ipython1.kernel.wire.taskwire import Status

CLIENT = b"c" * 16


@dataclass
class Run:
    """One run of a task on an engine."""

    task_id: int
    attempt: int
    payload: bytes
    guarded: bool

    @property
    def key(self) -> tuple[int, int]:
        return (self.task_id, self.attempt)


Row = tuple[int, int, int, float, bytes]
"""A result as an engine tells it."""


@dataclass
class PretendedEngine:
    """What an engine does with tasks: an inbox, one run at a time, results told in batches.

    :ivar kept: results that were told and are not safe, by the number of their rows.
    """

    id: int
    inbox: deque[Run] = field(default_factory=deque)
    current: Run | None = None
    unsent: list[Row] = field(default_factory=list)
    begun: list[tuple[int, int]] = field(default_factory=list)
    kept: dict[int, Row] = field(default_factory=dict)
    rows: int = 0
    away: bool = False

    def receive(self, send: Send) -> None:
        for record in send.records:
            self.inbox.append(
                Run(record.id, record.attempt, record.payload, record.id in send.guarded)
            )

    def begin(self) -> Run | None:
        """Begin the next run, if there is one and nothing runs."""
        if self.current is None and self.inbox and not self.away:
            self.current = self.inbox.popleft()
            self.begun.append(self.current.key)
        return self.current

    def end(self, status: Status, duration: float = 0.001, payload: bytes = b"") -> None:
        """End the current run."""
        assert self.current is not None
        self.unsent.append((*self.current.key, int(status), duration, payload))
        self.current = None

    def give_back(self, runs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        wanted = set(runs)
        given = [run.key for run in self.inbox if run.key in wanted]
        self.inbox = deque(run for run in self.inbox if run.key not in wanted)
        return given

    def stop(self, key: tuple[int, int]) -> bool:
        """Drop it from the inbox or interrupt it; False when it is neither."""
        if self.current is not None and self.current.key == key:
            self.end(Status.STOPPED)
            return True
        if self.give_back([key]):
            self.unsent.append((*key, int(Status.STOPPED), 0.0, b""))
            return True
        return False

    def take_unsent(self) -> tuple[int, list[Row]]:
        """The number of the first row that was not told, and the rows."""
        first = self.rows + 1
        unsent, self.unsent = self.unsent, []
        self.rows += len(unsent)
        self.kept.update(zip(range(first, self.rows + 1), unsent, strict=True))
        return first, unsent

    def safe(self, row: int) -> None:
        """All up to a row may be forgotten."""
        for number in [number for number in self.kept if number <= row]:
            del self.kept[number]

    def holds(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """What it says when it comes back: runs that wait or run, and those that have ended."""
        runs = [self.current.key] if self.current is not None else []
        runs += [run.key for run in self.inbox]
        ended = [(row[0], row[1]) for row in (*self.kept.values(), *self.unsent)]
        return runs, ended


class World:
    """A machine, engines and one client that run on a virtual clock.

    :param duration: seconds that a task takes, from its payload.
    :param latency: seconds of a message.
    :param overhead: seconds an engine needs for a task besides its duration.
    """

    flush_after = 0.002

    def __init__(
        self,
        engines: int,
        duration: Callable[[bytes], float] = lambda payload: float(payload or b"0"),
        latency: float = 0.0004,
        overhead: float = 0.00002,
        assigner: Assigner | None = None,
        settings: TaskSettings | None = None,
    ) -> None:
        self.now = 0.0
        self.latency = latency
        self.overhead = overhead
        self.duration = duration
        self.machine = TaskMachine(
            BulkAssigner(FIFOLine, Prefetch()) if assigner is None else assigner, settings
        )
        self.engines: dict[int, PretendedEngine] = {}
        self.finished: dict[int, Finished] = {}
        self.messages = 0
        self.retracted = 0
        self.largest_batch = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._ids: deque[int] = deque()
        self._last_flush: dict[int, float] = {}
        self._tick_at: float | None = None
        self.machine.clients.joined(CLIENT)
        self.machine.clients.begun(CLIENT)
        for number in range(engines):
            self.engines[number] = PretendedEngine(number)
            self._last_flush[number] = 0.0
            self.machine.worker_joined(number, 0, 0.0)
        self._settle()

    def options(self, kind: bytes = b"f", **options: Any) -> TaskTerms:
        return TaskTerms(self.machine.templates.get(kind), **options)

    def submit(self, tasks: Iterable[tuple[TaskTerms, bytes]]) -> list[int]:
        submissions = []
        for options, payload in tasks:
            if not self._ids:
                lease = self.machine.clients.lease(CLIENT)
                self._ids.extend(range(lease.start, lease.stop))
            submissions.append((self._ids.popleft(), options, payload, ()))
        self.machine.submit(CLIENT, submissions, self.now)
        self._settle()
        return [submission[0] for submission in submissions]

    def at(self, delay: float, function: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay, next(self._numbers), function))

    def run(self, until: Callable[[], bool]) -> float:
        """Go on until ``until()``; returns the time."""
        while not until():
            assert self._events, f"nothing happens any more: {self.machine.status()}"
            self.now, _, function = heapq.heappop(self._events)
            function()
        return self.now

    def run_all(self, ids: list[int]) -> float:
        wanted = set(ids)
        return self.run(lambda: wanted <= self.finished.keys())

    def _settle(self) -> None:
        for instruction in self.machine.settle(self.now):
            self._carry_out(instruction)
        due = self.machine.next_tick()
        if due is not None and (self._tick_at is None or due < self._tick_at):
            self._tick_at = due
            self.at(max(0.0, due - self.now), self._tick)

    def _tick(self) -> None:
        self._tick_at = None
        self.machine.tick(self.now)
        self._settle()

    def _carry_out(self, instruction: Instruction) -> None:
        self.messages += 1
        match instruction:
            case Send(engine=number):
                self.largest_batch = max(self.largest_batch, len(instruction.records))
                # The records go on to change; what is sent is what they say now.
                copied = PretendedEngine(number)
                copied.receive(instruction)
                self.at(self.latency, lambda: self._arrived(number, copied.inbox))
            case Retract(engine=number, runs=runs):
                self.at(self.latency, lambda: self._asked_back(number, runs))
            case Deliver(batch=batch):
                for item in batch.finished:
                    assert item.id not in self.finished, f"task {item.id} was delivered twice"
                    self.finished[item.id] = item
                self.machine.clients.confirm(CLIENT, batch.number, self.now)
            case Stop() | Kill() | AskDepend():
                raise AssertionError(f"not expected here: {instruction}")
            case Credit() | Safe() | Tell() | Note():
                pass

    def _asked_back(self, number: int, runs: tuple[tuple[int, int], ...]) -> None:
        given = self.engines[number].give_back(runs)
        self.retracted += len(given)

        def told() -> None:
            self.machine.retracted(number, given, self.now)
            self._settle()

        self.at(self.latency, told)

    def _arrived(self, number: int, runs: Iterable[Run]) -> None:
        engine = self.engines[number]
        engine.inbox.extend(runs)
        if engine.current is None:
            self._begin(engine)

    def _begin(self, engine: PretendedEngine) -> None:
        run = engine.begin()
        if run is None:
            return
        takes = self.duration(run.payload) + self.overhead
        if takes > self.flush_after:
            self._flush_soon(engine)
        self.at(takes, lambda: self._ended(engine, takes))

    def _ended(self, engine: PretendedEngine, takes: float) -> None:
        engine.end(Status.OK, takes)
        if not engine.inbox or self.now - self._last_flush[engine.id] >= self.flush_after:
            self._flush(engine)
        self._begin(engine)

    def _flush_soon(self, engine: PretendedEngine) -> None:
        if engine.unsent:
            self.at(self.flush_after, lambda: self._flush(engine))

    def _flush(self, engine: PretendedEngine) -> None:
        self._last_flush[engine.id] = self.now
        first, unsent = engine.take_unsent()
        if not unsent:
            return

        def arrived() -> None:
            self.machine.results(engine.id, unsent, self.now, first)
            self._settle()

        self.messages += 1
        self.at(self.latency, arrived)


def task_ids(records: Iterable[TaskRecord]) -> list[int]:
    """The ids of some records."""
    return [record.id for record in records]
