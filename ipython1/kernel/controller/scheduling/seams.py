"""What the machine and its policies (``clients``, ``dependencies``, ``faults``, ``balance``) know of each other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from ipython1.kernel.controller.idset import IdSet
from ipython1.kernel.controller.scheduling.accounts import Finished
from ipython1.kernel.controller.scheduling.assigners import Assigner
from ipython1.kernel.controller.scheduling.instructions import Instruction
from ipython1.kernel.controller.scheduling.prefetch import Prefetch
from ipython1.kernel.controller.scheduling.records import Error, TaskRecord, WorkerRecord
from ipython1.kernel.controller.scheduling.timers import Timers
from ipython1.kernel.wire.frames import Bytes
from ipython1.kernel.wire.taskwire import Status


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """Limits.

    :ivar max_deaths: a task that has killed this many engines is not run again.
    :ivar grace: seconds that an engine has to let go of a task it was told to, before it is killed.
    :ivar window_tasks: tasks that one client may have submitted whose results it has not confirmed.
    :ivar window_size: the same, in bytes.
    :ivar keep_size: bytes of results that are kept in memory for other clients.
    :ivar keep_age: seconds for which they are kept there.
    :ivar unrunnable_after: seconds that a task waits at most while no engine can run it; 0 for ever.
    :ivar epoch: that of this controller; attempts are numbered by it.
    :ivar journal: whether results go to a journal; then they do not count against a client's credit.
    :ivar prefetch: how much an engine is given ahead.
    """

    max_deaths: int = 3
    grace: float = 2.0
    window_tasks: int = 16384
    window_size: int = 64 * 1024 * 1024
    keep_size: int = 64 * 1024 * 1024
    keep_age: float = 24 * 3600.0
    unrunnable_after: float = 0.0
    epoch: int = 0
    journal: bool = False
    prefetch: Prefetch = field(default_factory=Prefetch)


class Waiters(Protocol):
    """The tasks that wait for others; see ``predecessors``."""

    def arrived(self, records: list[TaskRecord]) -> list[TaskRecord]:
        """Tasks are safe; returns those that wait for no others."""

    def look_again(self) -> None:
        """Something has come, or will not come any more, that may be waited for."""

    def note(self, done: list[Finished]) -> None:
        """Tasks are done."""


class MachineParts(Protocol):
    """What a policy needs of the machine: what is known, and the hands to change it.

    :ivar tasks: all that are not done, by id.
    :ivar workers: the engines, by id.
    :ivar roomy: the usable engines that can take more.
    :ivar dropped: counts repeated and late deliveries.
    """

    dropped: int

    @property
    def predecessors(self) -> Waiters: ...

    settings: TaskSettings
    assigner: Assigner
    timers: Timers
    tasks: dict[int, TaskRecord]
    workers: dict[int, WorkerRecord]
    roomy: dict[int, WorkerRecord]

    def say(self, instruction: Instruction) -> None:
        """Have something done."""

    def held(self, engine: int) -> bool:
        """Whether an engine has a direct command, which its tasks may have to wait for."""

    def consider(self, worker: WorkerRecord) -> None:
        """Note whether a worker can take more."""

    def unusable(self, worker: WorkerRecord) -> None:
        """A worker cannot take more."""

    def detach(self, worker: WorkerRecord, record: TaskRecord) -> None:
        """A worker does not have a task any more; it is put somewhere else at once."""

    def put_back(self, records: list[TaskRecord], now: float, anew: bool = False) -> None:
        """Tasks that no engine has any more wait again: in their old places, or ``anew`` behind all others."""

    def unqueue(self, record: TaskRecord) -> None:
        """A task that no engine has is done for."""

    def finish(
        self,
        record: TaskRecord,
        status: Status,
        engine: int,
        now: float,
        duration: float = 0.0,
        payload: Bytes = b"",
        error: Error | None = None,
    ) -> None:
        """A task is done; it is neither queued nor assigned any more."""

    def told_before(self, task_ids: Iterable[int], now: float, failed: IdSet | None = None) -> None:
        """Clients have the results of tasks, those that an earlier controller had; these are not run again.

        :param failed: the ids of those that failed, and perhaps of others.
        """
