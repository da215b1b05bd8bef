"""What engines tell of their runs besides results."""

from __future__ import annotations

from collections.abc import Iterable

from ipython1.kernel.controller.scheduling.faults import Faults
from ipython1.kernel.controller.scheduling.records import ASSIGNED
from ipython1.kernel.controller.scheduling.seams import MachineParts
from ipython1.kernel.controller.scheduling.timelimits import TimeLimits


class Reports:
    """Reports of engines; the machine carries out."""

    def __init__(self, machine: MachineParts, faults: Faults, limits: TimeLimits) -> None:
        self._machine = machine
        self._faults = faults
        self._limits = limits

    def arriving(self, engine: int, task_id: int, attempt: int, now: float, row: int = 0) -> None:
        """A run has ended, and its result, which is large, is on its way; ``results`` follows.

        From now on it is not what the engine runs: not what it dies of, nor what runs out of time.
        """
        worker = self._machine.workers.get(engine)
        if worker is not None and row:
            worker.custody.announced(row)
        record = worker.outstanding.get(task_id) if worker is not None else None
        if worker is None or record is None or record.attempt != attempt:
            self._machine.dropped += 1
            return
        worker.arriving.add(task_id)
        worker.progress = now
        if worker.timed:
            self._limits.look(worker, now)

    def running(self, engine: int, task_id: int, attempt: int, now: float) -> None:
        """An engine tells that it has begun a run."""
        worker = self._machine.workers.get(engine)
        record = worker.outstanding.get(task_id) if worker is not None else None
        if worker is None or record is None or record.attempt != attempt:
            self._machine.dropped += 1
            return
        if worker.running == (task_id, attempt):
            return
        worker.running = (task_id, attempt)
        worker.progress = now
        worker.stale = False
        if record.options.timeout and record.state is ASSIGNED:
            self._limits.begun(worker, record, now)

    def retracted(self, engine: int, runs: Iterable[tuple[int, int]], now: float) -> None:
        """An engine gives back runs that it had not begun; what it was asked for besides, it keeps."""
        worker = self._machine.workers.get(engine)
        if worker is None:
            self._machine.dropped += 1
            return
        back = []
        for task_id, attempt in runs:
            record = worker.outstanding.get(task_id)
            if record is None or record.attempt != attempt:
                self._machine.dropped += 1
                continue
            back.append(record)
        self._faults.given_back(worker, back, now)
        worker.kept |= worker.retracting
        worker.retracting.clear()
        if worker.timed:
            self._limits.look(worker, now)
        self._machine.consider(worker)
