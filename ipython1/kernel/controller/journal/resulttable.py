"""The table of kept results: a row for each batch of results of one client.

Results of tasks that take long come one by one.  So that there are never very many rows, small ones of a client are
joined from time to time; a row that takes the place of others has the number of the last of them, so rows stay in the
order in which tasks were completed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from ipython1.kernel.controller.idset import IdSet
from ipython1.kernel.controller.journal.datacolumns import size_of, to_columns
from ipython1.kernel.controller.journal.packing import (
    WIDEST,
    IdCollector,
    Value,
    done_rows,
    pack_ids,
    split,
    unpack_ranges,
)
from ipython1.kernel.controller.journal.plan import Due, Effects
from ipython1.kernel.controller.journal.rows import PayloadFile, ResultBatch
from ipython1.kernel.controller.journal.tables import RESULTS

JOIN_AT: Final = 128
"""Small rows of one client at which they are joined."""

JOIN_MOST: Final = 1000
"""Rows that are joined in one step."""

SMALL: Final = 8192
"""Bytes of a row from which on it is not small."""

DROP_STEP: Final = 100
"""Rows that are dropped in one step."""


@dataclass(slots=True)
class Removed:
    """Rows that are deleted, by number: how many results they have, their bytes, and their payload file."""

    rows: dict[int, tuple[int, int, str | None]] = field(default_factory=dict)

    def apply(self, db: sqlite3.Connection, effects: Effects) -> None:
        """Delete them."""
        effects.files += [file for _, _, file in self.rows.values() if file is not None]
        RESULTS.delete(db, "number", self.rows)


class ResultTable:
    """The results.

    :ivar count: how many are kept.
    :ivar size: bytes of them.
    :ivar oldest: when the oldest of them was completed, if there is one.
    :ivar partly: ids that were cleared from rows that have others, by number of the row.
    """

    def __init__(self) -> None:
        self.count: int = 0
        self.size: int = 0
        self.oldest: float | None = None
        self.partly: dict[int, IdSet] = {}
        self._number = 0
        self._small: dict[bytes, dict[int, None]] = {}
        self._small_of: dict[int, bytes] = {}
        self._crumbly: dict[bytes, None] = {}

    def load(
        self,
        db: sqlite3.Connection,
        cleared: IdSet,
        succeeded: IdCollector,
        failed: IdCollector,
        files: list[PayloadFile],
    ) -> None:
        """Read and check all, and add to the sets of ids, and to the payload files.

        :raises Damaged: when not all is whole.
        """
        for row in RESULTS.checked(db):
            number, client, completed, first, last, count, good, bad, size = row[:9]
            succeeded.add(good)
            failed.add(bad)
            self._added(number, client, count, size, row[11])
            if self.oldest is None:
                self.oldest = completed
            if row[11] is not None:
                files.append(PayloadFile(row[11], row[12]))
            partly = cleared.common(first, last + 1) if cleared else ()
            if partly:
                self.partly[number] = IdSet(partly)

    def _added(self, number: int, client: bytes, count: int, size: int, file: object) -> None:
        self._number = max(self._number, number)
        self.count += count
        self.size += size
        if file is None and count < JOIN_AT // 2 and size < SMALL:
            self._small_of[number] = client
            small = self._small.setdefault(client, {})
            small[number] = None
            if len(small) >= JOIN_AT:
                self._crumbly[client] = None

    def _gone(self, removed: Removed) -> None:
        for number, (count, size, _) in removed.rows.items():
            self.count -= count
            self.size -= size
            self.partly.pop(number, None)
            self._not_small(number)
        if not self.count:
            self.oldest = None

    def _not_small(self, number: int) -> None:
        client = self._small_of.pop(number, None)
        if client is not None:
            del self._small[client][number]
            if not self._small[client]:
                del self._small[client]

    # -- adding, clearing

    def insert(self, db: sqlite3.Connection, batches: list[ResultBatch], effects: Effects) -> None:
        """Write batches, each in one row, or several if its ids are far apart."""
        pieces = [(batch, *piece) for batch in batches for piece in _pieces(batch)]
        rows = [
            _row(number, batch, ids, data)
            for number, (batch, ids, data) in enumerate(pieces, self._number + 1)
        ]
        RESULTS.insert(db, rows)

        def then() -> None:
            self._take(rows)
            if self.oldest is None and batches:
                self.oldest = batches[0].completed

        effects.then.append(then)

    def _take(self, rows: Sequence[tuple[Value, ...]]) -> None:
        for row in rows:
            number, client, _, _, _, count, _, _, size = row[:9]
            assert isinstance(number, int) and isinstance(client, bytes)
            assert isinstance(count, int) and isinstance(size, int)
            self._added(number, client, count, size, row[11] or row[10])

    def clear(self, db: sqlite3.Connection, cleared: IdSet, effects: Effects) -> None:
        """Delete the rows of which nothing is left, and note what is left of others."""
        removed = Removed()
        partly: dict[int, IdSet] = {}
        for start, stop in cleared.ranges():
            found = db.execute(
                "SELECT number, first, last, count, size, file, succeeded, failed FROM results "
                "WHERE first > ? AND first < ? AND last >= ?",
                (start - WIDEST, stop, start),
            ).fetchall()
            for number, first, last, count, size, file, *packed in found:
                if number in removed.rows or number in partly:
                    continue
                so_far = IdSet(self.partly.get(number, IdSet()).ranges())
                so_far.update(cleared.common(first, last + 1))
                ranges = (some for ids in packed for some in unpack_ranges(ids))
                if all(so_far.covers(*some) for some in ranges):
                    removed.rows[number] = (count, size, file)
                else:
                    partly[number] = so_far
        removed.apply(db, effects)

        def then() -> None:
            self.partly.update(partly)
            self._gone(removed)

        effects.then.append(then)

    # -- keeping house

    def drop_oldest(
        self, db: sqlite3.Connection, excess: int, due: Due, effects: Effects
    ) -> tuple[IdSet, IdSet]:
        """Drop some of the oldest results; returns the ids of tasks that had succeeded, and that had failed.

        :param excess: bytes that are too much.
        """
        found = db.execute(
            "SELECT number, completed, count, size, file, succeeded, failed FROM results "
            "ORDER BY number LIMIT ?",
            (DROP_STEP + 1,),
        ).fetchall()
        removed = Removed()
        succeeded, failed = IdSet(), IdSet()
        oldest = None
        for number, completed, count, size, file, good, bad in found:
            if len(removed.rows) == DROP_STEP or not due(excess, completed):
                oldest = completed
                break
            removed.rows[number] = (count, size, file)
            excess -= size
            for ids, packed in ((succeeded, good), (failed, bad)):
                ids.update(sorted(unpack_ranges(packed)))
                for start, stop in self.partly.get(number, IdSet()).ranges():
                    ids.discard_range(start, stop)
        removed.apply(db, effects)

        def then() -> None:
            self._gone(removed)
            self.oldest = oldest

        effects.then.append(then)
        return succeeded, failed

    @property
    def small_rows(self) -> int:
        """How many small rows there are."""
        return len(self._small_of)

    @property
    def crumbly(self) -> bool:
        """Whether :meth:`join` is due."""
        return bool(self._crumbly)

    def join(self, db: sqlite3.Connection, effects: Effects) -> None:
        """Make few large rows of many small ones of a client; what was cleared goes."""
        client = next(iter(self._crumbly))
        numbers = list(islice(self._small.get(client, ()), JOIN_MOST))
        marks = ", ".join("?" * len(numbers))
        found = db.execute(
            f"SELECT number, completed, count, size, data, failed FROM results WHERE number IN ({marks})",
            numbers,
        ).fetchall()
        removed = Removed({row[0]: (row[2], row[3], None) for row in found})
        completed = max((row[1] for row in found), default=0.0)
        parts = {task_id: part for row in found for task_id, part in self._parts(*row).items()}
        pieces = [
            (batch, *piece)
            for ids in _shares({task_id: len(data) for task_id, (data, _) in parts.items()})
            for batch in [_batch(client, completed, ids, parts)]
            for piece in _pieces(batch)
        ]
        worth_it = len(pieces) <= len(found) // 2
        rows = [
            _row(number, batch, ids, data)
            for number, (batch, ids, data) in zip(
                sorted(removed.rows)[-len(pieces) :], pieces, strict=False
            )
        ]
        if worth_it:
            removed.apply(db, effects)
            RESULTS.insert(db, rows)

        def then() -> None:
            if worth_it:
                oldest = self.oldest
                self._gone(removed)
                self.oldest = oldest
                self._take(rows)
            for number in numbers:
                self._not_small(number)
            if len(self._small.get(client, ())) < JOIN_AT:
                del self._crumbly[client]

        effects.then.append(then)

    def _parts(
        self, number: int, completed: float, count: int, size: int, data: bytes, bad: bytes
    ) -> dict[int, tuple[bytes, bool]]:
        """The rows of results in a row of the table, and whether they failed, by id."""
        cleared = self.partly.get(number, IdSet())
        failed = IdSet(unpack_ranges(bad))
        return {
            task_id: (data[start:stop], task_id in failed)
            for task_id, start, stop in done_rows(data)
            if task_id not in cleared
        }


def _row(
    number: int, batch: ResultBatch, ids: tuple[int, int, int, bytes, bytes], data: bytes
) -> tuple[Value, ...]:
    size = len(data) + size_of(batch.payload)
    payload = to_columns(batch.payload)
    return (number, batch.client, batch.completed, *ids, size, data, *payload)


def _pieces(batch: ResultBatch) -> Iterator[tuple[tuple[int, int, int, bytes, bytes], bytes]]:
    """What goes into one row each: first id, last id, count, the packed ids, and the rows of results."""
    data = b"".join(batch.rows)
    ids = sorted((*batch.succeeded, *batch.failed))
    pieces = split(ids)
    if len(pieces) == 1:
        packed = (pack_ids(batch.succeeded), pack_ids(batch.failed))
        yield (ids[0], ids[-1], len(ids), *packed), data
        return
    places = {task_id: (start, stop) for task_id, start, stop in done_rows(data)}
    failed = set(batch.failed)
    for start, stop in pieces:
        some = ids[start:stop]
        packed = (
            pack_ids(task_id for task_id in some if task_id not in failed),
            pack_ids(task_id for task_id in some if task_id in failed),
        )
        parts = (data[slice(*places[task_id])] for task_id in some)
        yield (some[0], some[-1], len(some), *packed), b"".join(parts)


def _shares(sizes: dict[int, int]) -> Iterator[list[int]]:
    """Rising ids, as many together as shall share a row."""
    ids: list[int] = []
    size = 0
    for task_id in sorted(sizes):
        ids.append(task_id)
        size += sizes[task_id]
        if size >= 8 * SMALL:
            yield ids
            ids, size = [], 0
    if ids:
        yield ids


def _batch(
    client: bytes, completed: float, ids: list[int], parts: dict[int, tuple[bytes, bool]]
) -> ResultBatch:
    return ResultBatch(
        client,
        completed,
        [task_id for task_id in ids if not parts[task_id][1]],
        [task_id for task_id in ids if parts[task_id][1]],
        [parts[task_id][0] for task_id in ids],
    )
