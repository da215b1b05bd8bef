"""The results of an engine's tasks, kept until the controller says that it would have them after its own death.

=====================  ===========================================  =============================================
a result that is       on                                           becomes
=====================  ===========================================  =============================================
new                    :meth:`~TaskResults.tell`                    numbered, and sent
numbered               :meth:`~TaskResults.resume` with a new link  sent again, in the order of the numbers
numbered               :meth:`~TaskResults.safe` of its number      (gone)
new or numbered        :meth:`~TaskResults.drop`                    (gone): the controller does not know its run
=====================  ===========================================  =============================================

Numbers rise for as long as the process lives, so the controller recognises what it has seen.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from time import perf_counter  # user code may replace the one in the module
from typing import Final

from ipython1.kernel.wire import taskwire
from ipython1.kernel.wire.failurenotes import Note, pack_notes
from ipython1.kernel.wire.link import Link, ThreadOutbox
from ipython1.kernel.wire.taskwire import Result

MOST_SIZE: Final = 64 * 1024 * 1024
"""Bytes of results that may wait for confirmation; with more, no further run begins."""

MOST_RESULTS: Final = 8192
"""Results that may wait for confirmation; a greeting names them all."""

PER_RESULT: Final = 200
"""Bytes that a result takes besides its payload."""


class _Batch:
    """Results with consecutive numbers.

    :ivar last: the number of the last one.
    :ivar ended: when that was there.
    """

    __slots__ = ("ended", "last", "rows", "size")

    def __init__(self, last: int, rows: list[Result], size: int, ended: float) -> None:
        self.last = last
        self.rows = rows
        self.size = size
        self.ended = ended


class TaskResults:
    """The results that the controller does not have yet, as far as this engine knows.

    The main thread adds and tells them, the reactor's thread does all else.

    :param outbox: sends, from any thread.
    :ivar add: adds a result; it is numbered and sent by the next :meth:`tell`.
    :ivar ended: when the last one was there.
    :ivar full: whether so much waits for confirmation that no further run should begin.
    :ivar link: the link through which all that has a number was sent, which may be lost; None before the first.
    """

    def __init__(self, outbox: ThreadOutbox) -> None:
        self._outbox = outbox
        self._lock = threading.Lock()
        self._new: deque[Result] = deque()
        self._batches: deque[_Batch] = deque()
        self._last = 0
        self._size = 0
        self._number = 0
        self._notes: dict[tuple[int, int], Note] = {}
        self.add: Callable[[Result], None] = self._new.append
        self.ended: float = 0.0
        self.full: bool = False
        self.link: Link | None = None

    def __bool__(self) -> bool:
        """Whether there are new ones."""
        return bool(self._new)

    @property
    def unconfirmed(self) -> int:
        """How many results are kept."""
        return self._number + len(self._new)

    def note(self, key: tuple[int, int], note: Note) -> None:
        """What is to be told of a run that failed; before its result is added."""
        self._notes[key] = note

    def tell(self) -> None:
        """Number the new ones, and send them; from either thread."""
        with self._lock:
            new = self._new
            rows = [new.popleft() for _ in range(len(new))]
            if not rows:
                return
            first = self._last + 1
            self._last += len(rows)
            size = sum([len(row[4]) for row in rows])
            batch = _Batch(self._last, rows, size, self.ended)
            self._batches.append(batch)
            self._grow(size, len(rows))
            if self.link is not None:
                self._send(self.link, first, batch)

    def _grow(self, size: int, number: int) -> None:
        self._size += size
        self._number += number
        self.full = (
            self._size + PER_RESULT * self._number > MOST_SIZE or self._number >= MOST_RESULTS
        )

    def _send(self, link: Link, first: int, batch: _Batch) -> None:
        outbox, rows = self._outbox, batch.rows
        age = perf_counter() - batch.ended
        if batch.size <= taskwire.INLINE:  # so none of them is large
            for frame in taskwire.pack_results(rows, first, age, self._notes_of(rows)):
                outbox.post(*frame, link)
            return
        small: list[Result] = []
        age += sum([row[3] for row in rows])
        for number, row in enumerate(rows, first):
            task_id, attempt, status, duration, payload = row
            if len(payload) <= taskwire.INLINE:
                small.append(row)
                age -= duration
                continue
            self._send_small(link, number - len(small), small, age)
            small = []
            age -= duration
            head = taskwire.pack_result_head(task_id, attempt, status, duration)
            head += pack_notes(age, self._notes_of([row]))
            outbox.post_large(taskwire.RESULTS, number, head, [payload], link)
        self._send_small(link, first + len(rows) - len(small), small, age)

    def _send_small(self, link: Link, first: int, rows: list[Result], age: float) -> None:
        for frame in taskwire.pack_results(rows, first, age, self._notes_of(rows)):
            self._outbox.post(*frame, link)

    def _notes_of(self, rows: list[Result]) -> dict[int, Note] | None:
        notes = self._notes
        if not notes:
            return None
        found = ((place, notes.get((row[0], row[1]))) for place, row in enumerate(rows))
        return {place: note for place, note in found if note is not None}

    def safe(self, number: int) -> bool:
        """The controller would have all results up to ``number`` after its own death.

        :returns: whether further runs may begin that could not before.
        """
        with self._lock:
            full = self.full
            batches = self._batches
            while batches and batches[0].last <= number:
                batch = batches.popleft()
                self._grow(-batch.size, -len(batch.rows))
                self._forget_notes(batch.rows)
            if batches:
                batch = batches[0]
                known = len(batch.rows) - (batch.last - number)
                if known > 0:
                    size = sum([len(row[4]) for row in batch.rows[:known]])
                    self._forget_notes(batch.rows[:known])
                    del batch.rows[:known]
                    batch.size -= size
                    self._grow(-size, -known)
            return full and not self.full

    def _forget_notes(self, rows: list[Result]) -> None:
        if self._notes:
            for row in rows:
                self._notes.pop((row[0], row[1]), None)

    def resume(self, link: Link) -> None:
        """The engine has registered again; send all that has a number through ``link``, then all that gets one."""
        with self._lock:
            self.link = link
            for batch in self._batches:
                self._send(link, batch.last - len(batch.rows) + 1, batch)
        self.tell()

    def drop(self, but: tuple[int, int] | None) -> None:
        """Forget all but the result of one run, which gets a new number."""
        with self._lock:
            rows = [row for batch in self._batches for row in batch.rows]
            rows += [self._new.popleft() for _ in range(len(self._new))]
            self._batches.clear()
            self._size = self._number = 0
            self.full = False
            # The main thread may add one meanwhile.
            self._notes = {key: note for key, note in list(self._notes.items()) if key == but}
            self._new.extend(row for row in rows if (row[0], row[1]) == but)

    def keys(self) -> list[tuple[int, int]]:
        """Name the runs whose results are kept."""
        with self._lock:
            kept = [(row[0], row[1]) for batch in self._batches for row in batch.rows]
            return kept + [(row[0], row[1]) for row in list(self._new)]
