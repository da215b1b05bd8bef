"""What a client submits: ids, tasks that are not sent yet, and those that the controller may not have yet.

The submitting threads put tasks into the outbox; the reactor's thread sends as many as the controller's credit allows.

=============  =======================================================  =============================================
a task that is  on                                                      becomes
=============  =======================================================  =============================================
(new)          :meth:`~Outbox.submit`                                   unsent
unsent         :meth:`~Outbox.send`, with credit                        sent
unsent         :meth:`~Outbox.take_back`                                unsent: only that it was aborted
sent           :meth:`~Outbox.credit`: so many are accepted             (gone): the controller has it for certain
sent           :meth:`~Outbox.resync`: it has arrived                   sent
sent           ``resync``: it has not                                   unsent; (gone), if its result is here
sent, unsent   :meth:`~Outbox.fail`: the controller is gone for good    (gone)
=============  =======================================================  =============================================

Ids rise in the order in which tasks are submitted, and tasks are sent in that order.  What was taken back keeps its
place: another client's task may wait for it, and is to learn that it will not be run.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, TypeAlias

from ipython1.kernel.basics.error import MessageSizeError
from ipython1.kernel.tasks.encoder import Encoded, Packed
from ipython1.kernel.tasks.sentfunctions import SentFunctions
from ipython1.kernel.wire import taskwire
from ipython1.kernel.wire.link import FrameLink
from ipython1.kernel.wire.tasksync import ResyncAnswer
from ipython1.kernel.wire.taskwire import Entry, OptionsSpec

OUTBOX_TASKS: Final = 65536
"""The maximum number of unsent tasks; submitting more waits for room."""

OUTBOX_SIZE: Final = 64 * 1024 * 1024
"""The maximum size of unsent tasks, in bytes."""

MOST_AT_ONCE: Final = 4096
"""Tasks that are sent before the reactor's thread and the lock are released."""

MOST_SIZE_AT_ONCE: Final = 1024 * 1024
"""Bytes that are sent before it is looked whether the link has room for more."""


_new_tuple: Final = tuple.__new__


class Forgotten(NamedTuple):
    """A function that no task refers to anymore."""

    digest: bytes


Item: TypeAlias = Entry | Packed | Forgotten


class Sending(NamedTuple):
    """What is to be done after some tasks were sent.

    :ivar more: send more.
    :ivar wants_ids: ask for a block of ids.
    :ivar ready: call what waited for room.
    """

    more: bool
    wants_ids: bool
    ready: list[Callable[[], None]]


