"""The journal that writes: what the reactor's thread has of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from ipython1.kernel.controller.config import JournalConfig
from ipython1.kernel.controller.journal.commandtables import command_history, fetch_outcome
from ipython1.kernel.controller.journal.datacolumns import size_of
from ipython1.kernel.controller.journal.intake import Row
from ipython1.kernel.controller.journal.interface import Journal, NoJournal, PayloadWriter, Ranges
from ipython1.kernel.controller.journal.opening import JournalSettings, open_store
from ipython1.kernel.controller.journal.payloads import PayloadFiles
from ipython1.kernel.controller.journal.plan import Function, Gone, Lease, PartyChange, Plan
from ipython1.kernel.controller.journal.rows import (
    INLINE,
    ClientRow,
    CommandHistory,
    CommandRow,
    Data,
    EngineRow,
    Given,
    OutcomeNote,
    OutcomeRow,
    PayloadFile,
    Recovered,
    ResultBatch,
    StoredResult,
    SubmissionRow,
    TaskHistory,
)
from ipython1.kernel.controller.journal.store import Limits, Store
from ipython1.kernel.controller.journal.taskreading import fetch_results, task_history
from ipython1.kernel.controller.journal.writer import Entry, Question, Reports, Writer
from ipython1.kernel.wire.frames import Buffer

log: Logger = Logger()

FULL: Final = 32 * 1024 * 1024
"""Bytes that wait, at which the journal is overfull; it is so until there are half as many."""

_CALL: Final = 200
"""Bytes that a call takes besides its data."""

_T = TypeVar("_T")


async def start_journal(config: JournalConfig, reactor: Any) -> Journal:
    """The journal that a controller's configuration describes, opened.

    :raises SecurityError: when others may access it.
    :raises ClientError: when it cannot be used, but is not damaged.
    """
    if not config.enabled:
        log.info("there is no journal: what this controller holds is lost when it ends")
        return NoJournal()
    limits = Limits(config.keep_age, config.keep_size)
    journal = await open_journal(
        JournalSettings(config.directory, config.sync == "full", limits), reactor
    )
    if journal.lost:
        log.error("{lost}", lost=journal.lost)
    for name in journal.recovered.broken_files:
        log.error("the journal's file {name} is damaged; what needs it will fail", name=name)
    log.info(
        "the journal in {directory} is open; this is start {epoch} on it",
        directory=config.directory,
        epoch=journal.epoch,
    )
    return journal


async def open_journal(settings: JournalSettings, reactor: Any) -> WritingJournal:
    """Open a journal, in a thread; the errors are those of :func:`start_journal`."""
    pool = reactor.getThreadPool()
    store, recovered = await deferToThreadPool(reactor, pool, open_store, settings)
    return WritingJournal(store, recovered, reactor, settings.synced)


class WritingJournal:
    """See :class:`~ipython1.kernel.controller.journal.interface.Journal`.

    :param synced: see :class:`JournalSettings`.
    """

    keeps = True

    def __init__(self, store: Store, recovered: Recovered, reactor: Any, synced: bool) -> None:
        self.instance: str = store.state.instance
        self.epoch: int = store.state.epoch
        self.recovered: Recovered = recovered
        self.lost: str = recovered.lost
        self.trouble: str = ""
        self.overfull: bool = False
        self._directory = store.directory
        self._files = store.files
        self._files_begun = count(1)
        self._intake = None if synced else store.intake
        self._ticket = self._safe = store.state.ticket
        self._next_task = recovered.next_task
        self._put_bytes = 0
        self._written_bytes = 0
        self._waiting: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._on_trouble: list[Callable[[str], None]] = []
        self._on_room: list[Callable[[], None]] = []
        self._on_dropped: list[Callable[[Ranges], None]] = []
        self._closed: Deferred[None] | None = None
        self._writer = Writer(store, _Reports(self, reactor), synced)
        self._reactor = reactor

    def release_recovered(self) -> None:
        self.recovered = Recovered()

    # -- what is safe

    def when_safe(self, ticket: int, call: Callable[[], None]) -> None:
        if ticket <= self._safe:
            call()
            return
        self._count += 1
        heappush(self._waiting, (ticket, self._count, call))

    def on_trouble_do(self, call: Callable[[str], None]) -> None:
        self._on_trouble.append(call)

    def on_room_do(self, call: Callable[[], None]) -> None:
        self._on_room.append(call)

    def on_dropped_do(self, call: Callable[[Ranges], None]) -> None:
        self._on_dropped.append(call)

    def reached(self, ticket: int, written: int) -> None:
        """All up to ``ticket`` is in the database; so many bytes of calls were written in all."""
        self._safe = max(self._safe, ticket)
        self._written_bytes = written
        while self._waiting and self._waiting[0][0] <= ticket:
            _, _, call = heappop(self._waiting)
            _guarded(call)
        if self._intake is not None:
            self._intake.written(ticket)
        if self.overfull and self._put_bytes - written <= FULL // 2:
            self.overfull = False
            for tell in self._on_room:
                _guarded(tell)

    def troubled(self, text: str) -> None:
        """Nothing can be written, or it can again."""
        if text:
            log.error(
                "the journal cannot be written: {text}; what waits is tried again each second, and nobody is told that "
                "it is safe",
                text=text,
            )
        else:
            log.info("the journal can be written again")
        self.trouble = text and f"{text} (in {self._directory})"
        for tell in self._on_trouble:
            _guarded(tell, text)

    def dropped(self, ranges: list[tuple[int, int]]) -> None:
        """Results of these tasks were dropped."""
        log.info(
            "the results of {count} tasks are no longer kept: they are the oldest, and too old or too much",
            count=sum(stop - start for start, stop in ranges),
        )
        for tell in self._on_dropped:
            _guarded(tell, ranges)

    def ended(self) -> None:
        """All is written, and the files are closed."""
        if self._closed is not None:
            self._closed.callback(None)

    # -- writing

    def _put(self, add: Callable[[Plan], None], size: int = 0, row: Row | None = None) -> int:
        return self._enter(size, add=add, row=row)

    def _enter(
        self,
        size: int,
        add: Callable[[Plan], None] | None = None,
        act: Callable[[PayloadFiles], None] | None = None,
        row: Row | None = None,
    ) -> int:
        if self._closed is not None:
            return self._ticket + 1  # which is never safe
        self._ticket += 1
        size += _CALL
        self._put_bytes += size
        if self._put_bytes - self._written_bytes > FULL:
            self.overfull = True
        noted = row is not None and self._noted(row)
        if noted:
            self._safe = self._ticket
        self._writer.put(Entry(self._ticket, size, noted, add, act))
        return self._ticket

    def _noted(self, row: Row) -> bool:
        """Note the latest call in the intake, if all before it is safe."""
        return (
            self._intake is not None
            and self._safe == self._ticket - 1
            and self._intake.note(self._ticket, row)
        )

    def _change(self, change: PartyChange) -> int:
        return self._put(lambda plan: plan.changes.append(change))

    def _in_file(self, data: _Some) -> _Some:
        """Data that are too large for a row, put into a file."""
        if data is None or isinstance(data, PayloadFile) or len(data) <= INLINE:
            return data
        writer = self.new_payload()
        writer.add(data)
        return writer.finish()

    def new_payload(self) -> PayloadWriter:
        # A ticket may be that of several files, as the first pieces of some come later.
        return _FileWriter(self._enter, f"{self._ticket + 1:x}-{next(self._files_begun):x}")

    # -- parties

    def engine_came(self, engine: EngineRow) -> int:
        return self._change(engine)

    def engine_gone(self, uuid: bytes) -> int:
        return self._change(Gone(uuid))

    def client_came(self, client: ClientRow) -> int:
        return self._change(client)

    def client_gone(self, uuid: bytes) -> int:
        return self._change(Gone(uuid))

    def lease_given(self, client: bytes, start: int, stop: int) -> int:
        self._next_task = max(self._next_task, stop)
        return self._change(Lease(client, start, stop))

    def function_came(self, client: bytes, digest: bytes, data: bytes) -> int:
        change = Function(client, digest, data)
        return self._put(lambda plan: plan.changes.append(change), len(data))

    def function_forgotten(self, client: bytes, digest: bytes) -> int:
        return self._change(Function(client, digest, None))

    # -- tasks

    def submission(self, row: SubmissionRow) -> int:
        bodies = self._in_file(row.bodies)
        row = row._replace(bodies=bodies, number=self._ticket + 1)
        size = len(row.data) + size_of(bodies)
        return self._put(lambda plan: plan.submissions.append(row), size, row)

    def submissions_over(self, numbers: Iterable[int]) -> int:
        over = list(numbers)
        return self._put(lambda plan: plan.over.extend(over))

    def results(self, batches: Sequence[ResultBatch], over: Iterable[int] = ()) -> int:
        rows = [
            batch._replace(payload=self._in_file(batch.payload))
            for batch in batches
            if batch.succeeded or batch.failed
        ]
        numbers = list(over)

        def add(plan: Plan) -> None:
            plan.results += rows
            plan.over += numbers

        return self._put(add, sum(sum(map(len, batch.rows)) for batch in rows))

    def cleared(self, ranges: Ranges) -> int:
        known = [(max(start, 0), min(stop, self._next_task)) for start, stop in ranges]
        return self._put(lambda plan: plan.cleared.extend(known), 16 * len(known))

    def fetch_results(self, ids: Iterable[int]) -> Deferred[dict[int, StoredResult]]:
        wanted = list(ids)
        return self._ask(lambda store: fetch_results(store.db, wanted, store.tasks.results.partly))

    def task_history(self, limit: int, before: float | None = None) -> Deferred[list[TaskHistory]]:
        return self._ask(
            lambda store: task_history(store.db, limit, before, store.tasks.results.partly)
        )

    # -- direct commands

    def command(self, row: CommandRow) -> int:
        row = row._replace(payload=self._in_file(row.payload))
        ticket = self._ticket + 1
        size = size_of(row.payload)
        return self._put(lambda plan: plan.commands.append((ticket, row)), size, row)

    def command_over(self, origin: bytes, number: int) -> int:
        return self._put(lambda plan: plan.commands_over.append((origin, number)))

    def outcome(self, row: OutcomeRow) -> int:
        row = row._replace(payload=self._in_file(row.payload))
        ticket = self._ticket + 1
        return self._put(lambda plan: plan.outcomes.append((ticket, row)), size_of(row.payload))

    def outcome_taken(self, note: OutcomeNote) -> int:
        ticket = self._ticket + 1
        return self._put(lambda plan: plan.taken.append((ticket, note)))

    def fetch_outcome(
        self, origin: bytes, number: int, engine_id: int
    ) -> Deferred[OutcomeRow | None]:
        return self._ask(lambda store: fetch_outcome(store.db, origin, number, engine_id))

    def command_history(
        self, limit: int, before: float | None = None
    ) -> Deferred[list[CommandHistory]]:
        return self._ask(lambda store: command_history(store.db, limit, before))

    # -- reading, and the end

    def read_payload(self, data: Data, offset: int, size: int) -> Deferred[bytes]:
        if isinstance(data, PayloadFile):
            pool = self._reactor.getThreadPool()
            return deferToThreadPool(self._reactor, pool, self._files.read, data, offset, size)
        return succeed(data[offset : offset + size])

    def _ask(self, read: Callable[[Store], _T]) -> Deferred[_T]:
        answer: Deferred[_T] = Deferred()
        tell = self._reactor.callFromThread
        self._writer.ask(
            Question(
                read,
                lambda value: tell(answer.callback, value),
                lambda problem: tell(answer.errback, problem),
            )
        )
        return answer

    def close(self) -> Deferred[None]:
        assert self._closed is None, "the journal is closed"
        self._closed = Deferred()
        self._writer.close()
        return self._closed


_Some = TypeVar("_Some", Data, Given | None)


class _FileWriter:
    """See :class:`PayloadWriter`."""

    def __init__(self, enter: Callable[..., int], name: str) -> None:
        self._enter = enter
        self._name = name
        self._size = 0

    def add(self, piece: Buffer) -> int:
        self._size += len(piece)
        return self._enter(len(piece), act=lambda files: files.append(self._name, piece))

    def finish(self) -> PayloadFile:
        self._enter(0, act=lambda files: files.finish(self._name))
        return PayloadFile(self._name, self._size)

    def abandon(self) -> None:
        self._enter(0, act=lambda files: files.abandon(self._name))


class _Reports(Reports):
    """Takes what the writer tells to the reactor's thread."""

    def __init__(self, journal: WritingJournal, reactor: Any) -> None:
        self._journal = journal
        self._tell: Callable[..., Any] = reactor.callFromThread

    def safe(self, ticket: int, size: int) -> None:
        self._tell(self._journal.reached, ticket, size)

    def trouble(self, text: str) -> None:
        self._tell(self._journal.troubled, text)

    def dropped(self, ranges: list[tuple[int, int]]) -> None:
        self._tell(self._journal.dropped, ranges)

    def complain(self, text: str) -> None:
        self._tell(log.error, "{text}", text=text)

    def ended(self) -> None:
        self._tell(self._journal.ended)


def _guarded(call: Callable[..., None], *args: object) -> None:
    """One listener's failure must not keep the others from hearing the news."""
    try:
        call(*args)
    except Exception:
        log.failure("what waited for the journal failed")
