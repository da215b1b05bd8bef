"""The tables of the journal's database, and what shows that they are whole.

Each row ends with a checksum of its values.  The table ``totals`` has the number and the sum of the checksums of the
rows of every other table; triggers keep it, so that a row that is gone is missed.  ``state`` has one row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from ipython1.kernel.controller.journal.packing import Value, checksum

VERSION: Final = 2
"""Of the tables and the files beside them; from 2 on there is an intake."""

MIGRATIONS: Final[Mapping[int, Callable[[sqlite3.Connection], None]]] = {1: lambda db: None}
"""What makes the tables of a version those of the next one; by the old version."""

MOST_VALUES: Final = 2000
"""Values that one statement takes."""


_KINDS: Final[Mapping[str, Callable[[Any], Value]]] = {
    "BLOB": bytes,
    "INTEGER": int,
    "REAL": float,
    "TEXT": str,
}


@dataclass(frozen=True)
class Table:
    """A table.

    :ivar columns: as in ``CREATE TABLE``; the checksum comes after them.
    :ivar indexes: (name, columns) of further indexes.
    """

    name: str
    columns: tuple[str, ...]
    indexes: tuple[tuple[str, str], ...] = ()

    @cached_property
    def names(self) -> list[str]:
        """Names of the columns, without the checksum."""
        return [column.split()[0] for column in self.columns]

    @cached_property
    def _kinds(self) -> list[Callable[[Any], Value]]:
        return [_KINDS[column.split()[1]] for column in self.columns]

    def statements(self) -> Iterator[str]:
        """What creates it."""
        name = self.name
        yield f"CREATE TABLE {name} ({', '.join(self.columns)}, crc INTEGER NOT NULL)"
        for index, columns in self.indexes:
            yield f"CREATE {index} ON {name} ({columns})"
        for event, row, sign in (("INSERT", "NEW", "+"), ("DELETE", "OLD", "-")):
            yield (
                f"CREATE TRIGGER {name}_{event.lower()} AFTER {event} ON {name} BEGIN UPDATE totals "
                f"SET rows = rows {sign} 1, crcs = crcs {sign} {row}.crc WHERE name = '{name}'; END"
            )
        yield f"INSERT INTO totals VALUES ('{name}', 0, 0)"

    def insert(self, db: sqlite3.Connection, rows: Sequence[Sequence[Value]]) -> None:
        """Insert rows, or replace those with the same key, in as few statements as possible.

        A thread beside a busy one waits for its turn after each statement.
        """
        kinds = self._kinds
        width = len(kinds) + 1
        most = max(1, MOST_VALUES // width)
        for start in range(0, len(rows), most):
            some = rows[start : start + most]
            values: list[Value] = []
            for row in some:
                # As they will come back: 1 from a column of REAL is 1.0, an IntEnum an int.
                clean = [
                    value if value is None else kind(value)
                    for kind, value in zip(kinds, row, strict=True)
                ]
                values += clean
                values.append(checksum(clean))
            marks = ", ".join([f"({', '.join('?' * width)})"] * len(some))
            db.execute(f"INSERT OR REPLACE INTO {self.name} VALUES {marks}", values)

    def delete(self, db: sqlite3.Connection, column: str, values: Iterable[Value]) -> None:
        """Delete the rows that have one of these values."""
        everything = list(values)
        for start in range(0, len(everything), MOST_VALUES):
            some = everything[start : start + MOST_VALUES]
            marks = ", ".join("?" * len(some))
            db.execute(f"DELETE FROM {self.name} WHERE {column} IN ({marks})", some)

    def checked(self, db: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
        """All rows, without their checksums, in the order of their keys.

        :raises Damaged: at the end at the latest, when not all is there as it was.
        """
        rows = crcs = 0
        for row in db.execute(f"SELECT * FROM {self.name} ORDER BY 1"):
            if checksum(row[:-1]) != row[-1]:
                raise Damaged(f"a row of {self.name} has changed")
            rows += 1
            crcs += row[-1]
            yield row[:-1]
        known = db.execute("SELECT rows, crcs FROM totals WHERE name = ?", (self.name,)).fetchone()
        if known != (rows, crcs):
            raise Damaged(f"rows of {self.name} are missing")


class Damaged(Exception):
    """The journal is not as it was written; the message says how.

    :ivar release: closes what is open of it.
    """

    def __init__(self, reason: str, release: Iterable[Callable[[], None]] = ()) -> None:
        super().__init__(reason)
        self.release: list[Callable[[], None]] = list(release)


STATE: Final = Table(
    "state",
    (
        "id INTEGER PRIMARY KEY",
        "instance TEXT",
        "version INTEGER",
        "epoch INTEGER",
        "commits INTEGER",
        "ticket INTEGER",
        "next_task INTEGER",
        "next_engine INTEGER",
    ),
)
ENGINES: Final = Table(
    "engines",
    (
        "uuid BLOB PRIMARY KEY",
        "engine_id INTEGER",
        "pid INTEGER",
        "host TEXT",
        "started REAL",
        "secret_hash BLOB",
        "registered REAL",
    ),
)
CLIENTS: Final = Table(
    "clients",
    (
        "uuid BLOB PRIMARY KEY",
        "label TEXT",
        "pid INTEGER",
        "host TEXT",
        "started REAL",
        "secret_hash BLOB",
        "first_seen REAL",
        "last_seen REAL",
        "last_command INTEGER",
    ),
)
LEASES: Final = Table(
    "leases", ("start INTEGER PRIMARY KEY", "client BLOB", "stop INTEGER", "next INTEGER")
)
FUNCTIONS: Final = Table("functions", ("digest BLOB PRIMARY KEY", "data BLOB"))
USERS: Final = Table(
    "users", ("digest BLOB", "client BLOB"), (("UNIQUE INDEX users_key", "digest, client"),)
)
SUBMISSIONS: Final = Table(
    "submissions",
    (
        "number INTEGER PRIMARY KEY",
        "client BLOB",
        "first INTEGER",
        "last INTEGER",
        "count INTEGER",
        "submitted REAL",
        "data BLOB",
        "bodies BLOB",
        "file TEXT",
        "file_size INTEGER",
    ),
)
RESULTS: Final = Table(
    "results",
    (
        "number INTEGER PRIMARY KEY",
        "client BLOB",
        "completed REAL",
        "first INTEGER",
        "last INTEGER",
        "count INTEGER",
        "succeeded BLOB",
        "failed BLOB",
        "size INTEGER",
        "data BLOB",
        "payload BLOB",
        "file TEXT",
        "file_size INTEGER",
    ),
    (("INDEX results_ids", "first, last"),),
)
FINISHED: Final = Table(
    "finished", ("number INTEGER PRIMARY KEY", "succeeded BLOB", "failed BLOB", "cleared BLOB")
)
COMMANDS: Final = Table(
    "commands",
    (
        "ticket INTEGER PRIMARY KEY",
        "origin BLOB",
        "number INTEGER",
        "targets TEXT",
        "method TEXT",
        "meta BLOB",
        "submitted REAL",
        "size INTEGER",
        "payload BLOB",
        "file TEXT",
        "file_size INTEGER",
        "ended TEXT",
    ),
    (("UNIQUE INDEX commands_key", "origin, number"),),
)
OUTCOMES: Final = Table(
    "outcomes",
    (
        "ticket INTEGER PRIMARY KEY",
        "origin BLOB",
        "number INTEGER",
        "engine_id INTEGER",
        "status INTEGER",
        "completed REAL",
        "size INTEGER",
        "meta BLOB",
        "payload BLOB",
        "file TEXT",
        "file_size INTEGER",
    ),
    (("UNIQUE INDEX outcomes_key", "origin, number, engine_id"),),
)

TABLES: Final = (
    STATE,
    ENGINES,
    CLIENTS,
    LEASES,
    FUNCTIONS,
    USERS,
    SUBMISSIONS,
    RESULTS,
    FINISHED,
    COMMANDS,
    OUTCOMES,
)


def create(db: sqlite3.Connection) -> None:
    """Create all tables in an empty database, in one transaction: each would be synced."""
    db.execute("BEGIN")
    db.execute("CREATE TABLE totals (name TEXT PRIMARY KEY, rows INTEGER, crcs INTEGER)")
    for table in TABLES:
        for statement in table.statements():
            db.execute(statement)
    db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute("COMMIT")


def version_of(db: sqlite3.Connection) -> int:
    """The version of the tables."""
    found: int = db.execute("PRAGMA user_version").fetchone()[0]
    return found


def migrate(
    db: sqlite3.Connection,
    version: int = VERSION,
    migrations: Mapping[int, Callable[[sqlite3.Connection], None]] = MIGRATIONS,
) -> None:
    """Make the tables of an older version those of this one, all or nothing.

    :raises Damaged: when they are of no known version.
    :raises NewerVersion: when they are of a later one.
    """
    found = version_of(db)
    if found == version:
        return
    told = db.execute("SELECT version FROM state").fetchone()
    if told != (found,):
        raise Damaged("the version of its tables has changed")
    if found > version:
        raise NewerVersion(found)
    db.execute("BEGIN IMMEDIATE")
    try:
        for step in range(found, version):
            if step not in migrations:
                raise Damaged(f"its tables are of the unknown version {step}")
            migrations[step](db)
        [row] = db.execute("SELECT * FROM state").fetchall()
        names = STATE.names
        STATE.insert(
            db, [[version if n == "version" else v for n, v in zip(names, row, strict=False)]]
        )
        db.execute(f"PRAGMA user_version = {version}")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


class NewerVersion(Exception):
    """The tables were made by a later version of this package."""


def check_structure(db: sqlite3.Connection) -> None:
    """Check pages, indexes and definitions of the database, not what is in the rows.

    :raises Damaged: when they are not what they should be.
    """
    [(answer,)] = db.execute("PRAGMA integrity_check(1)").fetchall()
    if answer != "ok":
        raise Damaged(answer.replace("\n", " "))
    model = sqlite3.connect(":memory:", isolation_level=None)
    try:
        create(model)
        if _definitions(db) != _definitions(model):
            raise Damaged("the definitions of its tables have changed")
    finally:
        model.close()


def _definitions(db: sqlite3.Connection) -> list[tuple[Any, ...]]:
    return db.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name").fetchall()
