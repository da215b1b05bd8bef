"""The tables of submissions, of kept results, and of the ids of finished tasks.

``results`` has a row for each batch of results.  ``finished`` has a row for each commit: ids of tasks that are done and
whose results are not kept, and ids that were cleared.  Its rows are joined from time to time, and what was cleared is
forgotten then, unless a submission or a row of results still has it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from typing import Final, TypeAlias

from ipython1.kernel.controller.idset import IdSet
from ipython1.kernel.controller.journal.datacolumns import from_columns, size_of, to_columns
from ipython1.kernel.controller.journal.packing import (
    WIDEST,
    IdCollector,
    Value,
    done_rows,
    pack_ids,
    pack_ranges,
    split,
    unpack_ranges,
)
from ipython1.kernel.controller.journal.plan import Due, Effects, Plan
from ipython1.kernel.controller.journal.rows import PayloadFile, ResultBatch, SubmissionRow
from ipython1.kernel.controller.journal.tables import FINISHED, RESULTS, SUBMISSIONS

JOIN_AT: Final = 1000
"""Rows of ``finished`` at which they are joined."""

DROP_STEP: Final = 100
"""Rows of results that are dropped in one step."""


_Row: TypeAlias = tuple[int, int, str | None]
"""Count, size and payload file of a row of results."""


class TaskTables:
    """Submissions, results, ids of what is done.

    :ivar waiting: tasks in submissions.
    :ivar results: results that are kept, and their size.
    :ivar size: bytes of these.
    :ivar oldest: when the oldest of them was completed, if there is one.
    :ivar partly: ids that were cleared from rows of results that have others, by number of the row.
    """

    def __init__(self) -> None:
        self.waiting = 0
        self.results = 0
        self.size = 0
        self.oldest: float | None = None
        self.partly: dict[int, IdSet] = {}
        self._number = 0
        self._finished_rows = 0
        self._submitted: dict[int, SubmissionRow] = {}

    # -- at the start

    def load_submissions(self, db: sqlite3.Connection) -> tuple[SubmissionRow, ...]:
        """:raises Damaged: when they are not whole."""
        rows = []
        for number, client, first, last, count, submitted, data, *bodies in SUBMISSIONS.checked(db):
            brought = from_columns(*bodies)
            row = SubmissionRow(client, first, last, count, submitted, data, brought, number)
            rows.append(row)
            self._submitted[number] = _without_data(row)
        self.waiting = sum(row.count for row in rows)
        return tuple(rows)

    def load_done(
        self, db: sqlite3.Connection, files: list[PayloadFile]
    ) -> tuple[IdSet, IdSet, IdSet]:
        """Ids of tasks that succeeded, that failed, and that were cleared but are in submissions.

        :param files: those of the results are added.
        :raises Damaged: when not all is whole.
        """
        succeeded, failed, cleared = IdCollector(), IdCollector(), IdCollector()
        for number, *packed in FINISHED.checked(db):
            self._finished_rows += 1
            self._number = max(self._number, number)
            for collector, ids in zip((succeeded, failed, cleared), packed, strict=True):
                collector.add(ids)
        forgotten = cleared.flush()
        for row in RESULTS.checked(db):
            number, _, completed, first, last, count, ok, not_ok, size = row[:9]
            succeeded.add(ok)
            failed.add(not_ok)
            self._number = max(self._number, number)
            self.results += count
            self.size += size
            if self.oldest is None:
                self.oldest = completed
            if row[11] is not None:
                files.append(PayloadFile(row[11], row[12]))
            partly = forgotten.common(first, last + 1)
            if partly:
                self.partly[number] = IdSet(partly)
        for collector in (succeeded, failed):
            collector.flush()
            for start, stop in forgotten.ranges():
                collector.ids.discard_range(start, stop)
        return succeeded.ids, failed.ids, self._submitted_of(forgotten)

    def _submitted_of(self, ids: IdSet) -> IdSet:
        """Those that are in submissions."""
        found = IdSet()
        for row in self._submitted.values():
            for start, stop in ids.common(row.first, row.last + 1):
                found.add_range(start, stop)
        return found

    # -- a commit

    def apply(self, db: sqlite3.Connection, plan: Plan, effects: Effects) -> None:
        """Write what a plan has of tasks."""
        self._apply_submissions(db, plan, effects)
        kept = [batch for batch in plan.results if batch.rows]
        others = [batch for batch in plan.results if not batch.rows]
        number = self._insert_results(db, kept, effects)
        cleared = IdSet(plan.cleared)
        succeeded = [task_id for batch in others for task_id in batch.succeeded]
        failed = [task_id for batch in others for task_id in batch.failed]
        if cleared:
            self._clear(db, cleared, effects)
        if succeeded or failed or cleared:
            number += 1
            packed = (pack_ids(succeeded), pack_ids(failed), pack_ranges(cleared.ranges()))
            self._write_finished(db, number, packed, effects)

        def then() -> None:
            self._number = number

        effects.then.append(then)

    def _write_finished(
        self, db: sqlite3.Connection, number: int, packed: tuple[bytes, ...], effects: Effects
    ) -> None:
        FINISHED.insert(db, [(number, *packed)])

        def then() -> None:
            self._number = number
            self._finished_rows += 1

        effects.then.append(then)

    def _apply_submissions(self, db: sqlite3.Connection, plan: Plan, effects: Effects) -> None:
        over = set(plan.over)
        new = [row for row in plan.submissions if row.number not in over]
        SUBMISSIONS.insert(
            db,
            [
                (
                    row.number,
                    row.client,
                    row.first,
                    row.last,
                    row.count,
                    row.submitted,
                    row.data,
                    *to_columns(row.bodies),
                )
                for row in new
            ],
        )
        known = over & self._submitted.keys()
        ended = [row for row in plan.submissions if row.number in over]
        ended += [self._submitted[number] for number in known]
        effects.files += [row.bodies.name for row in ended if isinstance(row.bodies, PayloadFile)]
        SUBMISSIONS.delete(db, "number", known)

        def then() -> None:
            for row in new:
                self._submitted[row.number] = _without_data(row)
                self.waiting += row.count
            for number in known:
                self.waiting -= self._submitted.pop(number).count

        effects.then.append(then)

    def _insert_results(
        self, db: sqlite3.Connection, batches: list[ResultBatch], effects: Effects
    ) -> int:
        """Write rows of results; returns the last number that is used."""
        number = self._number
        rows: list[tuple[Value, ...]] = []
        count = size = 0
        for batch in batches:
            for ids, data in _pieces(batch):
                number += 1
                bytes_kept = len(data) + size_of(batch.payload)
                row = (number, batch.client, batch.completed, *ids, bytes_kept, data)
                rows.append((*row, *to_columns(batch.payload)))
                count += ids[2]
                size += bytes_kept
        RESULTS.insert(db, rows)

        def then() -> None:
            self.results += count
            self.size += size
            if self.oldest is None and batches:
                self.oldest = batches[0].completed

        effects.then.append(then)
        return number

    # -- clearing

    def _clear(self, db: sqlite3.Connection, cleared: IdSet, effects: Effects) -> None:
        """Delete the rows of results of which nothing is left, and note what is left of others."""
        gone: dict[int, _Row] = {}
        partly: dict[int, IdSet] = {}
        for start, stop in cleared.ranges():
            found = db.execute(
                "SELECT number, first, last, count, size, file, succeeded, failed FROM results "
                "WHERE first > ? AND first < ? AND last >= ?",
                (start - WIDEST, stop, start),
            ).fetchall()
            for number, first, last, count, size, file, *packed in found:
                if number in gone:
                    continue
                whole = cleared.covers(first, last + 1)
                if not whole:
                    so_far = partly.get(number)
                    if so_far is None:
                        so_far = IdSet(self.partly.get(number, IdSet()).ranges())
                    so_far.update(cleared.common(first, last + 1))
                    ranges = (r for ids in packed for r in unpack_ranges(ids))
                    whole = all(so_far.covers(*some) for some in ranges)
                    partly[number] = so_far
                if whole:
                    gone[number] = (count, size, file)
        self._delete_results(db, gone, effects)

        def then() -> None:
            self.partly.update(partly)
            for number in gone:
                self.partly.pop(number, None)

        effects.then.append(then)

    def _delete_results(
        self, db: sqlite3.Connection, gone: dict[int, _Row], effects: Effects
    ) -> None:
        effects.files += [file for _, _, file in gone.values() if file is not None]
        RESULTS.delete(db, "number", gone)

        def then() -> None:
            self.results -= sum(count for count, _, _ in gone.values())
            self.size -= sum(size for _, size, _ in gone.values())
            if not self.results:
                self.oldest = None

        effects.then.append(then)

    # -- keeping house

    @property
    def untidy(self) -> bool:
        """Whether :meth:`join_finished` is due."""
        return self._finished_rows >= JOIN_AT

    def join_finished(self, db: sqlite3.Connection, effects: Effects) -> None:
        """Make one row of all that is finished."""
        collectors = IdCollector(), IdCollector(), IdCollector()
        for row in db.execute("SELECT succeeded, failed, cleared FROM finished"):
            for collector, packed in zip(collectors, row, strict=True):
                collector.add(packed)
        succeeded, failed, cleared = (collector.flush() for collector in collectors)
        for start, stop in cleared.ranges():
            succeeded.discard_range(start, stop)
            failed.discard_range(start, stop)
        remembered = self._submitted_of(cleared)
        for ids in self.partly.values():
            for start, stop in ids.ranges():
                remembered.add_range(start, stop)
        db.execute("DELETE FROM finished")
        packed_ids = tuple(pack_ranges(ids.ranges()) for ids in (succeeded, failed, remembered))
        FINISHED.insert(db, [(self._number, *packed_ids)])

        def then() -> None:
            self._finished_rows = 1

        effects.then.append(then)

    def drop_oldest(self, db: sqlite3.Connection, excess: int, due: Due, effects: Effects) -> None:
        """Drop some of the oldest results.

        :param excess: bytes that are too much.
        """
        found = db.execute(
            "SELECT number, completed, count, size, file, succeeded, failed FROM results ORDER BY number LIMIT ?",
            (DROP_STEP + 1,),
        ).fetchall()
        gone: dict[int, _Row] = {}
        succeeded, failed = IdSet(), IdSet()
        oldest = None
        for number, completed, count, size, file, ok, not_ok in found:
            if len(gone) == DROP_STEP or not due(excess, completed):
                oldest = completed
                break
            gone[number] = (count, size, file)
            excess -= size
            for ids, packed in ((succeeded, ok), (failed, not_ok)):
                ids.update(sorted(unpack_ranges(packed)))
                for start, stop in self.partly.get(number, IdSet()).ranges():
                    ids.discard_range(start, stop)
        self._delete_results(db, gone, effects)
        if succeeded or failed:
            packed_ids = (pack_ranges(succeeded.ranges()), pack_ranges(failed.ranges()), b"")
            self._write_finished(db, self._number + 1, packed_ids, effects)
        effects.dropped += succeeded.ranges() + failed.ranges()

        def then() -> None:
            self.oldest = oldest
            for number in gone:
                self.partly.pop(number, None)

        effects.then.append(then)


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


def _without_data(row: SubmissionRow) -> SubmissionRow:
    bodies = row.bodies if isinstance(row.bodies, PayloadFile) else None
    return replace(row, data=b"", bodies=bodies)
