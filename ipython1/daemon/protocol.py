"""The messages between a supervisor and a nanny: one JSON object per line.

The supervisor sends requests, the nanny events.  Both sides run the same version of this package for the same user,
over a socket pair or the pipes of an ``ssh`` process; an invalid line is a :class:`ProtocolError` nevertheless, as
an ssh login script may print anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ipython1.kernel.basics.error import ProtocolError

LINE_LIMIT = 1 << 20
"""The longest line either side accepts, in bytes."""


@dataclass(slots=True)
class Message:
    """Base class of all messages.

    Nobody changes them; that they are not frozen saves two thirds of what the import of this module takes, for which
    the start of every cluster waits.
    """


@dataclass(slots=True)
class Spawn(Message):
    """Start a process.

    :ivar key: the supervisor's name for it, used in every later message.
    :ivar argv: the command line; with ``module``, ``argv[0]`` is only the name to show.
    :ivar module: a module whose ``main(argv[1:])`` is the program: forked warm if possible, else in a new Python.
    :ivar python: the interpreter for a module; empty for this one.
    :ivar env: environment variables to set; the value None removes one.
    :ivar cwd: the working directory; empty for the nanny's own.
    :ivar log: the file for its output; ``~`` is the nanny's home directory.
    :ivar after: the key of a process of the same nanny that must be ready first.
    :ivar tail: how many of the last lines of its output :class:`Ended` tells.
    :ivar watch: the seconds without a sign of life after which :class:`Silent` is sent; 0 for never.
    """

    key: str
    argv: tuple[str, ...]
    module: str = ""
    env: Mapping[str, str | None] = field(default_factory=dict)
    cwd: str = ""
    log: str = ""
    after: str = ""
    watch: float = 0.0
    python: str = ""
    tail: int = 20


@dataclass(slots=True)
class Signal(Message):
    """Send a signal to a process, or with ``group`` to all processes of its session."""

    key: str
    number: int
    group: bool = False


@dataclass(slots=True)
class Warm(Message):
    """Import these modules when idle."""

    modules: tuple[str, ...]


@dataclass(slots=True)
class WriteFile(Message):
    """Create or replace a text file that only its owner can read; a missing directory is created."""

    key: str
    path: str
    text: str


@dataclass(slots=True)
class ReadFile(Message):
    """Read a small text file, or its last ``lines`` lines if this is not 0.

    :ivar wait: seconds to wait for the file to appear.
    """

    key: str
    path: str
    lines: int = 0
    wait: float = 0.0


@dataclass(slots=True)
class AtEnd(Message):
    """Set commands to run when everything is ended, for any reason; replaces earlier ones.

    This is how batch jobs are cancelled if the supervisor was killed.
    """

    commands: tuple[tuple[str, ...], ...]


@dataclass(slots=True)
class Alive(Message):
    """The sender is alive.  The supervisor sends it regularly, and the nanny sends it back."""


@dataclass(slots=True)
class End(Message):
    """End every process, kill those left after ``grace`` seconds, then exit."""

    grace: float = 2.0


@dataclass(slots=True)
class Hello(Message):
    """The nanny's first line.

    :ivar started: when it started, in a unit of its system.
    :ivar forks: whether it forks warm processes.
    """

    pid: int
    host: str
    home: str
    python: str
    version: str
    forks: bool
    started: float = 0.0


@dataclass(slots=True)
class Started(Message):
    """A process was started."""

    key: str
    pid: int
    started: float = 0.0


@dataclass(slots=True)
class Failed(Message):
    """A request failed."""

    key: str
    error: str


@dataclass(slots=True)
class Ready(Message):
    """A process reported that it is ready for use."""

    key: str
    text: str = ""


@dataclass(slots=True)
class Silent(Message):
    """A process gives no sign of life.

    :ivar seconds: for how long.
    :ivar stopped: whether a signal has stopped it; else it is busy, or stuck.
    """

    key: str
    seconds: float
    stopped: bool


@dataclass(slots=True)
class Heard(Message):
    """A process that was silent gives signs of life again."""

    key: str


@dataclass(slots=True)
class Ended(Message):
    """A process ended.

    :ivar status: its exit status, or None if a signal killed it.
    :ivar signal: that signal, or None.
    :ivar lines: the last lines of its output.
    :ivar left: whether it reported that its exit was requested.
    """

    key: str
    pid: int
    status: int | None
    signal: int | None
    lines: tuple[str, ...] = ()
    left: bool = False


@dataclass(slots=True)
class Written(Message):
    """A file was written."""

    key: str


@dataclass(slots=True)
class FileText(Message):
    """The text of a requested file."""

    key: str
    text: str


@dataclass(slots=True)
class Goodbye(Message):
    """The nanny's last line: everything that it started has ended."""

    killed: int = 0


_TYPES: dict[str, type[Message]] = {
    cls.__name__: cls
    for cls in (
        *(Spawn, Signal, Warm, WriteFile, ReadFile, AtEnd, Alive, End),
        *(Hello, Started, Failed, Ready, Silent, Heard, Ended, Written, FileText, Goodbye),
    )
}


def encode(message: Message) -> bytes:
    """Encode a message as a line, including the newline."""
    content: dict[str, Any] = {"type": type(message).__name__}
    for each in fields(message):
        content[each.name] = getattr(message, each.name)
    return json.dumps(content, separators=(",", ":")).encode() + b"\n"


def _as_tuples(value: Any) -> Any:
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list) else value


def decode(line: bytes) -> Message:
    """Decode the message in a line.

    :raises ProtocolError: if it is not a message.
    """
    try:
        content = json.loads(line)
        cls = _TYPES[content.pop("type")]
        return cls(**{name: _as_tuples(value) for name, value in content.items()})
    except (ValueError, TypeError, KeyError, AttributeError) as problem:
        shown = line[:200].decode(errors="replace").strip()
        raise ProtocolError(f"invalid message between supervisor and nanny: {shown!r}") from problem


class LineBuffer:
    """Splits a stream of bytes into lines.

    :param limit: the longest line, in bytes.
    :param place: where the stream is, for the error.
    """

    def __init__(
        self, limit: int = LINE_LIMIT, place: str = "between supervisor and nanny"
    ) -> None:
        self._limit = limit
        self._place = place
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Add data and yield the complete lines, without their newlines.

        :raises ProtocolError: if a line exceeds the limit.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > self._limit:
            raise ProtocolError(f"message of more than {self._limit} bytes {self._place}")
        yield from lines

    @property
    def rest(self) -> bytes:
        """Return the data after the last newline."""
        return self._rest
