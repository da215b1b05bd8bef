"""Checks of numbers, names and flags given by users, in a module that imports nothing else of this package.

To Python, ``True`` is an ``int``, but users who pass it as a number have made a mistake.
"""

from __future__ import annotations

from math import inf
from numbers import Real
from typing import TypeGuard


def is_int(value: object) -> TypeGuard[int]:
    """Return whether ``value`` is an int and not a bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Return whether ``value`` is a real number of any type and not a bool."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_bool(name: str, value: object) -> bool:
    """Check that ``value`` is True or False, or a number or a numpy bool that stands for one of them.

    :param name: the name of the value, for messages.
    :raises TypeError: if it is anything else.
    """
    if isinstance(value, int) or type(value).__name__ in ("bool", "bool_"):
        return bool(value)
    raise TypeError(f"{name} must be True or False, not {value!r}")


def check_int(name: str, value: object, least: int | None = None, most: int | None = None) -> int:
    """Check that ``value`` is an int within limits.

    :param name: the name of the value, for messages.
    :param least: the minimum; None for none.
    :param most: the maximum; None for none.
    :returns: ``value``.
    :raises TypeError: if it is not an int.
    :raises ValueError: if it is outside the limits.
    """
    if not is_int(value):
        raise TypeError(f"{name} must be an int, not {value!r}")
    if (least is not None and value < least) or (most is not None and value > most):
        if most is None:
            allowed = f"{least} or more"
        elif least is None:
            allowed = f"{most} or less"
        else:
            allowed = f"from {least} to {most}"
        raise ValueError(f"{name} must be {allowed}, not {value}")
    return value


def check_seconds(
    name: str, value: object, *, above_zero: bool = False, most: float | None = None
) -> float:
    """Check a duration: a finite number of seconds that is not negative.

    :param name: the name of the value, for messages.
    :param above_zero: whether it must not be 0 either.
    :param most: the maximum; None for none.
    :returns: it in seconds.
    :raises TypeError: if it is not a number.
    :raises ValueError: if it is outside the limits.
    """
    if most is not None:
        allowed = f"from 0 to {most:g}"
    else:
        allowed = "above 0" if above_zero else "of 0 or more"
    problem = f"{name} must be a number of seconds {allowed}, not {value!r}"
    if not is_number(value):
        raise TypeError(problem)
    seconds = float(value)
    if not 0 <= seconds < inf or (above_zero and seconds == 0) or (most or inf) < seconds:
        raise ValueError(problem)
    return seconds


def check_timeout(name: str, value: object) -> float | None:
    """Check a time-out, which may be over already.

    :param name: the name of the value, for messages.
    :returns: it in seconds; None for no limit.
    :raises TypeError: if it is neither None nor a number.
    :raises ValueError: if it is not a number of seconds, but ``nan``.
    """
    if value is None:
        return None
    if not is_number(value):
        raise TypeError(f"{name} must be a number of seconds or None, not {value!r}")
    if value != value:
        raise ValueError(f"{name} must be a number of seconds or None, not {value!r}")
    return float(value)


_UNSETTABLE = frozenset(("__builtins__", "__dict__"))


def check_settable(name: str) -> str:
    """Check that a name can be set on an engine: without some of Python's own names, no code runs.

    :returns: ``name``.
    :raises ValueError: if it cannot be set.
    """
    if name in _UNSETTABLE:
        raise ValueError(
            f"{name!r} cannot be set: Python itself uses it, and the engine could run no more code"
        )
    return name
