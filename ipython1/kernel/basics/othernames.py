"""Names that are nearly right: misspelt ones, and those that other packages use for the same thing.

An error about such a name says the right one.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from ipython1.core.texts import did_you_mean

C = TypeVar("C", bound=type)

_LIKE: Final = 0.7
"""How much a misspelt name must be like the right one, from 0 to 1."""

_KEYWORDS: Final = {
    "chunksize": "chunks is the number of pieces for each engine; executor().map() takes a chunksize",
    "ordered": "iterate over the pending result in order, or over its as_completed()",
    "return_when": "wait() of a pending result takes return_when",
    "silent": "execute shows nothing by itself; its result has all output",
    "track": "arrays are sent before a call that waits returns, and copied by one that does not",
    "copy": "arrays are sent before a call that waits returns, and copied by one that does not",
    "workers": "targets names engines",
    "engines": "targets names engines",
}
"""Keyword arguments of other packages, and what there is instead."""


class NamesHelp:
    """Base of classes whose errors about unknown attributes say the right name.

    :cvar _elsewhere: names that other packages have, and what to use instead; classes inherit them.
    """

    _elsewhere: ClassVar[Mapping[str, str]] = {}

    if not TYPE_CHECKING:  # or any name would be right

        def __getattr__(self, name: str) -> Any:
            raise unknown_attribute(type(self), name)


def unknown_attribute(cls: type, name: str) -> AttributeError:
    """Return the error for an attribute that instances of ``cls`` do not have."""
    text = f"{cls.__name__} has no attribute {name!r}"
    if not name.startswith("_"):
        text += _hint(cls, name)
    # With an object, Python would add a suggestion of its own.
    return AttributeError(text, name=name, obj=None)


def _hint(cls: type, name: str) -> str:
    for each in cls.__mro__:
        instead = vars(each).get("_elsewhere", {}).get(name)
        if instead is not None:
            return f": {instead}"
    return did_you_mean(name.lower(), [each for each in dir(cls) if each[0] != "_"], _LIKE)


def explains_keywords(cls: C) -> C:
    """Have errors about unknown keyword arguments of public methods say the right ones; a class decorator."""
    for name, function in list(vars(cls).items()):
        if isinstance(function, FunctionType) and not name.startswith("_"):
            setattr(cls, name, _explained(function))
    return cls


def _explained(function: FunctionType) -> Callable[..., Any]:
    code = function.__code__
    known = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
    if not known or code.co_flags & (inspect.CO_VARKEYWORDS | inspect.CO_GENERATOR):
        return function

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        try:
            return function(*args, **kwargs)
        except TypeError:
            unknown = next(_unknown(kwargs, known), None)
            if unknown is None:
                raise
        raise TypeError(_about_keyword(function.__name__, unknown, known)) from None

    return call


def _unknown(given: Mapping[str, Any], known: tuple[str, ...]) -> Iterator[str]:
    return (name for name in given if name not in known)


def _about_keyword(function: str, name: str, known: tuple[str, ...]) -> str:
    text = f"{function}() got an unexpected keyword argument {name!r}"
    hint = did_you_mean(name.lower(), known, _LIKE)
    if not hint and name in _KEYWORDS:
        hint = f"; {_KEYWORDS[name]}"
    return text + (hint or f"; it takes {', '.join(known)}")
