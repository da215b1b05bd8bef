"""Exceptions of user code, converted to a form that can be sent.

:func:`record_exception` converts an exception to plain data on the engine, whatever its methods do;
:func:`rebuild_exception` recreates the exception, usually in another process.
"""

from __future__ import annotations

import copyreg
import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeAlias

from ipython1.core.texts import message_of, short_repr, shorten, type_name
from ipython1.core.tracebacks import format_exception, user_line

MAX_PICKLE: Final = 1 << 20
"""An exception whose pickle has more bytes than this is sent as text only."""

_MAX_CHAIN: Final = 10
_MAX_PATH: Final = 50
_MAX_DESCRIPTION: Final = 1000
_MAX_ARGS: Final = 20
_SIMPLE_TYPES: Final = frozenset((str, int, float, bool, bytes, type(None)))


@dataclass(frozen=True, slots=True)
class ExceptionRecord:
    """An exception as plain data.

    :ivar ename: the name of its type.
    :ivar evalue: its message; at most :data:`ipython1.core.texts.MAX_MESSAGE` characters.
    :ivar traceback: plain text with the user's source lines; ends with type and message.
    :ivar pickled: the pickled exception for :func:`rebuild_exception`, or None if it cannot be pickled.
    :ivar args_repr: a short ``repr`` of each of its first twenty arguments.
    :ivar line: the user's line that raised it, like ``work.py, line 12: return 1 / x``; empty if there is none.
    """

    ename: str
    evalue: str
    traceback: str
    pickled: bytes | None = None
    args_repr: tuple[str, ...] = ()
    line: str = ""


def record_exception(exc: BaseException) -> ExceptionRecord:
    """Convert an exception to plain data.  Never raises, whatever the exception's own methods do."""
    if issubclass(type(exc), NameError):
        _say_why_missing(exc)
    ename = type_name(exc)
    evalue = message_of(exc)
    try:
        text = format_exception(exc, ename, evalue)
    except BaseException as problem:
        text = f"{ename}: {evalue}\n<its traceback could not be shown: {type_name(problem)}>"
    try:
        args_repr = tuple(short_repr(value) for value in _arguments(exc)[:_MAX_ARGS])
    except BaseException:
        args_repr = ()
    pickled = _pickled(exc)
    try:
        line = user_line(exc.__traceback__)
    except BaseException:
        line = ""
    return ExceptionRecord(ename, evalue, text, pickled, args_repr, line)


def _pickled(exc: BaseException) -> bytes | None:
    # What a signal handler of user code raises may come in the middle of the first attempt.
    pickled = None
    for _ in range(2):
        try:
            pickled = pickled or _pickle_chain(exc)
        except BaseException:
            continue
    return pickled


MISSING_KEY: Final = "__ipython1_missing__"
"""Under this name, globals of functions hold a dict of other names, and of why these are not defined."""


def _say_why_missing(exc: Any) -> None:
    """Complete the message of a name that did not come along with the function that uses it."""
    try:
        tb = exc.__traceback__
        while tb is not None and tb.tb_next is not None:
            tb = tb.tb_next
        reason = tb.tb_frame.f_globals.get(MISSING_KEY, {}).get(exc.name) if tb else None
        if reason is not None:
            exc.args = (f"name {exc.name!r} is not defined on the engine: {reason}",)
    except Exception:  # what is in these dicts is in the hands of user code
        pass


StandIn: TypeAlias = Callable[[str], Exception]
"""Makes an exception that replaces one that cannot be recreated, from ``"Type: message"``."""


