"""Names that are nearly right: misspelt ones, and those that other packages use for the same thing.

An error about such a name says the right one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from ipython1.core.texts import did_you_mean

LIKE: Final = 0.7
"""How much a misspelt name must be like the right one, from 0 to 1."""


class NamesHelp:
    """Base of classes whose errors about unknown attributes say the right name.

    :cvar _elsewhere: names that other packages have, and what to use instead; classes inherit them.
    """

    _elsewhere: ClassVar[Mapping[str, str]] = {}

    if not TYPE_CHECKING:  # or any name would be right

        def __getattr__(self, name: str) -> Any:
            __tracebackhide__ = True
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
    return did_you_mean(name.lower(), [each for each in dir(cls) if each[0] != "_"], LIKE)
