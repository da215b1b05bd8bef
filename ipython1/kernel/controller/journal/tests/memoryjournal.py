"""A journal in memory: the model that the real one is held to, and a disk for simulations.

Calls wait until :meth:`MemoryJournal.commit`; ``MemoryJournal(journal.disk)`` is the next start after a crash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred, fail, succeed

from ipython1.kernel.basics.error import JournalError
from ipython1.kernel.controller.idset import IdSet
from ipython1.kernel.controller.journal.datacolumns import size_of
from ipython1.kernel.controller.journal.interface import Ranges
from ipython1.kernel.controller.journal.packing import done_rows
from ipython1.kernel.controller.journal.rows import (
    ClientRow,
    CommandHistory,
    CommandRow,
    Data,
    EngineRow,
    FunctionRow,
    LeaseRow,
    OutcomeNote,
    OutcomeRow,
    PayloadFile,
    Recovered,
    ResultBatch,
    StoredResult,
    SubmissionRow,
    TaskHistory,
)
from ipython1.kernel.wire.taskwire import DONE_HEAD

OutcomeKey = tuple[bytes, int, int]


@dataclass
class Disk:
    """What survives."""

    instance: str = "00" * 16
    epoch: int = 0
    ticket: int = 0
    next_task: int = 0
    next_engine: int = 0
    engines: dict[bytes, EngineRow] = field(default_factory=dict)
    clients: dict[bytes, ClientRow] = field(default_factory=dict)
    leases: dict[int, LeaseRow] = field(default_factory=dict)
    functions: dict[bytes, FunctionRow] = field(default_factory=dict)
    submissions: dict[int, SubmissionRow] = field(default_factory=dict)
    succeeded: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)
    cleared: set[int] = field(default_factory=set)
    past_succeeded: set[int] = field(default_factory=set)
    past_failed: set[int] = field(default_factory=set)
    results: dict[int, tuple[bytes, StoredResult]] = field(default_factory=dict)
    commands: dict[tuple[bytes, int], CommandRow] = field(default_factory=dict)
    over: dict[tuple[bytes, int], CommandRow] = field(default_factory=dict)
    ended: dict[OutcomeKey, OutcomeNote] = field(default_factory=dict)
    outcomes: dict[OutcomeKey, OutcomeRow] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


class MemoryJournal:
    """See :class:`~ipython1.kernel.controller.journal.interface.Journal`.

    :param at_once: whether each call is committed when it is made.
    """

    keeps = True
    overfull = False
    trouble = ""
    lost = ""

    def __init__(self, disk: Disk | None = None, at_once: bool = False) -> None:
        self.disk = Disk() if disk is None else disk
        self.disk.epoch += 1
        self.instance = self.disk.instance
        self.epoch = self.disk.epoch
        self.recovered = self._recover()
        self.at_once = at_once
        self._ticket = self._safe = self.disk.ticket
        self._calls: list[tuple[int, Callable[[], None]]] = []
        self._on_trouble: list[Callable[[str], None]] = []
        self._waiting: list[tuple[int, Callable[[], None]]] = []

    def _recover(self) -> Recovered:
        disk = self.disk
        submitted = IdSet(
            (first, last + 1)
            for first, last in ((r.first, r.last) for r in disk.submissions.values())
        )
        notes = [note for key, note in disk.ended.items() if key[:2] in disk.commands]
        notes += [
            OutcomeNote(*key, row.status, row.completed, size_of(row.payload))
            for key, row in disk.outcomes.items()
        ]
        return Recovered(
            next_task=disk.next_task,
            next_engine=disk.next_engine,
            engines=tuple(disk.engines.values()),
            clients=tuple(disk.clients.values()),
            leases=tuple(disk.leases.values()),
            functions=tuple(disk.functions.values()),
            submissions=tuple(disk.submissions.values()),
            succeeded=_ids(disk.succeeded),
            failed=_ids(disk.failed),
            cleared=_ids({task_id for task_id in disk.cleared if task_id in submitted}),
            past_succeeded=_ids(disk.past_succeeded),
            past_failed=_ids(disk.past_failed),
            commands=tuple(disk.commands.values()),
            outcomes=tuple(notes),
        )

    def release_recovered(self) -> None:
        self.recovered = Recovered()

    # -- what is safe

    def commit(self, most: int | None = None) -> None:
        """Write what waits, or the first ``most`` of it."""
        calls = self._calls[:most]
        self._calls = self._calls[len(calls) :]
        for ticket, call in calls:
            call()
            self.disk.ticket = self._safe = ticket
        due = [call for ticket, call in self._waiting if ticket <= self._safe]
        self._waiting = [entry for entry in self._waiting if entry[0] > self._safe]
        for call in due:
            call()

    @property
    def pending(self) -> int:
        """How many calls wait."""
        return len(self._calls)

    def when_safe(self, ticket: int, call: Callable[[], None]) -> None:
        if ticket <= self._safe:
            call()
        else:
            self._waiting.append((ticket, call))

    def on_trouble_do(self, call: Callable[[str], None]) -> None:
        self._on_trouble.append(call)

    def troubled(self, text: str) -> None:
        """Nothing can be written, or it can again."""
        self.trouble = text
        for tell in self._on_trouble:
            tell(text)

    def on_room_do(self, call: Callable[[], None]) -> None:
        pass

    def on_dropped_do(self, call: Callable[[Ranges], None]) -> None:
        pass

    def _put(self, call: Callable[[], None]) -> int:
        self._ticket += 1
        self._calls.append((self._ticket, call))
        if self.at_once:
            self.commit()
        return self._ticket

    # -- payloads

    def new_payload(self) -> _Writer:
        return _Writer(self)

    def read_payload(self, data: Data, offset: int, size: int) -> Deferred[bytes]:
        if isinstance(data, PayloadFile):
            if data.name not in self.disk.files:
                return fail(JournalError("gone"))
            data = self.disk.files[data.name]
        return succeed(data[offset : offset + size])

    def _remove(self, data: Data | None) -> None:
        if isinstance(data, PayloadFile):
            self.disk.files.pop(data.name, None)

    # -- parties

    def engine_came(self, engine: EngineRow) -> int:
        def call() -> None:
            self.disk.engines[engine.uuid] = engine
            self.disk.next_engine = max(self.disk.next_engine, engine.engine_id + 1)

        return self._put(call)

    def engine_gone(self, uuid: bytes) -> int:
        return self._put(lambda: _drop(self.disk.engines, uuid))

    def client_came(self, client: ClientRow) -> int:
        def call() -> None:
            known = self.disk.clients.get(client.uuid)
            row = client
            if known is not None:
                most = max(known.last_command, client.last_command)
                row = client._replace(first_seen=known.first_seen, last_command=most)
            self.disk.clients[client.uuid] = row

        return self._put(call)

    def client_gone(self, uuid: bytes) -> int:
        def call() -> None:
            _drop(self.disk.clients, uuid)
            for start, lease in list(self.disk.leases.items()):
                if lease.client == uuid:
                    del self.disk.leases[start]

        return self._put(call)

    def lease_given(self, client: bytes, start: int, stop: int) -> int:
        def call() -> None:
            self.disk.leases[start] = LeaseRow(client, start, stop, start)
            self.disk.next_task = max(self.disk.next_task, stop)

        return self._put(call)

    # -- tasks

    def function_came(self, client: bytes, digest: bytes, data: bytes) -> int:
        def call() -> None:
            old = self.disk.functions.get(digest)
            clients = old.clients if old is not None else frozenset()
            self.disk.functions[digest] = FunctionRow(digest, data, clients | {client})

        return self._put(call)

    def function_forgotten(self, client: bytes, digest: bytes) -> int:
        def call() -> None:
            old = self.disk.functions.pop(digest, None)
            if old is not None and old.clients - {client}:
                self.disk.functions[digest] = old._replace(clients=old.clients - {client})

        return self._put(call)

    def submission(self, row: SubmissionRow) -> int:
        number = self._ticket + 1

        def call() -> None:
            self.disk.submissions[number] = row._replace(number=number)
            for start, lease in self.disk.leases.items():
                if lease.client == row.client and start <= row.last and row.first < lease.stop:
                    first = max(lease.next, min(row.last + 1, lease.stop))
                    self.disk.leases[start] = lease._replace(next=first)

        return self._put(call)

    def _over(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            row = self.disk.submissions.pop(number, None)
            if row is not None:
                self._remove(row.bodies)

    def submissions_over(self, numbers: Iterable[int]) -> int:
        over = list(numbers)
        return self._put(lambda: self._over(over))

    def results(self, batches: Sequence[ResultBatch], over: Iterable[int] = ()) -> int:
        numbers = list(over)

        def call() -> None:
            for batch in batches:
                self.disk.succeeded.update(batch.succeeded)
                self.disk.failed.update(batch.failed)
                data = b"".join(batch.rows)
                for task_id, start, stop in done_rows(data):
                    middle = start + DONE_HEAD.size
                    payload = data[middle:stop] if batch.payload is None else batch.payload
                    result = StoredResult(batch.client, data[start:middle], payload)
                    self.disk.results[task_id] = (batch.client, result)
            self._over(numbers)

        return self._put(call)

    def cleared(self, ranges: Ranges) -> int:
        def call() -> None:
            for task_id in IdSet(ranges):
                self.disk.cleared.add(task_id)
                if task_id in self.disk.succeeded:
                    self.disk.past_succeeded.add(task_id)
                if task_id in self.disk.failed:
                    self.disk.past_failed.add(task_id)
                self.disk.succeeded.discard(task_id)
                self.disk.failed.discard(task_id)
                kept = self.disk.results.pop(task_id, None)
                if kept is not None:
                    self._remove(kept[1].payload)

        return self._put(call)

    def fetch_results(self, ids: Iterable[int]) -> Deferred[dict[int, StoredResult]]:
        kept = self.disk.results
        return succeed({task_id: kept[task_id][1] for task_id in ids if task_id in kept})

    def task_history(self, limit: int, before: float | None = None) -> Deferred[list[TaskHistory]]:
        found = []
        for task_id, (client, result) in reversed(self.disk.results.items()):
            values = DONE_HEAD.unpack(result.head)
            _, _, status, engine, _, submitted, completed, duration = values
            if before is None or completed < before:
                found.append(
                    TaskHistory(
                        task_id,
                        client,
                        status,
                        engine,
                        submitted,
                        completed,
                        duration,
                        size_of(result.payload),
                    )
                )
        return succeed(found[:limit])

    # -- direct commands

    def command(self, row: CommandRow) -> int:
        def call() -> None:
            self.disk.commands[row.origin, row.number] = row
            client = self.disk.clients.get(row.origin)
            if client is not None:
                last = max(client.last_command, row.number)
                self.disk.clients[row.origin] = client._replace(last_command=last)

        return self._put(call)

    def command_over(self, origin: bytes, number: int) -> int:
        def call() -> None:
            row = self.disk.commands.pop((origin, number), None)
            if row is not None:
                self._remove(row.payload)
                self.disk.over[origin, number] = row._replace(payload=b"x" * size_of(row.payload))

        return self._put(call)

    def outcome(self, row: OutcomeRow) -> int:
        def call() -> None:
            self.disk.outcomes[row.origin, row.number, row.engine_id] = row

        return self._put(call)

    def _take(self, note: OutcomeNote) -> None:
        key = (note.origin, note.number, note.engine_id)
        row = self.disk.outcomes.pop(key, None)
        if row is not None:
            self._remove(row.payload)
        self.disk.ended[key] = note._replace(size=None)

    def outcome_taken(self, note: OutcomeNote) -> int:
        return self._put(lambda: self._take(note))

    def fetch_outcome(
        self, origin: bytes, number: int, engine_id: int
    ) -> Deferred[OutcomeRow | None]:
        return succeed(self.disk.outcomes.get((origin, number, engine_id)))

    def command_history(
        self, limit: int, before: float | None = None
    ) -> Deferred[list[CommandHistory]]:
        found = []
        disk = self.disk
        everything = {**disk.over, **disk.commands}
        for key, row in sorted(everything.items(), key=lambda item: -item[1].submitted):
            notes = {k[2]: note for k, note in disk.ended.items() if k[:2] == key}
            for k, outcome in disk.outcomes.items():
                if k[:2] == key:
                    size = size_of(outcome.payload)
                    notes[k[2]] = OutcomeNote(*k, outcome.status, outcome.completed, size)
            outcomes = tuple(note for _, note in sorted(notes.items()))
            if before is None or row.submitted < before:
                size = size_of(row.payload)
                found.append(
                    CommandHistory(*key, row.targets, row.method, row.submitted, size, outcomes)
                )
        return succeed(found[:limit])

    def close(self) -> Deferred[None]:
        self.commit()
        return succeed(None)


class _Writer:
    """See :class:`PayloadWriter`."""

    def __init__(self, journal: MemoryJournal) -> None:
        self._journal = journal
        self._name = f"file{journal._ticket}"
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, piece: bytes) -> int:
        self._size += len(piece)
        return self._journal._put(lambda: self._pieces.append(bytes(piece)))

    def finish(self) -> PayloadFile:
        def call() -> None:
            self._journal.disk.files[self._name] = b"".join(self._pieces)

        self._journal._put(call)
        return PayloadFile(self._name, self._size)

    def abandon(self) -> None:
        self._pieces.clear()


def _ids(numbers: Iterable[int]) -> IdSet:
    return IdSet((number, number + 1) for number in sorted(numbers))


def _drop(table: dict[bytes, EngineRow] | dict[bytes, ClientRow], key: bytes) -> None:
    table.pop(key, None)
