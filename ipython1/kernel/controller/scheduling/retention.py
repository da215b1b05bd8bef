"""Finished tasks: what is kept of them in memory, and for how long.

Without a journal, a result is *unread* until the client that submitted the task has confirmed it; unread results are
not dropped, and count against that client's credit (see ``accounts``).  Read ones are kept for other clients up to an
age and a size, oldest first out.

With one, what is here is what is not in the journal yet, and a cache of the rest, up to the same size.

The ids of all finished tasks are kept until they are cleared; they take next to nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from ipython1.kernel.controller.idset import IdSet
from ipython1.kernel.controller.scheduling.accounts import Batch, Finished


class ResultStore:
    """The finished tasks.

    :param max_size: bytes of read results that are kept.
    :param max_age: seconds for which they are kept after completion.
    """

    def __init__(self, max_size: int, max_age: float) -> None:
        self.max_size = max_size
        self.max_age = max_age
        self.results: dict[int, Finished] = {}
        self.succeeded = IdSet()
        self.failed = IdSet()
        self._read: deque[tuple[float, int, list[Finished]]] = deque()
        self._read_size = 0

    def add(self, batch: list[Finished]) -> None:
        """Tasks have finished; nobody has read them."""
        results = self.results
        # Engines run tasks in order, so most of these are consecutive.
        start = stop = 0
        for finished in batch:
            task_id = finished.id
            results[task_id] = finished
            if finished.status:
                self.failed.add(task_id)
            elif task_id == stop:
                stop += 1
            else:
                self.succeeded.add_range(start, stop)
                start, stop = task_id, task_id + 1
        self.succeeded.add_range(start, stop)

    def release(self, batch: Batch, now: float) -> None:
        """The results of a batch wait for nothing any more; those that nobody else will ask for go at once."""
        finished, batch.finished, batch.frames = batch.finished, [], None
        size = 0
        for each in finished:
            each.read = True
            size += each.size
        if batch.taken and any(each.private for each in finished):
            # The kernel's own errors stay: some questions are answered from them.
            kept = [each for each in finished if not each.private or each.error is not None]
            self._drop(each for each in finished if each.private and each.error is None)
            finished = kept
            size = sum(each.size for each in finished)
        self._read.append((now, size, finished))
        self._read_size += size
        while self._read_size > self.max_size and self._read:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, size, batch = self._read.popleft()
        self._read_size -= size
        self._drop(batch)

    def _drop(self, batch: Iterable[Finished]) -> None:
        results = self.results
        for finished in batch:
            if results.get(finished.id) is finished:
                del results[finished.id]

    def knows(self, task_id: int) -> bool:
        """Whether a task of this id has finished, kept or not."""
        return task_id in self.succeeded or task_id in self.failed

    def expire(self, now: float) -> float | None:
        """Drop what is too old; returns when to call this again."""
        while self._read:
            due = self._read[0][0] + self.max_age
            if due > now:
                return due
            self._drop_oldest()
        return None

    def clear(self, task_id: int) -> None:
        """Forget that it ever was.  Its client gets it all the same if it is on its way there."""
        finished = self.results.pop(task_id, None)
        if finished is not None and finished.read:
            finished.payload = b""
        self.succeeded.discard(task_id)
        self.failed.discard(task_id)
