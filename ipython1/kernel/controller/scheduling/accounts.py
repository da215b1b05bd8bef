"""Clients: the ids they may give, what they have submitted, what became of it, and how much more they may.

A client numbers its tasks itself, from blocks of ids that it has leased, rising in each block; so what was
seen before is recognised by one comparison.  It may submit as much as its credit says.  Credit is counted from
the client's first task on, so a repeated or lost message of credit does no harm, and it is given back when the
client has confirmed a result.

Its results are collected into batches.  What becomes of one goes two ways, and it is let go of at the end of both:

===========  ===========================================  ===========
a batch is   on                                           becomes
===========  ===========================================  ===========
unconfirmed  ``confirm``; its client is gone for good     confirmed
unkept       it is safe in the journal, or there is none  kept
===========  ===========================================  ===========
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ipython1.kernel.controller.scheduling.custody import Rows
from ipython1.kernel.wire.frames import Bytes
from ipython1.kernel.wire.taskwire import Frame, Status

FIRST_LEASE = 1024
LARGEST_LEASE = 65536

PER_RESULT = 600
"""Bytes that a kept result takes besides its payload."""


class Terms(Protocol):
    """What a task has in common with others."""

    @property
    def private(self) -> bool: ...


class Task(Protocol):
    """A task."""

    id: int
    client: Account
    attempt: int
    submitted: float
    payload: Bytes

    @property
    def options(self) -> Terms: ...


@dataclass(slots=True)
class Lease:
    """The ids from ``start`` up to ``stop``; ``next`` is the first that has not arrived yet."""

    start: int
    stop: int
    next: int


class Account:
    """One client.

    :ivar arrived: tasks that have arrived in all.
    :ivar arrived_size: their bytes.
    :ivar arriving: those that are not safe yet, in order.
    :ivar accepted: those of them that are safe.
    :ivar released: tasks whose results are confirmed.
    :ivar released_size: bytes of submissions that are not held any more.
    :ivar held: bytes of results that are in memory for it.
    :ivar unread_size: bytes of results that are not confirmed, if these count.
    :ivar granted: the credit it was told last.
    :ivar told: the number of accepted tasks it was told last.
    :ivar unconfirmed: batches of results that are not confirmed, with their size, by number.
    :ivar connected: whether it can be sent anything now; it cannot before it has said what it has.
    :ivar gone: it will not come back; its results are for others.
    """

    __slots__ = (
        "accepted",
        "arrived",
        "arrived_size",
        "arriving",
        "connected",
        "gone",
        "granted",
        "held",
        "leases",
        "next_batch",
        "released",
        "released_size",
        "starts",
        "told",
        "unconfirmed",
        "unread_size",
        "uuid",
        "window_size",
        "window_tasks",
    )

    def __init__(self, uuid: bytes, window_tasks: int, window_size: int) -> None:
        self.uuid: bytes = uuid
        self.window_tasks: int = window_tasks
        self.window_size: int = window_size
        self.leases: list[Lease] = []
        self.starts: list[int] = []
        self.arrived: int = 0
        self.arrived_size: int = 0
        self.arriving: deque[list[int]] = deque()
        self.accepted: int = 0
        self.released: int = 0
        self.released_size: int = 0
        self.held: int = 0
        self.unread_size: int = 0
        self.granted: tuple[int, int] = (0, 0)
        self.told: int = 0
        self.next_batch: int = 1
        self.unconfirmed: OrderedDict[int, Batch] = OrderedDict()
        self.connected: bool = False
        self.gone: bool = False

    @property
    def name(self) -> str:
        """Its uuid, shortened, for people."""
        return self.uuid.hex()[:8]

    def lease(self, start: int) -> Lease:
        """A new block of ids from ``start`` on; blocks grow, so that their number stays small."""
        size = min(LARGEST_LEASE, FIRST_LEASE << len(self.leases))
        return self.add_lease(Lease(start, start + size, start))

    def add_lease(self, lease: Lease) -> Lease:
        """A block of ids, which are higher than those before."""
        self.leases.append(lease)
        self.starts.append(lease.start)
        return lease

    def lease_of(self, task_id: int) -> Lease | None:
        """The block that ``task_id`` is in."""
        index = bisect_right(self.starts, task_id) - 1
        if index < 0 or task_id >= self.leases[index].stop:
            return None
        return self.leases[index]

    @property
    def credit(self) -> tuple[int, int]:
        """Tasks and bytes it may have submitted in all; never less than it was told before."""
        tasks, size = self.granted
        return (
            max(tasks, self.released + self.window_tasks),
            max(size, self.released_size + self.window_size - self.unread_size),
        )

    @property
    def overdrawn(self) -> bool:
        """Whether it does not keep to its credit; a message in the making may exceed it somewhat."""
        return self.arrived - self.released > 2 * self.window_tasks

    @property
    def idle(self) -> bool:
        """Whether nothing of it is left to be done."""
        return self.released == self.arrived

    def credit_due(self) -> bool:
        """Whether it is worth telling it of its credit, or of what was accepted."""
        tasks, size = self.credit
        return (
            self.told != self.accepted
            or tasks - self.granted[0] >= self.window_tasks // 8
            or size - self.granted[1] >= self.window_size // 8
        )


class Batch:
    """Results of one client that it is told of together.

    :ivar number: what the client confirms.
    :ivar finished: the tasks; empty once they were let go of.
    :ivar ids: theirs, in the same order.
    :ivar size: bytes of the payloads.
    :ivar waiting: rows of engines that are safe when this is kept.
    :ivar over: the journal's numbers of the submissions that ended with one of these tasks.
    :ivar frames: what it is sent as, once that was packed.
    :ivar taken: its client has it.
    :ivar confirmed: its client has it, or is gone for good.
    :ivar kept: nothing of it is lost if the controller dies.
    """

    __slots__ = (
        "client",
        "confirmed",
        "finished",
        "frames",
        "ids",
        "kept",
        "number",
        "over",
        "size",
        "taken",
        "waiting",
    )

    def __init__(self, client: Account) -> None:
        self.client: Account = client
        self.number: int = 0
        self.finished: list[Finished] = []
        self.ids: Sequence[int] = ()
        self.size: int = 0
        self.waiting: list[Rows] = []
        self.over: list[int] = []
        self.frames: list[Frame] | None = None
        self.taken: bool = False
        self.confirmed: bool = False
        self.kept: bool = False

    @property
    def private(self) -> bool:
        """Whether nobody but its client needs it."""
        return all(finished.private for finished in self.finished)

    def part(self, finished: Iterable[Finished]) -> Batch:
        """A batch with some of these results; both are kept by the journal in one piece with the last."""
        part = Batch(self.client)
        part.finished = list(finished)
        return part

    def __len__(self) -> int:
        return len(self.ids)


class Finished:
    """How a task came out.

    :ivar task: what was submitted.
    :ivar attempt: the run that ended it; 0 for none.
    :ivar status: ``OK``, ``FAILED`` or ``REFUSED``.
    :ivar engine: id of the engine it ran on last, -1 for none.
    :ivar duration: seconds that the last run took on its engine.
    :ivar payload: opaque; with ``REFUSED``, empty or the kernel's error.
    :ivar error: with ``REFUSED``, the kernel's error.
    :ivar private: whether nobody but its client needs it.
    :ivar read: it waits for nothing any more, and may be dropped from memory.
    """

    __slots__ = (
        "attempt",
        "client",
        "completed",
        "duration",
        "engine",
        "error",
        "id",
        "payload",
        "private",
        "read",
        "status",
        "submitted",
        "task",
    )

    def __init__(
        self,
        task: Task,
        status: Status,
        engine: int,
        completed: float,
        duration: float,
        payload: Bytes,
        error: tuple[str, str] | None = None,
    ) -> None:
        self.task: Task = task
        self.id: int = task.id
        self.client: Account = task.client
        self.attempt: int = task.attempt
        self.submitted: float = task.submitted
        self.private: bool = task.options.private
        self.status: Status = status
        self.engine: int = engine
        self.completed: float = completed
        self.duration: float = duration
        self.payload: Bytes = payload
        self.error: tuple[str, str] | None = error
        self.read: bool = False

    @property
    def size(self) -> int:
        """Bytes that keeping it takes, about."""
        return PER_RESULT + len(self.payload) + len(self.task.payload)
