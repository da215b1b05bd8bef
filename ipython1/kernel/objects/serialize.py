"""Objects to bytes and back, in engines and clients (never in the controller).

Plain data goes through the standard pickle at protocol 5, anything else through cloudpickle; large buffers (arrays)
stay out of band, uncopied.  A function of ``__main__`` runs in the namespace of whoever loads it: it sees that
namespace's names first, and brings along only what it refers to and what is missing there (modules, functions,
classes, small constants).  Large data and what can be changed in place are never carried along unseen; push them.

A class of ``__main__`` travels by value.  Where it comes from elsewhere, it is renewed each time; where it was defined,
it is left as it is, so that looking at an object does not change the user's own class.
"""

from __future__ import annotations

import builtins
import enum
import io
import pickle
import sys
import types
import weakref
from collections import ChainMap
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import cloudpickle
from cloudpickle import cloudpickle as _cp
from twisted.python.components import registerAdapter
from zope.interface import Interface, implementer

from ipython1.kernel.basics.error import SerializationError
from ipython1.kernel.objects.sourcelines import code_with_lines, lines_of
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.payload import ISerialized, Serialized

PROTOCOL: Final = 5
OUT_OF_BAND_FROM: Final = 1024
"""Bytes.  Smaller buffers stay in the pickle stream."""

_MAIN: Final = "__main__"
_MAX_CONSTANT: Final = 4096
ATOMS: Final = frozenset({int, float, complex, bool, str, bytes, type(None)})
"""Types whose objects hold no others, and that any pickler handles alike."""

_LOOK_AT: Final = 64
_MADE_BY_VALUE: Final = b"_make_"
"""In the pickle of every function and class that travels by value."""

_CONSTANTS_OF: Final = frozenset(
    {"datetime", "decimal", "fractions", "pathlib", "re", "uuid", "zoneinfo"}
)
"""Modules whose classes' objects are small and never change."""


def dumps(
    value: object, *, snapshot: bool = False, pickler: Callable[..., Any] | None = None
) -> Serialized:
    """``value`` as bytes.

    :param snapshot: copy out-of-band buffers, so that ``value`` may be changed afterwards.
    :param pickler: makes the pickler of what is not plain data, if not the usual one, with the same arguments.
    :raises SerializationError: when it cannot be pickled.
    """
    buffers: list[Buffer] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < OUT_OF_BAND_FROM:
            return True
        buffers.append(bytes(view) if snapshot else view)
        return False

    try:
        if _is_plain(value):
            stream = pickle.dumps(value, PROTOCOL, buffer_callback=keep)
        else:
            file = io.BytesIO()
            (pickler or Pickler)(file, PROTOCOL, keep).dump(value)
            stream = file.getvalue()
    except KeyboardInterrupt:
        raise
    except BaseException as problem:
        raise SerializationError(
            f"{_describe(value)} cannot be sent: {type(problem).__name__}: {_text(problem)}"
        ) from problem
    return Serialized((stream, *buffers))


def loads(
    buffers: Serialized | Iterable[Buffer], namespace: MutableMapping[str, Any] | None = None
) -> Any:
    """The object that :func:`dumps` made bytes of.

    :param namespace: on an engine, where functions of ``__main__`` shall run; None for ``__main__`` here.
    :raises SerializationError: when it cannot be rebuilt.
    """
    parts = list(buffers.buffers if isinstance(buffers, Serialized) else buffers)
    stream, *rest = parts
    try:
        if _MADE_BY_VALUE not in (bytes(stream) if isinstance(stream, memoryview) else stream):
            return pickle.loads(stream, buffers=rest)
        names = namespace
        if names is None:
            import __main__

            names = vars(__main__)
        return _Unpickler(io.BytesIO(stream), rest, names).load()
    except KeyboardInterrupt:
        raise
    except BaseException as problem:
        # Whoever reads it may be at the other side.
        where, hint = "here", ""
        if namespace is not None:
            where = "on the engine"
            if isinstance(problem, ModuleNotFoundError):
                hint = "; install it there, or send it with push_module()"
        raise SerializationError(
            f"an object cannot be rebuilt {where}: {type(problem).__name__}: {_text(problem)}{hint}"
        ) from problem


