"""Which data the standard pickle handles as well as cloudpickle, in less time."""

from __future__ import annotations

from typing import Any, Final

from ipython1.kernel.objects.brought import ATOMS
from ipython1.kernel.objects.cutstream import CUT_FROM

_LOOK_AT: Final = 64
_NUMBERS: Final = ATOMS - {str, bytes}
_LONG: Final = CUT_FROM // 4
"""Characters that may have ``CUT_FROM`` bytes."""


def is_small_atom(value: object) -> bool:
    """Whether ``value`` holds no others, and has no large contents."""
    kind = type(value)
    return kind in _NUMBERS or ((kind is str or kind is bytes) and len(value) < _LONG)  # type: ignore[arg-type]


def is_plain(value: object) -> bool:
    """True for data without large contents that the standard pickle handles just as well; looks at a bounded number of
    items."""
    budget = _LOOK_AT
    waiting = [value]
    while waiting:
        item = waiting.pop()
        budget -= 1
        if budget < 0:
            return False
        kind = type(item)
        if kind in _NUMBERS:
            continue
        if kind is str or kind is bytes:
            if len(item) >= _LONG:  # type: ignore[arg-type]
                return False
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
