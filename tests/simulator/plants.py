"""Bugs that are planted to see that the simulator finds them: one per machine.

Each is what somebody might write by mistake; all of them pass as long as nothing breaks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from ipython1.kernel.calls.clientlink import ClientEnd
from ipython1.kernel.controller.commandbook import CommandBook
from ipython1.kernel.controller.scheduling.absence import Restored
from ipython1.kernel.controller.scheduling.machine import TaskMachine
from ipython1.kernel.engine.taskresults import TaskResults
from ipython1.kernel.wire.link import FrameLink
from ipython1.kernel.wire.verdicts import Verdict
from tests.simulator.disk import SimJournal

Plant = Callable[[], AbstractContextManager[Any]]


def _links() -> AbstractContextManager[Any]:
    """A link that is lost does not tell its receiver, if there was nothing to send."""

    def connection_lost(link: Any, reason: str) -> None:
        if link._parts:
            right(link, reason)
        link.lost = True

    right = FrameLink.connection_lost
    return mock.patch.object(FrameLink, "connection_lost", connection_lost)


def _journal() -> AbstractContextManager[Any]:
    """What is in the journal's hands is called safe before it is written."""
    return mock.patch.object(SimJournal, "when_safe", lambda journal, ticket, call: call())


def _reconnection() -> AbstractContextManager[Any]:
    """A client that is back does not tell what it lacks."""
    return mock.patch.object(ClientEnd, "_resync", lambda end: None)


def _results() -> AbstractContextManager[Any]:
    """An engine forgets a result as soon as it has sent it."""

    def resume(results: Any, link: Any) -> None:
        results._batches.clear()
        right(results, link)

    right = TaskResults.resume
    return mock.patch.object(TaskResults, "resume", resume)


def _tasks() -> AbstractContextManager[Any]:
    """The controller does not heed what an engine that is back says it still has."""

    def worker_back(machine: Any, engine: int, held: Any, ended: Any, now: float) -> None:
        right(machine, engine, (), (), now)

    right = TaskMachine.worker_back
    return mock.patch.object(TaskMachine, "worker_back", worker_back)


def _commands() -> AbstractContextManager[Any]:
    """After a restart a command goes out before its client has said what it sends again."""
    return mock.patch.object(CommandBook, "may_go", lambda book, key: True)


def _graphs() -> AbstractContextManager[Any]:
    """A controller that is started again has forgotten that tasks wait for others."""

    def begin(restored: Any, records: Any, engines: Any, now: float) -> None:
        for record in records:
            record.links = None
        right(restored, records, engines, now)

    right = Restored.begin
    return mock.patch.object(Restored, "begin", begin)


def _aborts() -> AbstractContextManager[Any]:
    """An engine does not tell why it has let go of a run."""
    return mock.patch.object(Verdict, "pack", lambda verdict: b"")


PLANTS: Mapping[str, Plant] = {
    "links": _links,
    "journal": _journal,
    "reconnection": _reconnection,
    "results": _results,
    "tasks": _tasks,
    "commands": _commands,
    "graphs": _graphs,
    "aborts": _aborts,
}