def rebuild_exception(
    record: ExceptionRecord, stand_in: StandIn = RuntimeError
) -> BaseException | None:
    """Recreate the exception of a record, with the engine's traceback as its last note.

    This unpickles data, so the record must come from an engine that the user trusts.

    :param stand_in: replaces a member of an exception group that cannot be recreated here; the other members keep
        their types.
    :returns: the exception, or None if it cannot be recreated here, for example because its class cannot be
        imported; the caller decides what replaces it.
    """
    if record.pickled is None:
        return None
    try:
        exc = _rebuild_chain(pickle.loads(record.pickled), stand_in)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return None
    if exc is None:
        return None
    try:
        exc.add_note(record.traceback)
    except Exception:
        pass
    return exc


class _TooLarge(Exception):
    """The pickle of an exception exceeds :data:`MAX_PICKLE`."""


class _BoundedBuffer(io.BytesIO):
    def write(self, data: Any) -> int:
        size = data.nbytes if isinstance(data, memoryview) else len(data)
        if self.tell() + size > MAX_PICKLE:
            raise _TooLarge
        return super().write(data)


def _dumps(value: object, *, registered: bool = False) -> bytes:
    """Pickle a value.

    :param registered: whether to pickle exceptions as ``copyreg`` says.  By default their own ``__reduce__`` is used:
        a package such as tblib registers a function of its own for every exception class, which the client cannot
        import if that package is not installed there.
    """
    buffer = _BoundedBuffer()
    plain, as_registered = _picklers()
    (as_registered if registered else plain)(buffer, protocol=5).dump(value)
    return buffer.getvalue()


@cache
def _picklers() -> tuple[Any, Any]:
    import cloudpickle

    class PlainPickler(cloudpickle.Pickler):
        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, BaseException):
                return obj.__reduce_ex__(5)
            return super().reducer_override(obj)

    return PlainPickler, cloudpickle.Pickler


def _dumps_simple(exc: BaseException) -> bytes:
    """Pickle an exception of a built-in class with simple arguments; fast."""
    buffer = _BoundedBuffer()
    pickler = pickle.Pickler(buffer, protocol=5)
    pickler.dispatch_table = {}
    pickler.dump(exc)
    return buffer.getvalue()


def _loads(data: bytes) -> object:
    return _Unpickler(io.BytesIO(data)).load()


class _Unpickler(pickle.Unpickler):
    """Leaves classes that already exist in this process unchanged.

    cloudpickle pickles a class of ``__main__`` by value.  If the class was pickled in the same process, loading finds
    the existing class but overwrites all its attributes, with methods that use a copy of their globals.  Looking at
    an exception must not change the user's class.
    """

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._known: set[int] = set()

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        if module.partition(".")[0] != "cloudpickle":
            return found
        if name == "_class_setstate":
            return lambda cls, state: cls if id(cls) in self._known else found(cls, state)
        if name == "_make_skeleton_class":
            return lambda *args: self._skeleton(found, args, args[4])
        if name == "_make_skeleton_enum":
            return lambda *args: self._skeleton(found, args, args[5])
        return found

    def _skeleton(self, make: Any, args: tuple[Any, ...], tracker_id: object) -> Any:
        import cloudpickle.cloudpickle as internals

        tracked = getattr(internals, "_DYNAMIC_CLASS_TRACKER_BY_ID", {})
        known = tracker_id is not None and tracker_id in tracked
        cls = make(*args)
        if known:
            self._known.add(id(cls))
        return cls


def _arguments(exc: BaseException) -> tuple[Any, ...]:
    """Return ``exc.args`` without calling user code."""
    args: tuple[Any, ...] = BaseException.args.__get__(exc)  # type: ignore[attr-defined]
    return args


def _builtin_base(cls: type[BaseException]) -> type[BaseException]:
    for base in cls.__mro__:
        if base.__module__ == "builtins" and issubclass(base, BaseException):
            return base
    return BaseException


def _make_from_parts(
    cls: type[BaseException], args: tuple[object, ...], state: dict[str, object]
) -> BaseException:
    """Create an exception of ``cls`` without calling its ``__init__``, which may require other arguments.

    Its built-in base class is initialised, as it keeps data outside ``__dict__`` (``OSError.errno``).
    """
    base = _builtin_base(cls)
    exc = base.__new__(cls, *args)
    base.__init__(exc, *args)
    exc.__dict__.update(state)
    return exc


