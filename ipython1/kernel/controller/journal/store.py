"""The journal on disk: the database, the marks, the intake and the payload files of one state of a controller.

One thread at a time uses it, and one its intake.  Each commit is one transaction; :meth:`Store.mark` has to follow
before anybody is told.
"""

from __future__ import annotations

import math
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ipython1.kernel.controller.journal.commandtables import CommandTables
from ipython1.kernel.controller.journal.intake import Intake
from ipython1.kernel.controller.journal.marks import Marks, MarksFile
from ipython1.kernel.controller.journal.partytables import PartyTables
from ipython1.kernel.controller.journal.payloads import PayloadFiles
from ipython1.kernel.controller.journal.plan import Effects, Plan
from ipython1.kernel.controller.journal.tables import STATE
from ipython1.kernel.controller.journal.tasktables import TaskTables

LOG_SIZE: Final = 16 * 1024 * 1024
"""Bytes of the write-ahead log at which it is put into the database."""

BEHIND: Final = 3000
"""Small rows of results that there may be."""

VACUUM_PAGES: Final = 2000
"""Unused pages at the end of the database that are given back to the file system with each checkpoint."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is kept.

    :ivar age: seconds, after completion.
    :ivar size: bytes of results and outcomes.
    """

    age: float = 24 * 3600.0
    size: int = 10 * 1024**3


@dataclass(frozen=True, slots=True)
class State:
    """The row of ``state``.

    :ivar instance: as hex.
    :ivar commits: how many there were.
    :ivar ticket: the highest that was written.
    """

    instance: str
    version: int
    epoch: int
    commits: int
    ticket: int
    next_task: int
    next_engine: int


class Store:
    """What is on disk.

    :param limits: of what is kept.
    :param now: seconds since the epoch.
    :param boot: names this start of the operating system.
    """

    def __init__(
        self,
        directory: Path,
        db: sqlite3.Connection,
        marks: MarksFile,
        files: PayloadFiles,
        intake: Intake,
        state: State,
        limits: Limits,
        now: Callable[[], float],
        boot: bytes,
        synced: bool,
    ) -> None:
        self.directory = directory
        self.db = db
        self.files = files
        self.intake = intake
        self.state: State = state
        self.parties: PartyTables = PartyTables(state.next_task, state.next_engine)
        self.tasks: TaskTables = TaskTables()
        self.commands: CommandTables = CommandTables()
        self._marks = marks
        self._limits = limits
        self._now = now
        self._boot = boot
        self._synced = synced

    @property
    def log_path(self) -> Path:
        """The write-ahead log."""
        return self.directory / "journal.sqlite-wal"

    # -- commits

    def write(self, plan: Plan) -> Effects:
        """Write a plan, in one transaction.

        :raises sqlite3.Error: when it cannot be written; then nothing has changed.
        """
        effects = Effects()
        with self._transaction(max(plan.ticket, self.state.ticket), effects):
            self.parties.apply(self.db, plan.changes, plan.submissions, plan.commands)
            if plan.submissions or plan.over or plan.results or plan.cleared:
                self.tasks.apply(self.db, plan, effects)
            self.commands.apply(self.db, plan, effects)
        return effects

    def begin_epoch(self) -> None:
        """This start is one more."""
        self.state = replace(self.state, epoch=self.state.epoch + 1)
        with self._transaction(self.state.ticket, Effects()):
            pass

    @contextmanager
    def _transaction(self, ticket: int, effects: Effects) -> Iterator[None]:
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
            state = replace(
                self.state,
                commits=self.state.commits + 1,
                ticket=ticket,
                next_task=self.parties.next_task,
                next_engine=self.parties.next_engine,
            )
            write_state(self.db, state)
            self.db.execute("COMMIT")
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise
        self.state = state
        for change in effects.then:
            change()

    def mark(self, closed: bool = False) -> None:
        """Note independently of the database how far it is written.

        :raises OSError: when that fails.
        """
        state = self.state
        marks = Marks(
            instance=bytes.fromhex(state.instance),
            boot=self._boot,
            commits=state.commits,
            ticket=state.ticket,
            next_task=state.next_task,
            next_engine=state.next_engine,
            synced=self._synced,
            closed=closed,
            waiting=self.tasks.waiting,
            results=self.tasks.results.count,
            commands=len(self.commands.open),
            outcomes=self.commands.outcomes,
            time=self._now(),
        )
        self._marks.write(marks)

    # -- keeping house

    @property
    def kept(self) -> int:
        """Bytes of results and outcomes."""
        return self.tasks.results.size + self.commands.size

    def tidy(self) -> Effects | None:
        """Do one of the things that are due, in one transaction; None if nothing is.

        :raises sqlite3.Error: when it cannot be written; then nothing has changed.
        """
        effects = Effects()
        task: Callable[[], None]
        before = self._now() - self._limits.age
        excess = self.kept - self._limits.size
        ages = [age for age in (self.tasks.oldest, self.commands.oldest) if age is not None]
        if ages and (excess > 0 or min(ages) < before):
            oldest = self.tasks if self.tasks.oldest == min(ages) else self.commands
            turn = max(ages) if len(ages) == 2 else math.inf

            def task() -> None:
                def due(excess: int, completed: float) -> bool:
                    return completed < before or (excess > 0 and completed <= turn)

                oldest.drop_oldest(self.db, excess, due, effects)
        elif self.tasks.untidy:

            def task() -> None:
                self.tasks.join(self.db, effects)
        elif self.commands.untidy:

            def task() -> None:
                self.commands.prune(self.db, before, effects)
        else:
            return None
        with self._transaction(self.state.ticket, effects):
            task()
        return effects

    @property
    def behind(self) -> bool:
        """Whether so much is untidy that the rest has to wait."""
        return self.tasks.results.small_rows > BEHIND

    @property
    def log_is_long(self) -> bool:
        """Whether :meth:`checkpoint` is due."""
        try:
            return os.stat(self.log_path).st_size >= LOG_SIZE
        except FileNotFoundError:
            return False

    def checkpoint(self) -> None:
        """Put the log into the database, both synced, and begin it anew.

        :raises sqlite3.Error: when that fails.
        """
        free: int = self.db.execute("PRAGMA freelist_count").fetchone()[0]
        if free > VACUUM_PAGES:
            self.db.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def sync(self) -> None:
        """Have the disk have all that was written so far; another thread may call this.

        :raises OSError: when that fails.
        """
        names = []
        while self.files.unsynced:
            names.append(self.files.unsynced.popleft())
        if names:
            self.files.sync(names)
        try:
            log = os.open(self.log_path, os.O_RDONLY)
        except FileNotFoundError:
            pass
        else:
            try:
                os.fsync(log)
            finally:
                os.close(log)
        self._marks.sync()

    def close(self) -> None:
        """Write and sync all, and close it; a failure leaves it as after the death of this process."""
        try:
            self.checkpoint()
            self.sync()
            if self.intake.ticket <= self.state.ticket:
                self.intake.empty()
            self.intake.sync()
            self.mark(closed=True)
            self._marks.sync()
        finally:
            self.release()

    def release(self) -> None:
        """Close the files as they are."""
        self.files.close()
        self.intake.close()
        self.db.close()
        self._marks.close()


def write_state(db: sqlite3.Connection, state: State) -> None:
    """Write the row of ``state``."""
    values = (
        state.instance,
        state.version,
        state.epoch,
        state.commits,
        state.ticket,
        state.next_task,
        state.next_engine,
    )
    STATE.insert(db, [(1, *values)])
