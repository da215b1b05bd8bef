"""Waits of user code in an engine's main thread.

An engine runs one thing at a time, in its main thread.  If that waits for other work on engines, the engine tells the
controller, which finds out when such a wait can never end.  An engine's process installs an object for that; in other
processes, and in other threads, all of this does nothing.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Protocol

from ipython1.kernel.wire.waits import Needs


class Waited(Protocol):
    """Something that code waits for; both methods are called in the reactor's thread."""

    def needs(self) -> Needs | None:
        """Return what has to end first: None if nothing, an empty one if that is not known (yet)."""

    def give_up(self, problem: Exception) -> None:
        """End with ``problem``, as the wait would never end."""


class Waits(Protocol):
    """Watches the waits of an engine's main thread."""

    def begin(self, waited: Waited) -> int:
        """Note a wait of the calling thread, and return its number; 0 if it is not that of the user's code."""

    def end(self, number: int) -> None:
        """Note that a wait is over."""


_waits: Waits | None = None


def install(waits: Waits | None) -> None:
    """Watch waits in this process from now on."""
    global _waits
    _waits = waits


class waiting:
    """A context in which the calling thread waits for something."""

    __slots__ = ("_number", "_waited")

    def __init__(self, waited: Waited) -> None:
        self._waited = waited
        self._number = 0

    def __enter__(self) -> None:
        if _waits is not None:
            self._number = _waits.begin(self._waited)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._number and _waits is not None:
            _waits.end(self._number)


class _Waiters(list[Any]):
    """The objects with which ``concurrent.futures.wait`` and ``as_completed`` wait for a future."""

    def __init__(self, future: Waited) -> None:
        super().__init__()
        self._future = future
        self._contexts: dict[int, waiting] = {}

    def append(self, waiter: Any) -> None:
        super().append(waiter)
        context = self._contexts[id(waiter)] = waiting(self._future)
        context.__enter__()

    def remove(self, waiter: Any) -> None:
        super().remove(waiter)
        context = self._contexts.pop(id(waiter), None)
        if context is not None:
            context.__exit__(None, None, None)


def waiters_of(future: Waited) -> list[Any]:
    """Return the initial ``_waiters`` of a ``concurrent.futures.Future``."""
    return [] if _waits is None else _Waiters(future)
