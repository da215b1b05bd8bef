"""What an engine has for one controller: its end of the link, and the commands, tasks and waits of that one.

All sides of an engine share its session and its main thread.  What a controller is told of, and what it has for
certain, is its own affair, so each has a side of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ipython1.core.interrupt import InterruptGate
from ipython1.core.livedisplays import LiveDisplays
from ipython1.core.userhandlers import UserHandlers
from ipython1.kernel.engine.end import EngineEnd
from ipython1.kernel.engine.liveoutput import OutputSource
from ipython1.kernel.engine.service import EngineService
from ipython1.kernel.engine.taskrunner import TaskRunner
from ipython1.kernel.engine.tasks import EngineTasks
from ipython1.kernel.engine.taskwatch import TaskWatch
from ipython1.kernel.engine.waits import MainThreadWaits
from ipython1.kernel.engine.worker import Worker, WorkSource
from ipython1.kernel.objects.enginewaits import Waited
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.baselink import Link
from ipython1.kernel.wire.taskwire import MOST_BYTES
from ipython1.kernel.wire.waits import Run


@dataclass(frozen=True)
class Session:
    """What the sides of an engine share.

    :ivar output: what user code writes.
    :ivar displays: what it displays.
    :ivar handlers: its signal handlers.
    :ivar exit_now: ends the process without waiting for user code.
    """

    service: EngineService
    worker: Worker
    gate: InterruptGate
    output: OutputSource
    displays: LiveDisplays
    handlers: UserHandlers
    reactor: Any
    exit_now: Callable[[], None]


class Side:
    """One side.

    :ivar end: its end of the link.
    :ivar tasks: its tasks.
    :ivar waits: the waits of what it has run.
    """

    def __init__(self, session: Session) -> None:
        self._worker, reactor = session.worker, session.reactor
        self.end: EngineEnd = EngineEnd(
            session.worker,
            session.gate,
            session.output,
            reactor,
            session.exit_now,
            session.displays,
        )
        end = self.end
        put_aside = session.handlers.put_aside
        self._runner = TaskRunner(session.service, session.displays, put_aside)
        self.tasks: EngineTasks = EngineTasks(
            self._runner,
            session.gate,
            end.outbox,
            reactor,
            session.worker.wake,
            session.handlers,
        )
        tasks = end.tasks = self.tasks
        watch = TaskWatch(end.output, self._runner, lambda: tasks.running_key, end.outbox, reactor)
        tasks.watch, tasks.ended = watch.begin, watch.ended
        self.waits: MainThreadWaits = MainThreadWaits(
            self._running, tasks.idle, end.outbox, reactor
        )
        end.handlers.update(tasks.handlers)
        end.handlers.update(self.waits.handlers)

    def holds(self) -> messages.Holds:
        """What is left of earlier connections, for the greeting."""
        return self.tasks.add_to(self.end.holds())

    def attach(self, link: Link, welcome: messages.Welcome, instance: str) -> None:
        """The controller has answered a greeting through ``link``.

        :param instance: the state of the controller with which this side was registered before.
        """
        kept = welcome.known and welcome.instance == instance
        self.end.attach(link, welcome, kept)
        self.registered(welcome, kept)

    def registered(self, welcome: messages.Welcome, kept: bool) -> None:
        """The controller knows the engine, perhaps again."""
        self._runner.most_bytes = min(welcome.max_message or MOST_BYTES, MOST_BYTES)
        self.waits.registered()
        self.tasks.registered(kept, -1 if welcome.engine_id is None else welcome.engine_id)

    def _running(self) -> Run | None:
        """What the main thread runs of this side; from any thread."""
        command = self._worker.running
        if command is not None:
            own = command.owner is self.end.commands
            return (command.origin.hex(), command.number) if own else None
        task = self.tasks.running_key
        return None if task is None else ("", task[0])


class SourcesInTurn:
    """The tasks of several sides: each gets its turn.  See :class:`~ipython1.kernel.engine.worker.WorkSource`."""

    def __init__(self, sources: list[WorkSource]) -> None:
        self._sources = deque(sources)

    def run_one(self) -> bool:
        sources = self._sources
        for _ in range(len(sources)):
            source = sources[0]
            sources.rotate(-1)
            if source.run_one():
                return True
            source.idle()
        return False

    def idle(self) -> None:
        for source in self._sources:
            source.idle()

    @property
    def running_key(self) -> tuple[int, int] | None:
        for source in list(self._sources):
            if (key := source.running_key) is not None:
                return key
        return None

    def interrupt(self) -> bool:
        done = [source.interrupt() for source in list(self._sources)]
        return any(done)

    def broken_off(self, trouble: BaseException) -> None:
        for source in list(self._sources):
            source.broken_off(trouble)


class WaitsOfSides:
    """The waits of what any of two sides has run; see :class:`~ipython1.kernel.objects.enginewaits.Waits`."""

    def __init__(self, first: MainThreadWaits, second: MainThreadWaits) -> None:
        self._both = (first, second)

    def begin(self, waited: Waited) -> int:
        for place, waits in enumerate(self._both):
            number = waits.begin(waited)
            if number:
                return 2 * number + place
        return 0

    def end(self, number: int) -> None:
        self._both[number % 2].end(number // 2)
