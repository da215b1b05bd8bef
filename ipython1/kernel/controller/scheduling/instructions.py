"""What the machine asks its shell to do.  One instruction covers a whole batch of tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ipython1.kernel.controller.scheduling.accounts import Batch, Finished
from ipython1.kernel.controller.scheduling.records import Digest, Error, TaskRecord


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
class Safe:
    """An engine may forget its results up to the one with this number."""

    engine: int
    row: int


@dataclass(frozen=True, slots=True)
class Keep:
    """Write a batch of results to the journal; all that was to be kept before is written before."""

    batch: Batch


@dataclass(frozen=True, slots=True)
class Deliver:
    """Tell a client, when it can be reached, of a batch of its tasks that are done.

    A batch that has no ``finished`` is in the journal.
    """

    client: bytes
    batch: Batch


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell a client of a task that it waits for and that is not one of its own."""

    client: bytes
    finished: Finished


@dataclass(frozen=True, slots=True)
class Refuse:
    """Tell a client that there is nothing to tell of one of its tasks, and why."""

    client: bytes
    task_id: int
    error: Error


@dataclass(frozen=True, slots=True)
class Credit:
    """A client's first ``accepted`` tasks have arrived; it may submit ``tasks`` tasks of ``size`` bytes in all."""

    client: bytes
    accepted: int
    tasks: int
    size: int


Instruction: TypeAlias = (
    Send | Retract | Stop | Kill | AskDepend | Safe | Keep | Deliver | Tell | Refuse | Credit
)
