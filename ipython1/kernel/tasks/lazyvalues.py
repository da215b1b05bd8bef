"""What the values of lazy maps have in common, in blocking and in asynchronous clients."""

from __future__ import annotations

import weakref

from ipython1.kernel.tasks.lazyrun import LazyRun


class LazyValues:
    """Base of the iterators; the run is closed when nobody refers to the iterator any more."""

    _run: LazyRun

    def _begin(self, run: LazyRun) -> None:
        self._run = run
        weakref.finalize(self, run.close).atexit = False

    def __repr__(self) -> str:
        run = self._run
        state = "closed" if run.closed else f"{run.held} items outstanding"
        return f"<{type(self).__name__}: {run.given} items done, {state}>"

    @property
    def outstanding(self) -> int:
        """The number of items that are read from the input, and whose values were not asked for yet."""
        return self._run.held
