"""What travels by value, and classes that do where cloudpickle does not do all that is needed."""

from __future__ import annotations

import enum
import types
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from cloudpickle import cloudpickle as _cp

_OF_SLOTS: Final = (types.GetSetDescriptorType, types.MemberDescriptorType)
_METHODS: Final = (types.FunctionType, classmethod, staticmethod, property)


def name_of(value: object) -> tuple[str, str] | None:
    """Return module and name if a function, class or the like goes by name; None if it goes by value."""
    found = _cp._lookup_module_and_qualname(value)
    if found is None or _cp._is_registered_pickle_by_value(found[0]):
        return None
    return found[0].__name__, found[1]


def with_slots(cls: type, reduced: Any) -> Any:
    """How a class is pickled, so that it is made with its slots; its objects have no ``__dict__`` elsewhere, either."""
    if not isinstance(reduced, tuple) or reduced[0] is not _cp._make_skeleton_class:
        return reduced
    if issubclass(cls, tuple):
        return reduced  # what makes named tuples does this itself
    slots = vars(cls)["__slots__"]
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    constructor, name, bases, attributes, *rest = reduced[1]
    arguments = (constructor, name, bases, {**attributes, "__slots__": names}, *rest)
    return (reduced[0], arguments, *reduced[2:])


def renew_bases(cls: type, bases: tuple[Any, ...]) -> None:
    """Give a class the bases that it has now, where it comes from; not those that only stand for others."""
    if cls.__bases__ != bases and all(isinstance(base, type) for base in bases):
        with suppress(TypeError):  # the layout of its objects would change
            cls.__bases__ = bases


def forget_attributes(cls: type, kept: Mapping[str, Any]) -> None:
    """Delete what a class has no more, where it comes from."""
    if issubclass(cls, enum.Enum):
        return
    for name, value in list(vars(cls).items()):
        special = name.startswith("__") and name.endswith("__")
        if name in kept or name == "_abc_impl" or isinstance(value, _OF_SLOTS):
            continue
        if not special or isinstance(value, _METHODS):
            delattr(cls, name)
