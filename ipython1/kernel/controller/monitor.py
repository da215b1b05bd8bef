"""The Monitor interface: looking at a controller without touching anything.

What it tells is status: engines, queues, counts, and what was run when, by whom and how it ended.  It has the names of
functions, and errors with their tracebacks (and the lines of code in these) unless the setting ``failures`` of
``[monitor]`` is off.  It has no other code, no objects, and no way to change anything, so its FURL can be given to a
colleague or to a program that watches clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.python.components import registerAdapter
from zope.interface import Attribute, Interface, implementer

from ipython1.kernel.basics.error import InvalidEngineID
from ipython1.kernel.controller.controllerservice import ControllerService, IControllerBase
from ipython1.kernel.controller.journal.rows import CommandHistory, TaskHistory
from ipython1.kernel.controller.queuedengine import QueuedEngine
from ipython1.kernel.controller.visits import SHORT
from ipython1.kernel.wire.monitoring import (
    COMMAND,
    TASK,
    EngineInfo,
    HistoryEntry,
    News,
)
from ipython1.kernel.wire.taskwire import Status

MOST_ENTRIES: Final = 10_000
"""Entries of the history that one question can ask for."""


class IMonitor(Interface):
    """Looks at a controller."""

    controller: Any = Attribute("The adapted controller.")

    def get_ids() -> list[int]:
        """The ids of all engines, sorted."""

    def engines() -> list[EngineInfo]:
        """All engines, in the order of their ids."""

    def queue_status(targets: Sequence[int] | None) -> list[tuple[int, dict[str, Any]]]:
        """A list of ``(id, {'pending': ..., 'queue': [...]})`` with the methods of commands."""

    def task_status(verbose: bool) -> dict[str, Any]:
        """Counts of tasks by state, or their ids; empty if this controller has no Task interface."""

    def news(mark: int) -> Deferred[News]:
        """What has changed since an earlier answer, whose ``mark`` is given; everything if it is 0 or not known.

        The controller gathers it only while somebody asks for it.  The first answer after a pause takes a quarter of a
        second, as rates have to be measured.
        """

    def history(limit: int, before: float | None) -> Deferred[list[HistoryEntry]]:
        """The last ``limit`` tasks that are done and commands, the latest first; those before a time.

        Without a journal: the tasks whose results are in memory, and no commands.
        """


@implementer(IMonitor)
class Monitor:
    """Adapts a controller to :class:`IMonitor`."""

    def __init__(self, controller: ControllerService) -> None:
        self.controller = controller

    def get_ids(self) -> list[int]:
        return sorted(self.controller.engines)

    def engines(self) -> list[EngineInfo]:
        watches = map(self.controller.observer.engine, sorted(self.controller.engines))
        return [watch.told() for watch in watches if watch is not None]

    def queue_status(self, targets: Sequence[int] | None) -> list[tuple[int, dict[str, Any]]]:
        engines = self.controller.engines
        chosen = sorted(engines) if targets is None else list(targets)
        missing = [engine_id for engine_id in chosen if engine_id not in engines]
        if missing:
            raise InvalidEngineID(f"there is no engine {missing[0]}")
        return [(engine_id, _queue(engines[engine_id])) for engine_id in chosen]

    def task_status(self, verbose: bool) -> dict[str, Any]:
        tasks = self.controller.interfaces.get(TASK)
        return {} if tasks is None else dict(tasks.queue_status(verbose))

    def news(self, mark: int) -> Deferred[News]:
        return self.controller.observer.news(mark)

    def history(self, limit: int, before: float | None) -> Deferred[list[HistoryEntry]]:
        return Deferred.fromCoroutine(self._history(min(int(limit), MOST_ENTRIES), before))

    async def _history(self, limit: int, before: float | None) -> list[HistoryEntry]:
        journal = self.controller.journal
        if limit <= 0:
            return []
        entries = [self._task(row) for row in await self._done_tasks(limit, before)]
        entries += [self._command(row) for row in await journal.command_history(limit, before)]
        entries.sort(key=lambda entry: entry.submitted, reverse=True)
        return entries[:limit]

    async def _done_tasks(self, limit: int, before: float | None) -> list[TaskHistory]:
        journal = self.controller.journal
        tasks = self.controller.interfaces.get(TASK)
        if journal.keeps or tasks is None:
            return await journal.task_history(limit, before)
        found: list[TaskHistory] = tasks.history.in_memory(limit, before)
        return found

    def _label(self, client: bytes) -> str:
        identity = self.controller.clients.identity(client)
        return "" if identity is None else identity.label

    def _task(self, row: TaskHistory) -> HistoryEntry:
        return HistoryEntry(
            TASK,
            row.task_id,
            row.client.hex()[:SHORT],
            self._label(row.client),
            "",
            (row.engine,) if row.engine >= 0 else (),
            "succeeded" if row.status == Status.OK else "failed",
            row.submitted,
            row.completed,
            row.size,
        )

    def _command(self, row: CommandHistory) -> HistoryEntry:
        outcomes = row.outcomes
        done = len(outcomes) >= len(row.targets)
        good = all(outcome.status == Status.OK for outcome in outcomes)
        return HistoryEntry(
            COMMAND,
            row.number,
            row.origin.hex()[:SHORT],
            self._label(row.origin),
            _method(row.method) or "",
            row.targets,
            ("succeeded" if good else "failed") if done else "pending",
            row.submitted,
            max((outcome.completed for outcome in outcomes), default=None) if done else None,
            sum(outcome.size or 0 for outcome in outcomes),
        )


def _method(shown: str | None) -> str | None:
    """The method of a command as queues show it, without what it is called with."""
    return None if shown is None else shown.partition("(")[0]


def _queue(engine: QueuedEngine) -> dict[str, Any]:
    status = engine.queue_status()
    return {
        "pending": _method(status["pending"]),
        "queue": [_method(each) for each in status["queue"]],
    }


registerAdapter(Monitor, IControllerBase, IMonitor)
