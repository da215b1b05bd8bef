"""Results on their way into the journal, and what of them is held in memory meanwhile.

=========  ==================================================================  =========
a batch    on                                                                  becomes
=========  ==================================================================  =========
(new)      :meth:`ResultKeeper.add`                                            waiting
waiting    a while is over; the client has it; much waits; :meth:`flush`       writing
writing    the journal says that it is safe                                    kept
=========  ==================================================================  =========

What nobody but the client needs, and the client has by then, is written without its payloads: that it is done is
always known.  Batches are written in the order in which they came.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime

from ipython1.kernel.controller.journal.interface import Journal
from ipython1.kernel.controller.journal.rows import ResultBatch
from ipython1.kernel.controller.scheduling.accounts import Batch, Finished
from ipython1.kernel.controller.scheduling.clients import LARGE, Clients
from ipython1.kernel.controller.taskrows import TaskRows, with_size
from ipython1.kernel.wire.frames import Buffer, Bytes
from ipython1.kernel.wire.overflow import Overflow, is_in_file
from ipython1.kernel.wire.tasksync import ranges_of

WAIT: Final = 0.1
"""Seconds that a client has to confirm a batch before its payloads are written, if nobody else needs them."""

MOST: Final = 16 * 2**20
"""Bytes that wait at most."""

PER_CLIENT: Final = 32 * 2**20
"""Bytes of one client's unread results that are held in memory once they are in the journal, or without one."""

IN_ALL: Final = 128 * 2**20
"""The same, for all clients."""

FULL: Final = 256 * 2**20
"""Bytes of results that are not safe, at which no more tasks are begun."""


class ResultKeeper:
    """Keeps results.

    :param changed: called when something was kept.
    """

    def __init__(
        self,
        clients: Clients,
        journal: Journal,
        clock: IReactorTime,
        rows: TaskRows,
        changed: Callable[[], None],
    ) -> None:
        self._clients = clients
        self._journal = journal
        self._clock = clock
        self._rows = rows
        self._changed = changed
        self._waiting: deque[tuple[float, Batch]] = deque()
        self._waiting_size = 0
        self._overflow = Overflow()
        self._unsafe = 0
        self._call: Any = None

    @property
    def unsafe(self) -> int:
        """Bytes of results that are not safe yet."""
        return self._unsafe

    @property
    def full(self) -> bool:
        """Whether so much is not safe yet that no more should come."""
        return self._unsafe > FULL or self._journal.overfull

    def add(self, batch: Batch) -> None:
        """A batch has been made."""
        self._waiting.append((self._clock.seconds() + WAIT, batch))
        self._waiting_size += batch.size
        self._unsafe += batch.size
        if self._waiting_size > MOST:
            self.flush()
        elif self._call is None:
            self._call = self._clock.callLater(WAIT, self._due)

    def _due(self) -> None:
        self._call = None
        now = self._clock.seconds()
        number = 0
        for due, batch in self._waiting:
            if due > now and batch.private and not batch.taken:
                break
            number += 1
        self._write(number)
        if self._waiting:
            self._call = self._clock.callLater(max(0.0, self._waiting[0][0] - now), self._due)

    def flush(self) -> None:
        """Write all that waits."""
        self._write(len(self._waiting))

    def _write(self, number: int) -> None:
        if not number:
            return
        batches = [self._waiting.popleft()[1] for _ in range(number)]
        self._waiting_size -= sum(batch.size for batch in batches)
        over = [each for batch in batches for each in batch.over]
        written = [row for batch in batches for row in self._row(batch)]
        ticket = self._journal.results(written, over)
        self._journal.when_safe(ticket, lambda: self._written(batches))

    def _row(self, batch: Batch) -> list[ResultBatch]:
        """A batch as the journal takes it."""
        finished = batch.finished
        if not finished:
            return []
        if not batch.taken or not any(each.private for each in finished):
            if len(finished) == 1 and batch.size > LARGE:
                head = with_size(self._rows.head(finished[0]), 0)
                return [self._kept(batch, finished, [head], finished[0].payload)]
            return [self._kept(batch, finished, self._rows.packed(batch))]
        written = [self._kept(batch, [each for each in finished if each.private], [])]
        others = [each for each in finished if not each.private]
        if others:
            written.append(self._kept(batch, others, self._rows.some(others)))
        return written

    def _kept(
        self,
        batch: Batch,
        finished: Sequence[Finished],
        rows: Sequence[Buffer],
        payload: Bytes | None = None,
    ) -> ResultBatch:
        completed = self._rows.time(finished[-1].completed)
        failed = [each.id for each in finished if each.status]
        succeeded = [each.id for each in finished if not each.status]
        return ResultBatch(batch.client.uuid, completed, succeeded, failed, rows, payload)

    def _written(self, batches: Iterable[Batch]) -> None:
        now = self._clock.seconds()
        clients = self._clients
        for batch in batches:
            self._unsafe -= batch.size
            clients.kept(batch, now)
            if not batch.confirmed and (batch.client.held > PER_CLIENT or clients.held > IN_ALL):
                clients.spilled(batch, now)
        self._changed()

    def delivered(self, batch: Batch) -> None:
        """A batch waits for its client; without a journal, what is too much in memory is put into a file."""
        clients = self._clients
        too_much = batch.client.held > PER_CLIENT or clients.held > IN_ALL
        if self._journal.keeps or not too_much or batch.frames is not None:
            return
        in_memory = [each for each in batch.finished if not is_in_file(each.payload)]
        payloads: Any = self._overflow.put([each.payload for each in in_memory])
        for finished, payload in zip(in_memory, payloads, strict=True):
            finished.payload = payload

    def clear(self, task_ids: list[int]) -> None:
        """Forget results, but not how the tasks came out: others may be submitted that are to run after them."""
        self.flush()
        past = self._clients.store.past_succeeded
        good = [each for each in task_ids if each in past]
        bad = [each for each in task_ids if each not in past]
        self._journal.results([ResultBatch(b"", 0.0, good, bad)])
        self._journal.cleared(ranges_of(sorted(task_ids)))

    def stop(self) -> None:
        """Write what waits; for the end of the process."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self.flush()
