"""An engine's main thread: takes work from the reactor's thread and runs it in the user's namespace.

Commands run in the order in which they came, and before tasks that have not begun.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import TYPE_CHECKING, Any, Protocol

from zope.interface import implementer

from ipython1.core.failures import ExceptionRecord, record_exception
from ipython1.core.interrupt import InterruptGate
from ipython1.kernel.basics.error import (
    InvalidProperty,
    NotDefined,
    ProtocolError,
    SerializationError,
)
from ipython1.kernel.objects.engineinterfaces import IEngineBase
from ipython1.kernel.objects.serialize import dumps, loads
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.messages import Outcome
from ipython1.kernel.wire.named import pack_named, unpack_named
from ipython1.kernel.wire.payload import Buffers, Serialized

if TYPE_CHECKING:
    from ipython1.core.interpreter import Interpreter


class Properties(dict[str, Any]):
    """An engine's properties; tells ``on_change`` when they change.

    Code on the engine reaches them as ``ipython1.kernel.engineworker.properties()``.
    """

    def __init__(self, on_change: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.on_change = on_change

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self.on_change()

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self.on_change()

    def update(self, *args: Any, **kwargs: Any) -> None:
        super().update(*args, **kwargs)
        self.on_change()

    def clear(self) -> None:
        super().clear()
        self.on_change()

    def pop(self, *args: Any) -> Any:
        value = super().pop(*args)
        self.on_change()
        return value

    def popitem(self) -> tuple[str, Any]:
        item = super().popitem()
        self.on_change()
        return item

    def __ior__(self, other: Any) -> Properties:  # type: ignore[misc, override]
        self.update(other)
        return self

    def setdefault(self, key: str, default: Any = None) -> Any:
        value = super().setdefault(key, default)
        self.on_change()
        return value


_current: EngineService | None = None


def properties() -> Properties:
    """The properties of the engine that runs this code.

    :raises RuntimeError: outside an engine.
    """
    if _current is None:
        raise RuntimeError("properties() works only in code that runs on an engine")
    return _current.properties


@implementer(IEngineBase)
class EngineService:
    """What an engine does, in its main thread; the methods raise what user code raises.

    :ivar stop: ends the engine's process.
    """

    def __init__(self, interpreter: Interpreter) -> None:
        global _current
        self.id = -1
        self.interpreter = interpreter
        self.properties = Properties()
        self.stop: Callable[[], None] = lambda: None
        _current = self

    def execute(self, lines: str) -> Any:
        return self.interpreter.execute(lines)

    def push(self, namespace: Mapping[str, object]) -> None:
        self.interpreter.push(namespace)

    def pull(self, keys: str | Sequence[str]) -> Any:
        try:
            return self.interpreter.pull(keys)
        except NameError as problem:
            raise NotDefined(str(problem)) from None

    def push_function(self, namespace: Mapping[str, Any]) -> None:
        self.interpreter.push_function(namespace)

    def pull_function(self, keys: str | Sequence[str]) -> Any:
        try:
            return self.interpreter.pull_function(keys)
        except NameError as problem:
            raise NotDefined(str(problem)) from None

    def get_result(self, i: int | None = None) -> Any:
        return self.interpreter.get_result(i)

    def reset(self) -> None:
        self.interpreter.reset()

    def keys(self) -> list[str]:
        return self.interpreter.keys()

    def kill(self) -> None:
        self.stop()

    def push_serialized(self, namespace: Mapping[str, Serialized]) -> None:
        # Everything is rebuilt before anything is set: a failed push changes nothing.
        user_ns = self.interpreter.user_ns
        self.push({name: loads(value, user_ns) for name, value in namespace.items()})

    def pull_serialized(self, keys: Sequence[str]) -> list[Serialized]:
        return [dumps(self.pull(key), snapshot=True) for key in keys]

    def set_properties(self, properties: Mapping[str, Any]) -> None:
        self.properties.update(properties)

    def get_properties(self, keys: Sequence[str] | None = None) -> dict[str, Any]:
        if keys is None:
            return dict(self.properties)
        return {key: self.properties[self._known(key)] for key in keys}

    def has_properties(self, keys: Sequence[str]) -> list[bool]:
        return [key in self.properties for key in keys]

    def del_properties(self, keys: Sequence[str]) -> None:
        for key in [self._known(key) for key in keys]:
            del self.properties[key]

    def clear_properties(self) -> None:
        self.properties.clear()

    def _known(self, key: str) -> str:
        if key not in self.properties:
            known = ", ".join(sorted(self.properties)) or "none"
            raise InvalidProperty(f"engine {self.id} has no property {key!r}; it has: {known}")
        return key


class _Failed(Exception):
    """User code raised.

    :ivar record: the exception, as data.
    :ivar result: what the command gave before, as a dict, if it has a result at all.
    """

    def __init__(self, record: ExceptionRecord, result: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.record = record
        self.result = result


@dataclass(frozen=True, slots=True)
class Command:
    """What this engine has to do.

    :ivar origin: the uuid (16 bytes) of the client it comes from.
    :ivar number: unique for ever with ``origin``.
    :ivar method: its name.
    :ivar buffers: its arguments.
    :ivar stream: send output while it runs.
    :ivar problem: why it cannot be run: its arguments did not arrive.
    """

    origin: bytes
    number: int
    method: str
    buffers: Buffers = ()
    stream: bool = False
    problem: Exception | None = None

    @property
    def key(self) -> tuple[bytes, int]:
        """What names it for ever."""
        return (self.origin, self.number)


class CommandRunner:
    """Runs commands by name: unpacks their arguments, calls the service, packs what it gives."""

    def __init__(self, service: EngineService) -> None:
        self._service = service
        self._methods: dict[str, Callable[[Buffers], Buffers]] = {
            "execute": self._execute,
            "push": self._push,
            "pull": self._pull,
            "push_function": self._push_function,
            "pull_function": self._pull_function,
            "apply": self._apply,
            "map": self._map,
            "get_result": self._get_result,
            "reset": self._reset,
            "keys": self._keys,
            "set_properties": self._set_properties,
            "get_properties": self._get_properties,
            "has_properties": self._has_properties,
            "del_properties": self._del_properties,
            "clear_properties": self._clear_properties,
        }

    def run(self, command: Command) -> Outcome:
        """Run one command; never raises."""
        if command.problem is not None:
            return Outcome.refused(self._service.id, command.problem)
        method = self._methods.get(command.method)
        if method is None:
            problem = ProtocolError(f"an engine has no method {command.method!r}")
            return Outcome.refused(self._service.id, problem)
        try:
            return Outcome(self._service.id, messages.OK, method(command.buffers))
        except _Failed as failure:
            return self.failed(failure.record, failure.result)
        except BaseException as problem:
            return self.failed(record_exception(problem))

    def failed(self, record: ExceptionRecord, result: dict[str, Any] | None = None) -> Outcome:
        """How a command ends whose code raised."""
        return Outcome(self._service.id, messages.FAILED, dumps((record, result)).buffers)

    def _result(self, result: Any) -> Buffers:
        if result.failure is not None:
            raise _Failed(result.failure, result.to_dict(self._service.id))
        return dumps(result.to_dict(self._service.id)).buffers

    def _execute(self, buffers: Buffers) -> Buffers:
        return self._result(self._service.execute(messages.unpack_json(buffers[0])["source"]))

    def _get_result(self, buffers: Buffers) -> Buffers:
        return self._result(self._service.get_result(messages.unpack_json(buffers[0])["i"]))

    def _push(self, buffers: Buffers) -> Buffers:
        self._service.push_serialized(unpack_named(buffers)[0])
        return ()

    def _pull(self, buffers: Buffers) -> Buffers:
        keys = messages.unpack_json(buffers[0])["keys"]
        values = self._service.pull_serialized(keys)
        return pack_named(dict(zip(keys, values, strict=True)))

    def _push_function(self, buffers: Buffers) -> Buffers:
        user_ns = self._service.interpreter.user_ns
        named, _ = unpack_named(buffers)
        self._service.push_function({name: loads(value, user_ns) for name, value in named.items()})
        return ()

    def _pull_function(self, buffers: Buffers) -> Buffers:
        keys = messages.unpack_json(buffers[0])["keys"]
        functions = {key: dumps(self._service.pull_function(key)) for key in keys}
        return pack_named(functions)

    def _apply(self, buffers: Buffers) -> Buffers:
        return self._call(*loads(buffers, self._service.interpreter.user_ns))

    def _map(self, buffers: Buffers) -> Buffers:
        user_ns = self._service.interpreter.user_ns
        named, _ = unpack_named(buffers)
        function, parts = loads(named["function"], user_ns), loads(named["parts"], user_ns)
        return self._call(map_items, (function, parts), {})

    def _call(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Buffers:
        outcome = self._service.interpreter.call(function, args, kwargs)
        if outcome.failure is not None:
            raise _Failed(outcome.failure)
        extra = {
            key: value
            for key in ("stdout", "stderr", "display")
            if (value := getattr(outcome, key))
        }
        try:
            return dumps((outcome.value, extra), snapshot=True).buffers
        except SerializationError:
            dumps(outcome.value)  # says what it is that cannot be sent
            raise

    def _reset(self, buffers: Buffers) -> Buffers:
        self._service.reset()
        return ()

    def _keys(self, buffers: Buffers) -> Buffers:
        return dumps(self._service.keys()).buffers

    def _set_properties(self, buffers: Buffers) -> Buffers:
        self._service.set_properties(loads(buffers, self._service.interpreter.user_ns))
        return ()

    def _get_properties(self, buffers: Buffers) -> Buffers:
        return dumps(
            self._service.get_properties(messages.unpack_json(buffers[0])["keys"]), snapshot=True
        ).buffers

    def _has_properties(self, buffers: Buffers) -> Buffers:
        return dumps(self._service.has_properties(messages.unpack_json(buffers[0])["keys"])).buffers

    def _del_properties(self, buffers: Buffers) -> Buffers:
        self._service.del_properties(messages.unpack_json(buffers[0])["keys"])
        return ()

    def _clear_properties(self, buffers: Buffers) -> Buffers:
        self._service.clear_properties()
        return ()


def map_items(function: Callable[..., Any], parts: Sequence[Any]) -> list[Any]:
    """One engine's part of a map."""
    __tracebackhide__ = True
    return list(starmap(function, zip(*parts, strict=True)))


