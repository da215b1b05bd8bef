"""Checks of what executors and their calls are given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ipython1.checks import check_int
from ipython1.kernel.basics.error import SerializationError
from ipython1.kernel.calls.connect import Connection
from ipython1.kernel.objects.executorcalls import Preparation
from ipython1.kernel.objects.serialize import dumps


def check_kinds(client: str, connection: object, *others: tuple[object, type]) -> None:
    """Check what a client passes to its executor.

    :raises TypeError: if something else was passed.
    """
    for value, kind in ((connection, Connection), *others):
        if not isinstance(value, kind):
            raise TypeError(
                f"{value!r} is not a {kind.__name__}; use the method executor() of a {client}, "
                "which creates executors"
            )


def check_sequence(name: str, value: Any) -> Sequence[Any]:
    """Check a sequence.

    :raises TypeError: if it is not a list, a tuple or a range.
    """
    if not isinstance(value, (list, tuple, range)):
        raise TypeError(f"{name} must be a list or a tuple, not {value!r}")
    return value


def make_preparation(
    initializer: Callable[..., Any] | None, initargs: Sequence[Any]
) -> Preparation | None:
    """Check an initializer and its arguments, and return what engines are to do.

    :param initializer: a function, or a preparation, which several executors can share: it runs once for all of them.
    :raises TypeError: if they are invalid.
    """
    if isinstance(initializer, Preparation):
        return initializer
    if initializer is not None and not callable(initializer):
        raise TypeError(f"initializer must be callable, not {initializer!r}")
    check_sequence("initargs", initargs)
    return None if initializer is None else Preparation(initializer, initargs)


def part_of(
    problem: SerializationError, fn: object, args: Iterable[object], kwargs: Mapping[str, object]
) -> SerializationError:
    """Return the error of the first part of a call that cannot be pickled, or ``problem`` if each part can."""
    for part in (fn, *args, *kwargs.values()):
        try:
            dumps(part)
        except SerializationError as found:
            return found
    return problem


def check_max_workers(max_workers: object) -> None:
    """Check a maximum number of workers.

    :raises TypeError, ValueError: if it is neither None nor an int of at least 1.
    """
    if max_workers is None:
        return
    if check_int("max_workers", max_workers) <= 0:
        raise ValueError("max_workers must be greater than 0")
