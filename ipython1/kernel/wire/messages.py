"""What the frames of registration, of commands and of questions say.

Small structured parts are JSON; what is on a hot path is packed.  Nothing here unpickles.
"""

from __future__ import annotations

import json
import secrets
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, NamedTuple

from ipython1.kernel.basics.error import (
    ProtocolError,
    SecurityError,
    VersionMismatch,
    from_wire,
    to_wire,
)
from ipython1.kernel.host.logs import shown
from ipython1.kernel.wire import frames
from ipython1.kernel.wire.failurenotes import Note
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.payload import Buffers
from ipython1.version import __version__

ORIGIN_SIZE: Final = 16
"""Bytes in the uuid of a client."""

MOST_WORD: Final = 1024
"""Characters in a text of a greeting."""

MOST_LABEL: Final = 200
"""Characters that are kept of what a party calls itself."""

# Status of an outcome
OK: Final = 0
FAILED: Final = 1
"""The engine ran it and it raised; the payload tells."""
REFUSED: Final = 2
"""The kernel itself failed it; the meta part names the error."""
UNRECEIVED: Final = 3
"""Only from an engine to the controller: the command's data stopped coming, so the engine has never had it."""


ENGINE: Final = "engine"
GATEWAY: Final = "gateway"
MULTIENGINE: Final = "multiengine"
TASK: Final = "task"
MONITOR: Final = "monitor"
ROLES: Final = {
    ENGINE: "engines",
    GATEWAY: "gateways",
    MULTIENGINE: "MultiEngine clients",
    TASK: "Task clients",
    MONITOR: "those who only look",
}
_FILES: Final = (
    ("ipcontroller-engine.furl", f"{ROLES[ENGINE]} and {ROLES[GATEWAY]}"),
    ("ipcontroller-mec.furl", ROLES[MULTIENGINE]),
    ("ipcontroller-tc.furl", ROLES[TASK]),
    ("ipcontroller-monitor.furl", ROLES[MONITOR]),
)


def _find_encoder() -> Callable[[object], str]:
    """Return what makes compact JSON.

    ``JSONEncoder`` makes its encoder in C anew for each text, which takes as long as to use it.
    """
    plain = json.JSONEncoder(separators=(",", ":"))
    try:
        module: Any = json.encoder
        quote, make = module.encode_basestring_ascii, module.c_make_encoder
        chunks = make(None, plain.default, quote, None, ":", ",", False, False, True)
        if "".join(chunks({"a": [1, "b", None]}, 0)) == '{"a":[1,"b",null]}':
            return lambda value: "".join(chunks(value, 0))
    except (AttributeError, TypeError):
        pass  # another version of Python has it elsewhere, or none
    return plain.encode


# Made once, as the functions of the module make them for each call.
_encode: Final = _find_encoder()
_decode: Final = json.JSONDecoder().decode


def pack_json(value: object) -> bytes:
    """``value`` as compact JSON."""
    return _encode(value).encode()


def unpack_json(data: Buffer) -> Any:
    """The value of some JSON.

    :raises ProtocolError: when it is not JSON.
    """
    try:
        return _decode(bytes(data).decode())
    except (ValueError, RecursionError) as problem:
        raise ProtocolError(f"a message is not JSON: {problem}") from None


@dataclass(frozen=True, slots=True)
class Holds:
    """What an engine has left of earlier connections, as it tells when it registers again.

    :ivar commands: (origin in hexadecimal, number) of the commands that wait or run.
    :ivar finished: those that are done, whose outcomes the controller has not confirmed.
    :ivar seen: the highest number of each origin's commands that ever came.
    :ivar runs: (task id, attempt) of the runs that wait or are under way.
    :ivar ended: those that are done, whose results the controller has not confirmed.
    :ivar data: whether commands have left something there.
    """

    commands: tuple[tuple[str, int], ...] = ()
    finished: tuple[tuple[str, int], ...] = ()
    seen: Mapping[str, int] = field(default_factory=dict)
    runs: tuple[tuple[int, int], ...] = ()
    ended: tuple[tuple[int, int], ...] = ()
    data: bool = False

    @classmethod
    def read(cls, value: Any) -> Holds:
        """Read what JSON made of one.

        :raises KeyError, TypeError, ValueError: if it is malformed.
        """
        return cls(
            tuple((_origin(origin), int(number)) for origin, number in value["commands"]),
            tuple((_origin(origin), int(number)) for origin, number in value["finished"]),
            {_origin(origin): int(number) for origin, number in value["seen"].items()},
            tuple((int(task_id), int(attempt)) for task_id, attempt in value["runs"]),
            tuple((int(task_id), int(attempt)) for task_id, attempt in value["ended"]),
            bool(value["data"]),
        )


