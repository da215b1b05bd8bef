"""Where tasks run that follow others: on an engine that has run one of these."""

from __future__ import annotations

from typing import Final

from ipython1.kernel.controller.scheduling.accounts import Finished
from ipython1.kernel.controller.scheduling.causes import Cause
from ipython1.kernel.controller.scheduling.instructions import Locate
from ipython1.kernel.controller.scheduling.places import NOWHERE, Places
from ipython1.kernel.controller.scheduling.records import QUEUED, TaskRecord, WorkerRecord
from ipython1.kernel.controller.scheduling.retention import ResultStore
from ipython1.kernel.controller.scheduling.seams import MachineParts
from ipython1.kernel.wire.tasklinks import FOLLOW, Links

PRUNE_AT: Final = 4096
"""Tasks tied to one engine at which those that are done are let go of."""


def _gone(task_id: int) -> Cause:
    what = (
        ", on the same engine, and that is gone or not known any more; run both again, or say after= instead of "
        "follow= if it may run on another engine"
    )
    return Cause((task_id,), 0, what)


class Following:
    """Knows where tasks ran, and which tasks are tied to these engines.

    :ivar ran: where those ran whose results are not here any more.
    """

    def __init__(self, machine: MachineParts, store: ResultStore) -> None:
        self._machine = machine
        self._store = store
        self.ran: Places = Places()
        self._tied: dict[int, dict[int, TaskRecord]] = {}
        store.on_dropped = self._dropped

    def _dropped(self, finished: Finished) -> None:
        self.ran.note(finished.id, self._worker_of(finished))

    def _worker_of(self, finished: Finished) -> WorkerRecord | None:
        """The engine that a task ran on, if it is still there."""
        worker = self._machine.workers.get(finished.engine)
        # One that came later has the id of another.
        return None if worker is None or worker.joined > finished.completed else worker

    def _place(self, task_id: int) -> int | None:
        finished = self._store.results.get(task_id)
        if finished is None:
            return self.ran.get(task_id)
        worker = self._worker_of(finished)
        return NOWHERE if worker is None else worker.id

    def places(self, links: Links, ask: bool) -> tuple[frozenset[int] | None, Cause | None] | None:
        """The engines that may run what follows tasks that are all done, or why there is none.

        :param ask: have the journal asked for what is not known.
        :returns: None when it is asked.
        """
        ids = [
            task_id
            for tie in links.ties
            if tie.flags & FOLLOW
            for start, stop in tie.ranges
            for task_id in range(start, stop)
        ]
        places = {task_id: self._place(task_id) for task_id in ids}
        unknown = tuple(task_id for task_id, place in places.items() if place is None)
        if unknown and ask:
            self._machine.say(Locate(unknown))
            return None
        found = frozenset(each for each in places.values() if each is not None and each != NOWHERE)
        return (found, None) if found else (None, _gone(ids[0]))

    def located(self, engines: dict[int, int | None]) -> None:
        """The journal has answered."""
        for task_id, engine in engines.items():
            worker = None if engine is None else self._machine.workers.get(engine)
            self.ran.note(task_id, worker)

    def tie(self, record: TaskRecord, places: frozenset[int]) -> None:
        """A task may run on these engines only."""
        record.in_trouble().places = places
        for engine in places:
            tied = self._tied.setdefault(engine, {})
            tied[record.id] = record
            if len(tied) % PRUNE_AT == 0:
                tasks = self._machine.tasks
                self._tied[engine] = {key: each for key, each in tied.items() if key in tasks}

    def lost(self, engine: int) -> list[tuple[TaskRecord, Cause]]:
        """An engine is gone; returns the waiting tasks that could run nowhere else, which are not queued any more."""
        self.ran.lost(engine)
        assigner, tasks = self._machine.assigner, self._machine.tasks
        doomed: list[tuple[TaskRecord, Cause]] = []
        for record in self._tied.pop(engine, {}).values():
            trouble = record.trouble
            if tasks.get(record.id) is not record or trouble is None or not trouble.places:
                continue
            left = trouble.places - {engine}
            if not left and record.state is QUEUED:
                assigner.remove(record)
                doomed.append((record, _gone(_followed(record))))
            trouble.places = left
        if len(assigner):
            assigner.regroup()
        return doomed


def _followed(record: TaskRecord) -> int:
    """One of the tasks that a task follows."""
    assert record.links is not None
    return next(tie.ranges[0][0] for tie in record.links.ties if tie.flags & FOLLOW)