class _Parts:
    """Replaces an exception in a pickle; unpickling creates the exception."""

    def __init__(
        self, cls: type[BaseException], args: tuple[object, ...], state: dict[str, object]
    ) -> None:
        self.parts = (cls, args, state)

    def __reduce__(self) -> Any:
        return _make_from_parts, self.parts


def _same(exc: BaseException, other: object) -> bool:
    """Return whether a copy equals the original; if ``__init__`` rewrites its arguments, it has run twice."""
    if type(other) is not type(exc) or not isinstance(other, BaseException):
        return False
    args, others = _arguments(exc), _arguments(other)
    return len(args) == len(others) and all(
        type(one) is type(two) and (type(one) not in _SIMPLE_TYPES or one == two or one != one)
        for one, two in zip(args, others, strict=True)
    )


def _pickle_one(exc: BaseException) -> bytes | None:
    """Pickle an exception without its chain: by its own ``__reduce__`` if that works, else by its parts, else as
    ``copyreg`` says."""
    cls = type(exc)
    try:
        simple = cls.__module__ == "builtins" and not exc.__dict__
        if simple and all(type(value) in _SIMPLE_TYPES for value in _arguments(exc)):
            return _dumps_simple(exc)
        data = _try_pickle(exc, exc)
        if data is None:
            reduced: Any = _builtin_base(cls).__reduce__(exc)
            data = _try_pickle(exc, _Parts(cls, reduced[1], _state_of(reduced)))
        if data is None and cls in copyreg.dispatch_table:
            data = _try_pickle(exc, exc, registered=True)
        return data
    except BaseException:
        return None


def _try_pickle(exc: BaseException, value: object, *, registered: bool = False) -> bytes | None:
    """Pickle ``value``, and return the pickle if loading it gives a copy of ``exc``."""
    try:
        data = _dumps(value, registered=registered)
        return data if _same(exc, _loads(data)) else None
    except _TooLarge:
        raise
    except BaseException:
        return None


def _state_of(reduced: Any) -> dict[str, object]:
    return reduced[2] if len(reduced) > 2 and isinstance(reduced[2], dict) else {}


# A link is ``(pickle of the exception, its relation to the previous one, suppress_context, members)``.  Members are
# None, or for an exception group a tuple of ``("Type: message", links or None)``; its pickle is without them.
# Each exception is pickled by itself, so that an unpicklable one takes no other along.
_Links: TypeAlias = tuple[tuple[bytes, str, bool, Any], ...]


def _pickle_chain(exc: BaseException) -> bytes | None:
    links = _ChainPickler().links_of(exc, ())
    return pickle.dumps(links, protocol=5) if links else None


class _ChainPickler:
    """Pickles exceptions with their causes and members, to at most :data:`MAX_PICKLE` bytes together."""

    def __init__(self) -> None:
        self._left = MAX_PICKLE

    def links_of(self, exc: BaseException, path: tuple[int, ...]) -> _Links | None:
        """Return an exception and its causes as far as they can be pickled; None if it cannot be itself.

        :param path: the ids of the exceptions that lead to it, which are not followed again.
        """
        links: list[tuple[bytes, str, bool, Any]] = []
        current: BaseException | None = exc
        relation = ""
        while current is not None and id(current) not in path and len(links) < _MAX_CHAIN:
            path = (*path, id(current))
            members: Any = None
            if isinstance(current, BaseExceptionGroup) and len(path) < _MAX_PATH:
                blob = self._take(_pickle_group(current))
                if blob is not None:
                    members = self._members_of(current, path)
            else:
                blob = self._take(_pickle_one(current))
            if blob is None:
                break
            links.append((blob, relation, current.__suppress_context__, members))
            if current.__cause__ is not None:
                current, relation = current.__cause__, "cause"
            elif not current.__suppress_context__:
                current, relation = current.__context__, "context"
            else:
                current = None
        return tuple(links) or None

    def _members_of(
        self, group: BaseExceptionGroup[Any], path: tuple[int, ...]
    ) -> tuple[tuple[str, _Links | None], ...]:
        found: list[tuple[str, _Links | None]] = []
        members = _members(group)
        for number, each in enumerate(members):
            described = _described(each)
            if len(described) > self._left:
                found.append(
                    (f"{len(members) - number} more exceptions, which are too large", None)
                )
                break
            self._left -= len(described)
            found.append((described, self.links_of(each, path)))
        return tuple(found)

    def _take(self, blob: bytes | None) -> bytes | None:
        if blob is None or len(blob) > self._left:
            return None
        self._left -= len(blob)
        return blob


