"""Objects to bytes and back, in engines and clients (never in the controller).

Plain data goes through the standard pickle at protocol 5, anything else through cloudpickle; large buffers (arrays)
stay out of band, uncopied, and so do the contents of large bytes and text
(:mod:`~ipython1.kernel.objects.cutstream`).

A function of ``__main__``, or of a module that is sent by value, brings along everything that it refers to there, as it
is at that moment (:mod:`~ipython1.kernel.objects.brought`).  Where it arrives, that belongs to the call alone
(:mod:`~ipython1.kernel.objects.homes`).

A class of ``__main__`` travels by value.  Where it comes from elsewhere, it is renewed each time; where it was defined,
it is left as it is, so that looking at an object does not change the user's own class.
"""

from __future__ import annotations

import copyreg
import io
import os
import pickle
import sys
import types
import weakref
from collections import ChainMap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import cloudpickle
from cloudpickle import cloudpickle as _cp
from twisted.persisted import styles
from twisted.python.components import registerAdapter
from zope.interface import Interface, implementer

from ipython1.config.error import ConfigError
from ipython1.core.failures import MISSING_KEY
from ipython1.core.interrupt import raised_by_handler
from ipython1.kernel.basics.error import SerializationError
from ipython1.kernel.host.clientconfig import bring_size
from ipython1.kernel.objects import decorated
from ipython1.kernel.objects.brought import Baggage, Missing
from ipython1.kernel.objects.classes import forget_attributes, renew_bases, with_slots
from ipython1.kernel.objects.codenames import globals_of, names_in
from ipython1.kernel.objects.cutstream import CUT, CutReader, CutStream, own
from ipython1.kernel.objects.homes import (
    ENTRY_KEY,
    GLOBALS_KEY,
    CallGlobals,
    Home,
    make_entry,
)
from ipython1.kernel.objects.plain import is_plain
from ipython1.kernel.objects.sourcelines import code_with_lines, lines_of
from ipython1.kernel.objects.unsendable import described, find_unsendable
from ipython1.kernel.wire.bulk import copy_of
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.payload import ISerialized, Serialized

# Twisted makes every pickler in the process pickle methods in a way of its own, which loses class methods.  Programs of
# users pickle, too, and so does dask; Python's own way is right for all methods.
if copyreg.dispatch_table.get(types.MethodType) is styles.pickleMethod:
    del copyreg.dispatch_table[types.MethodType]

PROTOCOL: Final = 5
OUT_OF_BAND_FROM: Final = 1024
"""Bytes.  Smaller buffers stay in the pickle stream."""

_MAIN: Final = "__main__"
MADE_BY_VALUE: Final = b"_make_"
"""In the pickle of every function and class that travels by value."""

_BRINGS: Final = "__ipython1_brings__"
"""In the pickle of functions of ``__main__`` one of which brings something along."""

_WRITES: Final = "__ipython1_writes__"
"""In the pickle of such a function that may set or delete global names."""

_SETS: Final = "__ipython1_sets__"
"""In the pickle of such functions one of which sets what it brings."""

_ORIGIN: Final = "__ipython1_origin__"
"""In the pickle of such functions: names the globals that they have where they come from."""

_process: Final = os.urandom(8).hex()

_BRINGS_MARK: Final = _BRINGS.encode()
_SETS_MARK: Final = _SETS.encode()


LIVE_FROM: Final = 2**20
"""Bytes from which a buffer of what an engine gives is not copied before something can change it."""


def dumps(
    value: object,
    *,
    snapshot: bool = False,
    live_from: int = sys.maxsize,
    pickler: Callable[..., Any] | None = None,
) -> Serialized:
    """``value`` as bytes.

    :param snapshot: copy out-of-band buffers, so that ``value`` may be changed afterwards.
    :param live_from: bytes from which a buffer is not copied nevertheless.
    :param pickler: makes the pickler of what is not plain data, if not the usual one, with the same arguments.
    :raises SerializationError: when it cannot be pickled.
    """
    try:
        return _dump(value, live_from if snapshot else 0, pickler)
    except KeyboardInterrupt:
        raise
    except ConfigError:
        raise
    except BaseException as problem:
        if raised_by_handler(problem):
            raise
        part = find_unsendable(value, _dump)
        raise SerializationError(
            f"{part or described(value)} cannot be sent: {type(problem).__name__}: {_text(problem)}"
        ) from problem


