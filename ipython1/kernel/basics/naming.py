"""Public names of classes that are defined in other modules."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def publish(module: str, *kinds: type) -> None:
    """Make tracebacks and pickles name classes as members of the public module ``module``.

    Call this at the end of the module that defines the classes.  It also imports ``module``: cloudpickle pickles
    classes of modules that are not loaded by value, and the other side would get a different class.

    :param module: the public module that exports the classes, and nothing of another room.
    """
    for kind in kinds:
        kind.__module__ = module
    import_module(module)


def lazy_names(
    module: str, where: Mapping[str, str], elsewhere: Callable[[], Mapping[str, str]] = dict
) -> Callable[[str], Any]:
    """Return a ``__getattr__`` for a module (PEP 562) that loads each name on first use.

    :param module: the ``__name__`` of the module.
    :param where: maps each name to the module that defines it.
    :param elsewhere: gives names that other packages have, and what to use instead.
    """

    def get(name: str) -> Any:
        if name not in where:
            instead = elsewhere().get(name)
            hint = f": {instead}" if instead else ""
            raise AttributeError(f"module {module!r} has no attribute {name!r}{hint}")
        value = getattr(import_module(where[name]), name)
        setattr(sys.modules[module], name, value)
        return value

    return get
