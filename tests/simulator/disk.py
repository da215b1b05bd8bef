"""A journal on a simulated disk, which loses what was not yet safe when its controller dies, or not, as a seed says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from twisted.internet.defer import Deferred

from ipython1.kernel.controller.journal.rows import OutcomeRow, StoredResult
from ipython1.kernel.controller.journal.tests.memoryjournal import Disk, MemoryJournal
from tests.simulator.process import SimProcess


class SimJournal(MemoryJournal):
    """Commits again and again, as long as there is something to write; each commit takes its time.

    :param process: the controller's.
    :param slowest: seconds that a commit takes at most.
    """

    def __init__(self, disk: Disk, process: SimProcess, chance: Random, slowest: float) -> None:
        super().__init__(disk)
        self._process = process
        self._chance = chance
        self._slowest = slowest
        self._committing = False
        process.on_death.append(self._crash)

    def _crash(self) -> None:
        """The process died.  Some of what waited may have been written, but nobody was told."""
        self._waiting.clear()
        if self.pending and self._chance.random() < 0.3:
            self.commit(self._chance.randint(0, self.pending))
        self._calls.clear()

    def _put(self, call: Callable[[], None]) -> int:
        ticket = super()._put(call)
        if not self._committing:
            self._committing = True
            self._process.callLater(self._pause(), self._write)
        return ticket

    def _pause(self) -> float:
        return self._slowest * self._chance.random() ** 3

    def _write(self) -> None:
        """Write what there is; that it is written is known a little later."""
        waiting, self._waiting = self._waiting, []
        self.commit()
        self._waiting = waiting
        self._process.callLater(self._pause(), self._written, self.disk.ticket)

    def _written(self, ticket: int) -> None:
        self._committing = bool(self._calls)
        if self._committing:
            self._process.callLater(self._pause(), self._write)
        due = [call for goal, call in self._waiting if goal <= ticket]
        self._waiting = [entry for entry in self._waiting if entry[0] > ticket]
        self._known = ticket
        for call in due:
            call()

    def when_safe(self, ticket: int, call: Callable[[], None]) -> None:
        if ticket <= self._known:
            call()
        else:
            self._waiting.append((ticket, call))

    _known = 0

    def _later(self, look: Callable[[], Deferred[Any]]) -> Deferred[Any]:
        """What the disk says, a moment later."""
        answer: Deferred[Any] = Deferred()
        self._process.callLater(self._pause(), lambda: look().chainDeferred(answer))
        return answer

    def fetch_results(self, ids: Iterable[int]) -> Deferred[dict[int, StoredResult]]:
        wanted = tuple(ids)
        return self._later(lambda: MemoryJournal.fetch_results(self, wanted))

    def fetch_outcome(
        self, origin: bytes, number: int, engine_id: int
    ) -> Deferred[OutcomeRow | None]:
        return self._later(lambda: MemoryJournal.fetch_outcome(self, origin, number, engine_id))
