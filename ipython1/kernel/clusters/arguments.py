"""Checks of what callers give to clusters."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from ipython1.checks import is_int, is_number
from ipython1.kernel.clusters.launch import command_options


def check_number(value: Any, what: str, least: int = 1) -> int:
    """A whole number.

    :param what: the name of the argument, for the message.
    :raises ValueError: when it is something else, or less than ``least``.
    """
    if not is_int(value) or value < least:
        raise ValueError(f"{what} must be at least {least}, not {value!r}")
    return value


def check_timeout(value: Any) -> None:
    """Check a number of seconds, or None for no limit.

    :raises ValueError: when it is something else, or below zero.
    """
    if value is not None and not (is_number(value) and value >= 0):
        raise ValueError(f"timeout must be a number of seconds or None, not {value!r}")


def addition(n: int | None, kind: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """What a cluster is to be told to start more engines.

    :raises ValueError: when ``n`` is not a whole number of 1 or more.
    :raises TypeError: when there is no option of that name.
    """
    if n is not None:
        check_number(n, "n")
    words = ["engines", *([kind] if kind else []), *command_options(options)]
    return {"count": n, "words": words, "directory": os.getcwd()}


def engine_id(value: Any) -> int:
    """The id of one engine.

    :raises TypeError: when it is something else.
    """
    if not is_int(value):
        raise TypeError(f"expected an engine id, not {value!r}")
    return value


def id_list(ids: Any) -> list[int]:
    """One id, or several, as a list.

    :raises TypeError: when it is something else.
    """
    chosen = [ids] if isinstance(ids, int) else list(ids) if isinstance(ids, Iterable) else None
    wrong = chosen is None or isinstance(ids, (str, bytes))
    if wrong or not all(is_int(each) for each in chosen or ()):
        raise TypeError(f"expected one or more engine ids, not {ids!r}")
    assert chosen is not None
    return chosen
