"""What those who may only look get to know of engines and of what was run: never code, names or objects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeVar

from ipython1.kernel.basics.error import ProtocolError

TASK: Final = "task"
COMMAND: Final = "command"

Entry = TypeVar("Entry")


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """An engine.

    :ivar host: the name of its host.
    :ivar away: whether its connection is lost, and the controller waits for it.
    :ivar doing: what it does, such as ``'idle'`` or ``'execute'``.
    :ivar queued: the number of commands that wait for it.
    """

    id: int
    pid: int
    host: str
    away: bool
    doing: str
    queued: int


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A task or a command that was run.

    :ivar kind: ``'task'`` or ``'command'``.
    :ivar id: a task's id; a command's number, which its client counts.
    :ivar client: the beginning of the uuid of the client that submitted it.
    :ivar label: who that is, for people: ``user@host``; empty if that is not known any more.
    :ivar method: of a command: ``'execute'``, ``'push'``, ...; empty for a task.
    :ivar engines: the engines that ran it.
    :ivar state: ``'succeeded'``, ``'failed'``, or ``'pending'`` for a command that is not done everywhere.
    :ivar submitted: in seconds since the epoch.
    :ivar completed: the same; None if it is not done.
    :ivar size: bytes of the results that are kept.
    """

    kind: str
    id: int
    client: str
    label: str
    method: str
    engines: tuple[int, ...]
    state: str
    submitted: float
    completed: float | None
    size: int


def pack_entry(entry: EngineInfo | HistoryEntry) -> dict[str, Any]:
    """An entry as a JSON value."""
    return asdict(entry)


def unpack_entries(kind: Callable[..., Entry], value: Any) -> list[Entry]:
    """Read a list of what :func:`pack_entry` made.

    :raises ProtocolError: if it is malformed.
    """
    try:
        return [
            kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in each.items()})
            for each in value
        ]
    except (AttributeError, TypeError) as problem:
        raise ProtocolError(f"the controller's answer is malformed: {problem}") from None
