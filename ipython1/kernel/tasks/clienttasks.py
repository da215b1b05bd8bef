"""A client's tasks: their ids, the outbox, and the results.

:class:`ClientTasks` is shared by the blocking client's threads and the reactor's thread.  The submitting thread numbers
a task and puts it into the outbox; the reactor's thread sends as many as the controller's credit allows, and stores the
results.

=============  =========================================  =====================
a task that is  on                                        becomes
=============  =========================================  =====================
(new)          :meth:`~ClientTasks.submit`                in the outbox
in the outbox  credit                                     sent
in the outbox  :meth:`~ClientTasks.take_back`             (gone)
sent           its result                                 done
done           :meth:`~ClientTasks.forget`                (gone)
=============  =========================================  =====================
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ipython1.kernel.basics.error import ConnectionError, MessageSizeError
from ipython1.kernel.calls.clientlink import ClientEnd
from ipython1.kernel.tasks.encoder import Encoded, Packed
from ipython1.kernel.tasks.resultbook import ResultBook, aborted_result, places_in
from ipython1.kernel.tasks.sentfunctions import SentFunctions
from ipython1.kernel.wire import frames, taskwire
from ipython1.kernel.wire.bulk import WritableBuffer, unpack_reference
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.taskwire import Entry

log = Logger()

OUTBOX_TASKS: Final = 65536
"""The maximum number of tasks in the outbox; submitting more waits for room."""

OUTBOX_SIZE: Final = 64 * 1024 * 1024
"""The maximum size of the outbox, in bytes."""

MOST_AT_ONCE: Final = 4096
"""Tasks that are sent before the reactor's thread and the lock of the outbox are released."""


class Forgotten(NamedTuple):
    """A function that no task refers to anymore."""

    digest: bytes


Item: TypeAlias = Entry | Packed | Forgotten


class Waiter:
    """Waits for tasks.

    :param tell: called in the reactor's thread with the ids of tasks that are done; with an empty list on failure.
    :ivar missing: the ids of tasks that are not done; the reactor's thread changes it.
    :ivar failure: why no more results will arrive; None while they may.
    """

    def __init__(self, tell: Callable[[list[int]], None]) -> None:
        self.missing: set[int] = set()
        self.failure: Exception | None = None
        self._tell = tell

    def done(self, task_ids: list[int]) -> None:
        """Note that tasks are done, which may be those of other waiters."""
        mine = self.missing.intersection(task_ids)
        if mine:
            self.missing -= mine
            self._tell([task_id for task_id in task_ids if task_id in mine])

    def fail(self, problem: Exception) -> None:
        """Note that no more results will arrive."""
        self.failure = problem
        self._tell([])


