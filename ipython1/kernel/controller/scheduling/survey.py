"""What the scheduler tells people: which tasks are where, and why they wait."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from ipython1.kernel.controller.scheduling.absence import Restored
from ipython1.kernel.controller.scheduling.clients import Clients
from ipython1.kernel.controller.scheduling.predecessors import Predecessors
from ipython1.kernel.controller.scheduling.records import Digest, TaskRecord, WorkerRecord
from ipython1.kernel.controller.scheduling.seams import MachineParts

FALSE: Final = "its depend function is false on {}"
LACKING: Final = "the properties that its targets name are not those of {} (or its depend function is false there)"

MOST_LOOKED_AT: Final = 5000
"""Tasks that wait for more than their turn that are looked at for somebody who waits."""


class Survey:
    """Looks at the tasks of a machine."""

    def __init__(
        self,
        machine: MachineParts,
        clients: Clients,
        restored: Restored,
        predecessors: Predecessors,
    ) -> None:
        self._machine = machine
        self._clients = clients
        self._store = clients.store
        self._restored = restored
        self._predecessors = predecessors

    def pending(self) -> list[int]:
        """The tasks that run, for all that is known."""
        workers = self._machine.workers.values()
        return [head.id for worker in workers if (head := worker.first()) is not None]

    def status(self) -> dict[str, list[int]]:
        """The ids of the tasks in each state; ``unsatisfied`` is a part of ``scheduled``."""
        pending = self.pending()
        begun = set(pending)
        waiting = (task_id for task_id in self._machine.tasks if task_id not in begun)
        return {
            "scheduled": sorted([*self._clients.arriving(), *waiting]),
            "pending": sorted(pending),
            "succeeded": list(self._store.succeeded),
            "failed": list(self._store.failed),
            "unsatisfied": sorted(record.id for record in self._unsatisfied()),
        }

    def counts(self) -> dict[str, int]:
        """The number of tasks in each state, as in :meth:`status`."""
        pending = len(self.pending())
        known = len(self._machine.tasks) + len(self._clients.arriving())
        return {
            "scheduled": known - pending,
            "pending": pending,
            "succeeded": len(self._store.succeeded),
            "failed": len(self._store.failed),
            "unsatisfied": sum(1 for _ in self._unsatisfied()),
        }

    def _usable(self) -> list[WorkerRecord]:
        return [worker for worker in self._machine.workers.values() if worker.usable]

    def _unsatisfied(self) -> Iterator[TaskRecord]:
        workers = self._usable()
        return self._machine.assigner.unsatisfied(workers) if workers else iter(())

    def stuck(self) -> Iterator[tuple[TaskRecord, str]]:
        """The queued tasks that no engine can run now, and why."""
        workers = self._usable()
        if not workers:
            why = self._nobody()
            for record in self._machine.assigner.records():
                yield record, why
            return
        texts: dict[object, str] = {}
        for record in self._machine.assigner.unsatisfied(workers):
            constraint = record.constraint
            if constraint not in texts:
                texts[constraint] = self._refusals(workers, record)
            yield record, texts[constraint]

    def obstacles(self, client: bytes) -> dict[str, Any]:
        """What is in the way of a client's tasks.

        :param client: its uuid.
        :returns: as ``nobody``, why no engine can run any task; as ``stuck``, a list of reasons that are only some
            tasks', each with the number of these among the first :data:`MOST_LOOKED_AT`.
        """
        if not self._usable():
            return {"nobody": self._nobody(), "stuck": []}
        counts: dict[str, int] = {}
        for record, why in islice(self.stuck(), MOST_LOOKED_AT):
            if record.client.uuid == client:
                counts[why] = counts.get(why, 0) + 1
        return {"nobody": "", "stuck": list(counts.items())}

    def waiting(self, trouble: str) -> Iterator[tuple[int, str]]:
        """The tasks that wait for more than their turn, and for what.

        :param trouble: why what arrives does not become safe; empty if it does, soon.
        """
        if trouble:
            yield from ((task_id, trouble) for task_id in self._clients.arriving())
        for record, why in self.stuck():
            yield record.id, why
        yield from self._predecessors.why()
        if trouble and self._clients.closed():
            yield from ((record.id, trouble) for record in self._machine.assigner.records())
        if self._restored.unclear:
            which = _engines(sorted(self._restored.awaited))
            why = f"it was submitted before the controller was restarted, and {which} may have it but has not come back"
            for task_id in self._restored.unclear:
                yield task_id, why

    def _refusals(self, usable: list[WorkerRecord], record: TaskRecord) -> str:
        depend, rejected, only = record.constraint
        reasons: list[str] = []
        if only is not None:
            reasons = self._targets(only)
            usable = [each for each in usable if each.id in only]
        if usable:
            text = LACKING if record.options.by_properties else FALSE
            reasons += _refusals(usable, depend, rejected, text)
        return " and ".join(reasons)

    def _targets(self, only: frozenset[int]) -> list[str]:
        """What keeps a task from the engines that alone may run it."""
        if not only:
            return ["none of its targets has run a task that it follows"]
        workers = self._machine.workers
        unknown = sorted(only - workers.keys())
        there = [workers[each] for each in sorted(only & workers.keys())]
        draining = [each.id for each in there if each.draining]
        unusable = [each.id for each in there if not each.usable and not each.draining]
        reasons = []
        if unknown:
            verb = "is" if len(unknown) == 1 else "are"
            reasons.append(f"it may run on {_engines(unknown)} only, which {verb} not registered")
        if unusable:
            reasons.append(f"{_engines(unusable)} cannot be reached")
        if draining:
            verb = "is" if len(draining) == 1 else "are"
            reasons.append(f"{_engines(draining)} {verb} about to end")
        return reasons

    def _nobody(self) -> str:
        away = sorted(worker.id for worker in self._machine.workers.values() if worker.away)
        if away:
            return f"no engine can be reached ({_engines(away)} may come back)"
        if self._machine.workers:
            return "all engines are being ended"
        return "no engine is registered"


def _engines(ids: list[int]) -> str:
    if len(ids) == 1:
        return f"engine {ids[0]}"
    return f"engines {', '.join(map(str, ids))}"


def _refusals(
    workers: list[WorkerRecord], depend: Digest, rejected: frozenset[int], said_no: str
) -> list[str]:
    """Why none of ``workers`` may run a task.

    :param said_no: what is said of those on which its dependency does not hold.
    """
    asked = sorted((each for each in workers if each.id not in rejected), key=lambda each: each.id)
    raised: dict[str, list[int]] = {}
    for worker in asked:
        raised.setdefault(worker.problems.get(depend, ""), []).append(worker.id)
    false = raised.pop("", [])
    reasons = [
        f"its depend function raised {problem} on {_engines(ids)}, which counts as false"
        for problem, ids in raised.items()
    ]
    if false:
        reasons.append(said_no.format(_engines(false)))
    rejections = sorted(worker.id for worker in workers if worker.id in rejected)
    if rejections:
        reasons.append(f"it has rejected {_engines(rejections)}")
    return reasons
