"""What a journal does, the rows that go into it and come back, and :class:`NoJournal`, which keeps nothing.

**Writing.**  Each call that writes returns at once, with a *ticket*.  Tickets rise, also from one start of the
controller to the next.  A row is *safe* when it would be there after a kill -9 of this process (or after the power
failed, if the journal is set so); rows become safe in the order of their tickets.  All that one call writes becomes
safe at once, or nothing of it.  Whoever has to answer for a row calls :meth:`Journal.when_safe`.

**After a start**, :attr:`Journal.recovered` is what was there.  Whoever takes something over from it keeps it; the
journal itself holds on to nothing but what is on disk.

Data are opaque bytes here.  Times are seconds since the epoch.  Ranges of ids are (start, stop), ``stop`` excluded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from twisted.internet.defer import Deferred, succeed

from ipython1.kernel.controller.idset import IdSet
from ipython1.kernel.wire.frames import Buffer

INLINE: Final = 64 * 1024
"""Bytes.  What is larger should go to a payload file, piece by piece; the journal takes it in one piece as well."""

Ranges: TypeAlias = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class PayloadFile:
    """Data in a file of its own.

    :ivar size: bytes.
    """

    name: str
    size: int


Data: TypeAlias = bytes | PayloadFile
"""Data in a row, or in the file that the row names."""


class PayloadWriter(Protocol):
    """Fills a payload file."""

    def add(self, piece: Buffer) -> int:
        """Append a piece, which must not change any more; returns its ticket, for flow control."""

    def finish(self) -> PayloadFile:
        """All is there.  Name the result in a row in the same turn of the reactor; the file lives as long as that."""

    def abandon(self) -> None:
        """Remove the file; nothing has named it."""


# -- parties -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EngineRow:
    """An engine that is registered.

    :ivar start_time: when its process began, as its host tells it (``host/processes``); 0 for unknown.
    :ivar secret_hash: SHA-256 of its secret.
    """

    uuid: bytes
    engine_id: int
    pid: int
    host: str
    start_time: int
    secret_hash: bytes
    registered: float


@dataclass(frozen=True, slots=True)
class ClientRow:
    """A client that may come back.

    :ivar label: for people: ``user@host (pid)``.
    :ivar last_command: the highest number of a command of it that was ever written; the journal counts it itself.
    """

    uuid: bytes
    label: str
    pid: int
    host: str
    start_time: int
    secret_hash: bytes
    first_seen: float
    last_seen: float
    last_command: int = 0


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """Ids that a client may give to tasks.

    :ivar next: the first that was never in a written submission; the journal counts it itself.
    """

    client: bytes
    start: int
    stop: int
    next: int


# -- tasks ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FunctionRow:
    """A function, and the clients whose tasks may use it."""

    digest: bytes
    data: bytes
    clients: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class SubmissionRow:
    """One ``SUBMIT`` frame.

    :ivar data: its payload; its meta part if the payload came as a bulk transfer.
    :ivar bodies: what the bulk transfer brought.
    :ivar number: names this row; the ticket that writing it gave.
    """

    client: bytes
    first: int
    last: int
    count: int
    submitted: float
    data: bytes
    bodies: Data | None = None
    number: int = 0


@dataclass(frozen=True, slots=True)
class ResultBatch:
    """Tasks of one client that are done.

    :ivar succeeded: their ids, in any order.
    :ivar failed: those of the others.
    :ivar rows: for each, packed ``DONE_HEAD`` and payload, as in a ``DONE`` frame; empty if only the ids are to be
        kept: the client has the results, and nobody else will ask.
    :ivar payload: for a single large result: its payload; ``rows`` is then its head only.
    """

    client: bytes
    completed: float
    succeeded: Sequence[int]
    failed: Sequence[int]
    rows: Sequence[Buffer] = ()
    payload: Data | None = None


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A result that the journal has kept.

    :ivar head: packed ``DONE_HEAD``; the size of the payload in it is 0 when that is in a file.
    """

    head: bytes
    payload: Data


@dataclass(frozen=True, slots=True)
class TaskHistory:
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


