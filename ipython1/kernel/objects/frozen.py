"""What a call was given, as it was at the time of the call, for calls that send it later.

Data that never changes is kept, simple lists and dicts are copied, arrays are copied, and any other object is pickled
at once, as a :class:`Frozen`.
"""

from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from ipython1.core.texts import short_repr
from ipython1.kernel.basics.error import SerializationError
from ipython1.kernel.objects.brought import ATOMS
from ipython1.kernel.objects.serialize import Pickler, dumps, loads
from ipython1.kernel.wire.bulk import copy_of

_UNCHANGING: Final = (range, str, bytes)


class Frozen:
    """An object that was pickled; where this is unpickled, the object is rebuilt instead.

    :param value: the object.
    :param classes: what was frozen for the same call; None if ``value`` is frozen alone.
    :raises SerializationError: if it cannot be pickled.
    """

    __slots__ = ("_buffers", "_classes", "_stream")

    def __init__(self, value: object, classes: _Classes | None = None) -> None:
        self._classes: list[Frozen] = []
        pickler = None if classes is None else partial(_Pickler, classes, self._classes)
        stream, *buffers = dumps(value, pickler=pickler).buffers
        self._stream = bytes(stream)
        # All but bytes in writable memory, so that arrays can be written to where they are rebuilt.
        self._buffers = [copy_of(buffer) for buffer in buffers]

    def __reduce__(self) -> Any:
        classes = tuple(self._classes)
        return thaw, (self._stream, classes, *map(pickle.PickleBuffer, self._buffers))

    def value(self) -> Any:
        """Rebuild the object here."""
        return thaw(self._stream, [each.value() for each in self._classes], *self._buffers)


_Classes = dict[int, "tuple[type, Frozen]"]
"""Classes that travel by value, by their ids."""


class _Pickler(Pickler):
    """Pickles no class by value, but a reference to it, as a class is much larger than an object.

    :param known: the classes of the call, which are pickled when they are first found.
    :param used: gets those that this object refers to.
    """

    def __init__(self, known: _Classes, used: list[Frozen], *args: Any) -> None:
        super().__init__(*args)
        self._known = known
        self._used = used

    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, type):
            return super().reducer_override(obj)
        found = self._known.get(id(obj))
        if found is None:
            reduced = super().reducer_override(obj)
            if not isinstance(reduced, tuple) or len(reduced) < 3:
                return reduced  # by its name
            found = self._known[id(obj)] = (obj, Frozen(obj))
        self._used.append(found[1])
        return _class, (len(self._used) - 1,)


_rebuilding = threading.local()


def _class(number: int) -> type:
    """Return a class to which the object that is rebuilt now refers."""
    found: type = _rebuilding.classes[number]
    return found


class Unsendable:
    """Takes the place of an object that could not be pickled; pickling it raises the same error again."""

    __slots__ = ("_problem", "_shown")

    def __init__(self, value: object, problem: SerializationError) -> None:
        self._shown = short_repr(value)
        self._problem = problem

    def __repr__(self) -> str:
        return self._shown

    def __reduce__(self) -> Any:
        raise self._problem


def thaw(
    stream: Any,
    classes: Sequence[type],
    *buffers: Any,
    rebuild: Callable[[Sequence[Any]], Any] = loads,
) -> Any:
    """Rebuild an object.

    :param classes: the classes to which it refers by number.
    :param rebuild: the unpickler of what contains the object gives its own.
    """
    before = getattr(_rebuilding, "classes", ())
    _rebuilding.classes = classes
    try:
        return rebuild((stream, *buffers))
    finally:
        _rebuilding.classes = before


def _never_changes(kind: type) -> bool:
    """Whether objects of this type are atoms, or numbers of numpy's."""
    numpy: Any = sys.modules.get("numpy")
    return kind in ATOMS or (
        numpy is not None and issubclass(kind, numpy.generic) and not issubclass(kind, numpy.void)
    )


class Freezer:
    """Freezes the sequences of one call; an object that is given several times is frozen once, and so stays one."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[object, object]] = {}
        self._classes: _Classes = {}

    def column(self, column: Any) -> Any:
        """Return a sequence whose items do not change with those of ``column``."""
        if isinstance(column, _UNCHANGING):
            return column
        if isinstance(column, bytearray):
            return bytes(column)
        if not isinstance(column, (list, tuple)):
            if not column.dtype.hasobject:
                return column.copy()
            column = [column[index] for index in range(len(column))]
        if ATOMS.issuperset(map(type, column)):
            return column if type(column) is tuple else list(column)
        return [item if type(item) in ATOMS else self._item(item) for item in column]

    def row(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the arguments of a call as they are now; the next row may be the same objects with other contents."""
        if ATOMS.issuperset(map(type, row)) or all(map(_never_changes, map(type, row))):
            return row
        self._known = {}
        return tuple(self.column(row))

    def _item(self, item: object) -> object:
        known = self._known.get(id(item))
        if known is None:
            known = self._known[id(item)] = (item, self._frozen(item))
        return known[1]

    def _frozen(self, item: Any) -> object:
        kind = type(item)
        if kind is tuple and ATOMS.issuperset(map(type, item)):
            return item
        if kind is list and ATOMS.issuperset(map(type, item)):
            return list(item)
        if (
            kind is dict
            and ATOMS.issuperset(map(type, item))
            and ATOMS.issuperset(map(type, item.values()))
        ):
            return dict(item)
        try:
            return Frozen(item, self._classes)
        except SerializationError as problem:
            return Unsendable(item, problem)
