"""Checks of what tasks are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any


def check_expression(expression: object) -> None:
    """Check the code of a :class:`StringTask`.

    :raises TypeError: if it is not a str.
    """
    if not isinstance(expression, str):
        hint = "; use MapTask for a function" if callable(expression) else ""
        raise TypeError(f"expression must be code (a str), not {expression!r:.100}{hint}")


def check_push(push: Any) -> Mapping[str, Any]:
    """Return the names and objects to push.

    :raises TypeError: if they are not a dict, or what a dict can be made of.
    """
    if isinstance(push, Mapping):
        return push
    try:
        return dict(push)
    except (TypeError, ValueError):
        raise TypeError(
            f"push must be a dict of names and objects, not {type(push).__name__}"
        ) from None


def check_function(function: object) -> None:
    """Check the function of a :class:`MapTask`.

    :raises TypeError: if it cannot be called.
    """
    if not callable(function):
        hint = "; use StringTask for code" if isinstance(function, str) else ""
        raise TypeError(f"function must be a function, not {function!r:.100}{hint}")


def check_args(args: object) -> None:
    """Check the positional arguments of a :class:`MapTask`.

    :raises TypeError: if they are not iterable, have no order, or are a string, whose characters are hardly meant.
    """
    unfit = (str, bytes, bytearray, Set, Mapping)
    if not isinstance(args, Iterable) or isinstance(args, unfit):
        raise TypeError(
            f"args must be a sequence of arguments, not {args!r:.100}; write ({args!r:.100},) for one argument"
        )


def check_kwargs(kwargs: object) -> None:
    """Check the keyword arguments of a :class:`MapTask`.

    :raises TypeError: if they are not a mapping.
    """
    if not isinstance(kwargs, Mapping):
        raise TypeError(f"kwargs must be a dict of keyword arguments, not {kwargs!r:.100}")


def pull_names(pull: object) -> list[str]:
    """The names to pull.

    :raises TypeError, ValueError: when they are not names.
    """
    if pull is None:
        return []
    if isinstance(pull, str):
        pull = [pull]
    if not isinstance(pull, (list, tuple, set, frozenset)):
        raise TypeError(f"pull must be a name or a list of names, not {pull!r}")
    for name in pull:
        if not isinstance(name, str):
            raise TypeError(f"a name to pull must be a str, not {name!r}")
        if not name.isidentifier():
            raise ValueError(f"{name!r} cannot be the name of a variable to pull")
    return list(pull)
