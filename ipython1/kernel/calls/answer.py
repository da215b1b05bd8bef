"""Waiting for another thread in a way that an exception can end at any moment.

Signal handlers of the user's raise exceptions in the main thread, between any two steps of Python: KeyboardInterrupt,
and those of time-outs.  A ``threading.Condition``, which ``concurrent.futures`` uses, can stay locked by that, and then
the reactor's thread, which is to report the result, waits for ever.
"""

from __future__ import annotations

import _thread
from contextlib import suppress
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Signal:
    """Something that happens once.  Who waits for it holds no lock that others need."""

    __slots__ = ("_waiting", "is_set")

    def __init__(self) -> None:
        self.is_set: bool = False
        self._waiting: list[Any] = []

    def set(self) -> None:
        """It happens; called once, in one thread."""
        self.is_set = True
        for lock in list(self._waiting):
            lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has happened; False if it has not after ``timeout`` seconds."""
        if self.is_set:
            return True
        lock = _thread.allocate_lock()
        lock.acquire()
        self._waiting.append(lock)
        # It may have happened before it could know of this lock.
        if self.is_set or lock.acquire(timeout=-1 if timeout is None else max(timeout, 0.0)):
            return True
        self._waiting.remove(lock)
        return self.is_set


class Answer(Generic[T]):
    """What a function in another thread returns or raises."""

    __slots__ = ("_problem", "_signal", "_value")

    def __init__(self) -> None:
        self._signal = Signal()
        self._value: Any = None
        self._problem: BaseException | None = None

    def is_there(self) -> bool:
        """Whether there is no need to wait."""
        return self._signal.is_set

    def set_result(self, value: T) -> None:
        self._value = value
        self._signal.set()

    def set_exception(self, problem: BaseException) -> None:
        self._problem = problem
        self._signal.set()

    def result(self, timeout: float | None = None) -> T:
        """Wait, and return or raise what it is.

        :raises TimeoutError: after ``timeout`` seconds.
        """
        if not self._signal.wait(timeout):
            raise TimeoutError
        if self._problem is not None:
            raise self._problem
        value: T = self._value
        return value


class Bell:
    """Something that happens again and again.  One thread waits for it, and others ring it."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._lock.acquire()

    def ring(self) -> None:
        """It happens."""
        with suppress(RuntimeError):  # it has happened already, and nobody has noticed yet
            self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has happened since the last time; False if it has not after ``timeout`` seconds."""
        return self._lock.acquire(timeout=-1 if timeout is None else max(timeout, 0.0))
