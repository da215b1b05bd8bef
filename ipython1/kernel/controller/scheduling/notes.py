"""Clients are told of tasks that wait because their dependency functions raise exceptions, or for want of a target."""

from __future__ import annotations

from typing import Final

from ipython1.kernel.controller.scheduling.instructions import Note
from ipython1.kernel.controller.scheduling.records import Digest
from ipython1.kernel.controller.scheduling.seams import MachineParts
from ipython1.kernel.controller.scheduling.survey import Survey

PATIENCE: Final = 1.0
"""Seconds in which properties may be set that such a function needs, and engines may come."""

RAISED: Final = "It is called again when properties change, when an engine comes, and after spin(); abort() ends a task"
NO_TARGET: Final = "It runs as soon as there is such an engine; abort() ends a task"


class Notes:
    """Looks which tasks no engine may run, and tells each client once of each function that raises, and of targets."""

    def __init__(self, machine: MachineParts, survey: Survey) -> None:
        self._machine = machine
        self._survey = survey
        self._told: set[tuple[bytes, Digest, frozenset[int] | None]] = set()

    def soon(self, now: float) -> None:
        """Something has changed: there may be something to tell."""
        machine = self._machine
        if machine.assigner.choosy or any(each.problems for each in machine.workers.values()):
            machine.timers.at(now + PATIENCE, "notes")

    def forget(self) -> None:
        """What was told is to be told again."""
        self._told.clear()

    def look(self) -> None:
        """Tell what was not told before."""
        raised = {depend for each in self._machine.workers.values() for depend in each.problems}
        found: dict[tuple[bytes, Digest, frozenset[int] | None], tuple[list[int], str, str]] = {}
        for record, why in self._survey.stuck():
            options = record.options
            targeted = options.targets is not None or options.by_properties
            if targeted or options.depend in raised:
                key = (record.client.uuid, options.depend, options.targets)
                what = RAISED if options.depend in raised else NO_TARGET
                found.setdefault(key, ([], why, what))[0].append(record.id)
        for key in found.keys() - self._told:
            self._machine.say(Note(key[0], _text(*found[key])))
        self._told = set(found)


def _text(task_ids: list[int], why: str, what: str) -> str:
    others = f" (and {len(task_ids) - 1} more)" if len(task_ids) > 1 else ""
    return f"task {min(task_ids)}{others} waits: {why}. {what}"
