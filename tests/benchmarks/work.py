"""What contestants send around: functions that workers run, and objects.

Peers import this in environments that hold nothing of this project, so it needs only NumPy, and pandas for one object.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

HELD: dict[str, Any] = {}
"""A worker's objects, for systems whose workers have no names of their own."""


def nothing() -> None:
    """A task that does nothing."""


def sleep_some(duration: float) -> None:
    """A task of a known length, in seconds."""
    time.sleep(duration)


def keep(value: Any) -> None:
    """Take an object."""
    HELD["value"] = value


def give() -> Any:
    """Return the object that was kept."""
    return HELD["value"]


def make(kind: str, size: int) -> Any:
    """An object of about ``size`` bytes."""
    return KINDS[kind](size)


def _array(size: int) -> Any:
    import numpy

    return numpy.random.default_rng(0).random(max(size // 8, 1))


def _frame(size: int) -> Any:
    import pandas

    columns = 8
    array = _array(size)
    array = array[: len(array) // columns * columns].reshape(-1, columns)
    return pandas.DataFrame({f"c{n}": array[:, n] for n in range(columns)})


def _arrays(size: int) -> Any:
    return [_array(size // 16) for _ in range(16)]


def _bytes(size: int) -> Any:
    return _array(size).tobytes()


KINDS: dict[str, Callable[[int], Any]] = {
    "array": _array,
    "frame": _frame,
    "list": _arrays,
    "bytes": _bytes,
}


def same(one: Any, other: Any) -> bool:
    """Whether two objects of the same kind hold the same."""
    import numpy

    if isinstance(one, bytes):
        return bool(one == other)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return numpy.array_equal(numpy.asarray(one), numpy.asarray(other))
