"""Checks the numbers of engines that tests ask for."""

from __future__ import annotations


def check_engines(n: object, name: str) -> int:
    """Return a number of engines.

    :param name: what asked for it, for the message.
    :raises ValueError: if it is not a whole number of 1 or more.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"{name} must be a whole number of 1 or more, not {n!r}")
    return n