def _text(problem: BaseException) -> str:
    try:
        return str(problem)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return "<its message could not be shown>"


def _describe(value: object) -> str:
    kind = type(value)
    return f"an object of type {kind.__module__}.{kind.__qualname__}".replace("builtins.", "")


def _is_plain(value: object) -> bool:
    """True for data that the standard pickle handles just as well; looks at a bounded number of items."""
    budget = _LOOK_AT
    waiting = [value]
    while waiting:
        item = waiting.pop()
        budget -= 1
        if budget < 0:
            return False
        kind = type(item)
        if kind in ATOMS:
            continue
        if kind is tuple or kind is list:
            if len(item) > budget:  # type: ignore[arg-type]
                return False
            waiting.extend(item)  # type: ignore[arg-type]
        elif kind is dict:
            if 2 * len(item) > budget:  # type: ignore[arg-type]
                return False
            waiting.extend(item)  # type: ignore[arg-type]
            waiting.extend(item.values())  # type: ignore[attr-defined]
        elif not (kind.__module__ == "numpy" and kind.__name__ == "ndarray" and _no_objects(item)):
            return False
    return True


def _no_objects(array: Any) -> bool:
    return not array.dtype.hasobject


def _travels(value: object) -> bool:
    """Whether a name that a function refers to is carried along with it."""
    if isinstance(value, (types.ModuleType, types.FunctionType, types.BuiltinFunctionType, type)):
        return True
    return _room_left(value, _MAX_CONSTANT) >= 0 or (callable(value) and _importable(value))


def _room_left(value: object, room: int) -> int:
    """What is left of ``room`` bytes beside a constant; negative when it is too large, or not a constant."""
    kind = type(value)
    if kind in (str, bytes):
        return room - len(value)  # type: ignore[arg-type]
    if kind in (tuple, frozenset):
        for item in value:  # type: ignore[attr-defined]
            room = _room_left(item, room - 8)
            if room < 0:
                break
        return room
    if kind in ATOMS or kind in (range, slice):
        return room - 8
    if kind.__module__.partition(".")[0] in _CONSTANTS_OF or isinstance(value, enum.Enum):
        return room - 64
    if kind.__module__ == "numpy" and kind.__name__ != "ndarray" and hasattr(value, "item"):
        return room - 64  # one of numpy's numbers
    return -1


def _importable(value: object) -> bool:
    """Whether a module defines it under a name, as numpy does with its functions, which are of many types."""
    # numpy's functions had no module of their own before its version 2.
    module = getattr(value, "__module__", None) or type(value).__module__
    found: object = sys.modules.get(module)
    if found is None or found is sys.modules.get(_MAIN):
        return False
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if not isinstance(name, str):
        return False
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is value


_FILENAME: Final = 10
"""Where the name of the file stands among the arguments of ``types.CodeType``, from Python 3.11 on."""


def _reduce_code(code: types.CodeType) -> Any:
    """As cloudpickle does it, but with what tracebacks need: the name of the file, which it leaves out since 3.1.3, and
    the source lines of what is in no file."""
    make, args = _cp._code_reduce(code)
    args = (*args[:_FILENAME], code.co_filename, *args[_FILENAME + 1 :])
    lines = lines_of(code)
    return (make, args) if lines is None else (code_with_lines, (tuple(lines), args))


class Pickler(cloudpickle.Pickler):
    dispatch_table = ChainMap({types.CodeType: _reduce_code}, cloudpickle.Pickler.dispatch_table)

    def __init__(self, file: io.BytesIO, protocol: int, keep: Any) -> None:
        super().__init__(file, protocol=protocol, buffer_callback=keep)

    def _dynamic_function_reduce(self, func: types.FunctionType) -> Any:
        reduced = super()._dynamic_function_reduce(func)
        if func.__globals__.get("__name__") == _MAIN:
            slots = reduced[2][1]
            slots["__globals__"] = {
                name: value for name, value in slots["__globals__"].items() if _travels(value)
            }
        return reduced


