"""What the machine asks its shell to do.  One instruction covers a whole batch of tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ipython1.kernel.controller.scheduling.accounts import Finished
from ipython1.kernel.controller.scheduling.records import Digest, TaskRecord


@dataclass(frozen=True, slots=True)
class Send:
    """Send tasks to an engine, in this order; ``record.attempt`` goes with each.

    :ivar guarded: ids of those whose begin and end the engine tells at once, because it may not survive them,
        or because they have a time limit.
    """

    engine: int
    records: list[TaskRecord]
    guarded: frozenset[int]


@dataclass(frozen=True, slots=True)
class Retract:
    """Ask an engine to give back those of ``runs`` (task id, attempt) that it has not begun."""

    engine: int
    runs: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """Have an engine drop a run, or interrupt it where it has begun."""

    engine: int
    task_id: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Kill:
    """End an engine's process."""

    engine: int
    reason: str


@dataclass(frozen=True, slots=True)
class AskDepend:
    """Have an engine evaluate a dependency function on its properties."""

    engine: int
    depend: Digest
    properties_version: int


@dataclass(frozen=True, slots=True)
class Deliver:
    """Tell a client of finished tasks.

    :ivar number: what the client confirms; 0 when it need not.
    """

    client: bytes
    number: int
    finished: list[Finished]


@dataclass(frozen=True, slots=True)
class Credit:
    """A client's first ``accepted`` tasks have arrived; it may submit ``tasks`` tasks of ``size`` bytes in all."""

    client: bytes
    accepted: int
    tasks: int
    size: int


Instruction: TypeAlias = Send | Retract | Stop | Kill | AskDepend | Deliver | Credit
