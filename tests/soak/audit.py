"""Compares what users and engines noted."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from ipython1.kernel.client import ResultAlreadyRetrieved
from tests.soak import notes
from tests.soak.notes import Note

Fetch: TypeAlias = Callable[[int], Any]


@dataclass
class Audit:
    """The counts, and what is wrong.

    :ivar again: tasks and items that ran more than once, as an engine was killed.
    :ivar deaths: outcomes that say that an engine died.
    :ivar taken_along: results that only a user had who was killed with the engine and the controller.
    """

    made: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    completed: int = 0
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    again: int = 0
    deaths: int = 0
    taken_along: int = 0

    @property
    def clean(self) -> bool:
        return not (self.lost or self.duplicated or self.wrong)

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}s" for kind, count in sorted(self.made.items()))
        return (
            f"acknowledged {self.acknowledged}, completed {self.completed}, lost {len(self.lost)}, "
            f"duplicated {len(self.duplicated)}, wrong {len(self.wrong)}  ({kinds}; {self.again} ran again as their "
            f"engine was killed, {self.deaths} outcomes name a killed engine, "
            f"{self.taken_along} results died with their users)"
        )


class _Runs:
    """What the engines noted."""

    def __init__(self, path: Path, killed: set[int]) -> None:
        self.of: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
        self.commands: dict[tuple[str, int], list[int]] = defaultdict(list)
        self._killed = killed
        for note in notes.read(path):
            pid, mark = int(note.rest[0]), note.rest[1]
            self.of[note.kind, note.key].append((pid, mark))
            if note.kind == notes.COMMAND:
                user, _, number = note.key.rpartition("-")
                self.commands[user, pid].append(int(number))

    def on_living(self, kind: str, key: str) -> int:
        return sum(pid not in self._killed for pid, _ in self.of.get((kind, key), ()))


def audit(folder: Path, dead_users: set[str], killed: set[int], fetch: Fetch) -> Audit:
    """Compare all notes.

    :param dead_users: the names of those that were killed.
    :param killed: the processes of engines that were killed.
    :param fetch: waits for the result of a task of a dead user, by id; raises if there is none.
    """
    found = Audit()
    users = {
        path.name.removeprefix("user-"): list(notes.read(path))
        for path in sorted(folder.glob("user-*"))
    }
    # Tasks of dead users may run only now, so what the engines noted is complete after it.
    fetched = {user: _fetch_undone(users[user], fetch) for user in dead_users & users.keys()}
    runs = _Runs(folder / "runs", killed)
    for user, noted in users.items():
        _User(found, runs, killed, fetched.get(user)).check(noted)
    for (kind, key), some in runs.of.items():
        living = runs.on_living(kind, key)
        marks = {mark for _, mark in some}
        if kind == notes.COMMAND:
            per_engine = Counter(pid for pid, _ in some)
            found.duplicated += [
                f"command {key} in process {p}" for p, n in per_engine.items() if n > 1
            ]
        elif living > 1:
            found.duplicated.append(
                f"{kind} {key} ran {living} times on engines that were not killed"
            )
        found.again += kind != notes.COMMAND and len(marks) > 1
    for (user, pid), numbers in runs.commands.items():
        if numbers != sorted(numbers):
            found.wrong.append(f"commands of {user} ran out of order in process {pid}")
    return found


def _fetch_undone(noted: Iterable[Note], fetch: Fetch) -> dict[str, Any]:
    """The results of the tasks of a dead user that the user has not got, or why there is none, by key."""
    acknowledged: dict[str, Note] = {}
    for note in noted:
        if note.kind == notes.TASK and note.what == "acknowledged":
            acknowledged[note.key] = note
        elif note.kind == notes.TASK and note.what == "done":
            acknowledged.pop(note.key, None)
    fetched: dict[str, Any] = {}
    for key, note in acknowledged.items():
        try:
            fetched[key] = fetch(int(note.rest[0]))
        except Exception as problem:
            fetched[key] = problem
    return fetched


@dataclass
class _User:
    """What one user noted.

    :ivar fetched: of a dead user, the results that somebody else got.
    """

    found: Audit
    runs: _Runs
    killed: set[int]
    fetched: dict[str, Any] | None
    done: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)

    def check(self, all_notes: list[Note]) -> None:
        found = self.found
        made, acknowledged = {}, {}
        for note in all_notes:
            key = (note.kind, note.key)
            if note.what == "made":
                made[key] = note
                found.made[note.kind] += 1
            elif note.what == "acknowledged":
                acknowledged[key] = note
            elif note.what == "died":
                self._died(note)
            elif note.what == "done":
                self.done[key] += 1
                self._ended(note)
            else:
                found.wrong.append(f"{note.kind} {note.key}: {' '.join(note.rest)}")
        # What a living user has submitted is as good as acknowledged: it would submit it again.
        promised = made if self.fetched is None else acknowledged
        found.acknowledged += len(promised)
        found.completed += len(self.done)
        found.duplicated += [f"{k} {n}: {c} outcomes" for (k, n), c in self.done.items() if c > 1]
        for key in promised.keys() - self.done.keys():
            if self.fetched is not None and key[0] == notes.TASK:
                self._fetched(promised[key], self.fetched[key[1]])
            else:
                found.lost.append(" ".join(key))

    def _fetched(self, note: Note, result: Any) -> None:
        """The user is dead; anybody else gets the result."""
        at = (notes.TASK, note.key)
        if isinstance(result, ResultAlreadyRetrieved) and not self.runs.on_living(*at):
            self.found.taken_along += 1
            return
        if isinstance(result, Exception):
            self.found.lost.append(f"task {note.key} of a dead user: {result!r}")
            return
        key, mark, _ = result
        self.found.completed += 1
        self._right(note, key, mark)

    def _right(self, note: Note, key: str, mark: str) -> None:
        marks = {each for _, each in self.runs.of.get((notes.TASK, note.key), ())}
        if key != note.key or mark not in marks:
            self.found.wrong.append(f"task {note.key} has a result of {key}, {mark}")

    def _died(self, note: Note) -> None:
        self.found.deaths += 1
        pid = int(note.rest[0])
        if pid and pid not in self.killed:
            self.found.wrong.append(f"command {note.key}: process {pid} was not killed")
        ran = any(pid == each for each, _ in self.runs.of.get((note.kind, note.key), ()))
        if note.rest[1] == "NotStarted" and ran:
            self.found.wrong.append(
                f"command {note.key} is said not to have begun in process {pid}"
            )

    def _ended(self, note: Note) -> None:
        if note.kind == notes.TASK:
            if note.rest[1] == "ok":
                self._right(note, note.rest[2], note.rest[3])
            else:
                self.found.wrong.append(f"task {note.key} failed: {note.rest[2]}")
        elif note.kind == notes.COMMAND and note.rest[0] == "ok":
            ran = {pid for pid, _ in self.runs.of.get((note.kind, note.key), ())}
            for pid in map(int, note.rest[1:]):
                if pid not in ran:
                    self.found.wrong.append(f"command {note.key} did not run in process {pid}")
        elif note.kind in (notes.MAP, notes.OBJECT) and "WRONG" in note.rest[-1]:
            self.found.wrong.append(f"{note.kind} {note.key}: {note.rest[-1]}")
