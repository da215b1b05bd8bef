"""Finished tasks: what is kept of them in memory, and for how long.

Without a journal, a result is *unread* until the client that submitted the task has confirmed it; unread results are
not dropped, and count against that client's credit (see ``accounts``).  Read ones are kept for other clients up to an
age and a size, oldest first out.

With one, what is here is what its client has not confirmed or the journal does not have yet, and a cache of the rest.
All of it together has the same size, at most, or what cannot be let go of has: so results leave the cache when others
come.  What was submitted is kept after that, as it is nowhere else.

The ids of all finished tasks are kept until they are cleared; they take next to nothing.  How a task came out is known
after that, too, and where it ran, of the last ones: other tasks may still be submitted that are to run after it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from ipython1.kernel.controller.idset import IdSet
from ipython1.kernel.controller.scheduling.accounts import PER_RESULT, Batch, Finished, Task

MOST_RANGES: Final = 100_000
"""Ranges of ids of cleared tasks whose outcome is remembered."""


class TaskObserver(Protocol):
    """Is told of all tasks, and changes nothing."""

    def accepted(self, records: Sequence[Any]) -> None:
        """Tasks (``TaskRecord``) of one client are there."""

    def finished(self, done: Sequence[Finished]) -> None:
        """Tasks are done."""


class NoObserver:
    """Does not care."""

    def accepted(self, records: Sequence[Any]) -> None:
        pass

    def finished(self, done: Sequence[Finished]) -> None:
        pass


class ResultStore:
    """The finished tasks.

    :param max_size: bytes of read results that are kept.
    :param max_age: seconds for which they are kept after completion.
    :ivar observer: is told of tasks that come and that are done.
    :ivar results: those that are here.
    :ivar tasks: what was submitted of those that have left the cache.
    :ivar past_succeeded, past_failed: the ids of those that were cleared.
    :ivar on_dropped: called with each result that is dropped.
    """

    def __init__(self, max_size: int, max_age: float) -> None:
        self.max_size = max_size
        self.max_age = max_age
        self.observer: TaskObserver = NoObserver()
        self.results: dict[int, Finished] = {}
        self.tasks: dict[int, Task] = {}
        self.succeeded: IdSet = IdSet()
        self.failed: IdSet = IdSet()
        self.past_succeeded: IdSet = IdSet()
        self.past_failed: IdSet = IdSet()
        self.on_dropped: Callable[[Finished], None] = lambda finished: None
        self._read: deque[tuple[float, int, list[Finished]]] = deque()
        self._read_size = 0
        self._bare: deque[tuple[float, int, list[Finished | Task]]] = deque()
        self._bare_size = 0
        self._room = max_size

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
        self.observer.finished(batch)

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
        self._fit()

    def make_room(self, held: int) -> None:
        """The cache gives way to results that wait for something, and have ``held`` bytes."""
        self._room = max(0, self.max_size - held)
        self._fit()

    def _fit(self) -> None:
        while self._read_size + self._bare_size > self.max_size and (self._bare or self._read):
            self._drop_oldest()
        while self._read_size > self._room and self._read:
            self._strip_oldest()

    def _drop_oldest(self) -> None:
        if self._bare:  # which are older than all others
            _, size, bare = self._bare.popleft()
            self._bare_size -= size
            self._drop(bare)
        else:
            _, size, batch = self._read.popleft()
            self._read_size -= size
            self._drop(batch)

    def _strip_oldest(self) -> None:
        """Keep what was submitted, and errors: some questions are answered from them."""
        now, size, batch = self._read.popleft()
        self._read_size -= size
        results = self.results
        bare: list[Finished | Task] = []
        size = 0
        for finished in batch:
            if results.get(finished.id) is not finished:
                continue
            if finished.error is not None:
                bare.append(finished)
                size += finished.size
            else:
                task = finished.task
                del results[finished.id]
                self.on_dropped(finished)
                self.tasks[finished.id] = task
                bare.append(task)
                size += PER_RESULT + len(task.payload)
        self._bare.append((now, size, bare))
        self._bare_size += size

    def _drop(self, batch: Iterable[Finished | Task]) -> None:
        for each in batch:
            if isinstance(each, Finished):
                if self.results.get(each.id) is each:
                    del self.results[each.id]
                    self.on_dropped(each)
            elif self.tasks.get(each.id) is each:
                del self.tasks[each.id]

    def knows(self, task_id: int) -> bool:
        """Whether a task of this id has finished, kept or not."""
        return task_id in self.succeeded or task_id in self.failed

    def outcome(self, task_id: int) -> bool | None:
        """Whether a task has succeeded, also if it was cleared since; None if it is not done, or that is not known."""
        if task_id in self.succeeded or task_id in self.past_succeeded:
            return True
        return False if task_id in self.failed or task_id in self.past_failed else None

    def all_succeeded(self, start: int, stop: int) -> bool:
        """Whether all tasks from ``start`` up to ``stop`` are known to have; may say no if some were cleared."""
        return self.succeeded.covers(start, stop) or self.past_succeeded.covers(start, stop)

    def expire(self, now: float) -> float | None:
        """Drop what is too old; returns when to call this again."""
        while queue := self._bare or self._read:
            due = queue[0][0] + self.max_age
            if due > now:
                return due
            self._drop_oldest()
        return None

    def clear(self, task_id: int) -> None:
        """Forget all of it but how it came out.  Its client gets it all the same if it is on its way there."""
        finished = self.results.pop(task_id, None)
        if finished is not None:
            self.on_dropped(finished)
            if finished.read:
                finished.payload = b""
        self.tasks.pop(task_id, None)
        if self.knows(task_id):
            past = self.past_succeeded if task_id in self.succeeded else self.past_failed
            past.add(task_id)
            past.shrink(MOST_RANGES)
        self.succeeded.discard(task_id)
        self.failed.discard(task_id)
