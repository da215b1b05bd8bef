"""What those who only look get to know of engines and of what was run: no objects, and code only in tracebacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from operator import attrgetter
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
    :ivar doing: what it does: ``'idle'``, ``'task'``, or the method of a command, such as ``'execute'``; ``'command'``
        for one from before the controller was started again.
    :ivar queued: the number of commands that wait for it.
    :ivar what: what that is, for people: a task's function, ``'code'`` for a task without one; empty for a command.
    :ivar since: when it began with that, in seconds since the epoch by the controller's clock; None if it is idle or
        that is not known.
    :ivar tasks: the number of tasks that the engine has, the one it runs included.
    :ivar cpu: what its process uses, in percent of one processor; None if that is not known (yet).
    :ivar memory: resident memory of its process, in bytes; None if that is not known (yet).
    """

    id: int
    pid: int
    host: str
    away: bool
    doing: str
    queued: int
    what: str = ""
    since: float | None = None
    tasks: int = 0
    cpu: float | None = None
    memory: int | None = None


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


@dataclass(frozen=True, slots=True)
class TaskCounts:
    """Tasks by state, and how fast they go.

    A task that runs several items of a map counts as failed if any of them failed, as far as that happened since the
    controller was started.

    :ivar rate: tasks done in a second, of the last few seconds.
    """

    scheduled: int = 0
    pending: int = 0
    succeeded: int = 0
    failed: int = 0
    rate: float = 0.0


@dataclass(frozen=True, slots=True)
class WorkInfo:
    """Tasks of one client that do the same: a map, or all calls of a function.

    :ivar key: names it for as long as the controller knows it.
    :ivar what: the function, for people; ``'code'`` for tasks without one.
    :ivar label: whose it is, ``user@host``; empty if that is not known any more.
    :ivar unit: what is counted: ``'items'`` of a map that are grouped into tasks, or ``'tasks'``.
    :ivar total: how many were submitted so far.
    :ivar running: how many engines run some of it now.
    :ivar seconds: what one takes on average; None if none is done.
    :ivar submitted: when the first was submitted, in seconds since the epoch.
    :ivar completed: when the last was done, if all are done; else None.
    """

    key: int
    what: str
    label: str
    unit: str
    total: int
    running: int
    succeeded: int
    failed: int
    seconds: float | None
    submitted: float
    completed: float | None


@dataclass(frozen=True, slots=True)
class Span:
    """What an engine did for some time.  Short tasks of the same kind, one after the other, are one span.

    An engine has no two spans that begin at the same time: one that comes again with the same ``engine`` and the same
    ``begun`` has grown.

    Durations are the engine's.  The end is when the controller heard of it, less the time for which the engine had
    waited to tell it, so both are late by the time that a message takes; engines' clocks do not matter.

    :ivar kind: ``'task'`` or ``'command'``.
    :ivar id: the first task's id, or the command's number.
    :ivar what: the function or the method.
    :ivar begun: in seconds since the epoch, by the controller's clock.
    :ivar ended: the same.
    :ivar count: the number of tasks in it.
    :ivar failed: how many of these failed, or had items of a map that failed.
    """

    engine: int
    kind: str
    id: int
    what: str
    begun: float
    ended: float
    count: int = 1
    failed: int = 0


@dataclass(frozen=True, slots=True)
class FailureInfo:
    """A task or command that failed.

    Items of a map that failed in one task are one failure: that of the first.

    :ivar engine: the engine's id; None if no engine ran it.
    :ivar error: ``'ZeroDivisionError: division by zero'``; empty if the controller may not tell it.
    :ivar traceback: the engine's, as text without colours; empty if the controller may not tell it or does not know it.
    :ivar when: in seconds since the epoch.
    """

    kind: str
    id: int
    what: str
    engine: int | None
    error: str
    traceback: str
    when: float


@dataclass(frozen=True, slots=True)
class Traffic:
    """What goes through the controller.

    Bytes are those of messages, before encryption, without what goes through shared memory.

    :ivar received: bytes in a second, of the last few seconds.
    :ivar sent: the same.
    :ivar delay: by how much the controller's process is late, in seconds, of the last few seconds; what waits in it
        waits as long.
    """

    received: float = 0.0
    sent: float = 0.0
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class News:
    """What has changed at a controller since an earlier look.

    :ivar mark: what to give at the next look.
    :ivar whole: whether this is everything, not only what has changed, as at the first look, or if that was too long
        ago.  Only of the spans the rest follows with the next answers.
    :ivar time: now, by the controller's clock, in seconds since the epoch.
    :ivar started: when the controller was started.
    :ivar name: the cluster id; empty for the default cluster.
    :ivar clients: the number of connected clients.
    :ivar engines: those that have changed.
    :ivar gone: ids of engines that are not there any more.
    :ivar work: what has changed of it; the latest 200 are kept.
    :ivar spans: those that have ended, or have grown since, the earliest first, 500 at most; the last five minutes are
        kept.
    :ivar failures: new ones, the latest last; the latest 200 are kept.
    """

    mark: int
    whole: bool
    time: float
    started: float
    name: str
    clients: int
    tasks: TaskCounts
    traffic: Traffic
    engines: tuple[EngineInfo, ...] = ()
    gone: tuple[int, ...] = ()
    work: tuple[WorkInfo, ...] = ()
    spans: tuple[Span, ...] = ()
    failures: tuple[FailureInfo, ...] = ()


_PARTS: Final[tuple[tuple[str, type[Any]], ...]] = (
    ("engines", EngineInfo),
    ("work", WorkInfo),
    ("spans", Span),
    ("failures", FailureInfo),
)
_READERS: Final = {
    part: attrgetter(*(field.name for field in fields(kind))) for part, kind in _PARTS
}


def pack_news(news: News) -> dict[str, Any]:
    """News as a JSON value: each engine, span, ... is a list of its fields."""
    packed: dict[str, Any] = {
        "mark": news.mark,
        "whole": news.whole,
        "time": news.time,
        "started": news.started,
        "name": news.name,
        "clients": news.clients,
        "tasks": asdict(news.tasks),
        "traffic": asdict(news.traffic),
        "gone": news.gone,
    }
    for part, read in _READERS.items():
        rows = getattr(news, part)
        if rows:
            packed[part] = list(map(read, rows))
    return packed


def unpack_news(value: Any) -> News:
    """Read what :func:`pack_news` made.

    :raises ProtocolError: if it is malformed.
    """
    try:
        rest = dict(value)
        for part, kind in _PARTS:
            rest[part] = tuple([kind(*row) for row in rest.get(part, ())])
        rest["gone"] = tuple(rest["gone"])
        return News(
            **rest | {"tasks": TaskCounts(**rest["tasks"]), "traffic": Traffic(**rest["traffic"])}
        )
    except (AttributeError, KeyError, TypeError, ValueError) as problem:
        raise ProtocolError(f"the controller's answer is malformed: {problem}") from None


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