@dataclass(frozen=True, slots=True)
class CommandRow:
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


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """How a command ended on one engine.

    :ivar meta: what the owner needs to send it again.
    :ivar payload: None when the client has it, and only that it is over is kept.
    """

    origin: bytes
    number: int
    engine_id: int
    status: int
    meta: bytes
    payload: Data | None
    completed: float


@dataclass(frozen=True, slots=True)
class OutcomeNote:
    """That an engine is through with a command.

    :ivar size: bytes that are kept; None when the client has the outcome, and it is not kept.
    """

    origin: bytes
    number: int
    engine_id: int
    status: int
    completed: float
    size: int | None


@dataclass(frozen=True, slots=True)
class CommandHistory:
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
    :ivar commands: those that are not over, in the order in which they were written.
    :ivar outcomes: all of ``commands``, and all that are kept; :meth:`Journal.fetch_outcome` has their payloads.
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
    commands: tuple[CommandRow, ...] = ()
    outcomes: tuple[OutcomeNote, ...] = ()
    lost: str = ""


class Journal(Protocol):
    """Keeps what others were told is here.

    :ivar keeps: whether it keeps anything at all.
    :ivar instance: names this state for ever.
    :ivar epoch: 1, 2, ...; rises with each start on the same state.
    :ivar recovered: what was there; empty it with :meth:`release_recovered` when it is taken over.
    :ivar overfull: so much waits to be written that nothing new should be accepted now.
    :ivar trouble: why nothing can be written now, for people; empty when all is well.
    """

    @property
    def keeps(self) -> bool: ...
    @property
    def instance(self) -> str: ...
    @property
    def epoch(self) -> int: ...
    @property
    def recovered(self) -> Recovered: ...
    @property
    def overfull(self) -> bool: ...
    @property
    def trouble(self) -> str: ...

    def release_recovered(self) -> None:
        """Let go of :attr:`recovered`; it is empty from now on."""

    def when_safe(self, ticket: int, call: Callable[[], None]) -> None:
        """Call ``call`` in the reactor's thread once all up to ``ticket`` is safe; at once, if it is already."""

    def on_trouble_do(self, call: Callable[[str], None]) -> None:
        """Call ``call`` with each change of :attr:`trouble`: a text when writing fails, ``""`` when it works again."""

    def on_room_do(self, call: Callable[[], None]) -> None:
        """Call ``call`` each time when :attr:`overfull` has become false."""

    def new_payload(self) -> PayloadWriter:
        """A new payload file; only where :attr:`keeps`."""

    def read_payload(self, data: Data, offset: int, size: int) -> Deferred[bytes]:
        """Some of a payload.  Fails with ``JournalError`` when the file is damaged or gone."""

    # -- parties

    def engine_came(self, engine: EngineRow) -> int:
        """An engine has registered, or has changed."""

    def engine_gone(self, uuid: bytes) -> int:
        """It will not come back."""

    def client_came(self, client: ClientRow) -> int:
        """A client has registered, or was seen again."""

    def client_gone(self, uuid: bytes) -> int:
        """It will not come back.  Its leases go, its functions unless others use them; its results stay."""

    def lease_given(self, client: bytes, start: int, stop: int) -> int:
        """A client may give these ids."""

    # -- tasks

    def function_came(self, client: bytes, digest: bytes, data: bytes) -> int:
        """A client may use a function."""

    def function_forgotten(self, client: bytes, digest: bytes) -> int:
        """It will not any more; the function goes with the last of its clients."""

    def submission(self, row: SubmissionRow) -> int:
        """Tasks were submitted; the ticket is the row's number."""

    def submissions_over(self, numbers: Iterable[int]) -> int:
        """All tasks of these are done, and those that followed from them."""

    def results(self, batches: Sequence[ResultBatch], over: Iterable[int] = ()) -> int:
        """Tasks are done, and with them the submissions of these numbers."""

    def cleared(self, ranges: Ranges) -> int:
        """Forget these tasks and their results; ids that are not known do no harm."""

    def fetch_results(self, ids: Iterable[int]) -> Deferred[dict[int, StoredResult]]:
        """Results by id, of those that are safe and kept.  Fails with ``JournalError`` when they cannot be read."""

    def task_history(self, limit: int, before: float | None = None) -> Deferred[list[TaskHistory]]:
        """Finished tasks whose results are kept, latest first, ``limit`` at most; those completed before a time."""

    # -- direct commands

    def command(self, row: CommandRow) -> int:
        """A command was submitted."""

    def command_over(self, origin: bytes, number: int) -> int:
        """It is through with all its engines: its payload goes; outcomes that were not taken stay."""

    def outcome(self, row: OutcomeRow) -> int:
        """An engine is through with a command."""

    def outcome_taken(self, origin: bytes, number: int, engine_id: int) -> int:
        """The client has this outcome, written here or not: keep no more than that it is over."""

    def outcomes_cleared(self, origin: bytes) -> int:
        """Forget all outcomes of commands of this client."""

    def fetch_outcome(
        self, origin: bytes, number: int, engine_id: int
    ) -> Deferred[OutcomeRow | None]:
        """An outcome that is safe and kept."""

    def command_history(
        self, limit: int, before: float | None = None
    ) -> Deferred[list[CommandHistory]]:
        """Commands, latest first, ``limit`` at most; those submitted before a time."""

    def close(self) -> Deferred[None]:
        """Write and sync what there is; nothing may be written after this."""


