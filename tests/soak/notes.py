"""What users and engines note: one line in a file for each note, written at once, so that no kill splits it.

What a user notes: ``made``, ``acknowledged`` or ``done``, the kind, the key, for tasks the id, and for what is done
how it ended.  What an engine notes of each run: ``run``, the kind, the key, its process id, and a mark that no other
run has.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TASK = "task"
COMMAND = "command"
MAP = "map"
OBJECT = "object"


@dataclass(frozen=True, slots=True)
class Note:
    """One line."""

    what: str
    kind: str
    key: str
    rest: tuple[str, ...] = ()


class Notebook:
    """A file of notes; any number of processes may write to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, what: str, kind: str, key: str, *rest: object) -> None:
        line = " ".join((what, kind, key, *map(str, rest)))
        os.write(self._file, f"{line}\n".encode())

    def close(self) -> None:
        os.close(self._file)


def read(path: Path) -> Iterator[Note]:
    """The notes in a file; none if it is not there."""
    if path.exists():
        with path.open(errors="replace") as file:
            for line in file:
                what, kind, key, *rest = line.rstrip("\n").split(" ")
                yield Note(what, kind, key, tuple(rest))


def run_task(path: str, key: str, seconds: float, size: int) -> tuple[str, str, bytes]:
    """What a task does on an engine: note the run, take its time, return a large object."""
    import os
    import time
    import uuid

    mark = uuid.uuid4().hex
    file = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(file, f"run task {key} {os.getpid()} {mark}\n".encode())
    finally:
        os.close(file)
    time.sleep(seconds)
    return key, mark, bytes(size)


def run_item(path: str, key: str, item: int) -> int:
    """What a map does with an item."""
    import os
    import uuid

    file = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        mark = uuid.uuid4().hex
        os.write(file, f"run map {key}/{item} {os.getpid()} {mark}\n".encode())
    finally:
        os.close(file)
    return item * item


def command(path: Path, key: str, seconds: float) -> str:
    """The code of a command.  It needs nothing of the engine's, which may be a new one."""
    return (
        "import os as _os, time as _time, uuid as _uuid\n"
        f"_file = _os.open({str(path)!r}, _os.O_WRONLY | _os.O_APPEND)\n"
        f"_os.write(_file, f'run command {key} {{_os.getpid()}} {{_uuid.uuid4().hex}}\\n'.encode())\n"
        "_os.close(_file)\n"
        f"_time.sleep({seconds!r})\n"
        "print(_os.getpid())"
    )
