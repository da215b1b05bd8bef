"""What a journal does, and :class:`NoJournal`, which keeps nothing; its rows are in ``rows``.

**Writing.**  Each call that writes returns at once, with a *ticket*.  Tickets rise, also from one start of the
controller to the next.  A row is *safe* when it would be there after a kill -9 of this process (or after the power
failed, if the journal is set so); rows become safe in the order of their tickets.  All that one call writes becomes
safe at once, or nothing of it.  Whoever has to answer for a row calls :meth:`Journal.when_safe`.

**After a start**, :attr:`Journal.recovered` is what was there.  Whoever takes something over from it keeps it; the
journal itself holds on to nothing but what is on disk.

Ranges of ids are (start, stop), ``stop`` excluded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeAlias

from twisted.internet.defer import Deferred, succeed

from ipython1.kernel.controller.journal.rows import (
    ClientRow,
    CommandHistory,
    CommandRow,
    Data,
    EngineRow,
    OutcomeNote,
    OutcomeRow,
    PayloadFile,
    Recovered,
    ResultBatch,
    StoredResult,
    SubmissionRow,
    TaskHistory,
)
from ipython1.kernel.wire.frames import Buffer

Ranges: TypeAlias = Sequence[tuple[int, int]]


class PayloadWriter(Protocol):
    """Fills a payload file."""

    def add(self, piece: Buffer) -> int:
        """Append a piece, which must not change any more; returns its ticket, for flow control."""

    def finish(self) -> PayloadFile:
        """All is there.  Name the result in a row in the same turn of the reactor; the file lives as long as that."""

    def abandon(self) -> None:
        """Remove the file; nothing has named it."""


class Journal(Protocol):
    """Keeps what others were told is here.

    :ivar keeps: whether it keeps anything at all.
    :ivar instance: names this state for ever.
    :ivar epoch: 1, 2, ...; rises with each start on the same state.
    :ivar recovered: what was there; empty it with :meth:`release_recovered` when it is taken over.
    :ivar overfull: so much waits to be written that nothing new should be accepted now.
    :ivar lost: one line for people if something is missing that had been safe; empty otherwise.
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
    @property
    def lost(self) -> str: ...

    def release_recovered(self) -> None:
        """Let go of :attr:`recovered`; it is empty from now on."""

    def when_safe(self, ticket: int, call: Callable[[], None]) -> None:
        """Call ``call`` in the reactor's thread once all up to ``ticket`` is safe; at once, if it is already."""

    def on_trouble_do(self, call: Callable[[str], None]) -> None:
        """Call ``call`` with each change of :attr:`trouble`: a text when writing fails, ``""`` when it works again."""

    def on_room_do(self, call: Callable[[], None]) -> None:
        """Call ``call`` each time when :attr:`overfull` has become false."""

    def on_dropped_do(self, call: Callable[[Ranges], None]) -> None:
        """Call ``call`` with the ids of tasks whose results were dropped, because they were too old or too many."""

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
        """It will not come back.  Its leases go; its functions, tasks and results stay until they are told to."""

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
        """Forget these tasks and their results.  All must be done: one that is not would never run after a restart."""

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

    def outcome_taken(self, note: OutcomeNote) -> int:
        """The client has this outcome, written here or not: keep no more than the note."""

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


def trouble_of(journal: Journal) -> str:
    """One line for people that says why nothing can be written now, and what to do; empty when all is well."""
    if not journal.trouble:
        return ""
    return (
        f"the controller's journal cannot be written: {journal.trouble}. What it is to keep waits, and goes on by "
        "itself when there is room on that disk again"
    )


class NoJournal:
    """Keeps nothing: all is safe at once, and nothing is ever found.

    :param instance: 16 random bytes as hex by default.
    """

    keeps = False
    epoch = 1
    overfull = False
    trouble = ""
    lost = ""

    def __init__(self, instance: str = "") -> None:
        self.instance: str = instance or os.urandom(16).hex()
        self.recovered: Recovered = Recovered()
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

    def on_dropped_do(self, call: Callable[[Ranges], None]) -> None:
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

    def outcome_taken(self, note: OutcomeNote) -> int:
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
