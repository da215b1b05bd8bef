"""What clients of the task interface and the controller ask each other beyond single tasks: who has what, what was.

``resync`` is the first question of a client that has registered again.  The arguments:

``missing``
    ranges ``[start, stop]`` of the client's own ids that have no result there and are to have one.  A task that has
    arrived and is not among them is over: the client has its result, even if the controller does not know of one.
``failed``
    ranges of the ids of the last tasks that have failed, for all that the client knows.  Of the others that it has the
    results of, it counts as known that they succeeded: other tasks may be waiting for that.
``functions``
    the digests (hexadecimal) of the functions that the client takes to be known; it will refer to no others.

The answer is a :class:`ResyncAnswer`.  After it each id in ``missing`` that has arrived (those below ``next`` of its
lease) is told of by an ordinary ``DONE``: now, or when it is done; with ``REFUSED`` and the reason if there is nothing
to tell any more (it was cleared, or dropped for its age or size).  Nothing else makes the controller deliver again what
the client has not confirmed.  The client sends again the functions that the answer names, and then the tasks that have
not arrived, in the order of their ids.

``submission`` asks for a task as it was submitted, by its id (``taskid``), whoever submitted it.  The controller sends
a ``FUNCTION`` for each function that the task refers to, then a ``SUBMIT`` with this one task, and then answers with
the digests (hexadecimal) of these functions.

``history`` asks for what is known of tasks: the last ``limit`` ones of all that have an id below ``before`` (None: of
all), are in one of the ``states`` (None: in any), and are the client's own if ``own`` is true.  The answer is a list of
packed :class:`TaskEntry`, in the order of their ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from ipython1.kernel.basics.error import ProtocolError

SCHEDULED: Final = "scheduled"
PENDING: Final = "pending"
SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"
STATES: Final = (SCHEDULED, PENDING, SUCCEEDED, FAILED)
"""The states of tasks, as ``queue_status`` names them."""


class LeaseState(NamedTuple):
    """A block of ids that a client has leased.

    :ivar start, stop: the ids from ``start`` up to ``stop``.
    :ivar next: the first id that has not arrived; all below it have, or never will.
    """

    start: int
    stop: int
    next: int


class ResyncAnswer(NamedTuple):
    """What the controller has of a client that is back.

    :ivar leases: its blocks of ids.
    :ivar arrived: tasks that have arrived from it in all, as credit counts them.
    :ivar arrived_size: their bytes, as credit counts them.
    :ivar accepted: how many of the first of them are safe, or over and their results with the client; ``CREDIT`` tells
        of more.
    :ivar credit: tasks and bytes that may have been submitted in all.
    :ivar lacking: digests of the functions named in the question that must be sent again.
    """

    leases: tuple[LeaseState, ...]
    arrived: int
    arrived_size: int
    accepted: int
    credit: tuple[int, int]
    lacking: tuple[bytes, ...] = ()

    def pack(self) -> dict[str, Any]:
        """It as a JSON value."""
        return {
            "leases": [[each.start, each.stop, each.next] for each in self.leases],
            "arrived": [self.arrived, self.arrived_size],
            "accepted": self.accepted,
            "credit": list(self.credit),
            "lacking": [digest.hex() for digest in self.lacking],
        }

    @classmethod
    def unpack(cls, value: Any) -> ResyncAnswer:
        """Read what :meth:`pack` made.

        :raises ProtocolError: when it is malformed.
        """
        try:
            arrived, arrived_size = value["arrived"]
            tasks, size = value["credit"]
            return cls(
                tuple(LeaseState(int(a), int(b), int(c)) for a, b, c in value["leases"]),
                int(arrived),
                int(arrived_size),
                int(value["accepted"]),
                (int(tasks), int(size)),
                tuple(bytes.fromhex(digest) for digest in value["lacking"]),
            )
        except (KeyError, TypeError, ValueError) as problem:
            raise ProtocolError(
                f"what the controller has of this client cannot be understood: {problem!r}"
            ) from None


class TaskEntry(NamedTuple):
    """What is known of a task.

    :ivar taskid: its id.
    :ivar client: the uuid (hexadecimal) of the client that submitted it.
    :ivar label: who that is, for people: ``user@host``.
    :ivar state: ``'scheduled'``, ``'pending'``, ``'succeeded'`` or ``'failed'``.
    :ivar engineid: the engine that has it or had it last; None for none.
    :ivar submitted: when it was submitted, in seconds since the epoch.
    :ivar completed: when it was done; None if it is not.
    :ivar run_time: seconds that its last run took on the engine.
    :ivar size: bytes of its result; None if no result is kept.
    :ivar error: the kernel's own error that it ended with (name and message), or None.
    :ivar what: what it does in a few words: the name of its function, or the first line of its code; empty if that is
        not known any more.
    """

    taskid: int
    client: str
    label: str
    state: str
    engineid: int | None
    submitted: float
    completed: float | None = None
    run_time: float = 0.0
    size: int | None = None
    error: tuple[str, str] | None = None
    what: str = ""

    def pack(self) -> list[Any]:
        """It as a JSON value."""
        return [
            self.taskid,
            self.client,
            self.label,
            self.state,
            self.engineid,
            self.submitted,
            self.completed,
            self.run_time,
            self.size,
            self.error,
            self.what,
        ]

    @classmethod
    def unpack(cls, value: Any) -> TaskEntry:
        """Read what :meth:`pack` made.

        :raises ProtocolError: when it is malformed.
        """
        try:
            taskid, client, label, state, engine, submitted, completed, run_time, *rest = value
            size, error, what = rest
            return cls(
                int(taskid),
                str(client),
                str(label),
                str(state),
                None if engine is None else int(engine),
                float(submitted),
                None if completed is None else float(completed),
                float(run_time),
                None if size is None else int(size),
                None if error is None else (str(error[0]), str(error[1])),
                str(what),
            )
        except (IndexError, TypeError, ValueError) as problem:
            raise ProtocolError(
                f"an entry of the history cannot be understood: {problem!r}"
            ) from None


def ranges_of(task_ids: Iterable[int]) -> list[tuple[int, int]]:
    """Return rising ids as ranges (start, stop)."""
    ranges: list[tuple[int, int]] = []
    start = stop = -1
    for task_id in task_ids:
        if task_id != stop:
            if start >= 0:
                ranges.append((start, stop))
            start = task_id
        stop = task_id + 1
    if start >= 0:
        ranges.append((start, stop))
    return ranges


def read_ranges(value: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Return ranges that came as JSON.

    :raises ProtocolError: when they are malformed.
    """
    try:
        ranges = [(int(start), int(stop)) for start, stop in value]
    except (TypeError, ValueError) as problem:
        raise ProtocolError(f"ranges of task ids cannot be understood: {problem!r}") from None
    if any(not 0 <= start <= stop for start, stop in ranges):
        raise ProtocolError("a range of task ids ends before it begins")
    return ranges