def _origin(text: Any) -> str:
    """Return a uuid in the one form in which it can be compared."""
    origin = bytes.fromhex(text)
    if len(origin) != ORIGIN_SIZE:
        raise ValueError("a uuid has 16 bytes")
    return origin.hex()


def _word(text: Any) -> str:
    if not isinstance(text, str) or len(text) > MOST_WORD:
        raise ValueError("a text is too long, or none")
    return text


def _fields_of(record: Any) -> dict[str, Any]:
    """Return a record for JSON, which needs no copies as ``asdict`` makes them."""
    return {each.name: getattr(record, each.name) for each in fields(record)}


def new_secret() -> str:
    """A new :attr:`Hello.secret`."""
    return secrets.token_hex(ORIGIN_SIZE)


@dataclass(frozen=True, slots=True)
class Hello:
    """What an engine or client says of itself when it registers.

    :ivar uuid: 16 random bytes as hex; an engine's or client's own, the same each time that it registers.
    :ivar role: what it wants to be: ``'engine'`` or the name of a client interface.
    :ivar wanted_id: the id an engine asks for.
    :ivar host: names the machine and its process-id space, so that equal hosts can signal each other's processes.
    :ivar secret: proves that who registers again under a uuid is the same as before.
    :ivar label: who it is, for people: ``user@host``.  Those who read greetings find nothing in it that could control
        a terminal.
    :ivar holds: what an engine has left of earlier connections.
    """

    uuid: str
    pid: int
    host: str
    role: str
    wanted_id: int | None = None
    secret: str = field(default="", repr=False)
    label: str = ""
    holds: Holds = field(default_factory=Holds)
    protocol: int = frames.PROTOCOL_VERSION
    python: tuple[int, int] = field(
        default_factory=lambda: (sys.version_info[0], sys.version_info[1])
    )
    version: str = __version__

    def pack(self) -> bytes:
        return pack_json({**_fields_of(self), "holds": _fields_of(self.holds)})

    @classmethod
    def unpack(cls, data: Buffer) -> Hello:
        """:raises ProtocolError: when it is malformed."""
        value = unpack_json(data)
        try:
            wanted = value["wanted_id"]
            pid = int(value["pid"])
            if pid < 1:
                raise ValueError("0 and negative numbers stand for groups of processes")
            major, minor = value["python"]
            return cls(
                uuid=_origin(value["uuid"]),
                pid=pid,
                host=shown(_word(value["host"])),
                role=_word(value["role"]),
                wanted_id=None if wanted is None else int(wanted),
                secret=_word(value["secret"]),
                label=shown(_word(value["label"]))[:MOST_LABEL],
                holds=Holds.read(value["holds"]),
                protocol=int(value["protocol"]),
                python=(int(major), int(minor)),
                version=_word(value["version"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as problem:
            raise ProtocolError(f"a greeting is malformed: {problem!r}") from None

    def check_role(self, role: str) -> None:
        """:raises SecurityError: when the FURL that led here is that of something else."""
        if self.role != role:
            raise SecurityError(
                f"this FURL is for {ROLES.get(role, role)}, but it was used for {ROLES.get(self.role, self.role)}; "
                f"use the right file: {', '.join(f'{name} is for {who}' for name, who in _FILES)}"
            )

    def check_versions(self, who: str) -> None:
        """:raises VersionMismatch: when this process and the sender of the greeting cannot work together."""
        here = (sys.version_info[0], sys.version_info[1])
        if self.python != here:
            raise VersionMismatch(
                f"{who} runs Python {self.python[0]}.{self.python[1]}, the controller Python {here[0]}.{here[1]}: "
                f"they cannot exchange code and objects; use the same Python for both"
            )
        if self.protocol != frames.PROTOCOL_VERSION:
            raise VersionMismatch(
                f"{who} is ipython1 {self.version} (protocol {self.protocol}), the controller ipython1 {__version__} "
                f"(protocol {frames.PROTOCOL_VERSION}); install the same version on both sides"
            )


@dataclass(frozen=True, slots=True)
class Welcome:
    """The controller's answer to a greeting.

    :ivar engine_id: the id an engine got.
    :ivar max_message: bytes; nothing larger is accepted.
    :ivar instance: names the controller's state for ever, across its restarts.
    :ivar epoch: counts the starts of controllers on that state.
    :ivar known: whether the controller knows who registers from before, and what it had.
    """

    engine_id: int | None = None
    max_message: int = 0
    pid: int = 0
    instance: str = ""
    epoch: int = 0
    known: bool = False
    extra: dict[str, Any] = field(default_factory=dict)

    def pack(self) -> bytes:
        return pack_json(_fields_of(self))


def pack_refusal(problem: BaseException) -> bytes:
    """An answer to a greeting that says why not."""
    return pack_json({"error": to_wire(problem)})


def unpack_welcome(data: Buffer) -> Welcome:
    """The answer to a greeting.

    :raises KernelError: the one with which the controller refused.
    """
    value = unpack_json(data)
    try:
        refusal = from_wire(*value["error"]) if "error" in value else None
        if refusal is None:
            return Welcome(**value)
    except TypeError as problem:
        raise ProtocolError(f"the controller's answer is malformed: {problem}") from None
    raise refusal


_SUBMIT: Final = struct.Struct("<BBH")

MOST_TARGETS: Final = 16_000
"""Engines that one ``SUBMIT`` can name."""


class SubmitMeta(NamedTuple):
    """The meta part of ``SUBMIT``: which command, on which engines (None: all that there are).

    :ivar method: the command's name.
    :ivar stream: send output while the command runs.
    :ivar announce: tell the targets' ids as soon as it is queued.
    :ivar keep: it shall be done even if its client does not come back, and its outcome be kept until it is fetched.
    """

    method: str
    targets: tuple[int, ...] | None
    stream: bool = False
    announce: bool = True
    keep: bool = False

    def to(self, targets: tuple[int, ...]) -> SubmitMeta:
        """The same for these engines."""
        return self._replace(targets=targets)

    def pack(self) -> bytes:
        name = self.method.encode()
        options = self.stream | self.announce << 1 | self.keep << 2
        if self.targets is None:
            return _SUBMIT.pack(len(name), options, 0xFFFF) + name
        return _SUBMIT.pack(len(name), options, len(self.targets)) + name + pack_ids(self.targets)

    @classmethod
    def unpack(cls, meta: Buffer) -> SubmitMeta:
        """:raises ProtocolError: when it is malformed."""
        try:
            name_size, options, count = _SUBMIT.unpack_from(meta, 0)
            after = _SUBMIT.size + name_size
            method = bytes(meta[_SUBMIT.size : after]).decode()
        except (struct.error, UnicodeDecodeError) as problem:
            raise ProtocolError(f"a submission is malformed: {problem}") from None
        targets = None if count == 0xFFFF else unpack_ids(meta[after:])
        return cls(method, targets, bool(options & 1), bool(options & 2), bool(options & 4))


class Resync(NamedTuple):
    """The payload of ``RESYNC``: what a client that is back still waits for.

    :ivar commands: of each command that was sent and lacks outcomes: its number, the engines whose outcomes the client
        has, and whether it still has the data.
    :ivar more: whether another ``RESYNC`` with more of them follows.
    """

    commands: tuple[tuple[int, tuple[int, ...], bool], ...] = ()
    more: bool = False

    def pack(self) -> bytes:
        return pack_json((self.commands, self.more))

    @classmethod
    def unpack(cls, payload: Buffer) -> Resync:
        """:raises ProtocolError: when it is malformed."""
        told = unpack_json(payload)
        try:
            commands, more = told
            return cls(
                tuple((int(n), tuple(map(int, ids)), bool(data)) for n, ids, data in commands),
                bool(more),
            )
        except (TypeError, ValueError) as problem:
            raise ProtocolError(
                f"what a client tells after its return is malformed: {problem}"
            ) from None


def pack_ids(ids: Sequence[int]) -> bytes:
    """Engine ids, packed."""
    return struct.pack(f"<{len(ids)}I", *ids)


def unpack_ids(data: Buffer) -> tuple[int, ...]:
    """:raises ProtocolError: when they are not what :func:`pack_ids` made."""
    if len(data) % 4:
        raise ProtocolError("a list of engine ids is cut short")
    return struct.unpack(f"<{len(data) // 4}I", data)


_RUN: Final = struct.Struct("<H")

MOST_IN_RUN: Final = 0xFFFF
"""Commands that one ``TAKEN`` or ``CONFIRM`` names."""


def runs_of(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """The first number, and how many follow each other, of each run of consecutive numbers."""
    first = count = 0
    for number in sorted(numbers):
        if count and (number != first + count or count == MOST_IN_RUN):
            yield first, count
            count = 0
        if not count:
            first = number
        count += 1
    if count:
        yield first, count


def pack_taken(engine_ids: Sequence[int], count: int) -> bytes:
    """The meta part of ``TAKEN``: these engines' outcomes of so many commands, from the frame's number on, are here.

    :param engine_ids: up to ``MOST_TARGETS``.
    """
    return _RUN.pack(count) + pack_ids(engine_ids)


def unpack_taken(meta: Buffer) -> tuple[tuple[int, ...], int]:
    """:raises ProtocolError: when it is malformed."""
    if len(meta) < _RUN.size:
        raise ProtocolError("what a client says of its outcomes has the wrong length")
    return unpack_ids(meta[_RUN.size :]), int(_RUN.unpack_from(meta)[0])


def pack_confirm(origin: bytes, count: int) -> bytes:
    """The meta part of ``CONFIRM``: the outcomes of so many commands, from the frame's number on, are safe."""
    return origin + _RUN.pack(count)


def unpack_confirm(meta: Buffer) -> tuple[bytes, int]:
    """:raises ProtocolError: when it is malformed."""
    if len(meta) != ORIGIN_SIZE + _RUN.size:
        raise ProtocolError("a confirmation has the wrong length")
    return bytes(meta[:ORIGIN_SIZE]), int(_RUN.unpack_from(meta, ORIGIN_SIZE)[0])


_OUTCOME: Final = struct.Struct("<IB")


class Outcome(NamedTuple):
    """How a command ended on one engine, as the engine and the client have it.

    :ivar status: :data:`OK`, :data:`FAILED` (the user's code raised) or :data:`REFUSED` (the kernel failed it).
    :ivar buffers: what it gave, or what was raised, still pickled.
    :ivar error: the kernel's own error, when it was refused.
    :ivar note: on the engine, when it failed, or items of a map did: what those who look are told.
    """

    engine_id: int
    status: int
    buffers: Buffers = ()
    error: Exception | None = None
    note: Note | None = None

    @classmethod
    def refused(cls, engine_id: int, problem: Exception) -> Outcome:
        """The kernel's own error."""
        return cls(engine_id, REFUSED, error=problem)


class OutcomeMeta(NamedTuple):
    """The meta part of ``OUTCOME`` towards a client.

    :ivar error: name and message of the kernel's error when the status is ``REFUSED``.
    """

    engine_id: int
    status: int
    error: tuple[str, str] | None = None

    def pack(self) -> bytes:
        head = _OUTCOME.pack(self.engine_id, self.status)
        return head if self.error is None else head + pack_json(self.error)

    @classmethod
    def unpack(cls, meta: Buffer) -> OutcomeMeta:
        """:raises ProtocolError: when it is malformed."""
        if len(meta) < _OUTCOME.size:
            raise ProtocolError("an outcome is cut short")
        engine_id, status = _OUTCOME.unpack_from(meta, 0)
        rest = meta[_OUTCOME.size :]
        if not len(rest):
            return cls(engine_id, status)
        name, message = unpack_json(rest)
        return cls(engine_id, status, (str(name), str(message)))


class CommandMeta(NamedTuple):
    """The meta part of ``COMMAND``: whose it is and which it is.

    :ivar method: the command's name.
    :ivar stream: send output while it runs.
    """

    origin: bytes
    method: str
    stream: bool = False

    def pack(self) -> bytes:
        return self.origin + bytes((self.stream,)) + self.method.encode()

    @classmethod
    def unpack(cls, meta: Buffer) -> CommandMeta:
        """:raises ProtocolError: when it is cut short."""
        if len(meta) <= ORIGIN_SIZE:
            raise ProtocolError("a command is cut short")
        data = bytes(meta)
        return cls(data[:ORIGIN_SIZE], data[ORIGIN_SIZE + 1 :].decode(), bool(data[ORIGIN_SIZE]))
