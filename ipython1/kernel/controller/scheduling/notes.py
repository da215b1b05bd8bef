"""Clients are told of tasks that wait because their dependency functions raise exceptions."""

from __future__ import annotations

from typing import Final

from ipython1.kernel.controller.scheduling.instructions import Note
from ipython1.kernel.controller.scheduling.records import Digest
from ipython1.kernel.controller.scheduling.seams import MachineParts
from ipython1.kernel.controller.scheduling.survey import Survey

PATIENCE: Final = 1.0
"""Seconds in which properties may be set that such a function needs."""


class Notes:
    """Looks which tasks no engine may run, and tells each client once of each function that raises."""

    def __init__(self, machine: MachineParts, survey: Survey) -> None:
        self._machine = machine
        self._survey = survey
        self._told: set[tuple[bytes, Digest]] = set()

    def soon(self, now: float) -> None:
        """Something has changed: there may be something to tell."""
        if any(worker.problems for worker in self._machine.workers.values()):
            self._machine.timers.at(now + PATIENCE, "notes")

    def forget(self) -> None:
        """What was told is to be told again."""
        self._told.clear()

    def look(self) -> None:
        """Tell what was not told before."""
        raised = {depend for each in self._machine.workers.values() for depend in each.problems}
        found: dict[tuple[bytes, Digest], tuple[list[int], str]] = {}
        for record, why in self._survey.stuck():
            depend = record.options.depend
            if depend in raised:
                key = (record.client.uuid, depend)
                found.setdefault(key, ([], why))[0].append(record.id)
        for key in found.keys() - self._told:
            task_ids, why = found[key]
            self._machine.say(Note(key[0], _text(task_ids, why)))
        self._told = set(found)


def _text(task_ids: list[int], why: str) -> str:
    others = f" (and {len(task_ids) - 1} more)" if len(task_ids) > 1 else ""
    return (
        f"task {min(task_ids)}{others} waits: {why}. It is called again when properties change, "
        "when an engine comes, and after spin(); abort() ends a task"
    )
