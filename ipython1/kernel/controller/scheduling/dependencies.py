"""Which engines fulfil the tasks' dependencies, for all that they have answered.

The dependency functions are the users', so engines are asked; an answer holds until the engine's properties change.
When ``max_deaths`` engines have died instead of answering, the others are spared: they count as having said no.
"""

from __future__ import annotations

from collections import Counter

from ipython1.kernel.controller.scheduling.instructions import AskDepend
from ipython1.kernel.controller.scheduling.records import Digest, WorkerRecord
from ipython1.kernel.controller.scheduling.seams import MachineParts


class Dependencies:
    """Asks; the machine carries out."""

    def __init__(self, machine: MachineParts) -> None:
        self._machine = machine
        self._deadly: Counter[Digest] = Counter()

    def ask(self, worker: WorkerRecord, depend: Digest) -> None:
        """An engine's answer about a dependency is wanted and not known."""
        if self._deadly[depend] >= self._machine.settings.max_deaths:
            worker.answers[depend] = False
        elif depend not in worker.asked and worker.usable:
            worker.asked.add(depend)
            self._machine.say(AskDepend(worker.id, depend, worker.properties_version))

    def answered(
        self, worker: WorkerRecord, depend: Digest, answer: bool, problem: str = ""
    ) -> None:
        """An engine says whether a dependency holds for its present properties.

        :param problem: what the function raised.
        """
        self._deadly.pop(depend, None)
        worker.asked.discard(depend)
        worker.answers[depend] = answer
        if problem:
            worker.problems[depend] = problem

    def died(self, worker: WorkerRecord) -> None:
        """An engine died, perhaps of a question that it was asked."""
        self._deadly.update(worker.asked)

    def changed(self, worker: WorkerRecord, version: int) -> None:
        """An engine's properties have changed: what was known of it is void."""
        worker.properties_version = version
        worker.answers.clear()
        worker.problems.clear()
        worker.asked.clear()
        self._deadly.clear()
        self.forgive(worker.id)

    def forget(self) -> None:
        """Ask everything anew, and forget all rejections."""
        for worker in self._machine.workers.values():
            worker.answers.clear()
            worker.problems.clear()
        self._deadly.clear()
        self.forgive(None)

    def forgive(self, engine: int | None) -> None:
        """Tasks' rejections of an engine (None: of all) do not count any more."""
        if not self._machine.tasks:
            return
        for worker in self._machine.workers.values():
            for record in worker.outstanding.values():
                if record.trouble is not None and record.trouble.rejected:
                    record.trouble.forgive(engine)
        assigner = self._machine.assigner
        forgiven = [
            record
            for record in assigner.rejecting()
            if engine is None or engine in record.in_trouble().rejected
        ]
        for record in forgiven:
            record.in_trouble().forgive(engine)
        if forgiven:
            assigner.regroup()
