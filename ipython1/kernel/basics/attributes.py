"""Attributes that users set: each is checked when it is set, and misspelt names are refused."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, Generic, Self, TypeVar, overload

from ipython1.checks import check_bool
from ipython1.core.texts import did_you_mean
from ipython1.kernel.basics.othernames import NamesHelp

T = TypeVar("T")

Check = Callable[[str, Any], Any]
"""A function of the name of an attribute and a new value, which returns the value to keep, or raises an error."""


class Setting(Generic[T]):
    """An attribute of an instance of :class:`CheckedAttributes` that users may set.

    :param default: the value until it is set.
    :param check: returns the value to keep, or raises an error that names the attribute.
    """

    def __init__(self, default: T, check: Check) -> None:
        self._default = default
        self._check = check

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> Any:
        if instance is None:
            return self
        return instance.__dict__.get(self._name, self._default)

    def __set__(self, instance: object, value: T) -> None:
        instance.__dict__[self._name] = self._check(self._name, value)


class CheckedAttributes(NamesHelp):
    """Base of classes that users configure by setting attributes.

    An unknown name is refused.  A class of the user's own that is derived from such a class may set any name that
    it declares, any private name, and any other that does not look like a misspelt setting.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and not _declares(type(self), name):
            self._refuse_unknown(name)
        super().__setattr__(name, value)

    def _refuse_unknown(self, name: str) -> None:
        cls = type(self)
        settings = sorted(settings_of(cls))
        ours = cls.__module__.partition(".")[0] == __name__.partition(".")[0]
        hint = did_you_mean(name.lower(), settings, 0.6 if ours else 0.8)
        if not hint and not ours:
            return
        known = f" It can be set: {', '.join(settings)}." if settings and not hint else ""
        raise AttributeError(f"{cls.__name__} has no attribute {name!r}{hint or '.'}{known}")


def _declares(cls: type, name: str) -> bool:
    return hasattr(cls, name) or any(name in inspect.get_annotations(each) for each in cls.__mro__)


def settings_of(cls: type) -> Iterator[str]:
    """Yield the names of the settings of a class, and of what it inherits from."""
    for each in cls.__mro__:
        for name, value in vars(each).items():
            if isinstance(value, Setting):
                yield name


def yes_or_no(name: str, value: Any) -> bool:
    """Check a setting that is True or False."""
    return check_bool(name, value)


def optional(check: Check) -> Check:
    """Return a check of a setting that may be None, too."""
    return lambda name, value: None if value is None else check(name, value)
