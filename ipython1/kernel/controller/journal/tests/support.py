"""Rows for tests, what tests of journals share, and a random user of journals."""

from __future__ import annotations

import random
import shutil
import struct
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from ipython1.kernel.controller.journal.interface import Journal
from ipython1.kernel.controller.journal.journal import WritingJournal, open_journal
from ipython1.kernel.controller.journal.opening import JournalSettings
from ipython1.kernel.controller.journal.rows import (
    ClientRow,
    CommandRow,
    EngineRow,
    OutcomeNote,
    OutcomeRow,
    ResultBatch,
    SubmissionRow,
)
from ipython1.kernel.controller.journal.store import Store
from ipython1.kernel.wire.taskwire import DONE_HEAD

CLIENT = b"A" * 16
SECRET = b"s" * 32


def engine(number: int) -> EngineRow:
    return EngineRow(struct.pack(">QQ", 1, number), number, 100 + number, "host", 7.5, SECRET, 1e9)


def client(uuid: bytes, seen: float = 1e9) -> ClientRow:
    return ClientRow(uuid, "me@host (12)", 12, "host", 8.5, SECRET, seen, seen)


def submission(uuid: bytes, first: int, count: int, data: bytes = b"data") -> SubmissionRow:
    return SubmissionRow(uuid, first, first + count - 1, count, 1e9, data)


def done_row(task_id: int, payload: bytes, status: int = 0, completed: float = 2e9) -> bytes:
    """A row of a ``DONE`` frame."""
    head = (task_id, len(payload), status, 3, 1 << 32 | 5, 1e9, completed, 0.25)
    return DONE_HEAD.pack(*head) + payload


def batch(
    uuid: bytes,
    succeeded: Sequence[int],
    failed: Sequence[int] = (),
    size: int = 20,
    completed: float = 2e9,
) -> ResultBatch:
    """Results whose payloads can be told from their ids."""
    rows = [done_row(task_id, payload_of(task_id, size), 0, completed) for task_id in succeeded]
    rows += [done_row(task_id, payload_of(task_id, size), 1, completed) for task_id in failed]
    return ResultBatch(uuid, completed, succeeded, failed, rows)


