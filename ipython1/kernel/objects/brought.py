"""What comes along with a function: the variables that it refers to, by value."""

from __future__ import annotations

import pickle
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ipython1.core.interrupt import raised_by_handler

ATOMS: Final = frozenset({int, float, complex, bool, str, bytes, type(None)})
"""Types whose objects hold no others, and that any pickler handles alike."""

_UNCHANGING: Final = {
    "datetime": frozenset({"date", "datetime", "time", "timedelta", "timezone"}),
    "decimal": frozenset({"Decimal"}),
    "fractions": frozenset({"Fraction"}),
    "pathlib": frozenset({"PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath"}),
    "re": frozenset({"Match", "Pattern"}),
    "uuid": frozenset({"UUID"}),
    "zoneinfo": frozenset({"ZoneInfo"}),
}
"""Modules, and those of their classes whose objects never change."""

_CODE: Final = (types.ModuleType, types.FunctionType, types.BuiltinFunctionType, type)

_COUNT_TO: Final = 64
"""Counting stops at this multiple of the allowed size; the error then says "more than"."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Travels in place of a variable that cannot come along.

    :ivar reason: what a ``NameError`` says about it.
    """

    reason: str


def is_constant(value: object) -> bool:
    """Whether ``value`` never changes, and refers only to what never changes."""
    kind = type(value)
    if kind in ATOMS or kind is range or kind is types.EllipsisType:
        return True
    if kind in (tuple, frozenset):
        return all(is_constant(item) for item in value)  # type: ignore[attr-defined]
    module = kind.__module__
    names = _UNCHANGING.get(module.partition(".")[0])
    if names is not None:
        # A class of the user's own may have such a base and name, but is not in such a module.
        return kind.__name__ in names and getattr(sys.modules[module], kind.__name__) is kind
    # One of numpy's numbers, or a data type.
    return module == "numpy" and hasattr(value, "item") and not hasattr(value, "__setitem__")


class _Pickler(Protocol):
    def dump(self, value: object, /) -> None: ...


class _MakesPickler(Protocol):
    def __call__(
        self, file: Any, keep: Callable[[pickle.PickleBuffer], bool], baggage: Baggage, /
    ) -> _Pickler: ...


class _TooLarge(Exception):
    pass


class _Count:
    """Counts the bytes of a pickle, and keeps none.

    :param most: raises ``_TooLarge`` beyond that.
    """

    def __init__(self, most: int) -> None:
        self.size = 0
        self._most = most

    def _add(self, number: int) -> None:
        self.size += number
        if self.size > self._most:
            raise _TooLarge

    def write(self, data: Any) -> int:
        number = data.nbytes if isinstance(data, memoryview) else len(data)
        self._add(number)
        return int(number)

    def buffer(self, buffer: pickle.PickleBuffer) -> bool:
        self._add(buffer.raw().nbytes)
        return False


class Baggage:
    """Decides what may come along; one object for all that is pickled together.

    :param pickler: makes a pickler, given a file, what to call with each buffer, and this object.
    :param most: the allowed size of one variable, called when it is needed; bytes, pickled.
    """

    def __init__(
        self,
        pickler: _MakesPickler,
        most: Callable[[], int],
    ) -> None:
        self._pickler = pickler
        self._most = most
        self._known: dict[int, tuple[object, str]] = {}

    def check(self, name: str, value: Any) -> Any:
        """Return ``value`` if it may come along, else what travels in its place."""
        if isinstance(value, _CODE):
            return value
        if type(value) in ATOMS and (type(value) not in (str, bytes) or len(value) < 1000):
            return value
        known = self._known.get(id(value))
        if known is None:
            # While it is examined, it is not examined again: it may refer to itself.
            self._known[id(value)] = (value, "")
            known = self._known[id(value)] = (value, self._examine(name, value))
        return Missing(known[1]) if known[1] else value

    def _examine(self, name: str, value: Any) -> str:
        """Return why ``value`` cannot come along, empty if it can."""
        most = self._most()
        count = _Count(most * _COUNT_TO)
        kind = type(value)
        size = getattr(value, "nbytes", None) if kind.__module__ == "numpy" else None
        if not isinstance(size, int) or size <= most:
            try:
                self._pickler(count, count.buffer, self).dump(value)
            except _TooLarge:
                pass
            except KeyboardInterrupt:
                raise
            except BaseException as problem:
                if raised_by_handler(problem):
                    raise
                return f"it is {_kind(value)}, which cannot be sent: {type(problem).__name__}: {problem}"
            size = count.size
        if size <= most:
            return ""
        more = "more than " if size > most * _COUNT_TO else ""
        return (
            f"it is {_kind(value)} of {more}{size_text(size)}, and a function brings along at most "
            f"{size_text(most)} of a variable; send it once with mec.push({{{name!r}: {name}}}), or raise bring_size "
            "in ipython1.kernel.ini"
        )


def _kind(value: object) -> str:
    kind = type(value)
    name = (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def size_text(size: float) -> str:
    """A number of bytes as people read it."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "bytes" or size == int(size) else f"{size:.1f} {unit}"
