"""The runs of one relayed transfer: in shared memory, and there until all of its receivers have acknowledged them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from ipython1.kernel.wire.sharing import Run


class SharedRun(NamedTuple):
    """A run's bytes.

    :ivar free: to be called when nobody reads them any more, with whether a reader was lost.
    """

    view: memoryview
    free: Callable[[bool], None]


class KeptRun:
    """A run that is in use.

    :ivar first: the number of its first piece.
    :ivar end: the number of the piece after its last one.
    :ivar lost: whether a reader that is gone may still be reading it.
    """

    __slots__ = ("end", "first", "free", "lost", "run", "view")

    def __init__(self, run: Run, shared: SharedRun, first: int, end: int) -> None:
        self.run: Run = run
        self.view: memoryview[int] = shared.view
        self.free: Callable[[bool], None] = shared.free
        self.first: int = first
        self.end: int = end
        self.lost: bool = False

    def piece(self, index: int, size: int) -> memoryview:
        """The bytes of piece ``index``, where a piece has ``size`` bytes."""
        start = (index - self.first) * size
        return self.view[start : start + size]


class KeptRuns:
    """The runs of a transfer that are in use, in order."""

    __slots__ = ("_runs",)

    def __init__(self) -> None:
        self._runs: deque[KeptRun] = deque()

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, run: KeptRun) -> None:
        """The next run has come."""
        self._runs.append(run)

    def with_piece(self, index: int) -> KeptRun | None:
        """The run that piece ``index`` is in; None if it is in none, or that is not in use any more."""
        for run in self._runs:
            if run.first <= index < run.end:
                return run
        return None

    def reader_lost(self, acknowledged: int, taken: int) -> None:
        """A receiver is gone that has taken pieces up to ``taken``, and may still be reading them."""
        for run in self._runs:
            if acknowledged < run.end and run.first < taken:
                run.lost = True

    def free_before(self, index: int) -> None:
        """Everybody has what is before piece ``index``."""
        while self._runs and self._runs[0].end <= index:
            run = self._runs.popleft()
            run.free(run.lost)

    def free_all(self) -> None:
        """Nobody reads any more."""
        runs, self._runs = self._runs, deque()
        for run in runs:
            run.free(run.lost)
