"""A journal in memory.  What was not yet safe when the controller's process died is lost, or not, as a seed says.

:class:`Disk` outlives the controllers; each controller has a :class:`MemoryJournal` of its own on it.  It promises what
:class:`ipython1.kernel.controller.journal.interface.Journal` says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, succeed

from ipython1.kernel.controller.idset import IdSet
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
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.taskwire import DONE_HEAD
from tests.simulator.process import SimProcess

Ranges = Sequence[tuple[int, int]]
Change = Callable[["State"], None]


@dataclass
class State:
    """What is on the disk."""

    engines: dict[bytes, EngineRow] = field(default_factory=dict)
    clients: dict[bytes, ClientRow] = field(default_factory=dict)
    leases: dict[int, LeaseRow] = field(default_factory=dict)
    functions: dict[bytes, FunctionRow] = field(default_factory=dict)
    submissions: dict[int, SubmissionRow] = field(default_factory=dict)
    succeeded: IdSet = field(default_factory=IdSet)
    failed: IdSet = field(default_factory=IdSet)
    cleared: IdSet = field(default_factory=IdSet)
    results: dict[int, StoredResult] = field(default_factory=dict)
    commands: dict[tuple[bytes, int], CommandRow] = field(default_factory=dict)
    notes: dict[tuple[bytes, int, int], OutcomeNote] = field(default_factory=dict)
    outcomes: dict[tuple[bytes, int, int], OutcomeRow] = field(default_factory=dict)
    next_task: int = 0
    next_engine: int = 0

    # -- parties

    def engine_came(self, engine: EngineRow) -> None:
        self.engines[engine.uuid] = engine
        self.next_engine = max(self.next_engine, engine.engine_id + 1)

    def client_came(self, client: ClientRow) -> None:
        known = self.clients.get(client.uuid)
        if known is not None:
            last = max(known.last_command, client.last_command)
            client = replace(client, first_seen=known.first_seen, last_command=last)
        self.clients[client.uuid] = client

    def gone(self, uuid: bytes) -> None:
        self.engines.pop(uuid, None)
        self.clients.pop(uuid, None)
        self.leases = {key: row for key, row in self.leases.items() if row.client != uuid}

    def lease_given(self, client: bytes, start: int, stop: int) -> None:
        self.leases.setdefault(start, LeaseRow(client, start, stop, start))
        self.next_task = max(self.next_task, stop)

    # -- tasks

    def function_came(self, client: bytes, digest: bytes, data: bytes) -> None:
        known = self.functions.get(digest)
        users = frozenset() if known is None else known.clients
        self.functions[digest] = FunctionRow(digest, data, users | {client})

    def function_forgotten(self, client: bytes, digest: bytes) -> None:
        known = self.functions.get(digest)
        if known is not None:
            users = known.clients - {client}
            self.functions[digest] = replace(known, clients=users)
            if not users:
                del self.functions[digest]

    def submission(self, row: SubmissionRow) -> None:
        self.submissions[row.number] = row
        for key, lease in self.leases.items():
            if lease.client == row.client and lease.start <= row.last and row.first < lease.stop:
                first = max(lease.next, min(row.last + 1, lease.stop))
                self.leases[key] = replace(lease, next=first)

    def submissions_over(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self.submissions.pop(number, None)

    def done(self, batches: Sequence[ResultBatch], over: Iterable[int]) -> None:
        for batch in batches:
            for ids, known in ((batch.succeeded, self.succeeded), (batch.failed, self.failed)):
                for task_id in ids:
                    known.add(task_id)
            if batch.rows:
                self._keep(batch)
        self.submissions_over(over)

    def _keep(self, batch: ResultBatch) -> None:
        data = b"".join(bytes(row) for row in batch.rows)
        position = 0
        while position < len(data):
            head = data[position : position + DONE_HEAD.size]
            task_id, size = DONE_HEAD.unpack(head)[0], DONE_HEAD.unpack(head)[-1]
            position += DONE_HEAD.size
            payload: Data = data[position : position + size]
            if batch.payload is not None:
                payload = batch.payload
            self.results[task_id] = StoredResult(head, payload)
            position += size
        assert position == len(data), "rows of results are cut short"

    def clear(self, ranges: Ranges) -> None:
        for start, stop in ranges:
            for task_id in range(start, stop):
                self.results.pop(task_id, None)
            for known in (self.succeeded, self.failed):
                for one, end in known.common(start, stop):
                    self.cleared.add_range(one, end)
                known.discard_range(start, stop)

    # -- direct commands

    def command(self, row: CommandRow) -> None:
        self.commands[row.origin, row.number] = row
        client = self.clients.get(row.origin)
        if client is not None:
            last = max(client.last_command, row.number)
            self.clients[row.origin] = replace(client, last_command=last)

    def command_over(self, origin: bytes, number: int) -> None:
        self.commands.pop((origin, number), None)
        for key in [key for key in self.notes if key[:2] == (origin, number)]:
            if key not in self.outcomes:
                del self.notes[key]

    def outcome(self, row: OutcomeRow) -> None:
        key = (row.origin, row.number, row.engine_id)
        size = row.payload.size if isinstance(row.payload, PayloadFile) else len(row.payload)
        self.outcomes[key] = row
        self.notes[key] = OutcomeNote(*key, row.status, row.completed, size)

    def outcome_taken(self, note: OutcomeNote) -> None:
        key = (note.origin, note.number, note.engine_id)
        self.outcomes.pop(key, None)
        self.notes.pop(key, None)
        if key[:2] in self.commands:
            self.notes[key] = replace(note, size=None)

    def outcomes_cleared(self, origin: bytes) -> None:
        for key, row in list(self.outcomes.items()):
            if key[0] == origin:
                self.outcome_taken(OutcomeNote(*key, row.status, row.completed, None))

    def recovered(self) -> Recovered:
        """What a controller finds when it starts."""
        wanted = IdSet()
        for row in self.submissions.values():
            wanted.update(self.cleared.common(row.first, row.last + 1))
        return Recovered(
            next_task=self.next_task,
            next_engine=self.next_engine,
            engines=tuple(self.engines.values()),
            clients=tuple(self.clients.values()),
            leases=tuple(self.leases.values()),
            functions=tuple(self.functions.values()),
            submissions=tuple(self.submissions.values()),
            succeeded=_copy(self.succeeded),
            failed=_copy(self.failed),
            cleared=wanted,
            commands=tuple(self.commands.values()),
            outcomes=tuple(self.notes.values()),
        )


def _copy(ids: IdSet) -> IdSet:
    return IdSet(ids.ranges())


class Disk:
    """What survives a controller.

    :ivar epoch: of the controller that was started last.
    """

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self.instance = f"{chance.getrandbits(128):032x}"
        self.epoch = 0
        self.ticket = 0
        self.state = State()
        self.files: dict[str, bytes] = {}
        self.waiting: list[tuple[int, Change]] = []

    def commit(self, ticket: int) -> None:
        """Write everything up to a ticket."""
        while self.waiting and self.waiting[0][0] <= ticket:
            self.waiting.pop(0)[1](self.state)

    def crash(self) -> None:
        """The controller's process died.  Some of what waited may have been written, but nobody was told."""
        if self.waiting and self._chance.random() < 0.3:
            self.commit(self._chance.choice(self.waiting)[0])
        self.waiting.clear()
        named = {
            data.name
            for data in (
                *(row.bodies for row in self.state.submissions.values()),
                *(stored.payload for stored in self.state.results.values()),
                *(row.payload for row in self.state.commands.values()),
                *(row.payload for row in self.state.outcomes.values()),
            )
            if isinstance(data, PayloadFile)
        }
        self.files = {name: data for name, data in self.files.items() if name in named}


