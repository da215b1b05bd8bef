"""The tables of engines, clients, their leases of ids, and their functions."""

from __future__ import annotations

import sqlite3

from ipython1.kernel.controller.journal.plan import Function, Gone, Lease, PartyChange
from ipython1.kernel.controller.journal.rows import (
    ClientRow,
    CommandRow,
    EngineRow,
    FunctionRow,
    LeaseRow,
    SubmissionRow,
)
from ipython1.kernel.controller.journal.tables import (
    CLIENTS,
    ENGINES,
    FUNCTIONS,
    LEASES,
    USERS,
)


class PartyTables:
    """Engines, clients, leases, functions.

    What it knows in memory it would set to the same again if a commit failed and were repeated.

    :ivar next_task: the lowest id that was never leased.
    :ivar next_engine: the lowest id above those that engines ever had.
    """

    def __init__(self, next_task: int, next_engine: int) -> None:
        self.next_task: int = next_task
        self.next_engine: int = next_engine
        self._clients: dict[bytes, ClientRow] = {}
        self._leases: dict[bytes, dict[int, LeaseRow]] = {}
        self._users: dict[bytes, set[bytes]] = {}

    # -- at the start

    def load_engines(self, db: sqlite3.Connection) -> tuple[EngineRow, ...]:
        """:raises Damaged: when they are not whole; so the others."""
        engines = tuple(EngineRow(*row) for row in ENGINES.checked(db))
        for engine in engines:
            self.next_engine = max(self.next_engine, engine.engine_id + 1)
        return engines

    def load_clients(self, db: sqlite3.Connection) -> tuple[ClientRow, ...]:
        self._clients = {row[0]: ClientRow(*row) for row in CLIENTS.checked(db)}
        return tuple(self._clients.values())

    def load_leases(self, db: sqlite3.Connection) -> tuple[LeaseRow, ...]:
        leases = tuple(
            LeaseRow(client, start, stop, first)
            for start, client, stop, first in LEASES.checked(db)
        )
        for lease in leases:
            self._leases.setdefault(lease.client, {})[lease.start] = lease
            self.next_task = max(self.next_task, lease.stop)
        return leases

    def load_functions(self, db: sqlite3.Connection) -> tuple[FunctionRow, ...]:
        for digest, client in USERS.checked(db):
            self._users.setdefault(digest, set()).add(client)
        return tuple(
            FunctionRow(digest, data, frozenset(self._users.get(digest, ())))
            for digest, data in FUNCTIONS.checked(db)
        )

    # -- changes

    def apply(
        self,
        db: sqlite3.Connection,
        changes: list[PartyChange],
        submissions: list[SubmissionRow],
        commands: list[tuple[int, CommandRow]],
    ) -> None:
        """Write what has changed, and what follows from submissions and commands."""
        for change in changes:
            if isinstance(change, EngineRow):
                ENGINES.insert(db, [change])
                self.next_engine = max(self.next_engine, change.engine_id + 1)
            elif isinstance(change, ClientRow):
                self._client_came(db, change)
            elif isinstance(change, Lease):
                self._lease(db, change)
            elif isinstance(change, Function):
                self._function(db, change)
            elif isinstance(change, Gone):
                self._gone(db, change.uuid)
        self._advance_leases(db, submissions)
        self._count_commands(db, commands)

    def _client_came(self, db: sqlite3.Connection, client: ClientRow) -> None:
        known = self._clients.get(client.uuid)
        if known is not None:
            most = max(known.last_command, client.last_command)
            client = client._replace(first_seen=known.first_seen, last_command=most)
        self._clients[client.uuid] = client
        CLIENTS.insert(db, [client])

    def _gone(self, db: sqlite3.Connection, uuid: bytes) -> None:
        ENGINES.delete(db, "uuid", [uuid])
        CLIENTS.delete(db, "uuid", [uuid])
        self._clients.pop(uuid, None)
        LEASES.delete(db, "start", self._leases.pop(uuid, {}))

    def _lease(self, db: sqlite3.Connection, lease: Lease) -> None:
        row = LeaseRow(lease.client, lease.start, lease.stop, lease.start)
        self._leases.setdefault(lease.client, {}).setdefault(lease.start, row)
        self.next_task = max(self.next_task, lease.stop)
        self._write_leases(db, [row])

    @staticmethod
    def _write_leases(db: sqlite3.Connection, rows: list[LeaseRow]) -> None:
        LEASES.insert(db, [(row.start, row.client, row.stop, row.next) for row in rows])

    def _function(self, db: sqlite3.Connection, change: Function) -> None:
        users = self._users.setdefault(change.digest, set())
        if change.data is not None:
            users.add(change.client)
            FUNCTIONS.insert(db, [(change.digest, change.data)])
            USERS.insert(db, [(change.digest, change.client)])
            return
        users.discard(change.client)
        db.execute(
            "DELETE FROM users WHERE digest = ? AND client = ?", (change.digest, change.client)
        )
        if not users:
            del self._users[change.digest]
            FUNCTIONS.delete(db, "digest", [change.digest])

    def _advance_leases(self, db: sqlite3.Connection, submissions: list[SubmissionRow]) -> None:
        changed: dict[int, LeaseRow] = {}
        for row in submissions:
            leases = self._leases.get(row.client, {})
            for lease in leases.values():
                if lease.start <= row.last and row.first < lease.stop:
                    first = max(lease.next, min(row.last + 1, lease.stop))
                    leases[lease.start] = changed[lease.start] = lease._replace(next=first)
        if changed:
            self._write_leases(db, list(changed.values()))

    def _count_commands(
        self, db: sqlite3.Connection, commands: list[tuple[int, CommandRow]]
    ) -> None:
        changed: dict[bytes, ClientRow] = {}
        for _, row in commands:
            client = self._clients.get(row.origin)
            if client is not None:
                last = max(client.last_command, row.number)
                client = client._replace(last_command=last)
                self._clients[row.origin] = changed[row.origin] = client
        if changed:
            CLIENTS.insert(db, list(changed.values()))