class Outbox:
    """The tasks of one client that the controller may not have yet.

    :param wake: called in any thread when there is something for :meth:`send` to do.
    :ivar most_bytes: the largest task and function that the controller takes.
    :ivar lost: why nothing can be submitted any more; None while it can.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._items: deque[Item] = deque()
        self._tasks = 0
        self._size = 0
        self._awake = False
        self._functions = SentFunctions()
        self._own: list[tuple[int, int]] = []
        self._spare: deque[tuple[int, int]] = deque()
        self._next_id = 0
        self._stop_id = 0
        self._leasing = False
        self._room: list[Callable[[], None]] = []
        self._kept: deque[list[Entry]] = deque()
        self._kept_from = 0
        self._sent = 0
        self._sent_size = 0
        self._accepted = 0
        self._shift = (0, 0)
        self._credit = (0, 0)
        self._again_until = 0
        self.most_bytes: int = taskwire.MOST_BYTES
        self.lost: Exception | None = None

    # -- submitting, in any thread

    def submit(self, encoded: Encoded, borrowed: Packed | None = None) -> int | None:
        """Put a task into the outbox.

        :param borrowed: a function of the task that :meth:`borrow` has already put there.
        :returns: the id of the task, or None if there is no room now (see :meth:`when_room`).
        :raises ConnectionError: if the controller is gone for good.
        :raises MessageSizeError: if the task exceeds the controller's limit.
        """
        options, payload, recovery, functions = encoded
        size = len(payload)
        for _, more in recovery:
            size += len(more)
        if size > self.most_bytes:
            raise self._too_large(size)
        with self._lock:
            task_id = self._next_id
            if (
                task_id >= self._stop_id
                or self._tasks >= OUTBOX_TASKS
                or self._size >= OUTBOX_SIZE
                or self.lost is not None
            ):
                return self._no_room()
            for function in functions:
                if function is not borrowed:
                    self._add_function(function)
            self._next_id = task_id + 1
            # This is several times faster than to call the class.
            self._items.append(_new_tuple(Entry, (task_id, options, payload, recovery)))
            self._tasks += 1
            self._size += size
            if self._awake:
                return task_id
            self._awake = True
        self._wake()
        return task_id

    def _too_large(self, size: int) -> MessageSizeError:
        return MessageSizeError.too_large("the task", size, self.most_bytes, "send it in parts")

    def _add_function(self, function: Packed, borrowed: bool = False) -> None:
        if len(function.data) > self.most_bytes:
            raise self._too_large(len(function.data))
        if self._functions.add(function, borrowed):
            self._items.append(function)

    def borrow(self, function: Packed) -> None:
        """Make the controller keep a function until it is released.

        :raises MessageSizeError: if it exceeds the controller's limit.
        """
        with self._lock:
            self._add_function(function, borrowed=True)

    def release(self, function: Packed) -> None:
        """Release a borrowed function, once the tasks that need it are done."""
        with self._lock:
            forgotten = self._functions.release(function)
            self._items.extend(Forgotten(digest) for digest in forgotten)
            wake = bool(forgotten) and not self._awake
            self._awake = self._awake or wake
        if wake:
            self._wake()

    def _no_room(self) -> int | None:
        if self.lost is not None:
            raise self.lost
        if self._next_id >= self._stop_id and self._spare:
            block = self._spare.popleft()
            self._own_until_next()
            self._own.append(block)
            self._next_id, self._stop_id = block
        elif not self._awake:
            self._awake = True
            self._wake()
        return None

    def _own_until_next(self) -> None:
        """Make the last block of ids end with the last one that was given to a task."""
        if self._own:
            self._own[-1] = (self._own[-1][0], self._next_id)

    def when_room(self, call: Callable[[], None]) -> bool:
        """Have ``call`` called once, in the reactor's thread, when there may be room to submit again.

        :returns: False if there is room now; then it is not called.
        """
        with self._lock:
            if self.lost is not None or self._has_room(1):
                return False
            self._room.append(call)
            return True

    def _has_room(self, part: int) -> bool:
        has_ids = self._next_id < self._stop_id or bool(self._spare)
        return has_ids and self._tasks < OUTBOX_TASKS // part and self._size < OUTBOX_SIZE // part

    @property
    def room_awaited(self) -> bool:
        """Whether something waits for room."""
        return bool(self._room)

    # -- who has what, in any thread

    def ranges(self) -> list[tuple[int, int]]:
        """Return the ids that were given to tasks, as ranges (start, stop)."""
        with self._lock:
            self._own_until_next()
            return list(self._own)

    def foreign(self, task_ids: list[int]) -> list[int]:
        """Return those of some ids, in rising order, that this client has not given to tasks."""
        found: list[int] = []
        position = 0
        for start, stop in self.ranges():
            begin = bisect_left(task_ids, start, position)
            found += task_ids[position:begin]
            position = bisect_left(task_ids, stop, begin)
        return found + task_ids[position:]

    def _first_unsent(self) -> int | None:
        """Return the id of the first unsent task, which is the lowest."""
        return next((item.task_id for item in self._items if isinstance(item, Entry)), None)

    @property
    def first_open(self) -> int:
        """The lowest id that is not accepted; the next one to be given, if all are."""
        with self._lock:
            if self._kept:
                return self._kept[0][self._kept_from].task_id
            unsent = self._first_unsent()
            return self._next_id if unsent is None else unsent

    @property
    def all_sent_again(self) -> bool:
        """Whether nothing is unsent that was sent before; credit does not hold it up."""
        with self._lock:
            unsent = self._first_unsent()
            return unsent is None or unsent >= self._again_until

    @property
    def next_id(self) -> int:
        """The id that the next task gets, unless a new block of ids is begun."""
        return self._next_id

    def take_back(self, task_ids: Iterable[int]) -> set[int]:
        """Abort unsent tasks, of which only that will be sent; return the ids of those that were."""
        wanted = set(task_ids)
        with self._lock:
            unsent = self._first_unsent()
            if unsent is None or all(task_id < unsent for task_id in wanted):
                return set()
            taken: set[int] = set()
            aborted: dict[bytes, bytes] = {}
            items: deque[Item] = deque()
            for item in self._items:
                if isinstance(item, Entry) and item.task_id in wanted and not item.is_aborted:
                    taken.add(item.task_id)
                    self._size -= item.size
                    options = aborted.get(item.options)
                    if options is None:
                        options = OptionsSpec.unpack(item.options).as_aborted().pack()
                        aborted[item.options] = options
                    item = Entry(item.task_id, options, b"")
                items.append(item)
            self._items = items
            return taken

    def unsent(self) -> list[int]:
        """Return the ids of unsent tasks, without those that are aborted."""
        with self._lock:
            return [
                item.task_id
                for item in self._items
                if isinstance(item, Entry) and not item.is_aborted
            ]

    # -- sending, in the reactor's thread

    def begin(self, block: tuple[int, int], credit: tuple[int, int]) -> None:
        """Take the first block of ids, and credit."""
        with self._lock:
            self._own.append(block)
            self._next_id, self._stop_id = block
            self._credit = credit

    def add_block(self, block: tuple[int, int]) -> None:
        """Take another block of ids."""
        with self._lock:
            self._leasing = False
            self._spare.append(block)

    def no_block(self) -> None:
        """The block that was asked for did not come."""
        with self._lock:
            self._leasing = False

    def stall(self) -> None:
        """Do not wake for tasks until the next :meth:`send`; the link takes nothing now."""
        self._awake = True

    def send(self, link: FrameLink) -> Sending:
        """Send as many tasks as the credit allows, and as are sent at once."""
        parts: list[list[Entry] | Packed | Forgotten] = []
        with self._lock:
            items = self._items
            tasks, most_size = self._credit
            batch: list[Entry] = []
            stalled = False
            room = MOST_SIZE_AT_ONCE
            for _ in range(min(MOST_AT_ONCE, len(items))):
                item = items[0]
                if not isinstance(item, Entry):
                    parts += [batch, item]
                    batch = []
                    items.popleft()
                    continue
                if (
                    self._sent >= tasks or self._sent_size >= most_size
                ) and item.task_id >= self._again_until:
                    stalled = True
                    break
                if room <= 0:
                    break
                items.popleft()
                size = item.size if item.recovery else len(item.payload)
                self._tasks -= 1
                self._size -= size
                self._sent += 1
                self._sent_size += size
                if size > taskwire.INLINE:
                    parts += [batch, [item]]
                    batch = []
                else:
                    batch.append(item)
                    room -= size
            parts.append(batch)
            self._kept.extend([part for part in parts if isinstance(part, list) and part])
            # Without credit there is nothing to do before more comes.
            self._awake = bool(items)
            more = self._awake and not stalled
            wants_ids = self._wants_ids()
            ready: list[Callable[[], None]] = []
            if self._room and self._has_room(2):
                ready, self._room = self._room, []
        for part in parts:
            if not isinstance(part, list):
                _send_function(link, part)
            elif part:
                _send_tasks(link, part)
        return Sending(more, wants_ids, ready)

    def _wants_ids(self) -> bool:
        """Return whether to ask for a block of ids: if at most half of the last one is left."""
        if self._leasing or self._spare or self.lost is not None or not self._own:
            return False
        if self._stop_id - self._next_id > (self._stop_id - self._own[-1][0]) // 2:
            return False
        self._leasing = True
        return True

    # -- what the controller has, in the reactor's thread

    def credit(self, accepted: int, credit: tuple[int, int]) -> None:
        """The controller has ``accepted`` tasks for certain, and gives this credit."""
        with self._lock:
            tasks, size = self._shift
            self._credit = (credit[0] - tasks, credit[1] - size)
            self._accept(accepted - tasks)

    def _accept(self, accepted: int) -> None:
        left = accepted - self._accepted
        kept = self._kept
        while left > 0 and kept:
            here = len(kept[0]) - self._kept_from
            if left < here:
                self._kept_from += left
                self._accepted += left
                return
            kept.popleft()
            self._kept_from = 0
            self._accepted += here
            left -= here

    def known_functions(self) -> list[bytes]:
        """Return the digests of the functions that the controller has been sent and is to have."""
        with self._lock:
            unsent = {item.digest for item in self._items if isinstance(item, Packed)}
            return [digest for digest in self._functions.by_digest() if digest not in unsent]

    def resync(self, answer: ResyncAnswer, is_open: Callable[[int], bool]) -> list[tuple[int, int]]:
        """Go on from what the controller has; what it has not, is unsent again.

        :param is_open: returns whether a task has no result yet; those that have one are not sent again.
        :returns: ranges of ids that it had, or should have had, and does not know any more.
        """
        with self._lock:
            self._own_until_next()
            leases = {lease.start: lease.next for lease in answer.leases}
            nexts = [(start, leases.get(start)) for start, _ in self._own]
            arrived, again = self._sort_kept(nexts)
            self._sent = self._accepted + len(arrived)
            self._sent_size -= sum(entry.size for entry in again)
            again = [entry for entry in again if entry.is_aborted or is_open(entry.task_id)]
            self._kept = deque([arrived] if arrived else [])
            self._kept_from = 0
            self._shift = (answer.arrived - self._sent, answer.arrived_size - self._sent_size)
            self._credit = (
                answer.credit[0] - self._shift[0],
                answer.credit[1] - self._shift[1],
            )
            lacking = set(answer.lacking)
            functions = [
                function
                for digest, function in self._functions.by_digest().items()
                if digest in lacking
            ]
            self._items.extendleft(reversed([*functions, *again]))
            if again:
                self._again_until = max(self._again_until, again[-1].task_id + 1)
            self._tasks += len(again)
            self._size += sum(entry.size for entry in again)
            self._accept(answer.accepted - self._shift[0])
            unsent = self._first_unsent()
            first = arrived[0].task_id if arrived else self._next_id if unsent is None else unsent
            return [
                (start if following is None else following, min(stop, first))
                for (start, stop), (_, following) in zip(self._own, nexts, strict=True)
            ]

    def _sort_kept(self, nexts: list[tuple[int, int | None]]) -> tuple[list[Entry], list[Entry]]:
        """Return the kept tasks that have arrived, and those that have not.

        :param nexts: the first id of each block of ids, and the first one of it that has not arrived.
        """
        starts = [start for start, _ in nexts]
        arrived: list[Entry] = []
        again: list[Entry] = []
        kept = [entry for batch in self._kept for entry in batch]
        for entry in kept[self._kept_from :]:
            following = nexts[bisect_right(starts, entry.task_id) - 1][1]
            here = following is not None and entry.task_id < following
            (arrived if here else again).append(entry)
        return arrived, again

    def fail(self, problem: Exception) -> list[Callable[[], None]]:
        """The controller is gone for good; returns what waited for room."""
        with self._lock:
            self.lost = problem
            self._items.clear()
            self._kept.clear()
            self._kept_from = self._tasks = self._size = 0
            ready, self._room = self._room, []
            return ready


def _send_function(link: FrameLink, function: Packed | Forgotten) -> None:
    if isinstance(function, Forgotten):
        link.send(taskwire.FORGET, 0, function.digest)
    else:
        link.send_bytes(taskwire.FUNCTION, 0, function.digest, function.data)


def _send_tasks(link: FrameLink, tasks: list[Entry]) -> None:
    first = tasks[0]
    if first.size > taskwire.INLINE:  # which is alone
        head, bodies = taskwire.pack_submission_head(first)
        link.send_large(taskwire.SUBMIT, 0, head, bodies)
        return
    for parts, size in taskwire.pack_submissions(tasks):
        link.send_packed(parts, size)
