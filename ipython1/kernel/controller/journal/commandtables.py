"""The tables of direct commands and of their outcomes.

A command that is over stays for a while without its payload, for those who ask what was done; how it ended is then in
its own row.  Before that, each engine that is through with it has a row of outcomes, even if nothing of it is kept.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

from ipython1.kernel.basics.error import JournalError
from ipython1.kernel.controller.journal.datacolumns import from_columns, size_of, to_columns
from ipython1.kernel.controller.journal.packing import Value, checksum
from ipython1.kernel.controller.journal.plan import CommandKey, Due, Effects, Plan
from ipython1.kernel.controller.journal.rows import (
    CommandHistory,
    CommandRow,
    OutcomeNote,
    OutcomeRow,
    PayloadFile,
)
from ipython1.kernel.controller.journal.tables import COMMANDS, OUTCOMES

HISTORY: Final = 10_000
"""Commands that are over of which it is known what they were."""

PRUNE_AT: Final = HISTORY + 1000

DROP_STEP: Final = 100
"""Outcomes that are dropped in one step."""

_Values: TypeAlias = tuple[Value, ...]
_AT_ONCE: Final = 300


class CommandTables:
    """Commands and outcomes.

    :ivar open: tickets of the commands that are not over.
    :ivar outcomes: that are kept.
    :ivar size: bytes of these.
    :ivar oldest: when the oldest of them was completed, if there is one.
    """

    def __init__(self) -> None:
        self.open: dict[CommandKey, int] = {}
        self.outcomes: int = 0
        self.size: Any = 0
        self.oldest: float | None = None
        self._over = 0

    # -- at the start

    def load_commands(self, db: sqlite3.Connection) -> tuple[CommandRow, ...]:
        """Those that are not over.

        :raises Damaged: when not all is whole.
        """
        commands = []
        for row in COMMANDS.checked(db):
            ticket, origin, number, targets, method, meta, submitted = row[:7]
            if row[11] is not None:
                self._over += 1
                continue
            payload = from_columns(*row[8:11])
            assert payload is not None
            engines = tuple(json.loads(targets))
            commands.append(CommandRow(origin, number, engines, method, meta, payload, submitted))
            self.open[origin, number] = ticket
        return tuple(commands)

    def load_outcomes(
        self, db: sqlite3.Connection, files: list[PayloadFile]
    ) -> tuple[OutcomeNote, ...]:
        """All that is known of outcomes.

        :param files: those of the outcomes are added.
        :raises Damaged: when not all is whole.
        """
        notes = []
        for _, origin, number, engine_id, status, completed, size, *rest in OUTCOMES.checked(db):
            notes.append(OutcomeNote(origin, number, engine_id, status, completed, size))
            if size is not None:
                self.outcomes += 1
                self.size += size
                self.oldest = completed if self.oldest is None else self.oldest
            if rest[2] is not None:
                files.append(PayloadFile(rest[2], rest[3]))
        return tuple(notes)

    # -- a commit

    def apply(self, db: sqlite3.Connection, plan: Plan, effects: Effects) -> None:
        """Write what a plan has of commands."""
        COMMANDS.insert(db, [_command_values(ticket, row) for ticket, row in plan.commands])
        opened = {(row.origin, row.number): ticket for ticket, row in plan.commands}
        still_open = self.open | opened if opened else self.open
        self._insert_outcomes(db, plan.outcomes, effects)
        over = {key: still_open[key] for key in plan.commands_over if key in still_open}
        if plan.taken:
            self._take(db, plan.taken, still_open, effects)
        if over:
            self._end(db, over, effects)

        def then() -> None:
            self.open.update(opened)
            for key in over:
                del self.open[key]
            self._over += len(over)

        effects.then.append(then)

    def _insert_outcomes(
        self, db: sqlite3.Connection, outcomes: list[tuple[int, OutcomeRow]], effects: Effects
    ) -> None:
        rows: list[_Values] = []
        size = 0
        for ticket, row in outcomes:
            bytes_kept = size_of(row.payload)
            size += bytes_kept
            rows.append(
                (
                    ticket,
                    row.origin,
                    row.number,
                    row.engine_id,
                    row.status,
                    row.completed,
                    bytes_kept,
                    row.meta,
                    *to_columns(row.payload),
                )
            )
        OUTCOMES.insert(db, rows)

        def then() -> None:
            self.outcomes += len(rows)
            self.size += size
            if self.oldest is None and outcomes:
                self.oldest = outcomes[0][1].completed

        effects.then.append(then)

    def _take(
        self,
        db: sqlite3.Connection,
        taken: Sequence[tuple[int, OutcomeNote]],
        still_open: dict[CommandKey, int],
        effects: Effects,
    ) -> None:
        """Let go of outcomes; of commands that are not over, remember that they were."""
        keys = [(note.origin, note.number, note.engine_id) for _, note in taken]
        self._delete(db, _outcome_rows(db, keys), effects)
        notes = [
            (ticket, note) for ticket, note in taken if (note.origin, note.number) in still_open
        ]
        OUTCOMES.insert(db, [_note_values(ticket, note) for ticket, note in notes])

    def _delete(self, db: sqlite3.Connection, rows: Iterable[_Values], effects: Effects) -> None:
        """Delete rows of outcomes: ticket, size, file."""
        found = list(rows)
        OUTCOMES.delete(db, "ticket", [ticket for ticket, _, _ in found])
        sizes = [int(size) for _, size, _ in found if size is not None]
        effects.files += [str(file) for _, _, file in found if file is not None]

        def then() -> None:
            self.outcomes -= len(sizes)
            self.size -= sum(sizes)
            if not self.outcomes:
                self.oldest = None

        effects.then.append(then)

    def _end(self, db: sqlite3.Connection, over: dict[CommandKey, int], effects: Effects) -> None:
        """Note in the rows of commands how they ended."""
        tickets = list(over.values())
        ended: dict[CommandKey, list[tuple[int, int, float]]] = {key: [] for key in over}
        notes: list[_Values] = []
        for some in _chunks(list(over)):
            marks = ", ".join(["(?, ?)"] * len(some))
            rows = db.execute(
                "SELECT ticket, size, file, origin, number, engine_id, status, completed FROM outcomes "
                f"WHERE (origin, number) IN (VALUES {marks})",
                [value for key in some for value in key],
            ).fetchall()
            for ticket, size, file, origin, number, *ending in rows:
                ended[origin, number].append(tuple(ending))
                if size is None:
                    notes.append((ticket, size, file))
        changed: list[_Values] = []
        for some in _chunks(tickets):
            marks = ", ".join("?" * len(some))
            for row in db.execute(f"SELECT * FROM commands WHERE ticket IN ({marks})", some):
                if row[9] is not None:
                    effects.files.append(row[9])
                ending = json.dumps(ended[row[1], row[2]], separators=(",", ":"))
                changed.append((*row[:5], b"", *row[6:8], None, None, None, ending))
        COMMANDS.insert(db, changed)
        self._delete(db, notes, effects)

    # -- keeping house

    @property
    def untidy(self) -> bool:
        """Whether :meth:`prune` is due."""
        return self._over >= PRUNE_AT

    def prune(self, db: sqlite3.Connection, before: float, effects: Effects) -> None:
        """Forget commands that were over before a time, and all but the latest."""
        tickets = [
            ticket
            for (ticket,) in db.execute(
                "SELECT ticket FROM commands WHERE ended IS NOT NULL ORDER BY ticket DESC"
            )
        ]
        late = {
            ticket
            for (ticket,) in db.execute(
                "SELECT ticket FROM commands WHERE ended IS NOT NULL AND submitted >= ?", (before,)
            )
        }
        gone = [t for place, t in enumerate(tickets) if place >= HISTORY or t not in late]
        COMMANDS.delete(db, "ticket", gone)

        def then() -> None:
            self._over -= len(gone)

        effects.then.append(then)

    def drop_oldest(self, db: sqlite3.Connection, excess: int, due: Due, effects: Effects) -> None:
        """Drop some of the oldest outcomes."""
        found = db.execute(
            "SELECT ticket, origin, number, engine_id, status, completed, size FROM outcomes "
            "WHERE size IS NOT NULL ORDER BY ticket LIMIT ?",
            (DROP_STEP + 1,),
        ).fetchall()
        gone: list[tuple[int, OutcomeNote]] = []
        oldest = None
        for ticket, origin, number, engine_id, status, completed, size in found:
            if len(gone) == DROP_STEP or not due(excess, completed):
                oldest = completed
                break
            excess -= size
            gone.append((ticket, OutcomeNote(origin, number, engine_id, status, completed, None)))
        if gone:
            self._take(db, gone, self.open, effects)

        def then() -> None:
            self.oldest = oldest

        effects.then.append(then)


def _command_values(ticket: int, row: CommandRow) -> _Values:
    return (
        ticket,
        row.origin,
        row.number,
        json.dumps(row.targets, separators=(",", ":")),
        row.method,
        row.meta,
        row.submitted,
        size_of(row.payload),
        *to_columns(row.payload),
        None,
    )


def _note_values(ticket: int, note: OutcomeNote) -> _Values:
    return (
        ticket,
        note.origin,
        note.number,
        note.engine_id,
        note.status,
        note.completed,
        None,
        b"",
        None,
        None,
        None,
    )


def _outcome_rows(db: sqlite3.Connection, keys: Sequence[tuple[bytes, int, int]]) -> list[_Values]:
    """Ticket, size and file of outcomes."""
    found: list[_Values] = []
    for some in _chunks(keys):
        marks = ", ".join(["(?, ?, ?)"] * len(some))
        found += db.execute(
            "SELECT ticket, size, file FROM outcomes "
            f"WHERE (origin, number, engine_id) IN (VALUES {marks})",
            [value for key in some for value in key],
        ).fetchall()
    return found


def _chunks(values: Sequence[Any]) -> list[Sequence[Any]]:
    return [values[start : start + _AT_ONCE] for start in range(0, len(values), _AT_ONCE)]


# -- reading


def fetch_outcome(
    db: sqlite3.Connection, origin: bytes, number: int, engine_id: int
) -> OutcomeRow | None:
    """An outcome that is kept.

    :raises JournalError: when it has been damaged.
    """
    row = db.execute(
        "SELECT * FROM outcomes WHERE origin = ? AND number = ? AND engine_id = ?",
        (origin, number, engine_id),
    ).fetchone()
    if row is None or row[6] is None:
        return None
    if checksum(row[:-1]) != row[-1]:
        raise JournalError("an outcome in the journal is damaged")
    payload = from_columns(*row[8:11])
    assert payload is not None
    return OutcomeRow(origin, number, engine_id, row[4], row[7], payload, row[5])


def command_history(
    db: sqlite3.Connection, limit: int, before: float | None
) -> list[CommandHistory]:
    """Commands, latest first."""
    rows = db.execute(
        "SELECT origin, number, targets, method, submitted, size, ended FROM commands "
        "WHERE submitted < ? ORDER BY ticket DESC LIMIT ?",
        (float("inf") if before is None else before, limit),
    ).fetchall()
    notes: dict[CommandKey, dict[int, OutcomeNote]] = {}
    for origin, number, *_, ended in rows:
        notes[origin, number] = {
            engine_id: OutcomeNote(origin, number, engine_id, status, completed, None)
            for engine_id, status, completed in json.loads(ended or "[]")
        }
    for some in _chunks(list(notes)):
        marks = ", ".join(["(?, ?)"] * len(some))
        for origin, number, *values in db.execute(
            "SELECT origin, number, engine_id, status, completed, size FROM outcomes "
            f"WHERE (origin, number) IN (VALUES {marks})",
            [value for key in some for value in key],
        ).fetchall():
            notes[origin, number][values[0]] = OutcomeNote(origin, number, *values)
    return [
        CommandHistory(
            origin,
            number,
            tuple(json.loads(targets)),
            method,
            submitted,
            size,
            tuple(note for _, note in sorted(notes[origin, number].items())),
        )
        for origin, number, targets, method, submitted, size, _ in rows
    ]
