"""The public names of things that lie in a room of their own."""

from __future__ import annotations

from importlib import import_module


def publish(module: str, *kinds: type) -> None:
    """Let tracebacks and pickles name classes by the module that users import them from.

    It is called at the end of the module that defines them, and loads the public one: cloudpickle sends classes of
    modules that are not loaded by value, so that the other side would get a class of its own.

    :param module: the module of the shelf that exports the classes, and nothing of another room.
    """
    for kind in kinds:
        kind.__module__ = module
    import_module(module)