def payload_of(task_id: int, size: int = 20) -> bytes:
    return (b"%d;" % task_id * (size // 2 + 1))[:size]


def command(uuid: bytes, number: int, targets: Sequence[int], payload: bytes = b"x") -> CommandRow:
    return CommandRow(uuid, number, tuple(targets), "execute", b"meta", payload, 1e9 + number)


def outcome(uuid: bytes, number: int, engine_id: int, payload: bytes = b"y") -> OutcomeRow:
    return OutcomeRow(uuid, number, engine_id, 0, b"meta", payload, 2e9 + number)


def safe(journal: Journal, ticket: int) -> Deferred[None]:
    """Fires when all up to a ticket is safe."""
    done: Deferred[None] = Deferred()
    journal.when_safe(ticket, lambda: done.callback(None))
    return done


class JournalCase(TestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute() / "journal" / "state"

    async def opened(self, directory: Path | None = None, **settings: Any) -> WritingJournal:
        settings = {"directory": directory or self.directory, **settings}
        return await open_journal(JournalSettings(**settings), reactor)

    async def held(self, journal: WritingJournal) -> threading.Event:
        """Hold the writer's thread up until the event is set."""
        holding: Deferred[None] = Deferred()
        let_go = threading.Event()

        def hold(_: Store) -> None:
            reactor.callFromThread(holding.callback, None)  # type: ignore[attr-defined]
            let_go.wait()

        journal._ask(hold)
        await holding
        self.addCleanup(let_go.set)
        return let_go

    def killed(self, number: int) -> Path:
        """What is on the disk now, as after the death of the process."""
        copy = self.directory.with_name(f"killed{number}")
        shutil.copytree(self.directory, copy)
        return copy


class RandomUser:
    """Does to several journals what a controller might, the same to each.

    :ivar done: tasks that are done and were not cleared.
    """

    def __init__(self, seed: int, large: int = 0) -> None:
        self.rng = random.Random(seed)
        self.large = large
        self.journals: list[Journal] = []
        self.next_task = 0
        self.next_command = 1
        self.next_engine = 0
        self.clients: list[bytes] = []
        self.born = 0
        self.engines: list[EngineRow] = []
        self.frames: dict[int, tuple[bytes, set[int], list[int]]] = {}
        self.all_tasks: list[int] = []
        self.done: set[int] = set()
        self.open: dict[tuple[bytes, int], tuple[set[int], list[int]]] = {}
        self.keys: list[tuple[bytes, int, int]] = []
        self.kept: set[tuple[bytes, int, int]] = set()
        self.digests: list[tuple[bytes, bytes]] = []

    def step(self) -> list[int]:
        """Do something; returns each journal's ticket."""
        names = (
            ["engines", "clients", "functions"]
            + ["submit"] * 4
            + ["finish"] * 6
            + ["clear", "command", "command", "outcome", "outcome", "outcome", "take"]
        )
        call = getattr(self, "_" + self.rng.choice(names))
        found: list[int] = call()
        return found

    def _each(self, name: str, *args: object) -> list[int]:
        return [getattr(journal, name)(*args) for journal in self.journals]

    def _engines(self) -> list[int]:
        if self.engines and self.rng.random() < 0.4:
            gone = self.engines.pop(self.rng.randrange(len(self.engines)))
            return self._each("engine_gone", gone.uuid)
        row = engine(self.next_engine)
        self.next_engine += 1
        self.engines.append(row)
        return self._each("engine_came", row)

    def _clients(self) -> list[int]:
        if self.clients and self.rng.random() < 0.2:
            gone = self.clients.pop(self.rng.randrange(len(self.clients)))
            return self._each("client_gone", gone)
        if len(self.clients) == 3:
            return self._each("client_came", client(self._client(), self.rng.random()))
        self.born += 1
        self.clients.append(struct.pack(">QQ", 2, self.born))
        return self._each("client_came", client(self.clients[-1], self.rng.random()))

    def _client(self) -> bytes:
        if not self.clients:
            self._clients()
        return self.rng.choice(self.clients)

    def _functions(self) -> list[int]:
        if self.digests and self.rng.random() < 0.4:
            pair = self.digests.pop(self.rng.randrange(len(self.digests)))
            return self._each("function_forgotten", *pair)
        digest = bytes([self.rng.randrange(5)]) * 16
        pair = (self._client(), digest)
        if pair not in self.digests:
            self.digests.append(pair)
        return self._each("function_came", *pair, b"function" + digest)

    def _size(self) -> int:
        return self.large if self.large and self.rng.random() < 0.2 else self.rng.randrange(100)

    def _submit(self) -> list[int]:
        uuid = self._client()
        count = self.rng.choice((1, 2, 50, 300))
        gap = self.rng.choice((0, 0, 0, 1, 70_000))
        first = self.next_task + gap
        self.next_task = first + count
        self._each("lease_given", uuid, first, first + count)
        row = submission(uuid, first, count, self.rng.randbytes(self.rng.randrange(100)))
        if count == 1 and self.large:
            row = SubmissionRow(
                uuid, first, first, 1, 1e9, row.data, self.rng.randbytes(self.large)
            )
        tickets = self._each("submission", row)
        ids = list(range(first, first + count))
        self.all_tasks += ids
        self.frames[first] = (uuid, set(ids), tickets)
        return tickets

    def _finish(self) -> list[int]:
        uuids = {uuid for uuid, _, _ in self.frames.values()}
        if not uuids:
            return self._submit()
        uuid = self.rng.choice(sorted(uuids))
        waiting = [t for owner, ids, _ in self.frames.values() if owner == uuid for t in ids]
        share = self.rng.choice((0.1, 0.5, 1.0))
        ids = [task_id for task_id in sorted(waiting) if self.rng.random() < share] or waiting[:1]
        failed = [task_id for task_id in ids if self.rng.random() < 0.05]
        succeeded = [task_id for task_id in ids if task_id not in failed]
        self.rng.shuffle(succeeded)
        results = batch(uuid, succeeded, failed, self.rng.randrange(100))
        if self.rng.random() < 0.3:
            results = ResultBatch(uuid, 2e9, succeeded, failed)
        elif len(ids) == 1 and self.large:
            head = done_row(ids[0], b"", bool(failed))
            large = self.rng.randbytes(self.large)
            results = ResultBatch(uuid, 2e9, succeeded, failed, [head], large)
        self.done.update(ids)
        over = []
        for first, (_, left, tickets) in list(self.frames.items()):
            left.difference_update(ids)
            if not left:
                over.append(tickets)
                del self.frames[first]
        found = []
        for index, journal in enumerate(self.journals):
            found.append(journal.results([results], [tickets[index] for tickets in over]))
        return found

    def _clear(self) -> list[int]:
        if not self.done:
            return self._finish()
        some = sorted(self.done)
        if self.rng.random() < 0.3:
            cleared = [self.rng.choice(some)]
        else:
            start = self.rng.randrange(len(some))
            cleared = some[start : start + self.rng.choice((5, 1000))]
        self.done.difference_update(cleared)
        return self._each("cleared", [(task_id, task_id + 1) for task_id in cleared])

    def _command(self) -> list[int]:
        uuid = self._client()
        targets = self.rng.sample(range(5), self.rng.randrange(1, 4))
        row = command(uuid, self.next_command, targets, self.rng.randbytes(self._size()))
        self.open[uuid, self.next_command] = (set(targets), [])
        self.next_command += 1
        return self._each("command", row)

    def _outcome(self) -> list[int]:
        if not self.open:
            return self._command()
        key = self.rng.choice(list(self.open))
        left, _ = self.open[key]
        engine_id = left.pop()
        full = (*key, engine_id)
        self.keys.append(full)
        if self.rng.random() < 0.3:
            found = self._each("outcome_taken", OutcomeNote(*full, 1, 3e9, None))
        else:
            self.kept.add(full)
            found = self._each("outcome", outcome(*full, self.rng.randbytes(self._size())))
        if not left:
            del self.open[key]
            found = self._each("command_over", *key)
        return found

    def _take(self) -> list[int]:
        if not self.kept:
            return self._outcome()
        full = self.rng.choice(sorted(self.kept))
        self.kept.discard(full)
        return self._each("outcome_taken", OutcomeNote(*full, 0, 2e9 + full[1], None))