BROUGHT_KEY: Final = "__ipython1_brought__"
"""The name under which a namespace holds what functions brought into it."""


def _bring(namespace: MutableMapping[str, Any], names: MutableMapping[str, Any]) -> None:
    """Add what is missing, and renew what an earlier function brought; never replace the user's own names."""
    brought: dict[str, object] = namespace.setdefault(BROUGHT_KEY, {})
    for name, value in names.items():
        if name not in namespace or (name in brought and namespace[name] is brought[name]):
            namespace[name] = brought[name] = value


class IUnSerialized(Interface):
    """An object, in whatever form; its bytes are ``ISerialized`` of this."""

    def get_object() -> Any:
        """The object itself."""


@implementer(IUnSerialized)
@dataclass(frozen=True, slots=True)
class UnSerialized:
    """An object that can be adapted to its bytes: ``ISerialized(UnSerialized(value))``, and back again."""

    value: Any

    def get_object(self) -> Any:
        return self.value


registerAdapter(lambda wrapped: dumps(wrapped.get_object()), IUnSerialized, ISerialized)
registerAdapter(lambda packed: UnSerialized(loads(packed.buffers)), ISerialized, IUnSerialized)


_from_elsewhere: weakref.WeakSet[type] = weakref.WeakSet()
"""Classes that were defined in another process."""


class _Unpickler(pickle.Unpickler):
    def __init__(
        self, file: io.BytesIO, buffers: list[Buffer], namespace: MutableMapping[str, Any]
    ) -> None:
        super().__init__(file, buffers=buffers)
        self._namespace = namespace
        self._own_classes: set[type] = set()

    def find_class(self, module: str, name: str) -> Any:
        if module == "cloudpickle.cloudpickle":
            if name == "_make_function":
                return self._make_function
            if name == "_function_setstate":
                return self._function_setstate
            if name == "_make_skeleton_class":
                return lambda *args: self._make_class(_cp._make_skeleton_class, args, args[4])
            if name == "_make_skeleton_enum":
                return lambda *args: self._make_class(_cp._make_skeleton_enum, args, args[5])
            if name == "_class_setstate":
                return self._class_setstate
        elif module == "ipython1.kernel.objects.frozen" and name == "thaw":
            return partial(super().find_class(module, name), namespace=self._namespace)
        return super().find_class(module, name)

    def _make_function(
        self, code: Any, global_names: dict[str, Any], name: Any, defaults: Any, closure: Any
    ) -> Any:
        if global_names.get("__name__") == _MAIN:
            return types.FunctionType(code, self._namespace, name, defaults, closure)  # type: ignore[arg-type]
        return _cp._make_function(code, global_names, name, defaults, closure)

    def _function_setstate(self, function: types.FunctionType, state: Any) -> None:
        namespace = self._namespace
        if function.__globals__ is not namespace:
            _cp._function_setstate(function, state)
            return
        slots = state[1]
        _bring(namespace, slots["__globals__"])
        slots["__globals__"] = {}
        before = namespace.get("__builtins__", builtins)
        _cp._function_setstate(function, state)
        # cloudpickle has put its own there.
        namespace["__builtins__"] = before

    def _make_class(self, make: Any, args: tuple[Any, ...], tracker_id: str | None) -> type:
        known = _cp._DYNAMIC_CLASS_TRACKER_BY_ID.get(tracker_id)
        cls: type = make(*args)
        if cls is not known:
            _from_elsewhere.add(cls)
        elif cls not in _from_elsewhere:
            self._own_classes.add(cls)
        return cls

    def _class_setstate(self, cls: type, state: Any) -> type:
        if cls not in self._own_classes:
            _cp._class_setstate(cls, state)
        return cls
