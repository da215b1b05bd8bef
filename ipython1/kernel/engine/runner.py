"""What runs tasks, as those who give them to it know it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ipython1.kernel.wire.failurenotes import Note
from ipython1.kernel.wire.frames import Bytes
from ipython1.kernel.wire.taskwire import Status


class Runner(Protocol):
    """Runs a task's payload in the main thread.

    :ivar note: what is to be told of the last one that ended, if that failed, all of it or in part.
    """

    note: Note | None

    def run(self, payload: Bytes, stopping: Callable[[], bool]) -> tuple[Status, Bytes, float]: ...

    def failed(self, problem: BaseException) -> Bytes: ...

    def depends(self, digest: bytes) -> tuple[bool, str]: ...

    def add_function(self, digest: bytes, data: bytes) -> None: ...

    def lack_function(self, digest: bytes, reason: str) -> None: ...

    def forget_function(self, digest: bytes) -> None: ...
