"""Checks of numbers that users give, in a module that imports nothing of this package.

``True`` is an ``int`` to Python, but nobody means it when a number is asked for.
"""

from __future__ import annotations

from numbers import Real
from typing import TypeGuard


def is_int(value: object) -> TypeGuard[int]:
    """Whether it is an int, and not a bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a real number of any type, and not a bool."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_int(name: str, value: object, least: int | None = None, most: int | None = None) -> int:
    """An int within limits.

    :param name: what it is, for the message.
    :param least: the least that it may be; None for any.
    :param most: the most that it may be; None for any.
    :returns: ``value``.
    :raises TypeError: when it is no int.
    :raises ValueError: when it is outside of the limits.
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
