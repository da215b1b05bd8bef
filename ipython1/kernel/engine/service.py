"""What an engine does: the methods behind the commands, and the properties.

Which command runs which method is said in :mod:`ipython1.kernel.objects.commands`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from ipython1.core.results import CallOutcome
from ipython1.kernel.basics.engineinterfaces import ITaskEngine
from ipython1.kernel.basics.error import InvalidProperty, NotDefined
from ipython1.kernel.engine.parts import Parts
from ipython1.kernel.objects.commands import Part, Pulled
from ipython1.kernel.objects.homes import Home, make_entry
from ipython1.kernel.objects.mapparts import map_items
from ipython1.kernel.objects.serialize import dumps, load
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


class _OfThread(threading.local):
    """The engine that runs in a thread, where a process has several."""

    service: EngineService | None = None


_of_thread = _OfThread()


def properties() -> Properties:
    """The properties of the engine that runs this code.

    :raises RuntimeError: outside an engine.
    """
    service = _of_thread.service or _current
    if service is None:
        raise RuntimeError("properties() works only in code that runs on an engine")
    return service.properties


class _Calling:
    """See :meth:`EngineService.calling`."""

    __slots__ = ("_home",)

    def __init__(self, home: Home) -> None:
        self._home = home

    def __enter__(self) -> None:
        self._home.begin()

    def __exit__(self, *exception: object) -> None:
        self._home.end()


@implementer(ITaskEngine)
class EngineService:
    """What an engine does, in its main thread; the methods raise what user code raises.

    :ivar home: where the functions of users run.
    :ivar parts: which names are parts of sequences, or are computed from them.
    :ivar stop: ends the engine's process.
    :ivar debugger: looks at the last exception.
    :ivar before_user_code: called before anything that can change the user's objects.
    """

    def __init__(self, interpreter: Interpreter) -> None:
        global _current
        self.id: int = -1
        self.interpreter = interpreter
        self.home: Home = Home(interpreter.user_ns, interpreter.hidden_names)
        self.parts: Parts = Parts(interpreter)
        self.properties: Properties = Properties()
        self.stop: Callable[[], None] = lambda: None
        self.debugger: Callable[[], None] = lambda: None
        self.before_user_code: Callable[[], None] = lambda: None
        _current = self

    def is_of_this_thread(self) -> None:
        """This is the engine that runs in the calling thread; other engines may run in other threads."""
        _of_thread.service = self

    def calling(self) -> AbstractContextManager[None]:
        """A command or a task runs; what its functions bring along is theirs, and what they write is the engine's."""
        self.before_user_code()
        return _Calling(self.home)

    def load(self, buffers: Serialized | Buffers) -> Any:
        """Rebuild an object for the command or task that runs."""
        loaded = load(buffers, self.home)
        self.home.take_part(loaded.globals)
        return loaded.value

    def execute(self, lines: str) -> Any:
        return self.interpreter.execute(lines)

    def run_source(self, source: str) -> None:
        __tracebackhide__ = True
        if not self.home.is_shared:
            self.interpreter.run_source(source)
            return
        with self.home.itself():
            self.interpreter.run_source(source)

    def push(self, namespace: Mapping[str, object]) -> None:
        self.interpreter.push(self._to_keep(namespace))
        self.parts.replaced(namespace)
        self.home.changed()

    def push_part(self, namespace: Mapping[str, object], part: Part) -> None:
        """Set a name to a part of a sequence."""
        self.push(namespace)
        self.parts.came(part)

    def _to_keep(self, namespace: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the present command brought, as it can be used later."""
        if not self.home.keep_those_of_call():
            return namespace
        return {name: make_entry(value, self.home) for name, value in namespace.items()}

    def pull(self, keys: str | Sequence[str]) -> Any:
        __tracebackhide__ = True
        self.home.about_to_change()
        try:
            return self.interpreter.pull(keys)
        except NameError as problem:
            raise NotDefined(str(problem)) from None

    def push_function(self, namespace: Mapping[str, Any]) -> None:
        self.interpreter.push_function(self._to_keep(namespace))
        self.parts.replaced(namespace)
        self.home.changed()

    def pull_function(self, keys: str | Sequence[str]) -> Any:
        try:
            return self.interpreter.pull_function(keys)
        except NameError as problem:
            raise NotDefined(str(problem)) from None

    def named(self, keys: Sequence[str]) -> Pulled:
        """What :meth:`pull` gives, by name."""
        return Pulled({key: self.pull(key) for key in keys}, self.parts.known(keys))

    def named_functions(self, keys: Sequence[str]) -> dict[str, Any]:
        """What :meth:`pull_function` gives, by name."""
        return {key: self.pull_function(key) for key in keys}

    def apply(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> CallOutcome:
        """Call a function; what it raises is in the outcome."""
        return self.interpreter.call(function, args, kwargs, remember=True)

    def map(self, function: Callable[..., Any], parts: Sequence[Any]) -> CallOutcome:
        """This engine's part of a map: a ``MapPart``, as the value of the outcome."""
        return self.interpreter.call(map_items, (function, parts))

    def debug(self) -> None:
        """Look at the last exception with a debugger, as long as somebody answers its prompt."""
        self.debugger()

    def get_result(self, i: int | None = None) -> Any:
        return self.interpreter.get_result(i)

    def reset(self) -> None:
        self.interpreter.reset()
        self.parts.reset()
        self.home.changed()

    def keys(self) -> list[str]:
        return self.interpreter.keys()

    def kill(self) -> None:
        self.stop()

    def push_serialized(self, namespace: Mapping[str, Serialized]) -> None:
        # Everything is rebuilt before anything is set: a failed push changes nothing.
        self.push({name: self.load(value) for name, value in namespace.items()})

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
