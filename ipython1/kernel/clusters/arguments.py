"""Checks of what callers give to clusters."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ipython1.checks import check_int, check_seconds, is_int
from ipython1.kernel.clusters.launch import command_options

FINISH: Final = 10.0
"""Seconds by default that engines have to finish what they run, before they are ended."""


def check_limit(timeout: object) -> None:
    """Check how long is waited: seconds, or None for no limit.

    :raises TypeError, ValueError: when it is something else, or below zero.
    """
    if timeout is not None and timeout != math.inf:
        check_seconds("timeout", timeout)


def addition(n: int | None, kind: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """What a cluster is to be told to start more engines.

    :raises ValueError: when ``n`` is less than 1.
    :raises TypeError: when ``n`` is not a whole number, or when there is no option of that name.
    """
    if n is not None:
        check_int("n", n, 1)
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
