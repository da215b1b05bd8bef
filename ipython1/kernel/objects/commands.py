"""What engines can be told to do: one table, which clients and engines read alike.

A row has a command's name, how its arguments travel, how its value travels, and which method of the engine's service
runs it.  The controller does not know the table: it passes names and bytes on.

A new command needs a row here, a method of ``engine.service.EngineService``, and a method of
``calls.multienginemethods.MultiEngineMethods`` that makes a ``Request`` of the row and of what it packs.

Whatever is unpickled may run code of users, so every command can be interrupted and can raise anything.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, ParamSpec, Protocol, TypeVar

from ipython1.core.failures import ExceptionRecord
from ipython1.core.results import CallOutcome, CommandResult
from ipython1.kernel.basics.error import SerializationError
from ipython1.kernel.objects.mapparts import MapPart, without_unsendable
from ipython1.kernel.objects.serialize import LIVE_FROM, PROTOCOL, dumps, loads
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.named import pack_named, unpack_named
from ipython1.kernel.wire.payload import Buffers, ISerialized, Serialized

P = ParamSpec("P")
T = TypeVar("T")
V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)


class Engine(Protocol):
    """What is to be known of an engine, there, to unpack arguments and to pack values."""

    id: int

    def load(self, buffers: Serialized | Buffers) -> Any:
        """Rebuild an object for the command that runs."""


# -- how arguments travel


class Arguments(Protocol[P]):
    """One way for arguments to travel.

    The first buffer is JSON where the controller shall show the command in queues with its ``source``, its ``call`` or
    its ``names`` or ``keys``.
    """

    def pack(self, *args: P.args, **kwargs: P.kwargs) -> Buffers:
        """In the client; raises what is wrong with them."""

    def unpack(self, buffers: Buffers, engine: Engine) -> tuple[Any, ...]:
        """On the engine: what its method is called with."""


class NoArguments:
    """There are none."""

    def pack(self) -> Buffers:
        return [b"{}"]

    def unpack(self, buffers: Buffers, engine: Engine) -> tuple[Any, ...]:
        return ()


@dataclass(frozen=True)
class Plain(Generic[T]):
    """One of plain data, as JSON.

    :ivar name: under which it stands there.
    """

    name: str

    def pack(self, value: T) -> Buffers:
        return [messages.pack_json({self.name: value})]

    def unpack(self, buffers: Buffers, engine: Engine) -> tuple[Any, ...]:
        return (messages.unpack_json(buffers[0])[self.name],)


class Pickled(Generic[T]):
    """One object, copied when it is packed."""

    def pack(self, value: T) -> Buffers:
        return dumps(value, snapshot=True).buffers

    def unpack(self, buffers: Buffers, engine: Engine) -> tuple[Any, ...]:
        return (engine.load(buffers),)


class Named:
    """Objects under names.  All are rebuilt before the engine begins, so that one that cannot be changes nothing."""

    def pack(self, namespace: Mapping[str, ISerialized]) -> Buffers:
        return pack_named(namespace)

    def unpack(self, buffers: Buffers, engine: Engine) -> tuple[Any, ...]:
        named, _ = unpack_named(buffers)
        return ({name: engine.load(value) for name, value in named.items()},)


class Part(NamedTuple):
    """What an engine knows of a part of a sequence that was scattered.

    :ivar name: under which it was scattered.
    :ivar scatter: identifies the call.
    :ivar number: of the part, from 0.
    :ivar engines: those that were sent parts, as runs of ids: the first, and how many.
    """

    name: str
    scatter: str
    number: int
    engines: Sequence[Sequence[int]]


class PartsTold(NamedTuple):
    """What an engine tells of what is pulled.

    :ivar parts: those that it is, or is computed from.
    :ivar names: what was scattered or pushed to it, so that it is not an engine that lost its part by a restart; None
        if that was more than it remembers.
    """

    parts: list[Part]
    names: list[str] | None


class NamedPart(Named):
    """An engine's part of a sequence, under its name."""

    def pack(self, namespace: Mapping[str, ISerialized], part: Part) -> Buffers:  # type: ignore[override]
        return pack_named(namespace, part=part)

    def unpack(self, buffers: Buffers, engine: Engine) -> tuple[Any, ...]:
        _, head = unpack_named(buffers)
        return (*super().unpack(buffers, engine), Part(*head["part"]))