def _dump(
    value: object, live_from: int = 0, pickler: Callable[..., Any] | None = None
) -> Serialized:
    buffers: list[Buffer] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < OUT_OF_BAND_FROM:
            return True
        buffers.append(view if view.nbytes >= live_from else copy_of(view))
        return False

    if is_plain(value):
        stream = pickle.dumps(value, PROTOCOL, buffer_callback=keep)
    else:
        file = CutStream(buffers)
        (pickler or Pickler)(file, keep).dump(value)
        stream = file.stream()
    return Serialized((stream, *buffers))


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was rebuilt for one call.

    :ivar value: the object.
    :ivar globals: those of the functions that arrived with it.
    :ivar references: the objects in it that came by name: their modules, names, and themselves.
    """

    value: Any
    globals: list[CallGlobals] = field(default_factory=list)
    references: list[tuple[str, str, Any]] = field(default_factory=list)


def load(buffers: Serialized | Iterable[Buffer], home: Home) -> Loaded:
    """Rebuild on an engine what :func:`dumps` made bytes of, for one call.

    :param home: the engine's namespace.
    :raises SerializationError: when it cannot be rebuilt.
    """
    return _load(list(buffers.buffers if isinstance(buffers, Serialized) else buffers), home, True)


def loads(buffers: Serialized | Iterable[Buffer], home: Home | None = None) -> Any:
    """The object that :func:`dumps` made bytes of, to be kept.

    A function can be called at any time, and sees the names that home has then.

    :param home: on an engine, its namespace; None for ``__main__`` here.
    :raises SerializationError: when it cannot be rebuilt.
    """
    parts = list(buffers.buffers if isinstance(buffers, Serialized) else buffers)
    loaded = _load(parts, home, False)
    return make_entry(loaded.value, home or _home_here()) if loaded.globals else loaded.value


def _load(parts: list[Buffer], home: Home | None, for_call: bool) -> Loaded:
    stream, *rest = parts
    try:
        data = bytes(stream) if not isinstance(stream, bytes) else stream
        cut = CutReader(data, rest) if data.startswith(CUT) else None
        if cut is not None:
            data = cut.data
        if not for_call and MADE_BY_VALUE not in data:
            if cut is not None:
                return Loaded(pickle.Unpickler(cut, buffers=cut.buffers).load())
            return Loaded(pickle.loads(data, buffers=map(own, rest)))
        where = _home_here() if home is None else home
        brings, sets = _BRINGS_MARK in data, _SETS_MARK in data
        file, buffers = (io.BytesIO(data), map(own, rest)) if cut is None else (cut, cut.buffers)
        unpickler = _Unpickler(file, buffers, where, brings, sets, for_call)
        value = unpickler.load()
        # It refers to the unpickler, and so would keep alive all that is in it.
        unpickler.memo = {}
        return Loaded(value, unpickler.call_globals, unpickler.references)
    except KeyboardInterrupt:
        raise
    except BaseException as problem:
        if raised_by_handler(problem):
            raise
        # Whoever reads it may be at the other side.
        place, hint = "here", ""
        if home is not None:
            place = "on the engine"
            if isinstance(problem, ModuleNotFoundError):
                hint = "; install it there, or send it with push_module()"
        raise SerializationError(
            f"an object cannot be rebuilt {place}: {type(problem).__name__}: {_text(problem)}{hint}"
        ) from problem


_here: Home | None = None


def _home_here() -> Home:
    """The session of this process."""
    global _here
    import __main__

    names = vars(__main__)
    if _here is None or _here.names is not names:
        shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
        hidden = getattr(shell, "user_ns_hidden", {}) if shell is not None else {}
        _here = Home(names, hidden)
    return _here


def _text(problem: BaseException) -> str:
    try:
        return str(problem)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return "<its message could not be shown>"


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
    """Pickles by value what another process cannot import.

    :param baggage: what already travels; None for a pickle of its own.
    """

    dispatch_table: ChainMap[type, Callable[[Any], Any]] = ChainMap(
        {types.CodeType: _reduce_code, **decorated.REDUCERS}, cloudpickle.Pickler.dispatch_table
    )

    def __init__(self, file: Any, keep: Any, baggage: Baggage | None = None) -> None:
        super().__init__(file, protocol=PROTOCOL, buffer_callback=keep)
        self._baggage = baggage or Baggage(Pickler, bring_size)

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is types.FunctionType:
            entered = obj.__dict__.get(ENTRY_KEY)
            if entered is not None:
                return self.reducer_override(entered)
            if decorated.is_singledispatch(obj):
                return decorated.reduce_singledispatch(obj, self._skeleton)
        elif kind is decorated.Cached:
            return decorated.reduce_cached(obj, self._skeleton)
        elif issubclass(kind, type) and "__slots__" in vars(obj):
            return with_slots(obj, super().reducer_override(obj))
        return super().reducer_override(obj)

    def _skeleton(self, function: types.FunctionType) -> tuple[Any, Any] | None:
        """The arguments that make a function without its state, and this state; None if it goes by name."""
        reduced = self._function_reduce(function)
        return None if reduced is NotImplemented else (reduced[1], reduced[2])

    def _function_getnewargs(self, func: types.FunctionType) -> Any:
        arguments = super()._function_getnewargs(func)
        if func.__globals__.get("__name__") == _MAIN:
            arguments[1][_ORIGIN] = f"{_process}-{id(func.__globals__)}"
        return arguments

    def _dynamic_function_reduce(self, func: types.FunctionType) -> Any:
        reduced = super()._dynamic_function_reduce(func)
        slots = reduced[2][1]
        check = self._baggage.check
        names = {name: check(name, value) for name, value in globals_of(func).items()}
        if func.__globals__.get("__name__") == _MAIN:
            if names:
                names[_BRINGS] = None
            known = names_in(func.__code__)
            if known.writes_globals or known.by_text:
                names[_WRITES] = None
            sets = known.sets & names.keys()
            if sets and not known.by_text:
                names[_SETS] = tuple(sorted(sets))
        slots["__globals__"] = names
        return reduced


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
    """Rebuilds objects.

    :param brings: whether functions of ``__main__`` in it bring something along.
    :param sets: whether one of them sets what it brings.
    :param for_call: whether they take part in the present call.
    """

    def __init__(
        self,
        file: io.BytesIO | CutReader,
        buffers: Iterable[Buffer],
        home: Home,
        brings: bool,
        sets: bool,
        for_call: bool,
    ) -> None:
        super().__init__(file, buffers=buffers)
        self._home = home
        self._brings = brings
        self._sets = sets
        self._for_call = for_call
        self._own_classes: set[type] = set()
        self._renewed: set[type] = set()
        self._globals: dict[int, tuple[dict[str, Any], CallGlobals]] = {}
        self.call_globals: list[CallGlobals] = []
        self.references: list[tuple[str, str, Any]] = []

    def find_class(self, module: str, name: str) -> Any:
        if module == "cloudpickle.cloudpickle":
            if name == "_make_function":
                return self._make_function
            if name == "_function_setstate":
                return self._function_setstate
            if name == "_make_skeleton_class":
                return lambda *args: self._make_class(
                    _cp._make_skeleton_class, args, args[4], args[2]
                )
            if name == "_make_skeleton_enum":
                return lambda *args: self._make_class(
                    _cp._make_skeleton_enum, args, args[5], args[0]
                )
            if name == "_class_setstate":
                return self._class_setstate
            if name == "subimport":
                return self._import
            return super().find_class(module, name)
        if module == decorated.__name__:
            maker = decorated.MAKERS.get(name)
            if maker is not None:
                return maker(self._make_function, self._function_setstate)
            return super().find_class(module, name)
        if module == "ipython1.kernel.objects.frozen" and name == "thaw":
            return partial(super().find_class(module, name), rebuild=self._rebuild)
        found = super().find_class(module, name)
        self.references.append((module, name, found))
        return found

    def _rebuild(self, parts: Sequence[Buffer]) -> Any:
        """Rebuild an object that was pickled before, and alone."""
        loaded = _load(list(parts), self._home, True)
        self.call_globals += loaded.globals
        self.references += loaded.references
        return loaded.value

    def _import(self, name: str) -> types.ModuleType:
        module: types.ModuleType = _cp.subimport(name)
        self.references.append((name, "", module))
        return module

    def _names_for(self, base: dict[str, Any]) -> dict[str, Any] | Any:
        """The globals of functions that had the same globals where they come from."""
        if not self._brings:
            return self._home.names
        known = self._globals.get(id(base))
        if known is None:
            origin = base.get(_ORIGIN, "")
            found = self._home.of_call(origin) if self._for_call else None
            if found is None:
                found = CallGlobals(self._home, origin, self._sets)
                self.call_globals.append(found)
            known = self._globals[id(base)] = (base, found)
        return known[1].names

    def _make_function(
        self, code: Any, base: dict[str, Any], name: Any, defaults: Any, closure: Any
    ) -> Any:
        if base.get("__name__") == _MAIN:
            names = self._names_for(base)
            return types.FunctionType(code, names, name, defaults, closure)
        return _cp._make_function(code, base, name, defaults, closure)

    def _function_setstate(self, function: types.FunctionType, state: Any) -> None:
        slots = state[1]
        names = slots["__globals__"]
        names.pop(_BRINGS, None)
        writes = names.pop(_WRITES, self) is None
        sets = names.pop(_SETS, ())
        missing = {name: each.reason for name, each in names.items() if type(each) is Missing}
        for name in missing:
            del names[name]
        namespace = function.__globals__
        own: CallGlobals | None = namespace.get(GLOBALS_KEY)
        if own is not None or namespace is self._home.names:
            slots["__globals__"] = {}
            if own is not None:
                own.bring(names, missing, writes, sets)
        elif missing:
            namespace.setdefault(MISSING_KEY, {}).update(missing)
        before = namespace.get("__builtins__", self)
        _cp._function_setstate(function, state)
        if own is not None or namespace is self._home.names:
            # cloudpickle has put its own there.
            if before is self:
                namespace.pop("__builtins__", None)
            else:
                namespace["__builtins__"] = before

    def _make_class(
        self, make: Any, args: tuple[Any, ...], tracker_id: str | None, bases: tuple[type, ...]
    ) -> type:
        known = _cp._DYNAMIC_CLASS_TRACKER_BY_ID.get(tracker_id)
        cls: type = make(*args)
        if cls is not known:
            _from_elsewhere.add(cls)
        elif cls in _from_elsewhere:
            self._renewed.add(cls)
            renew_bases(cls, bases)
        else:
            self._own_classes.add(cls)
        return cls

    def _class_setstate(self, cls: type, state: Any) -> type:
        if cls not in self._own_classes:
            if cls in self._renewed:
                forget_attributes(cls, state[0])
            _cp._class_setstate(cls, state)
        return cls
