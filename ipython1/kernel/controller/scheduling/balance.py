"""What an idle engine takes back from a busy one.

Tasks are given ahead on the strength of an estimate.  Where it was wrong, or where the end of the queue is
reached, one engine has tasks waiting behind a long one while another has nothing to do.  It is asked to give
back half of what it has not begun, unless it is about to run them anyhow; an engine that is held by a direct
command, which may itself wait for these tasks, is asked for all of them, and so is one that is draining.  What it
does not give back it has begun, and is not asked for again.
"""

from __future__ import annotations

from typing import Final

from ipython1.kernel.controller.scheduling.instructions import Retract
from ipython1.kernel.controller.scheduling.records import ASSIGNED, TaskRecord, WorkerRecord
from ipython1.kernel.controller.scheduling.seams import MachineParts

WORTH: Final = 0.003
"""Seconds of work waiting on an engine that are worth the trouble."""

STALLED: Final = 0.005
"""Seconds without progress after which the estimates of what waits do not count."""


def take_back(machine: MachineParts, now: float) -> None:
    """Have busy engines give back what idle ones could run."""
    held = machine.held
    idle = [
        worker
        for worker in machine.roomy.values()
        if not worker.outstanding and not worker.stale and not held(worker.id)
    ]
    if not idle or len(machine.workers) == len(idle):
        return
    look_again = False
    for victim in machine.workers.values():
        number = len(victim.outstanding)
        is_held = number > 0 and held(victim.id)
        if (number < 2 and not is_held) or victim.retracting or not victim.usable:
            continue
        head = victim.first()
        if head is None:
            continue
        stalled = now - victim.progress >= STALLED
        if is_held:
            stalled = now - max(victim.progress, victim.given) >= STALLED
        if not stalled and (is_held or victim.work - head.estimate < WORTH):
            look_again = True
            continue
        chosen = _choose(victim, idle, number if is_held else number // 2, is_held)
        if chosen:
            victim.retracting.update(record.id for record in chosen)
            machine.say(Retract(victim.id, tuple((record.id, record.attempt) for record in chosen)))
            idle.pop()
            if not idle:
                return
    if look_again:
        machine.timers.at(now + STALLED, "balance")


def hand_back(machine: MachineParts, worker: WorkerRecord) -> None:
    """Have an engine give back all that it has not begun."""
    keys = tuple(
        record.key
        for record in worker.waiting(with_first=True)
        if record.state is ASSIGNED
        and record.id not in worker.kept
        and record.key != worker.running
    )
    if keys:
        worker.retracting.update(task_id for task_id, _ in keys)
        machine.say(Retract(worker.id, keys))


def _choose(
    victim: WorkerRecord, idle: list[WorkerRecord], number: int, all_of_them: bool
) -> list[TaskRecord]:
    chosen: list[TaskRecord] = []
    for record in victim.waiting(all_of_them):
        if record.state is ASSIGNED and any(worker.may_run(record.constraint) for worker in idle):
            chosen.append(record)
            if len(chosen) == number:
                break
    return chosen
