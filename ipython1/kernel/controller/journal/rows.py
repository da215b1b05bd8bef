"""The rows of the journal: what goes into it, and what comes back.

Data are opaque bytes here.  Times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from ipython1.kernel.controller.idset import IdSet
from ipython1.kernel.wire.frames import Buffer, Bytes

INLINE: Final = 64 * 1024
"""Bytes.  What is larger should go to a payload file, piece by piece; the journal takes it in one piece as well."""


class PayloadFile(NamedTuple):
    """Data in a file of its own.

    :ivar size: bytes.
    """

    name: str
    size: int


Data: TypeAlias = bytes | PayloadFile
"""Data in a row, or in the file that the row names."""

Given: TypeAlias = Bytes | PayloadFile
"""Data for the journal, which puts what is large into a file."""


# -- parties -------------------------------------------------------------------------------------------------------


class EngineRow(NamedTuple):
    """An engine that is registered.

    :ivar started: when its process started (``host.processstate``); 0 for unknown.
    :ivar secret_hash: SHA-256 of its secret.
    """

    uuid: bytes
    engine_id: int
    pid: int
    host: str
    started: float
    secret_hash: bytes
    registered: float


class ClientRow(NamedTuple):
    """A client that may come back.

    :ivar label: for people: ``user@host (pid)``.
    :ivar last_command: the highest number of a command of it that was ever written; the journal counts it itself.
    """

    uuid: bytes
    label: str
    pid: int
    host: str
    started: float
    secret_hash: bytes
    first_seen: float
    last_seen: float
    last_command: int = 0


class LeaseRow(NamedTuple):
    """Ids that a client may give to tasks.

    :ivar next: the first that was never in a written submission; the journal counts it itself.
    """

    client: bytes
    start: int
    stop: int
    next: int


# -- tasks ---------------------------------------------------------------------------------------------------------


class FunctionRow(NamedTuple):
    """A function, and the clients whose tasks may use it."""

    digest: bytes
    data: bytes
    clients: frozenset[bytes]


class SubmissionRow(NamedTuple):
    """One ``SUBMIT`` frame.

    :ivar tasks: how many.
    :ivar data: its payload; its meta part if the payload came as a bulk transfer.
    :ivar bodies: what the bulk transfer brought.
    :ivar number: names this row; the ticket that writing it gave.
    """

    client: bytes
    first: int
    last: int
    tasks: int
    submitted: float
    data: bytes
    bodies: Given | None = None
    number: int = 0


class ResultBatch(NamedTuple):
    """Tasks of one client that are done.

    :ivar completed: when the last of them was.
    :ivar succeeded: their ids, in any order.
    :ivar failed: those of the others.
    :ivar rows: for each, packed ``DONE_HEAD`` and payload, as in a ``DONE`` frame; empty if only the ids are to be
        kept: the client has the results, and nobody else will ask.
    :ivar payload: for a single large result: its payload; ``rows`` is then its head only, with 0 as the size.
    """

    client: bytes
    completed: float
    succeeded: Sequence[int]
    failed: Sequence[int]
    rows: Sequence[Buffer] = ()
    payload: Given | None = None


class StoredResult(NamedTuple):
    """A result that the journal has kept.

    :ivar client: who submitted the task.
    :ivar head: packed ``DONE_HEAD``; the size of the payload in it is 0 for a large result.
    """

    client: bytes
    head: bytes
    payload: Data


class TaskHistory(NamedTuple):
    """What is known of a finished task whose result is kept.

    :ivar status: as in ``taskwire.Status``.
    :ivar engine: -1 if it has not run.
    :ivar size: bytes of the result.
    """

    task_id: int
    client: bytes
    status: int
    engine: int
    submitted: float
    completed: float
    duration: float
    size: int


# -- direct commands -----------------------------------------------------------------------------------------------


class CommandRow(NamedTuple):
    """A command of a client for engines.

    :ivar meta: what the owner needs to send it again.
    """

    origin: bytes
    number: int
    targets: tuple[int, ...]
    method: str
    meta: bytes
    payload: Data
    submitted: float


class OutcomeRow(NamedTuple):
    """How a command ended on one engine.

    :ivar meta: what the owner needs to send it again.
    """

    origin: bytes
    number: int
    engine_id: int
    status: int
    meta: bytes
    payload: Data
    completed: float


class OutcomeNote(NamedTuple):
    """That an engine is through with a command.

    :ivar size: bytes that are kept; None when the client has the outcome, and it is not kept.
    """

    origin: bytes
    number: int
    engine_id: int
    status: int
    completed: float
    size: int | None


class CommandHistory(NamedTuple):
    """What is known of a command.

    :ivar outcomes: of those engines that are through with it.
    """

    origin: bytes
    number: int
    targets: tuple[int, ...]
    method: str
    submitted: float
    size: int
    outcomes: tuple[OutcomeNote, ...]


# -- after a start -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was in the journal when it was opened.

    :ivar next_task: no lease had an id from here on.
    :ivar next_engine: no engine had an id from here on.
    :ivar submissions: in the order in which they were written; tasks of them may be done.
    :ivar succeeded: tasks that are done; of some the results are kept.
    :ivar failed: the others that are done.
    :ivar cleared: tasks that are done and were cleared, as far as they are in ``submissions``.
    :ivar past_succeeded: the tasks that succeeded and were cleared since.
    :ivar past_failed: the others that were cleared.
    :ivar commands: those that are not over, in the order in which they were written.
    :ivar outcomes: all of ``commands``, and all that are kept; :meth:`Journal.fetch_outcome` has their payloads.
    :ivar broken_files: names of payload files that are not whole; reading them fails.
    :ivar lost: one line for people if something is missing that had been safe; empty otherwise.
    """

    next_task: int = 0
    next_engine: int = 0
    engines: tuple[EngineRow, ...] = ()
    clients: tuple[ClientRow, ...] = ()
    leases: tuple[LeaseRow, ...] = ()
    functions: tuple[FunctionRow, ...] = ()
    submissions: tuple[SubmissionRow, ...] = ()
    succeeded: IdSet = field(default_factory=IdSet)
    failed: IdSet = field(default_factory=IdSet)
    cleared: IdSet = field(default_factory=IdSet)
    past_succeeded: IdSet = field(default_factory=IdSet)
    past_failed: IdSet = field(default_factory=IdSet)
    commands: tuple[CommandRow, ...] = ()
    outcomes: tuple[OutcomeNote, ...] = ()
    broken_files: tuple[str, ...] = ()
    lost: str = ""
