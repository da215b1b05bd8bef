"""Clients: the ids they may give, what they have submitted, what became of it, and how much more they may.

A client numbers its tasks itself, from blocks of ids that it has leased, rising in each block; so what was
seen before is recognised by one comparison.  It may submit as much as its credit says.  Credit is counted from
the client's first task on, so a repeated or lost message of credit does no harm, and it is given back when the
client has confirmed a result.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass

from ipython1.kernel.wire.taskwire import Status

FIRST_LEASE = 1024
LARGEST_LEASE = 65536

PER_RESULT = 450
"""Bytes that a kept result takes besides its payload."""


@dataclass(slots=True)
class Lease:
    """The ids from ``start`` up to ``stop``; ``next`` is the first that was not submitted yet."""

    start: int
    stop: int
    next: int


class Account:
    """One client.

    :ivar accepted: tasks submitted in all.
    :ivar released: tasks whose results are confirmed.
    :ivar released_size: bytes of submissions that are not held any more.
    :ivar unread_size: bytes of results that are not confirmed.
    :ivar granted: the credit it was told last.
    :ivar told: the number of accepted tasks it was told last.
    :ivar unconfirmed: batches of results that are not confirmed, with their size, by number.
    :ivar connected: whether it can be sent anything now.
    :ivar gone: it will not come back; its results are for others.
    """

    __slots__ = (
        "accepted",
        "connected",
        "gone",
        "granted",
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
        self.uuid = uuid
        self.window_tasks = window_tasks
        self.window_size = window_size
        self.leases: list[Lease] = []
        self.starts: list[int] = []
        self.accepted = 0
        self.released = 0
        self.released_size = 0
        self.unread_size = 0
        self.granted = (0, 0)
        self.told = 0
        self.next_batch = 1
        self.unconfirmed: OrderedDict[int, tuple[int, list[Finished]]] = OrderedDict()
        self.connected = True
        self.gone = False

    @property
    def name(self) -> str:
        """Its uuid, shortened, for people."""
        return self.uuid.hex()[:8]

    def lease(self, start: int) -> Lease:
        """A new block of ids from ``start`` on; blocks grow, so that their number stays small."""
        size = min(LARGEST_LEASE, FIRST_LEASE << len(self.leases))
        lease = Lease(start, start + size, start)
        self.leases.append(lease)
        self.starts.append(start)
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
        return self.accepted - self.released > 2 * self.window_tasks

    @property
    def idle(self) -> bool:
        """Whether nothing of it is left to be done."""
        return self.released == self.accepted

    def credit_due(self) -> bool:
        """Whether it is worth telling it of its credit, or of what was accepted."""
        tasks, size = self.credit
        return (
            self.told != self.accepted
            or tasks - self.granted[0] >= self.window_tasks // 8
            or size - self.granted[1] >= self.window_size // 8
        )


class Finished:
    """How a task came out.

    :ivar status: ``OK``, ``FAILED`` or ``REFUSED``.
    :ivar engine: id of the engine it ran on last, -1 for none.
    :ivar duration: seconds that the last run took on its engine.
    :ivar payload: opaque; with ``REFUSED``, empty.
    :ivar error: with ``REFUSED``, the kernel's error.
    :ivar read: its client has it, or is gone for good.
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
        "read",
        "status",
        "submitted",
    )

    def __init__(
        self,
        task_id: int,
        client: Account,
        status: Status,
        engine: int,
        attempt: int,
        submitted: float,
        completed: float,
        duration: float,
        payload: bytes,
        error: tuple[str, str] | None = None,
    ) -> None:
        self.id = task_id
        self.client = client
        self.status = status
        self.engine = engine
        self.attempt = attempt
        self.submitted = submitted
        self.completed = completed
        self.duration = duration
        self.payload = payload
        self.error = error
        self.read = False

    @property
    def size(self) -> int:
        """Bytes that keeping it takes, about."""
        return PER_RESULT + len(self.payload)