class ClientTasks:
    """The tasks of one client.

    :param end: the client's connection.
    :param call_in_reactor: calls a function in the reactor's thread (``reactor.callFromThread``).
    """

    def __init__(self, end: ClientEnd, call_in_reactor: Callable[..., Any]) -> None:
        self._end = end
        self._call_in_reactor = call_in_reactor
        self._lock = threading.Lock()
        self._outbox: deque[Item] = deque()
        self._outbox_tasks = 0
        self._outbox_size = 0
        self._sending = False
        self._functions = SentFunctions()
        self._blocks: deque[tuple[int, int]] = deque()
        self._own: list[tuple[int, int]] = []
        self._next_id = 0
        self._stop_id = 0
        self._leasing = False
        self._room: list[Callable[[], None]] = []
        self._sent_tasks = 0
        self._sent_size = 0
        self._credit = (0, 0)
        self._accepted = 0
        self._flushing: list[tuple[int, Deferred[None]]] = []
        self._waiters: set[Waiter] = set()
        self._lost: ConnectionError | None = None
        self._doubtful_below = 0
        self.submitted = 0
        self.results = ResultBook()
        end.handlers[taskwire.DONE] = self._done_received
        end.handlers[taskwire.CREDIT] = self._credit_received
        end.on_lost.append(self._link_lost)

    async def begin(self) -> None:
        """Get the first ids and credit; in the reactor's thread.

        :raises ConnectionError: if the connection to the controller is lost.
        """
        block, credit = await self._end.ask("begin")
        self._next_id, self._stop_id = block
        self._own.append((block[0], block[1]))
        self._credit = (credit[0], credit[1])

    # -- submitting, in any thread

    def submit(self, encoded: Encoded, borrowed: Packed | None = None) -> int | None:
        """Put a task into the outbox.

        :param borrowed: a function of the task that :meth:`borrow` has already put there.
        :returns: the id of the task, or None if there is no room now (see :meth:`when_room`).
        :raises ConnectionError: if the connection to the controller is lost.
        :raises MessageSizeError: if the task exceeds the controller's limit.
        """
        payload = encoded.payload
        size = len(payload)
        for _, more in encoded.recovery:
            size += len(more)
        largest = size
        for function in encoded.functions:
            largest = max(largest, len(function.data))
        self._check_size(largest)
        with self._lock:
            task_id = self._next_id
            if (
                self._lost is not None
                or task_id >= self._stop_id
                or self._outbox_tasks >= OUTBOX_TASKS
                or self._outbox_size >= OUTBOX_SIZE
            ):
                return self._no_room()
            self._next_id = task_id + 1
            for function in encoded.functions:
                if function is not borrowed and self._functions.add(function):
                    self._outbox.append(function)
            self._outbox.append(Entry(task_id, encoded.options, payload, encoded.recovery))
            self._outbox_tasks += 1
            self._outbox_size += size
            self.submitted += 1
            wake = not self._sending
            self._sending = True
        if wake:
            self._call_in_reactor(self._send)
        return task_id

    def _check_size(self, size: int) -> None:
        limit = min(self._end.max_message or taskwire.MOST_BYTES, taskwire.MOST_BYTES)
        if size > limit:
            raise MessageSizeError.too_large("the task", size, limit, "send it in parts")

    def borrow(self, function: Packed) -> None:
        """Make the controller keep a function until it is released.

        :raises MessageSizeError: if it exceeds the controller's limit.
        """
        self._check_size(len(function.data))
        with self._lock:
            if self._functions.add(function, borrowed=True):
                self._outbox.append(function)

    def release(self, function: Packed) -> None:
        """Release a borrowed function, once the tasks that need it are done."""
        with self._lock:
            forgotten = self._functions.release(function)
            self._outbox.extend(Forgotten(digest) for digest in forgotten)
            wake = bool(forgotten) and not self._sending
            self._sending = self._sending or wake
        if wake:
            self._call_in_reactor(self._send)

    def _no_room(self) -> int | None:
        if self._lost is not None:
            raise self._lost
        if self._next_id >= self._stop_id and self._blocks:
            self._next_id, self._stop_id = self._blocks.popleft()
            self._own.append((self._next_id, self._stop_id))
        elif not self._sending:
            self._sending = True
            self._call_in_reactor(self._send)
        return None

    def when_room(self, call: Callable[[], None]) -> None:
        """Call ``call`` once, in the reactor's thread, when there may be room to submit again."""
        with self._lock:
            has_ids = self._next_id < self._stop_id or bool(self._blocks)
            blocked = (
                not has_ids
                or self._outbox_tasks >= OUTBOX_TASKS
                or self._outbox_size >= OUTBOX_SIZE
            )
            if blocked and self._lost is None:
                self._room.append(call)
                return
        self._call_in_reactor(call)

    def to_ask_for(self, task_ids: Iterable[int]) -> list[int]:
        """Return the tasks that only the controller knows: those of other clients, and those that may be cleared."""
        with self._lock:
            own = [
                (start, self._next_id if stop == self._stop_id else stop)
                for start, stop in self._own
            ]
            unsent = self._first_unsent()
            doubtful = self._doubtful_below if unsent is None else min(self._doubtful_below, unsent)
            return [
                task_id
                for task_id in task_ids
                if task_id < doubtful or not any(start <= task_id < stop for start, stop in own)
            ]

    def _first_unsent(self) -> int | None:
        """Return the id of the first task in the outbox, which is the lowest."""
        return next((item.task_id for item in self._outbox if isinstance(item, Entry)), None)

    def take_back(self, task_ids: Iterable[int]) -> set[int]:
        """Remove tasks from the outbox, and return the ids of those that were in it."""
        wanted = set(task_ids)
        with self._lock:
            unsent = self._first_unsent()
            if unsent is None or all(task_id < unsent for task_id in wanted):
                return set()
            found = [
                item for item in self._outbox if isinstance(item, Entry) and item.task_id in wanted
            ]
            if not found:
                return set()
            taken = {item.task_id for item in found}
            self._outbox = deque(
                item
                for item in self._outbox
                if not isinstance(item, Entry) or item.task_id not in taken
            )
            number = len(taken)
            self._outbox_tasks -= number
            self._outbox_size -= sum(item.size for item in found)
            self.submitted -= number
            self._flushing = [(goal - number, each) for goal, each in self._flushing]
            return taken

    def unsent(self) -> list[int]:
        """Return the ids of the tasks in the outbox."""
        with self._lock:
            return [item.task_id for item in self._outbox if isinstance(item, Entry)]

    # -- sending, in the reactor's thread

    def _send(self) -> None:
        """Send as many tasks as the credit allows, and request new ids if necessary."""
        batch: list[Entry] = []
        with self._lock:
            self._sending = False
            ready: list[Callable[[], None]] = []
            outbox = self._outbox
            tasks, size = self._credit
            left = MOST_AT_ONCE
            while outbox and left and self._lost is None:
                left -= 1
                item = outbox[0]
                if not isinstance(item, Entry):
                    outbox.popleft()
                    self._send_entries(batch)
                    batch = []
                    self._send_function(item)
                    continue
                if self._sent_tasks >= tasks or self._sent_size >= size:
                    break
                outbox.popleft()
                item_size = item.size
                self._outbox_tasks -= 1
                self._outbox_size -= item_size
                self._sent_tasks += 1
                self._sent_size += item_size
                if item_size > taskwire.INLINE:
                    self._send_entries(batch)
                    batch = []
                    self._send_large(item)
                else:
                    batch.append(item)
            if not left and not self._sending:
                self._sending = True
                self._call_in_reactor(self._send)
            lease = self._wants_ids()
            has_ids = self._next_id < self._stop_id or bool(self._blocks)
            has_room = (
                self._outbox_tasks < OUTBOX_TASKS // 2 and self._outbox_size < OUTBOX_SIZE // 2
            )
            if has_ids and has_room:
                ready, self._room = self._room, []
        self._send_entries(batch)
        if lease:
            self._lease()
        for call in ready:
            call()

    def _send_entries(self, entries: list[Entry]) -> None:
        if entries and self._end.connected:
            link = self._end.link
            for parts, size in taskwire.pack_submissions(entries):
                link.send_packed(parts, size)

    def _send_large(self, entry: Entry) -> None:
        if self._end.connected:
            head, bodies = taskwire.pack_submission_head(entry)
            self._end.link.send_large(taskwire.SUBMIT, 0, head, bodies)

    def _send_function(self, function: Packed | Forgotten) -> None:
        if not self._end.connected:
            return
        link = self._end.link
        if isinstance(function, Forgotten):
            link.send(taskwire.FORGET, 0, function.digest)
        else:
            link.send_bytes(taskwire.FUNCTION, 0, function.digest, function.data)

    def _wants_ids(self) -> bool:
        """Return whether to lease a block of ids: if at most half of the last one is left."""
        if self._leasing or self._blocks or self._lost is not None or not self._own:
            return False
        start, stop = self._own[-1]
        if self._stop_id - self._next_id > (stop - start) // 2:
            return False
        self._leasing = True
        return True

    def _lease(self) -> None:
        def leased(block: list[int]) -> None:
            with self._lock:
                self._leasing = False
                self._blocks.append((block[0], block[1]))
            self._send()

        self._end.ask("lease").addCallbacks(leased, lambda failure: None)

    # -- receiving, in the reactor's thread

    def _done_received(self, flags: int, number: int, meta: Buffer, payload: Buffer) -> None:
        if flags & frames.BULK:
            head = bytes(meta)

            def complete(buffers: list[WritableBuffer] | None, reason: str) -> None:
                if buffers is not None:
                    self.store(b"".join((head, *buffers)))

            self._end.link.bulk.take(unpack_reference(payload), complete)
        elif len(payload):
            self.store(bytes(payload))
        if number and self._end.connected:
            self._end.link.send(taskwire.CONFIRM, number)

    def store(self, data: bytes) -> None:
        """Store results, and notify waiters."""
        places = places_in(data)
        with self._lock:
            new = self.results.add(data, places)
            waiters = list(self._waiters)
        for waiter in waiters:
            waiter.done(new)

    def watch(self, waiter: Waiter, task_ids: Iterable[int]) -> list[int]:
        """Make ``waiter`` wait for more tasks, and return those that are already done."""
        wanted = list(task_ids)
        with self._lock:
            missing = self.results.missing(wanted)
            waiter.missing |= missing
            self._waiters.add(waiter)
        return [task_id for task_id in wanted if task_id not in missing]

    def _credit_received(self, flags: int, accepted: int, meta: Buffer, payload: Buffer) -> None:
        self._credit = taskwire.unpack_credit(meta)
        self._accepted = accepted
        self._send()
        while self._flushing and self._flushing[0][0] <= accepted:
            self._flushing.pop(0)[1].callback(None)

    def _link_lost(self, reason: str) -> None:
        problem = ConnectionError(
            f"the controller is gone ({reason}); results that had not arrived are lost to this client. "
            "Restart the controller if it ended, and create a new client"
        )
        with self._lock:
            self._lost = problem
            self._outbox.clear()
            self._outbox_tasks = self._outbox_size = 0
            waiters, self._waiters = self._waiters, set()
            ready, self._room = self._room, []
        for waiter in waiters:
            waiter.fail(problem)
        for call in ready:
            call()
        flushing, self._flushing = self._flushing, []
        for _, deferred in flushing:
            deferred.errback(problem)

    # -- waiting

    def add_waiter(self, waiter: Waiter, task_ids: Iterable[int]) -> frozenset[int]:
        """Notify ``waiter`` of tasks as they are done, and return those that are not done yet.

        :raises ConnectionError: if the connection to the controller is lost and not all are done.
        """
        with self._lock:
            missing = frozenset(self.results.missing(task_ids))
            if missing:
                if self._lost is not None:
                    raise self._lost
                waiter.missing |= missing
                self._waiters.add(waiter)
        return missing

    def remove_waiter(self, waiter: Waiter) -> None:
        """Stop notifying a waiter."""
        with self._lock:
            self._waiters.discard(waiter)

    def flushed(self) -> Deferred[None]:
        """Return a Deferred that fires once all tasks submitted so far have reached the controller.

        Call this in the reactor's thread.
        """
        deferred: Deferred[None] = Deferred()
        with self._lock:
            lost, wanted = self._lost, self.submitted
        if lost is not None:
            deferred.errback(lost)
        elif self._accepted >= wanted:
            deferred.callback(None)
        else:
            self._flushing.append((wanted, deferred))
        return deferred

    def abort_unsent(self, task_ids: Iterable[int]) -> set[int]:
        """Abort the tasks that are in the outbox, and return their ids."""
        taken = self.take_back(task_ids)
        if taken:
            now = time.time()
            data = b"".join(aborted_result(task_id, now) for task_id in sorted(taken))
            self._call_in_reactor(self.store, data)
        return taken

    def forget(self, task_ids: Iterable[int]) -> None:
        """Delete results."""
        with self._lock:
            for task_id in task_ids:
                self.results.discard(task_id)

    def cleared(self, task_ids: Sequence[int] | None) -> None:
        """Note that the controller has deleted tasks (None: all that were done); in the reactor's thread.

        From now on only the controller knows which of the earlier tasks still exist.
        """
        with self._lock:
            if task_ids is None:
                self._doubtful_below = self._next_id
                self.results.clear()
            else:
                for task_id in task_ids:
                    self.results.discard(task_id)
                self._doubtful_below = max([self._doubtful_below, *(each + 1 for each in task_ids)])