class FunctionCall:
    """A function and its arguments, pickled together; ``snapshot`` copies arrays."""

    def pack(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        snapshot: bool = False,
    ) -> Buffers:
        return dumps((function, tuple(args), dict(kwargs)), snapshot=snapshot).buffers

    def unpack(self, buffers: Buffers, engine: Engine) -> tuple[Any, ...]:
        function, args, kwargs = engine.load(buffers)
        return function, args, kwargs


class PartOfMap:
    """A function, the same for all engines, and one engine's part of each sequence; and the name that queues show."""

    def pack(self, function: Serialized, parts: Serialized, call: str) -> Buffers:
        return pack_named({"function": function, "parts": parts}, call=call)

    def unpack(self, buffers: Buffers, engine: Engine) -> tuple[Any, ...]:
        named, _ = unpack_named(buffers)
        return engine.load(named["function"]), engine.load(named["parts"])


# -- how values travel


class Failed(Exception):
    """On the engine: user code raised.

    :ivar record: the exception, as data.
    :ivar result: what the command gave before, if it has a result at all.
    """

    def __init__(self, record: ExceptionRecord, result: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.record = record
        self.result = result

    def pack(self) -> Buffers:
        """The buffers of an outcome that is ``FAILED``."""
        return dumps((self.record, self.result)).buffers


def read_failure(buffers: Buffers) -> tuple[ExceptionRecord, dict[str, Any] | None]:
    """In the client: the record and the result that :meth:`Failed.pack` packed.

    :raises SerializationError: when they cannot be rebuilt.
    """
    record, result = loads(buffers)
    return record, result


class Value(Protocol[V_co]):
    """One way for a value to travel."""

    def pack(self, value: Any, engine: Engine) -> Buffers:
        """On the engine: what its method gave.

        :raises Failed: when that says that user code raised.
        """

    def read(self, buffers: Buffers) -> V_co:
        """In the client.

        :raises SerializationError: when it cannot be rebuilt.
        """


def _given(value: object) -> Serialized:
    """What an engine gives: small arrays are copied at once, large ones before user code can change them."""
    return dumps(value, snapshot=True, live_from=LIVE_FROM)


class Nothing:
    """None."""

    def pack(self, value: None, engine: Engine) -> Buffers:
        return ()

    def read(self, buffers: Buffers) -> None:
        return None


class Object:
    """Any object."""

    def pack(self, value: Any, engine: Engine) -> Buffers:
        return _given(value).buffers

    def read(self, buffers: Buffers) -> Any:
        return loads(buffers)


class NamedObjects:
    """A dict of names and objects, each of which can be read alone."""

    def pack(self, value: Mapping[str, Any], engine: Engine) -> Buffers:
        return pack_named({name: _given(each) for name, each in value.items()})

    def read(self, buffers: Buffers) -> dict[str, Serialized]:
        named, _ = unpack_named(buffers)
        return named


class Pulled(dict[str, Any]):
    """Names and objects.

    :ivar told: what the engine knows of parts of sequences; None for nothing.
    """

    def __init__(self, named: Mapping[str, Any], told: PartsTold | None) -> None:
        super().__init__(named)
        self.told = told


class PulledObjects(NamedObjects):
    """The same, with what the engine knows of parts of sequences."""

    def pack(self, value: Mapping[str, Any], engine: Engine) -> Buffers:
        named = {name: _given(each) for name, each in value.items()}
        told = value.told if isinstance(value, Pulled) else None
        return pack_named(named) if told is None else pack_named(named, told=told)

    def read_told(self, buffers: Buffers) -> PartsTold:
        """In the client: what the engine knows of parts."""
        _, head = unpack_named(buffers)
        parts, names = head.get("told", ([], []))
        return PartsTold([Part(*part) for part in parts], names)


class Result:
    """The dict that a command of a session comes to."""

    def pack(self, value: CommandResult, engine: Engine) -> Buffers:
        result = value.to_dict(engine.id)
        if value.failure is not None:
            raise Failed(value.failure, result)
        if value.result is None and not value.display:
            return [pickle.dumps(result, PROTOCOL)]  # all of it is made here
        return dumps(result).buffers

    def read(self, buffers: Buffers) -> dict[str, Any]:
        result: dict[str, Any] = loads(buffers)
        return result


class ReturnValue(NamedTuple):
    """What a function returned.

    :ivar output: ``stdout``, ``stderr`` and ``display``, where they are not empty, and ``duration`` (seconds).
    """

    value: Any
    output: dict[str, Any]


class Returned:
    """What a function returned, and what it wrote and displayed."""

    def pack(self, value: CallOutcome, engine: Engine) -> Buffers:
        output = {
            key: text for key in ("stdout", "stderr", "display") if (text := getattr(value, key))
        }
        output["duration"] = value.duration
        if value.failure is not None:
            raise Failed(value.failure, output)
        return self.pack_value(value.value, output)

    def pack_value(self, value: Any, output: dict[str, Any]) -> Buffers:
        """On the engine: what the function returned, and its output."""
        try:
            return _given((value, output)).buffers
        except SerializationError:
            dumps(value)  # says what it is that cannot be sent
            raise

    def read(self, buffers: Buffers) -> ReturnValue:
        return ReturnValue(*loads(buffers))


class ReturnedItems(Returned):
    """What came of the items of a map, and what they wrote and displayed."""

    def pack_value(self, value: MapPart, output: dict[str, Any]) -> Buffers:
        try:
            return _given((tuple(value), output)).buffers
        except SerializationError:
            return super().pack_value(tuple(without_unsendable(value)), output)

    def read(self, buffers: Buffers) -> ReturnValue:
        part, output = loads(buffers)
        return ReturnValue(MapPart(*part), output)


# -- the table


@dataclass(frozen=True, slots=True)
class CommandKind(Generic[P, V]):
    """A row of the table.

    :ivar name: by which clients and engines know it.
    :ivar arguments: how its arguments travel.
    :ivar value: how what it gives travels.
    :ivar run: the method of ``EngineService`` that does it; the one of the same name if empty.
    :ivar streams: whether its output can be had while it runs.
    """

    name: str
    arguments: Arguments[P]
    value: Value[V]
    run: str = ""
    streams: bool = False

    def pack(self, *args: P.args, **kwargs: P.kwargs) -> Buffers:
        """In the client: the arguments as bytes.

        :raises SerializationError: when they cannot be sent.
        """
        return self.arguments.pack(*args, **kwargs)


_KEYS: Final = Plain[Sequence[str]]("keys")
_KEYS_OR_ALL: Final = Plain[Sequence[str] | None]("keys")
PULLED: Final = PulledObjects()

# fmt: off
EXECUTE          = CommandKind("execute",          Plain[str]("source"),      Result(), streams=True)
GET_RESULT       = CommandKind("get_result",       Plain[int | None]("i"),    Result())
APPLY            = CommandKind("apply",            FunctionCall(),            Returned(), streams=True)
MAP              = CommandKind("map",              PartOfMap(),               ReturnedItems(), streams=True)
PUSH             = CommandKind("push",             Named(),                   Nothing())
SCATTER          = CommandKind("scatter",          NamedPart(),               Nothing(), run="push_part")
PULL             = CommandKind("pull",             _KEYS,                     PULLED, run="named")
PUSH_FUNCTION    = CommandKind("push_function",    Named(),                   Nothing())
PULL_FUNCTION    = CommandKind("pull_function",    _KEYS,                     NamedObjects(), run="named_functions")
KEYS             = CommandKind("keys",             NoArguments(),             Object())
DEBUG            = CommandKind("debug",            NoArguments(),             Nothing(), streams=True)
RESET            = CommandKind("reset",            NoArguments(),             Nothing())
SET_PROPERTIES   = CommandKind("set_properties",   Pickled[dict[str, Any]](), Nothing())
GET_PROPERTIES   = CommandKind("get_properties",   _KEYS_OR_ALL,              Object())
HAS_PROPERTIES   = CommandKind("has_properties",   _KEYS,                     Object())
DEL_PROPERTIES   = CommandKind("del_properties",   _KEYS,                     Nothing())
CLEAR_PROPERTIES = CommandKind("clear_properties", NoArguments(),             Nothing())
# fmt: on

COMMANDS: Final[Mapping[str, CommandKind[..., Any]]] = {
    row.name: row for row in tuple(globals().values()) if isinstance(row, CommandKind)
}
"""The rows by their names."""
