"""Reading results of tasks in the journal's database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ipython1.kernel.basics.error import JournalError, ProtocolError
from ipython1.kernel.controller.idset import IdSet
from ipython1.kernel.controller.journal.datacolumns import from_columns, size_of
from ipython1.kernel.controller.journal.packing import WIDEST, checksum, done_rows, unpack_ranges
from ipython1.kernel.controller.journal.rows import Data, StoredResult, TaskHistory
from ipython1.kernel.wire.taskwire import DONE_HEAD


def fetch_results(
    db: sqlite3.Connection, ids: Sequence[int], cleared: Mapping[int, IdSet]
) -> dict[int, StoredResult]:
    """The results of tasks, those that are kept.

    :param cleared: ids that count as not kept, by number of the row.
    :raises JournalError: when one has been damaged.
    """
    wanted = set(ids)
    found: dict[int, StoredResult] = {}
    for first, last in _stretches(sorted(wanted)):
        rows = db.execute(
            "SELECT number, succeeded, failed FROM results WHERE first > ? AND first <= ? AND last >= ?",
            (first - WIDEST, last, first),
        ).fetchall()
        for number, *packed in rows:
            held = IdSet(some for ids in packed for some in unpack_ranges(ids))
            for start, stop in cleared.get(number, IdSet()).ranges():
                held.discard_range(start, stop)
            here = {
                task_id for some in held.common(first, last + 1) for task_id in range(*some)
            } & wanted
            if here:
                found.update(_read_row(db, number, here))
    return found


def _stretches(rising: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where to look at once: first and last of ids that are near each other."""
    start = 0
    for index in range(1, len(rising) + 1):
        if index == len(rising) or rising[index] - rising[index - 1] > 1000:
            yield rising[start], rising[index - 1]
            start = index


def _checked(row: tuple[Any, ...]) -> tuple[bytes, bytes, Data | None]:
    """Client, rows of results and large payload of a row."""
    if checksum(row[:-1]) != row[-1]:
        raise JournalError("results in the journal are damaged")
    return row[1], row[9], from_columns(*row[10:13])


def _read_row(db: sqlite3.Connection, number: int, wanted: set[int]) -> dict[int, StoredResult]:
    row = db.execute("SELECT * FROM results WHERE number = ?", (number,)).fetchone()
    client, data, payload = _checked(row)
    found = {}
    try:
        for task_id, start, stop in done_rows(data):
            if task_id in wanted:
                middle = start + DONE_HEAD.size
                own = data[middle:stop] if payload is None else payload
                found[task_id] = StoredResult(client, data[start:middle], own)
    except ProtocolError as problem:
        raise JournalError(str(problem)) from None
    return found


def task_history(
    db: sqlite3.Connection, limit: int, before: float | None, cleared: Mapping[int, IdSet]
) -> list[TaskHistory]:
    """What is known of kept results, latest first.

    :raises JournalError: when they have been damaged.
    """
    found: list[TaskHistory] = []
    rows = db.execute("SELECT number, completed FROM results ORDER BY completed DESC").fetchall()
    for number, last in rows:
        found.sort(key=lambda task: -task.completed)
        if len(found) >= limit and found[limit - 1].completed >= last:
            break  # nothing in this row, or the following, is later
        row = db.execute("SELECT * FROM results WHERE number = ?", (number,)).fetchone()
        hidden = cleared.get(number, IdSet())
        found += [
            task
            for task in _tasks_of(row)
            if task.task_id not in hidden and (before is None or task.completed < before)
        ]
    found.sort(key=lambda task: (-task.completed, -task.task_id))
    return found[:limit]


def _tasks_of(row: tuple[Any, ...]) -> Iterator[TaskHistory]:
    client, data, payload = _checked(row)
    for _, start, _ in done_rows(data):
        values = DONE_HEAD.unpack_from(data, start)
        task_id, size, status, engine, _, submitted, completed, duration = values
        size += size_of(payload)
        yield TaskHistory(task_id, client, status, engine, submitted, completed, duration, size)