class WorkSource(Protocol):
    """Other work for the main thread: the tasks."""

    def run_one(self) -> bool:
        """Do one piece of work; False when there is none."""

    def idle(self) -> None:
        """There is nothing more to do for now; send what is held back."""

    @property
    def running_key(self) -> tuple[int, int] | None:
        """What names the piece that runs now; from any thread."""

    def interrupt(self) -> bool:
        """Interrupt the piece that runs, if one does; from any thread."""


class Worker:
    """The main thread's loop.

    :param done: called in the main thread with each command and its outcome.
    :ivar running: the command that runs.
    :ivar busy: whether a command or a task may be running.
    """

    def __init__(
        self,
        runner: CommandRunner,
        gate: InterruptGate,
        done: Callable[[Command, Outcome], None],
    ) -> None:
        self._runner = runner
        self._gate = gate
        self._done = done
        self._commands: deque[Command] = deque()
        # Locked means that nothing was brought since the loop last looked.
        self._nothing_new = threading.Lock()
        self._nothing_new.acquire()
        self._stopping = False
        self.source: WorkSource | None = None
        self.running: Command | None = None
        self.running_since = 0.0
        self.busy = False

    def put(self, command: Command) -> None:
        """Queue a command; from any thread."""
        self._commands.append(command)
        self.wake()

    def wake(self) -> None:
        """There is something to look at; from any thread."""
        if self._nothing_new.locked():
            try:
                self._nothing_new.release()
            except RuntimeError:
                pass  # another thread was faster

    def stop(self) -> None:
        """Leave the loop when what runs now is done; from any thread."""
        self._stopping = True
        self.wake()

    def loop(self) -> None:
        """Run until :meth:`stop`."""
        self.busy = True
        try:
            while not self._stopping:
                if self._commands:
                    self._run(self._commands.popleft())
                elif self.source is None or not self.source.run_one():
                    if self.source is not None:
                        self.source.idle()
                    self.busy = False
                    self._nothing_new.acquire()
                    self.busy = True
        finally:
            self.busy = False

    def _run(self, command: Command) -> None:
        self.running_since = time.monotonic()
        self.running = command
        try:
            with self._gate.running(command.key):
                outcome = self._runner.run(command)
        except KeyboardInterrupt as late:
            outcome = self._runner.failed(record_exception(late))
        finally:
            self.running = None
        self._done(command, outcome)