class NoJournal:
    """Keeps nothing: all is safe at once, and nothing is ever found.

    :param instance: 16 random bytes as hex by default.
    """

    keeps = False
    epoch = 1
    overfull = False
    trouble = ""

    def __init__(self, instance: str = "") -> None:
        self.instance = instance or os.urandom(16).hex()
        self.recovered = Recovered()
        self._ticket = 0

    def _next(self) -> int:
        self._ticket += 1
        return self._ticket

    def release_recovered(self) -> None:
        pass

    def when_safe(self, ticket: int, call: Callable[[], None]) -> None:
        call()

    def on_trouble_do(self, call: Callable[[str], None]) -> None:
        pass

    def on_room_do(self, call: Callable[[], None]) -> None:
        pass

    def new_payload(self) -> PayloadWriter:
        raise RuntimeError("this journal keeps nothing; ask .keeps first")

    def read_payload(self, data: Data, offset: int, size: int) -> Deferred[bytes]:
        assert isinstance(data, bytes), "there are no files without a journal"
        return succeed(data[offset : offset + size])

    def engine_came(self, engine: EngineRow) -> int:
        return self._next()

    def engine_gone(self, uuid: bytes) -> int:
        return self._next()

    def client_came(self, client: ClientRow) -> int:
        return self._next()

    def client_gone(self, uuid: bytes) -> int:
        return self._next()

    def lease_given(self, client: bytes, start: int, stop: int) -> int:
        return self._next()

    def function_came(self, client: bytes, digest: bytes, data: bytes) -> int:
        return self._next()

    def function_forgotten(self, client: bytes, digest: bytes) -> int:
        return self._next()

    def submission(self, row: SubmissionRow) -> int:
        return self._next()

    def submissions_over(self, numbers: Iterable[int]) -> int:
        return self._next()

    def results(self, batches: Sequence[ResultBatch], over: Iterable[int] = ()) -> int:
        return self._next()

    def cleared(self, ranges: Ranges) -> int:
        return self._next()

    def fetch_results(self, ids: Iterable[int]) -> Deferred[dict[int, StoredResult]]:
        return succeed({})

    def task_history(self, limit: int, before: float | None = None) -> Deferred[list[TaskHistory]]:
        return succeed([])

    def command(self, row: CommandRow) -> int:
        return self._next()

    def command_over(self, origin: bytes, number: int) -> int:
        return self._next()

    def outcome(self, row: OutcomeRow) -> int:
        return self._next()

    def outcome_taken(self, origin: bytes, number: int, engine_id: int) -> int:
        return self._next()

    def outcomes_cleared(self, origin: bytes) -> int:
        return self._next()

    def fetch_outcome(
        self, origin: bytes, number: int, engine_id: int
    ) -> Deferred[OutcomeRow | None]:
        return succeed(None)

    def command_history(
        self, limit: int, before: float | None = None
    ) -> Deferred[list[CommandHistory]]:
        return succeed([])

    def close(self) -> Deferred[None]:
        return succeed(None)
