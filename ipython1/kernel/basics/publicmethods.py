"""How methods that users call report errors: misspelt keyword arguments by the right ones, and without our frames."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import Any, Final, TypeVar

from ipython1.core.texts import did_you_mean
from ipython1.kernel.basics.error import KernelError, WaitInterrupted
from ipython1.kernel.basics.errordisplay import cut_at_method
from ipython1.kernel.basics.othernames import LIKE

C = TypeVar("C", bound=type)
F = TypeVar("F", bound=Callable[..., Any])

_KEYWORDS: Final = {
    "chunksize": "chunks is the number of pieces for each engine; executor().map() takes a chunksize",
    "ordered": "iterate over the pending result in order, or over its as_completed()",
    "return_when": "wait() of a pending result takes return_when",
    "silent": "execute shows nothing by itself; its result has all output",
    "track": "arrays are sent before a call that waits returns, and copied by one that does not",
    "copy": "arrays are sent before a call that waits returns, and copied by one that does not",
    "workers": "targets names engines",
    "engines": "targets names engines",
    "max_outstanding": "it takes outstanding",
    "buffersize": "it takes outstanding",
}
"""Keyword arguments of other packages, and what there is instead."""

_MAPS: Final = ("map", "imap")

_TASK_OPTIONS: Final = (
    *("clear_before", "clear_after", "retries", "recovery_task", "depend", "timeout", "priority"),
    *("after", "follow", "targets"),
)
"""What maps with tasks take by ``with_options``."""


def reports_errors(cls: C) -> C:
    """Have the public methods of a class report errors as users need them; a class decorator.

    The traceback of an error of this package, or of an engine's exception, ends where the user calls the method.
    """
    for name, function in list(vars(cls).items()):
        if isinstance(function, FunctionType) and not name.startswith("_"):
            setattr(cls, name, reporting(function))
    return cls


def reporting(function: F) -> F:
    """Do that for one method; a decorator."""
    code: Any = function.__code__
    if code.co_flags & inspect.CO_GENERATOR:
        return function
    known = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
    takes_any = bool(code.co_flags & inspect.CO_VARKEYWORDS)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        try:
            return function(*args, **kwargs)
        except (KernelError, WaitInterrupted) as problem:
            cut_at_method(problem)
            raise
        except Exception as problem:
            unknown = None if takes_any else next(_unknown(kwargs, known), None)
            if unknown is None or not isinstance(problem, TypeError):
                if is_of_engine(problem):
                    cut_at_method(problem)
                raise
        raise TypeError(_about_keyword(function.__name__, unknown, known)) from None

    return call  # type: ignore[return-value]


def is_of_engine(problem: BaseException) -> bool:
    """Return whether an exception was raised on an engine."""
    return "_ipython_engine_info" in getattr(problem, "__dict__", ())


def _unknown(given: Mapping[str, Any], known: tuple[str, ...]) -> Iterator[str]:
    return (name for name in given if name not in known)


def _about_keyword(function: str, name: str, known: tuple[str, ...]) -> str:
    text = f"{function}() got an unexpected keyword argument {name!r}"
    hint = did_you_mean(name.lower(), known, LIKE)
    if name in _TASK_OPTIONS and function in _MAPS:
        hint = f"; it is an option of tasks: use tc.with_options({name}=...).{function}(...)"
    if not hint and name in _KEYWORDS:
        hint = f"; {_KEYWORDS[name]}"
    return text + (hint or f"; it takes {', '.join(known)}")
