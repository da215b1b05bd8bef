"""Functions and methods that were decorated with :mod:`functools`, by value.

pickle knows them by name only.  Each is made anew where it arrives, around the function that it decorates.  That
function may refer to the decorated one, so it arrives as the decorated one does: first without its state, then with it.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from cloudpickle import cloudpickle as _cp

from ipython1.kernel.objects.classes import name_of

Cached: Final = type(functools.lru_cache(lambda: None))
"""The type of what ``functools.lru_cache`` and ``functools.cache`` make."""

Skeleton: TypeAlias = Callable[[types.FunctionType], "tuple[Any, Any] | None"]
"""Gives what makes a function, and its state; None if it goes by name."""

_DISPATCHER: Final = functools.singledispatch(lambda value: value).__code__  # type: ignore[attr-defined]
_OF_WRAPPERS: Final = frozenset(
    {"__wrapped__", "cache_parameters", "register", "dispatch", "registry", "_clear_cache"}
)


def _extras(value: Any) -> dict[str, Any]:
    """Attributes that users have set."""
    return {
        name: each
        for name, each in vars(value).items()
        if name not in _OF_WRAPPERS and name not in functools.WRAPPER_ASSIGNMENTS
    }


# -- lru_cache and cache


def reduce_cached(value: Any, skeleton: Skeleton) -> Any:
    """How a cached function is pickled: without what it has cached."""
    if name_of(value) is not None:
        return NotImplemented
    options = value.cache_parameters()
    limits = (options["maxsize"], options["typed"])
    function = value.__wrapped__
    parts = skeleton(function) if isinstance(function, types.FunctionType) else None
    if parts is None:
        return _make_cached_call, (*limits, function), _extras(value), None, None, _set_extras
    arguments, state = parts
    whole = (state, _extras(value))
    return _make_cached, (*limits, *arguments), whole, None, None, _set_cached


def _make_cached_call(maxsize: int | None, typed: bool, function: Any) -> Any:
    return functools.lru_cache(maxsize, typed)(function)


def _make_cached(maxsize: int | None, typed: bool, *arguments: Any) -> Any:
    return _make_cached_call(maxsize, typed, _cp._make_function(*arguments))


def _set_extras(value: Any, extras: Mapping[str, Any]) -> None:
    vars(value).update(extras)


def _set_cached(value: Any, state: Any) -> None:
    _finish(value, state, _cp._function_setstate)


def _finish(value: Any, state: Any, set_state: Callable[[Any, Any], None]) -> None:
    own, extras = state
    set_state(value.__wrapped__, own)
    functools.update_wrapper(value, value.__wrapped__)
    vars(value).update(extras)


# -- singledispatch


def is_singledispatch(function: types.FunctionType) -> bool:
    """Whether ``functools.singledispatch`` made it."""
    return function.__code__ is _DISPATCHER


def reduce_singledispatch(function: Any, skeleton: Skeleton) -> Any:
    """How a function with several implementations is pickled."""
    registry = dict(function.registry)
    base = registry.pop(object)
    parts = skeleton(base) if isinstance(base, types.FunctionType) else None
    if parts is None or name_of(function) is not None:
        return NotImplemented
    arguments, state = parts
    whole = (state, _extras(function), list(registry.items()))
    return _make_dispatched, arguments, whole, None, None, _set_dispatched


def _make_dispatched(*arguments: Any) -> Any:
    return functools.singledispatch(_cp._make_function(*arguments))


def _set_dispatched(function: Any, state: Any) -> None:
    _finish_dispatched(function, state, _cp._function_setstate)


def _finish_dispatched(function: Any, state: Any, set_state: Callable[[Any, Any], None]) -> None:
    own, extras, registered = state
    _finish(function, (own, extras), set_state)
    for kind, implementation in registered:
        function.register(kind, implementation)


def _reduce_dispatching_method(value: Any) -> Any:
    return _make_dispatching_method, (value.func, value.dispatcher)


def _make_dispatching_method(function: Any, dispatcher: Any) -> Any:
    made = functools.singledispatchmethod(function)
    made.dispatcher = dispatcher
    return made


# -- cached_property


def _reduce_cached_property(value: Any) -> Any:
    return _make_cached_property, (value.func, value.attrname)


def _make_cached_property(function: Any, name: str | None) -> Any:
    made = functools.cached_property(function)
    made.attrname = name
    return made


REDUCERS: Final[Mapping[type, Callable[[Any], Any]]] = {
    functools.cached_property: _reduce_cached_property,
    functools.singledispatchmethod: _reduce_dispatching_method,
}
"""By type, for ``dispatch_table``."""

MAKERS: Final[Mapping[str, Callable[[Callable[..., Any], Callable[[Any, Any], None]], Any]]] = {
    "_make_cached": lambda make, set_state: (
        lambda maxsize, typed, *arguments: _make_cached_call(maxsize, typed, make(*arguments))
    ),
    "_set_cached": lambda make, set_state: lambda value, state: _finish(value, state, set_state),
    "_make_dispatched": lambda make, set_state: (
        lambda *arguments: functools.singledispatch(make(*arguments))
    ),
    "_set_dispatched": lambda make, set_state: (
        lambda value, state: _finish_dispatched(value, state, set_state)
    ),
}
"""For those that unpickle in their own way: what to call instead of a function of this module, given how functions are
made and how they get their state."""
