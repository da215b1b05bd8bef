"""Exceptions of user code, converted to a form that can be sent.

:func:`record_exception` converts an exception to plain data on the engine, whatever its methods do;
:func:`rebuild_exception` recreates the exception, usually in another process.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from typing import Any, Final

from ipython1.core.texts import message_of, short_repr, type_name
from ipython1.core.tracebacks import format_exception, user_line

MAX_PICKLE: Final = 1 << 20
"""An exception whose pickle has more bytes than this is sent as text only."""

_MAX_CHAIN: Final = 10
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
    if isinstance(exc, NameError):
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
    try:
        pickled = _pickle_chain(exc)
    except BaseException:
        pickled = None
    try:
        line = user_line(exc.__traceback__)
    except BaseException:
        line = ""
    return ExceptionRecord(ename, evalue, text, pickled, args_repr, line)


MISSING_KEY: Final = "__ipython1_missing__"
"""Under this name, globals of functions hold a dict of other names, and of why these are not defined."""


def _say_why_missing(exc: NameError) -> None:
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


def rebuild_exception(record: ExceptionRecord) -> BaseException | None:
    """Recreate the exception of a record, with the engine's traceback as its last note.

    This unpickles data, so the record must come from an engine that the user trusts.

    :returns: the exception, or None if it cannot be recreated here, for example because its class cannot be
        imported; the caller decides what replaces it.
    """
    if record.pickled is None:
        return None
    try:
        links = pickle.loads(record.pickled)
        exc = _loads(links[0][0])
    except KeyboardInterrupt:
        raise
    except BaseException:
        return None
    if not isinstance(exc, BaseException):
        return None
    try:
        _restore_chain(exc, links)
    except Exception:
        pass
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


def _dumps(value: object) -> bytes:
    import cloudpickle

    buffer = _BoundedBuffer()
    cloudpickle.Pickler(buffer, protocol=5).dump(value)
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
    """Pickle an exception without its chain: by its own ``__reduce__`` if that works, else by its parts."""
    cls = type(exc)
    simple = cls.__module__ == "builtins" and not exc.__dict__
    if simple and all(type(value) in _SIMPLE_TYPES for value in _arguments(exc)):
        data = pickle.dumps(exc, protocol=5)
        return data if len(data) <= MAX_PICKLE else None
    try:
        plain = _dumps(exc)
        if _same(exc, _loads(plain)):
            return plain
    except _TooLarge:
        return None
    except BaseException:
        pass
    try:
        reduced: Any = _builtin_base(cls).__reduce__(exc)
        state = reduced[2] if len(reduced) > 2 and isinstance(reduced[2], dict) else {}
        parts = _dumps(_Parts(cls, reduced[1], state))
        if _same(exc, _loads(parts)):
            return parts
    except BaseException:
        pass
    return None


def _pickle_chain(exc: BaseException) -> bytes | None:
    """Pickle an exception and its causes, as ``(pickle of the exception, its relation to the previous one,
    suppress_context)`` for each.

    Each link is pickled separately, so that an unpicklable link loses only the ones after it.
    """
    links: list[tuple[bytes, str, bool]] = []
    current: BaseException | None = exc
    relation = ""
    size = 0
    while current is not None and len(links) < _MAX_CHAIN:
        blob = _pickle_one(current)
        if blob is None or size + len(blob) > MAX_PICKLE:
            break
        size += len(blob)
        links.append((blob, relation, current.__suppress_context__))
        if current.__cause__ is not None:
            current, relation = current.__cause__, "cause"
        elif not current.__suppress_context__:
            current, relation = current.__context__, "context"
        else:
            current = None
    return pickle.dumps(tuple(links), protocol=5) if links else None


def _restore_chain(exc: BaseException, links: tuple[tuple[bytes, str, bool], ...]) -> None:
    current = exc
    exc.__suppress_context__ = links[0][2]
    for blob, relation, suppress in links[1:]:
        earlier = _loads(blob)
        if not isinstance(earlier, BaseException):
            return
        if relation == "cause":
            current.__cause__ = earlier
        else:
            current.__context__ = earlier
        earlier.__suppress_context__ = suppress
        current = earlier