def _described(exc: BaseException) -> str:
    message = message_of(exc)
    return shorten(f"{type_name(exc)}: {message}" if message else type_name(exc), _MAX_DESCRIPTION)


def _members(group: BaseExceptionGroup[Any]) -> tuple[BaseException, ...]:
    """Return ``group.exceptions`` without calling user code."""
    members: tuple[BaseException, ...] = BaseExceptionGroup.exceptions.__get__(group)
    return members


def _pickle_group(group: BaseExceptionGroup[Any]) -> bytes:
    """Pickle an exception group without its members; what cannot be pickled or loaded is left out.

    :returns: a pickle of ``(name of its class, pickle of its class, message, pickle of its state)``.
    """
    message = BaseExceptionGroup.message.__get__(group)
    message = message if type(message) is str else str(message)
    reduced: Any = BaseException.__reduce__(group)
    return pickle.dumps(
        (
            type_name(group),
            _loadable(type(group)),
            message[: MAX_PICKLE // 4],
            _loadable(_state_of(reduced)),
        ),
        protocol=5,
    )


def _loadable(value: object) -> bytes | None:
    try:
        data = _dumps(value)
        _loads(data)
    except BaseException:
        return None
    return data


def _rebuild_chain(links: _Links, stand_in: StandIn) -> BaseException | None:
    """Recreate an exception and its causes as far as possible; None if it cannot be recreated itself."""
    first: BaseException | None = None
    current: BaseException | None = None
    for blob, relation, suppress, members in links:
        try:
            earlier = _loads(blob) if members is None else _rebuild_group(blob, members, stand_in)
        except KeyboardInterrupt:
            raise
        except BaseException:
            break
        if not isinstance(earlier, BaseException):
            break
        if first is None:
            first = earlier
        try:
            if current is not None and relation == "cause":
                current.__cause__ = earlier
            elif current is not None:
                current.__context__ = earlier
            earlier.__suppress_context__ = suppress
        except Exception:  # a class may forbid it
            break
        current = earlier
    return first


def _rebuild_group(blob: bytes, members: Any, stand_in: StandIn) -> BaseException:
    """Recreate an exception group; if its class is not available, as an ``ExceptionGroup`` named after it."""
    name, cls_data, message, state_data = pickle.loads(blob)
    exceptions: list[BaseException] = []
    for described, links in members:
        member = None if links is None else _rebuild_chain(links, stand_in)
        exceptions.append(stand_in(described) if member is None else member)
    cls = _load_or_none(cls_data)
    group: BaseException
    if isinstance(cls, type) and issubclass(cls, BaseExceptionGroup):
        group = _make_from_parts(cls, (message, exceptions), {})
    else:
        group = BaseExceptionGroup(f"{name}: {message}", exceptions)
    state = _load_or_none(state_data)
    if isinstance(state, dict):
        group.__dict__.update(state)
    return group


def _load_or_none(data: bytes | None) -> Any:
    if data is None:
        return None
    try:
        return _loads(data)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return None
