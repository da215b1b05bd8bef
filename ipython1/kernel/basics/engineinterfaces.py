"""The interfaces of an engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zope.interface import Attribute, Interface


class IEngineCore(Interface):
    """What every engine can do with code and objects."""

    id: int = Attribute("The engine's id, an int >= 0.")

    def execute(lines: str) -> Any:
        """Run ``lines``, a str of Python or IPython code."""

    def pull(keys: str | Sequence[str]) -> Any:
        """The objects of the names ``keys`` (a str or a sequence of them)."""

    def push_function(namespace: Mapping[str, Any]) -> Any:
        """Define the functions of ``namespace`` (a mapping); they run in the engine's namespace."""

    def pull_function(keys: str | Sequence[str]) -> Any:
        """Like ``pull``, for functions."""

    def push(namespace: Mapping[str, Any]) -> Any:
        """Set each name of ``namespace`` to its object."""

    def get_result(i: int | None = None) -> Any:
        """The result of command number ``i``, None for the last."""

    def reset() -> Any:
        """Forget all user names."""

    def keys() -> Any:
        """The user's names, sorted."""

    def kill() -> Any:
        """End the engine's process."""


class IEngineSerialized(Interface):
    """Moves objects as bytes."""

    def push_serialized(namespace: Mapping[str, Any]) -> Any:
        """Set each name of ``namespace`` (a mapping of names and ``Serialized``) to the object of these bytes."""

    def pull_serialized(keys: Sequence[str]) -> Any:
        """The bytes of the objects named ``keys``."""


class IEngineProperties(Interface):
    """A dictionary in which users describe the engine, for instance for tasks' dependencies."""

    def set_properties(properties: Mapping[str, Any]) -> Any:
        """Set some."""

    def get_properties(keys: Sequence[str] | None = None) -> Any:
        """All, or those named.  A missing one is an ``InvalidProperty``."""

    def has_properties(keys: Sequence[str]) -> Any:
        """A list of bools."""

    def del_properties(keys: Sequence[str]) -> Any:
        """Delete those named."""

    def clear_properties() -> Any:
        """Delete all."""


class IEngineBase(IEngineCore, IEngineSerialized, IEngineProperties):
    """All that an engine does."""


class ITaskEngine(IEngineBase):
    """The engine as a task that runs on it sees it."""

    def run_source(source: str) -> None:
        """Run ``source``, a str of Python or IPython code, in the task.

        Other than by ``execute``, it becomes no command: what it prints and displays belongs to the task, and what
        it raises is raised.
        """
