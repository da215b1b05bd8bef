"""What the machine asks its shell to do, for a whole batch of tasks at a time."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from ipython1.kernel.controller.scheduling.accounts import Batch, Finished
from ipython1.kernel.controller.scheduling.records import Digest, Error, TaskRecord
from ipython1.kernel.wire.verdicts import Verdict


class Send(NamedTuple):
    """Send tasks to an engine, in this order; ``record.attempt`` goes with each.

    :ivar guarded: ids of those whose begin and end the engine tells at once, because it may not survive them,
        or because they have a time limit.
    """

    engine: int
    records: list[TaskRecord]
    guarded: frozenset[int]


class Retract(NamedTuple):
    """Ask an engine to give back those of ``runs`` (task id, attempt) that it has not begun."""

    engine: int
    runs: tuple[tuple[int, int], ...]


class Stop(NamedTuple):
    """Have an engine drop a run, or interrupt it where it has begun.

    :ivar verdict: what the task is to end with, if that is why.
    """

    engine: int
    task_id: int
    attempt: int
    verdict: Verdict | None = None


class Kill(NamedTuple):
    """End an engine's process."""

    engine: int
    reason: str


class AskDepend(NamedTuple):
    """Have an engine evaluate a dependency function on its properties."""

    engine: int
    depend: Digest
    properties_version: int


class Locate(NamedTuple):
    """Find out where tasks ran that are done, and tell :meth:`TaskMachine.located`."""

    task_ids: tuple[int, ...]


class Safe(NamedTuple):
    """An engine may forget its results up to the one with this number."""

    engine: int
    row: int


class Keep(NamedTuple):
    """Write a batch of results to the journal; all that was to be kept before is written before."""

    batch: Batch


class Deliver(NamedTuple):
    """Tell a client, when it can be reached, of a batch of its tasks that are done.

    A batch that has no ``finished`` is in the journal.
    """

    client: bytes
    batch: Batch


class Tell(NamedTuple):
    """Tell a client of a task that it waits for and that is not one of its own."""

    client: bytes
    finished: Finished


class Refuse(NamedTuple):
    """Tell a client that there is nothing to tell of one of its tasks, and why."""

    client: bytes
    task_id: int
    error: Error


class Credit(NamedTuple):
    """A client's first ``accepted`` tasks have arrived; it may submit ``tasks`` tasks of ``size`` bytes in all."""

    client: bytes
    accepted: int
    tasks: int
    size: int


class Note(NamedTuple):
    """Tell the people who use a client something about its tasks."""

    client: bytes
    text: str


Instruction: TypeAlias = (
    Send
    | Retract
    | Stop
    | Kill
    | AskDepend
    | Locate
    | Safe
    | Keep
    | Deliver
    | Tell
    | Refuse
    | Credit
    | Note
)
