"""Where the last tasks ran whose results are not here any more.

Other tasks may follow them.  An engine's id may be given to another engine, which has run nothing of this; so engines
are told apart by numbers of our own.
"""

from __future__ import annotations

from array import array
from typing import Final

from ipython1.kernel.controller.scheduling.records import WorkerRecord

_BITS: Final = 10
_NOTHING: Final = array("i", bytes(4 << _BITS))

MOST_PAGES: Final = 1024
"""Pages of 1024 ids each that are remembered."""

NOWHERE: Final = -1
"""Instead of an engine's id: it is gone, or the task ran on none."""


class Places:
    """Remembers engines by task ids."""

    def __init__(self) -> None:
        self._pages: dict[int, array[int]] = {}
        self._number = 1
        self._numbers: dict[int, int] = {}
        self._engines: dict[int, int] = {1: NOWHERE}

    def joined(self, engine: int) -> None:
        """An engine came; it is another one than any that had this id before."""
        self.lost(engine)
        self._number += 1
        self._numbers[engine] = self._number
        self._engines[self._number] = engine

    def lost(self, engine: int) -> None:
        """An engine is gone."""
        number = self._numbers.pop(engine, None)
        if number is not None:
            del self._engines[number]

    def note(self, task_id: int, worker: WorkerRecord | None) -> None:
        """A task ran on an engine; None: on none that is still there."""
        page = self._pages.get(task_id >> _BITS)
        if page is None:
            page = self._pages[task_id >> _BITS] = _NOTHING[:]
            if len(self._pages) > MOST_PAGES:
                del self._pages[next(iter(self._pages))]
        number = 1 if worker is None else self._numbers[worker.id]
        page[task_id & (1 << _BITS) - 1] = number

    def get(self, task_id: int) -> int | None:
        """The engine that a task ran on, or :data:`NOWHERE`; None if that is not known."""
        page = self._pages.get(task_id >> _BITS, _NOTHING)
        number = page[task_id & (1 << _BITS) - 1]
        return self._engines.get(number, NOWHERE) if number else None
