"""Opening a journal: what is there is checked, and what is damaged is set aside and never taken for empty.

A journal is a directory::

    journal.sqlite      the database, with journal.sqlite-wal, its write-ahead log
    marks               how far it was written
    intake              calls that the database may not have yet
    payloads/           large data

It is made under another name and then renamed, so that a directory with this name is always a whole journal.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ipython1.kernel.basics.error import ClientError, ProtocolError
from ipython1.kernel.controller.journal.intake import Intake, create_intake
from ipython1.kernel.controller.journal.marks import Marks, MarksFile, boot_id
from ipython1.kernel.controller.journal.payloads import PayloadFiles
from ipython1.kernel.controller.journal.plan import Plan
from ipython1.kernel.controller.journal.rows import CommandRow, PayloadFile, Recovered
from ipython1.kernel.controller.journal.store import Limits, State, Store, write_state
from ipython1.kernel.controller.journal.tables import (
    STATE,
    VERSION,
    Damaged,
    NewerVersion,
    check_structure,
    create,
    migrate,
    version_of,
)
from ipython1.kernel.host.private_files import (
    FILE_MODE,
    check_private_file,
    ensure_private_dir,
    sync_directory,
)

DATABASE: Final = "journal.sqlite"
MARKS: Final = "marks"
INTAKE: Final = "intake"
PAYLOADS: Final = "payloads"

PAGE: Final = 4096
"""Bytes in a page of the database."""

_HEADER: Final = b"SQLite format 3\0" + PAGE.to_bytes(2, "big") + bytes((2, 2))
"""How a database with such pages and a write-ahead log begins."""

AFTER_POWER_LOSS: Final = 2**20
"""Ids of tasks that are skipped when ids may have been leased of which nothing is known any more."""

_NOT_DAMAGE: Final = {
    sqlite3.SQLITE_BUSY: "another process uses it",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk cannot be read or written",
    sqlite3.SQLITE_PERM: "access is not permitted",
    sqlite3.SQLITE_READONLY: "it cannot be written",
}


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """How a journal is kept.

    :ivar directory: of this journal alone.
    :ivar synced: whether what is safe survives a power failure, not only the death of the process.
    """

    directory: Path
    synced: bool = False
    limits: Limits = field(default_factory=Limits)


def open_store(
    settings: JournalSettings,
    now: Callable[[], float] = time.time,
    boot: Callable[[], bytes] = boot_id,
) -> tuple[Store, Recovered]:
    """Open a journal, and begin it if it is not there.

    :raises SecurityError: when others may access it.
    :raises ClientError: when it cannot be used, but is not damaged.
    """
    directory = settings.directory
    ensure_private_dir(directory.parent)
    ensure_private_dir(directory)
    lost = ""
    try:
        if not any(os.scandir(directory)):
            _begin(settings)
        try:
            return _load(_Opening(settings, now, boot()))
        except Damaged as problem:
            lost = _set_aside(directory, problem)
        ensure_private_dir(directory)
        _begin(settings)
        store, recovered = _load(_Opening(settings, now, boot()))
        return store, replace(recovered, lost=lost)
    except OSError as problem:
        raise _unusable(directory, problem.strerror or str(problem)) from problem
    except sqlite3.Error as problem:
        raise _unusable(directory, str(problem)) from problem


def _unusable(directory: Path, reason: str) -> ClientError:
    return ClientError(
        f"the journal in {directory} cannot be used: {reason}; mend that, or start with --journal=off, "
        "and the controller keeps everything in memory only"
    )


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1.0)


def _set_up(db: sqlite3.Connection, synced: bool) -> None:
    # Exclusive, so that there is no shared memory, which network file systems do not have.
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    db.execute(f"PRAGMA page_size = {PAGE}")
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA cell_size_check = ON")
    db.execute("PRAGMA recursive_triggers = ON")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA wal_autocheckpoint = 0")
    # NORMAL: each checkpoint is synced, commits are not.
    db.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")


def _begin(settings: JournalSettings) -> None:
    """Make an empty journal in an empty directory."""
    directory = settings.directory
    new = directory.with_name(f"{directory.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    ensure_private_dir(new)
    instance = os.urandom(16)
    for name, size in ((DATABASE, 0), (MARKS, 8192)):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        with open(os.open(new / name, flags, FILE_MODE), "wb") as file:
            file.write(bytes(size))
            file.flush()
            os.fsync(file.fileno())
    create_intake(new / INTAKE, instance)
    PayloadFiles(new / PAYLOADS, settings.synced)
    db = _connect(new / DATABASE)
    try:
        _set_up(db, synced=True)
        create(db)
        write_state(db, State(instance.hex(), VERSION, 0, 0, 0, 0, 0))
    finally:
        db.close()
    marks = MarksFile(new / MARKS)
    marks.write(Marks(instance, bytes(16), 0, 0, 0, 0, True, True, 0, 0, 0, 0, 0.0))
    marks.sync()
    marks.close()
    sync_directory(new)
    os.rename(new, directory)
    sync_directory(directory.parent)


def _set_aside(directory: Path, problem: Damaged) -> str:
    """Move a damaged journal away; returns what to say about it."""
    aside = directory.with_name(f"{directory.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
    number = 1
    while os.path.lexists(aside):
        number += 1
        aside = directory.with_name(f"{aside.name}-{number}")
    held = "what was in it is not known"
    try:
        marks = MarksFile(directory / MARKS)
        try:
            held = f"lost are: {marks.read().describe()}"
        finally:
            marks.close()
    except (OSError, Damaged):
        pass
    try:
        os.rename(directory, aside)  # before it is closed, which would remove its log
    finally:
        for release in problem.release:
            release()
    return (
        f"the journal in {directory} is damaged: {problem}; it was set aside as {aside}, and a new one was begun; "
        f"{held}"
    )


class _Opening:
    """What is open while a journal is being opened."""

    def __init__(self, settings: JournalSettings, now: Callable[[], float], boot: bytes) -> None:
        self.settings = settings
        self.now = now
        self.boot = boot
        self.release: list[Callable[[], None]] = []

    def path(self, name: str) -> Path:
        """A file of the journal, if it is there.

        :raises Damaged: if not.
        """
        path = self.settings.directory / name
        if not os.path.lexists(path):
            raise Damaged(f"{name} is missing")
        if name != PAYLOADS:
            check_private_file(path, "journal's file")
        return path


def _load(opening: _Opening) -> tuple[Store, Recovered]:
    """Open what is there, and check it.

    :raises Damaged: when it is not whole; what is open must be released then.
    """
    try:
        return _check(opening)
    except sqlite3.Error as problem:
        code = getattr(problem, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in _NOT_DAMAGE:
            _release(opening)
            raise _unusable(opening.settings.directory, _NOT_DAMAGE[code]) from problem
        raise Damaged(str(problem), opening.release) from problem
    except (Damaged, ProtocolError, TypeError, ValueError) as problem:
        # What was changed in texts and numbers may show before a checksum does.
        raise Damaged(str(problem), opening.release) from problem
    except NewerVersion:
        _release(opening)
        raise _unusable(
            opening.settings.directory, "a later version of this package has written it"
        ) from None
    except BaseException:
        _release(opening)
        raise


def _release(opening: _Opening) -> None:
    for release in opening.release:
        release()


def _check(opening: _Opening) -> tuple[Store, Recovered]:
    settings = opening.settings
    database = opening.path(DATABASE)
    marks_file = MarksFile(opening.path(MARKS))
    opening.release.append(marks_file.close)
    marks = marks_file.read()
    files = PayloadFiles(opening.path(PAYLOADS), settings.synced)
    with database.open("rb") as file:
        if file.read(len(_HEADER)) != _HEADER:  # SQLite might remove the log, as that of another
            raise Damaged("its database does not begin as it should")
    db = _connect(database)
    opening.release.append(db.close)
    _set_up(db, settings.synced)
    check_structure(db)
    if version_of(db) == 1 and not os.path.lexists(settings.directory / INTAKE):
        create_intake(settings.directory / INTAKE, marks.instance)
    migrate(db)
    intake = Intake(opening.path(INTAKE), marks.instance)
    opening.release.append(intake.close)
    state = _state(db)
    cut = marks.may_be_ahead(opening.boot)
    noted = _noted(intake, state, cut)
    lost = _compare(state, marks, intake.ticket - noted.ticket, cut)

    def store_of(state: State) -> Store:
        directory, limits, synced = settings.directory, settings.limits, settings.synced
        now, boot = opening.now, opening.boot
        return Store(directory, db, marks_file, files, intake, state, limits, now, boot, synced)

    store = store_of(_raised(state, marks, intake, cut))
    recovered = _recover(store)
    if not noted.empty:
        store.write(noted)
        store = store_of(store.state)
        recovered = _recover(store)
    _begin_epoch(store)
    return store, replace(recovered, lost=lost)


def _begin_epoch(store: Store) -> None:
    """Have the disk have what was found; from now on this start writes."""
    store.begin_epoch()
    store.checkpoint()
    store.intake.empty()
    store.intake.sync()
    store.mark()
    store.sync()
    sync_directory(store.directory)  # which has a new log


def _state(db: sqlite3.Connection) -> State:
    rows: list[tuple[Any, ...]] = list(STATE.checked(db))
    if len(rows) != 1:
        raise Damaged("its state is missing")
    return State(*rows[0][1:])


def _noted(intake: Intake, state: State, cut: bool) -> Plan:
    """What is in the intake and not in the database.

    :param cut: whether the power may have failed; what does not follow at once on the rest does not count then.
    :raises Damaged: when it must be whole, and is not.
    """
    plan = Plan(ticket=state.ticket)
    try:
        for ticket, row in intake.read():
            if ticket <= plan.ticket:
                continue
            if cut and ticket > plan.ticket + 1:
                break
            plan.ticket = ticket
            if isinstance(row, CommandRow):
                plan.commands.append((ticket, row))
            else:
                plan.submissions.append(row)
    except Damaged:
        if not cut:
            raise
    return plan


def _compare(state: State, marks: Marks, dropped: int, cut: bool) -> str:
    """Whether the database has all that the marks say; returns what to say if it may have less.

    :param dropped: calls of the intake that do not count.
    :raises Damaged: if it must not.
    """
    if marks.instance.hex() != state.instance:
        raise Damaged("its marks are those of another journal")
    missing = max(0, marks.commits - state.commits)
    if missing and not cut:
        raise Damaged(f"its last {missing:,} commits are missing")
    missing = max(missing, dropped)  # each of these would have had a commit, or a part of one
    if not missing:
        return ""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(marks.time))
    return (
        f"this host stopped without warning, and the journal lost its last {missing:,} commits, of about the second "
        f"before {since}; with journal_sync = full it would not"
    )


def _raised(state: State, marks: Marks, intake: Intake, cut: bool) -> State:
    """The state, with the high-water marks of what may have been lost."""
    return replace(
        state,
        commits=max(state.commits, marks.commits),
        ticket=max(state.ticket, marks.ticket, intake.ticket),
        next_task=max(state.next_task, marks.next_task) + (AFTER_POWER_LOSS if cut else 0),
        next_engine=max(state.next_engine, marks.next_engine),
    )


def _recover(store: Store) -> Recovered:
    """All that is in the tables; loading it checks it."""
    db, parties, tasks, commands = store.db, store.parties, store.tasks, store.commands
    files: list[PayloadFile] = []
    engines = parties.load_engines(db)
    clients = parties.load_clients(db)
    leases = parties.load_leases(db)
    functions = parties.load_functions(db)
    submissions = tasks.load_submissions(db)
    done = tasks.load_done(db, files)
    open_commands = commands.load_commands(db)
    outcomes = commands.load_outcomes(db, files)
    named = [row.bodies for row in submissions] + [row.payload for row in open_commands]
    files += [data for data in named if isinstance(data, PayloadFile)]
    broken = store.files.sweep(files)
    return Recovered(
        next_task=parties.next_task,
        next_engine=parties.next_engine,
        engines=engines,
        clients=clients,
        leases=leases,
        functions=functions,
        submissions=submissions,
        **done._asdict(),
        commands=open_commands,
        outcomes=outcomes,
        broken_files=tuple(broken),
    )
