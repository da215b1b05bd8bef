"""The public names of things that lie in a room of their own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def publish(module: str, *kinds: type) -> None:
    """Let tracebacks and pickles name classes by the module that users import them from.

    It is called at the end of the module that defines them, and loads the public one: cloudpickle sends classes of
    modules that are not loaded by value, so that the other side would get a class of its own.

    :param module: the module of the shelf that exports the classes, and nothing of another room.
    """
    for kind in kinds:
        kind.__module__ = module
    import_module(module)


def lazy_names(module: str, where: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module (PEP 562) whose names are loaded when they are first used.

    :param module: the ``__name__`` of that module.
    :param where: for each name the module that defines it.
    """

    def get(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        value = getattr(import_module(where[name]), name)
        setattr(sys.modules[module], name, value)
        return value

    return get
