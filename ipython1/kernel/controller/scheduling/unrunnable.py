"""Tasks that no engine can run do not wait for ever, if a limit is set."""

from __future__ import annotations

from ipython1.kernel.controller.scheduling.records import Constraint
from ipython1.kernel.controller.scheduling.seams import MachineParts
from ipython1.kernel.controller.scheduling.survey import Survey
from ipython1.kernel.wire.taskwire import Status


class Unrunnable:
    """Looks from time to time which tasks no engine can run, and fails those that have waited too long.

    All tasks with the same constraint stand and fall together; a task has waited since it was submitted at most.
    """

    def __init__(self, machine: MachineParts, survey: Survey) -> None:
        self._machine = machine
        self._survey = survey
        self._since: dict[Constraint, float] = {}

    def look(self, now: float) -> None:
        """Fail what has waited too long, and look again later if tasks wait."""
        limit = self._machine.settings.unrunnable_after
        if not limit or not len(self._machine.assigner):
            self._since = {}
            return
        since: dict[Constraint, float] = {}
        due = []
        for record, why in self._survey.stuck():
            constraint = record.constraint
            begin = since.setdefault(constraint, self._since.get(constraint, now))
            if max(begin, record.submitted) + limit <= now:
                due.append((record, why))
        self._since = since
        for record, why in due:
            record.note(f"no engine could run it: {why}")
            self._machine.assigner.remove(record)
            message = f"no engine could run task {record.id} for {limit:g} s: {why}"
            self._machine.finish(record, Status.REFUSED, -1, now, error=("TaskTimeout", message))
        self.soon(now)

    def soon(self, now: float) -> None:
        """There are tasks that may have to wait."""
        limit = self._machine.settings.unrunnable_after
        if limit:
            self._machine.timers.at(now + min(limit / 4, 10.0), "unrunnable")
