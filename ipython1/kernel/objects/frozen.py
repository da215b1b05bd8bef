"""What a call was given, as it was at the time of the call, for calls that send it later.

Data that never changes is kept, simple lists and dicts are copied, arrays are copied, and any other object is pickled
at once, as a :class:`Frozen`.
"""

from __future__ import annotations

import pickle
from collections.abc import MutableMapping
from typing import Any, Final

from ipython1.core.texts import short_repr
from ipython1.kernel.basics.error import SerializationError
from ipython1.kernel.objects.serialize import ATOMS, dumps, loads

_UNCHANGING: Final = (range, str, bytes)


class Frozen:
    """An object that was pickled; where this is unpickled, the object is rebuilt instead.

    :param value: the object.
    :raises SerializationError: if it cannot be pickled.
    """

    __slots__ = ("_buffers", "_stream")

    def __init__(self, value: object) -> None:
        stream, *buffers = dumps(value).buffers
        self._stream = bytes(stream)
        # Writable, so that arrays can be written to where they are rebuilt.
        self._buffers = [bytearray(buffer) for buffer in buffers]

    def __reduce__(self) -> Any:
        return thaw, (self._stream, *map(pickle.PickleBuffer, self._buffers))

    def value(self) -> Any:
        """Rebuild the object here."""
        return thaw(self._stream, *self._buffers)


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


def thaw(stream: Any, *buffers: Any, namespace: MutableMapping[str, Any] | None = None) -> Any:
    """Rebuild an object.

    :param namespace: where functions of ``__main__`` run; the unpickler of what contains the object gives its own.
    """
    return loads((stream, *buffers), namespace)


class Freezer:
    """Freezes the sequences of one call; an object that is given several times is frozen once, and so stays one."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[object, object]] = {}

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

    def _item(self, item: object) -> object:
        known = self._known.get(id(item))
        if known is None:
            known = self._known[id(item)] = (item, _frozen(item))
        return known[1]


def _frozen(item: Any) -> object:
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
        return Frozen(item)
    except SerializationError as problem:
        return Unsendable(item, problem)
