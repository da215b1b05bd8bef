"""The tables of submissions and of the ids of finished tasks, with the one of results.

``finished`` has a row for each commit: ids of tasks that are done and whose results are not kept, and ids that were
cleared.  Its rows are joined from time to time.  How a task came out that was cleared is remembered, as others may run
after it; of the first ones it is forgotten when they are in very many places, unless a submission or a row of results
still has them.
"""

from __future__ import annotations

import sqlite3
from typing import Final, NamedTuple

from ipython1.kernel.controller.idset import IdSet
from ipython1.kernel.controller.journal.datacolumns import from_columns, to_columns
from ipython1.kernel.controller.journal.packing import IdCollector, pack_ids, pack_ranges
from ipython1.kernel.controller.journal.plan import Due, Effects, Plan
from ipython1.kernel.controller.journal.resulttable import ResultTable
from ipython1.kernel.controller.journal.rows import PayloadFile, SubmissionRow
from ipython1.kernel.controller.journal.tables import FINISHED, SUBMISSIONS

JOIN_AT: Final = 1000
"""Rows of ``finished`` at which they are joined."""

MOST_RANGES: Final = 100_000
"""Ranges of ids that were cleared and are remembered."""


class Done(NamedTuple):
    """Ids of tasks that are done.

    :ivar cleared: those that were cleared and are in submissions.
    :ivar past_succeeded: those that succeeded and were cleared.
    :ivar past_failed: those that failed and were cleared.
    """

    succeeded: IdSet
    failed: IdSet
    cleared: IdSet
    past_succeeded: IdSet
    past_failed: IdSet


class TaskTables:
    """Submissions, results, ids of what is done.

    :ivar waiting: tasks in submissions.
    """

    def __init__(self) -> None:
        self.waiting: int = 0
        self.results: ResultTable = ResultTable()
        self._finished_number = 0
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
        self.waiting = sum(row.tasks for row in rows)
        return tuple(rows)

    def load_done(self, db: sqlite3.Connection, files: list[PayloadFile]) -> Done:
        """Ids of tasks that are done.

        :param files: those of the results are added.
        :raises Damaged: when not all is whole.
        """
        succeeded, failed, cleared = IdCollector(), IdCollector(), IdCollector()
        for number, *packed in FINISHED.checked(db):
            self._finished_rows += 1
            self._finished_number = number
            for collector, ids in zip((succeeded, failed, cleared), packed, strict=True):
                collector.add(ids)
        forgotten = cleared.flush()
        self.results.load(db, forgotten, succeeded, failed, files)
        past = [collector.flush().shared(forgotten) for collector in (succeeded, failed)]
        for collector in (succeeded, failed):
            for start, stop in forgotten.ranges():
                collector.ids.discard_range(start, stop)
        return Done(succeeded.ids, failed.ids, self._submitted_of(forgotten), *past)

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
        self.results.insert(db, [batch for batch in plan.results if batch.rows], effects)
        cleared = IdSet(plan.cleared)
        if cleared:
            self.results.clear(db, cleared, effects)
        others = [batch for batch in plan.results if not batch.rows]
        self._write_finished(
            db,
            pack_ids(task_id for batch in others for task_id in batch.succeeded),
            pack_ids(task_id for batch in others for task_id in batch.failed),
            pack_ranges(cleared.ranges()),
            effects,
        )

    def _write_finished(
        self,
        db: sqlite3.Connection,
        succeeded: bytes,
        failed: bytes,
        cleared: bytes,
        effects: Effects,
    ) -> None:
        if not (succeeded or failed or cleared):
            return
        FINISHED.insert(db, [(self._finished_number + 1, succeeded, failed, cleared)])

        def then() -> None:
            self._finished_number += 1
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
                    row.tasks,
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
                self.waiting += row.tasks
            for number in known:
                self.waiting -= self._submitted.pop(number).tasks

        effects.then.append(then)

    # -- keeping house

    @property
    def oldest(self) -> float | None:
        """When the oldest result was completed, if there is one."""
        return self.results.oldest

    def drop_oldest(self, db: sqlite3.Connection, excess: int, due: Due, effects: Effects) -> None:
        """Drop some of the oldest results.

        :param excess: bytes that are too much.
        """
        succeeded, failed = self.results.drop_oldest(db, excess, due, effects)
        good, bad = pack_ranges(succeeded.ranges()), pack_ranges(failed.ranges())
        self._write_finished(db, good, bad, b"", effects)
        effects.dropped += succeeded.ranges() + failed.ranges()

    @property
    def untidy(self) -> bool:
        """Whether :meth:`join` is due."""
        return self.results.crumbly or self._finished_rows >= JOIN_AT

    def join(self, db: sqlite3.Connection, effects: Effects) -> None:
        """Make few rows of many."""
        if self.results.crumbly:
            self.results.join(db, effects)
            return
        collectors = IdCollector(), IdCollector(), IdCollector()
        for row in db.execute("SELECT succeeded, failed, cleared FROM finished"):
            for collector, packed in zip(collectors, row, strict=True):
                collector.add(packed)
        succeeded, failed, cleared = (collector.flush() for collector in collectors)
        if len(cleared.ranges()) > MOST_RANGES:
            self._forget(cleared, succeeded, failed)
        db.execute("DELETE FROM finished")
        packed_ids = [pack_ranges(ids.ranges()) for ids in (succeeded, failed, cleared)]
        FINISHED.insert(db, [(self._finished_number, *packed_ids)])

        def then() -> None:
            self._finished_rows = 1

        effects.then.append(then)

    def _forget(self, cleared: IdSet, succeeded: IdSet, failed: IdSet) -> None:
        """Forget the first of the tasks that were cleared, but that they were where that still matters."""
        old = cleared.ranges()[: -MOST_RANGES // 2]
        remembered = self._submitted_of(IdSet(old))
        for ids in self.results.partly.values():
            for start, stop in ids.ranges():
                remembered.add_range(start, stop)
        for start, stop in old:
            for ids in (cleared, succeeded, failed):
                ids.discard_range(start, stop)
        cleared.update(remembered.ranges())


def _without_data(row: SubmissionRow) -> SubmissionRow:
    bodies = row.bodies if isinstance(row.bodies, PayloadFile) else None
    return row._replace(data=b"", bodies=bodies)