class _Payload:
    """A payload file that is being written."""

    def __init__(self, journal: MemoryJournal, name: str) -> None:
        self._journal = journal
        self._name = name
        self._data = bytearray()

    def add(self, piece: Buffer) -> int:
        self._data += piece
        return self._journal.written(lambda state: None)

    def finish(self) -> PayloadFile:
        self._journal.disk.files[self._name] = bytes(self._data)
        return PayloadFile(self._name, len(self._data))

    def abandon(self) -> None:
        self._data.clear()


class MemoryJournal:
    """A controller's journal on a :class:`Disk`.

    :param process: the controller's; the disk writes as it has time.
    :param slowest: seconds that a commit takes at most.
    """

    keeps = True
    overfull = False
    trouble = ""

    def __init__(self, disk: Disk, process: SimProcess, chance: Random, slowest: float) -> None:
        disk.epoch += 1
        self.disk = disk
        self.instance = disk.instance
        self.epoch = disk.epoch
        self.recovered = disk.state.recovered()
        self._process = process
        self._chance = chance
        self._slowest = slowest
        self._safe = disk.ticket
        self._committing = False
        self._waiters: list[tuple[int, Callable[[], None]]] = []
        process.on_death.append(disk.crash)

    def release_recovered(self) -> None:
        self.recovered = Recovered()

    def when_safe(self, ticket: int, call: Callable[[], None]) -> None:
        if ticket <= self._safe:
            call()
        else:
            self._waiters.append((ticket, call))

    def on_trouble_do(self, call: Callable[[str], None]) -> None:
        pass

    def on_room_do(self, call: Callable[[], None]) -> None:
        pass

    def on_dropped_do(self, call: Callable[[Ranges], None]) -> None:
        pass

    # -- writing

    def written(self, change: Change) -> int:
        """Write a change some time later."""
        self.disk.ticket += 1
        self.disk.waiting.append((self.disk.ticket, change))
        if not self._committing:
            self._committing = True
            self._process.callLater(self._pause(), self._commit, self.disk.ticket)
        return self.disk.ticket

    def _pause(self) -> float:
        return self._slowest * self._chance.random() ** 3

    def _commit(self, ticket: int) -> None:
        self.disk.commit(ticket)
        # That it is written is known a little later.
        self._process.callLater(self._pause(), self._told, ticket)

    def _told(self, ticket: int) -> None:
        self._safe = ticket
        self._committing = False
        if self.disk.waiting:
            self._committing = True
            self._process.callLater(self._pause(), self._commit, self.disk.waiting[-1][0])
        ready = [call for goal, call in self._waiters if goal <= ticket]
        self._waiters = [entry for entry in self._waiters if entry[0] > ticket]
        for call in ready:
            call()

    def _later(self, look: Callable[[State], Any]) -> Deferred[Any]:
        """What the disk says, a moment later; as far as it is safe."""
        answer: Deferred[Any] = Deferred()
        self._process.callLater(self._pause(), lambda: answer.callback(look(self.disk.state)))
        return answer

    def new_payload(self) -> _Payload:
        return _Payload(self, f"{self.epoch}-{self.disk.ticket}-{self._chance.getrandbits(32):x}")

    def read_payload(self, data: Data, offset: int, size: int) -> Deferred[bytes]:
        whole = self.disk.files[data.name] if isinstance(data, PayloadFile) else data
        return succeed(whole[offset : offset + size])

    def engine_came(self, engine: EngineRow) -> int:
        return self.written(lambda state: state.engine_came(engine))

    def engine_gone(self, uuid: bytes) -> int:
        return self.written(lambda state: state.gone(uuid))

    def client_came(self, client: ClientRow) -> int:
        return self.written(lambda state: state.client_came(client))

    def client_gone(self, uuid: bytes) -> int:
        return self.written(lambda state: state.gone(uuid))

    def lease_given(self, client: bytes, start: int, stop: int) -> int:
        return self.written(lambda state: state.lease_given(client, start, stop))

    def function_came(self, client: bytes, digest: bytes, data: bytes) -> int:
        data = bytes(data)
        return self.written(lambda state: state.function_came(client, digest, data))

    def function_forgotten(self, client: bytes, digest: bytes) -> int:
        return self.written(lambda state: state.function_forgotten(client, digest))

    def submission(self, row: SubmissionRow) -> int:
        numbered = replace(row, data=bytes(row.data), number=self.disk.ticket + 1)
        return self.written(lambda state: state.submission(numbered))

    def submissions_over(self, numbers: Iterable[int]) -> int:
        over = tuple(numbers)
        return self.written(lambda state: state.submissions_over(over))

    def results(self, batches: Sequence[ResultBatch], over: Iterable[int] = ()) -> int:
        copied = tuple(
            replace(
                each,
                rows=tuple(map(bytes, each.rows)),
                succeeded=tuple(each.succeeded),
                failed=tuple(each.failed),
            )
            for each in batches
        )
        ended = tuple(over)
        return self.written(lambda state: state.done(copied, ended))

    def cleared(self, ranges: Ranges) -> int:
        copied = tuple(ranges)
        return self.written(lambda state: state.clear(copied))

    def fetch_results(self, ids: Iterable[int]) -> Deferred[dict[int, StoredResult]]:
        wanted = tuple(ids)
        return self._later(
            lambda state: {each: state.results[each] for each in wanted if each in state.results}
        )

    def task_history(self, limit: int, before: float | None = None) -> Deferred[list[TaskHistory]]:
        return succeed([])

    def command(self, row: CommandRow) -> int:
        return self.written(lambda state: state.command(row))

    def command_over(self, origin: bytes, number: int) -> int:
        return self.written(lambda state: state.command_over(origin, number))

    def outcome(self, row: OutcomeRow) -> int:
        return self.written(lambda state: state.outcome(row))

    def outcome_taken(self, note: OutcomeNote) -> int:
        return self.written(lambda state: state.outcome_taken(note))

    def outcomes_cleared(self, origin: bytes) -> int:
        return self.written(lambda state: state.outcomes_cleared(origin))

    def fetch_outcome(
        self, origin: bytes, number: int, engine_id: int
    ) -> Deferred[OutcomeRow | None]:
        key = (origin, number, engine_id)
        return self._later(lambda state: state.outcomes.get(key))

    def command_history(
        self, limit: int, before: float | None = None
    ) -> Deferred[list[CommandHistory]]:
        return succeed([])

    def close(self) -> Deferred[None]:
        self.disk.commit(self.disk.ticket)
        return succeed(None)
