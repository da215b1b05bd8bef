"""Results on their way to one client, which gets them as fast as it reads.

Batches go out in order, each when there is room on the link; what is not in memory any more is read from the journal
when it is its turn.  A few large results go out at a time.  A batch that needs no more from here is confirmed by the
client; a large result by the end of its transfer.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ipython1.kernel.basics.error import (
    KernelError,
    MessageSizeError,
    ResultAlreadyRetrieved,
    to_wire,
)
from ipython1.kernel.controller.journal.interface import Journal
from ipython1.kernel.controller.journal.rows import PayloadFile, StoredResult
from ipython1.kernel.controller.scheduling.accounts import Batch, Finished
from ipython1.kernel.controller.scheduling.clients import LARGE
from ipython1.kernel.controller.taskrows import TaskRows, with_size
from ipython1.kernel.wire import messages, taskwire
from ipython1.kernel.wire.frames import Bytes
from ipython1.kernel.wire.link import FrameLink
from ipython1.kernel.wire.taskwire import DONE_HEAD, Status

log: Logger = Logger()

AT_ONCE: Final = 64
"""Results that are read from the journal at a time."""

LARGE_AT_ONCE: Final = 4
"""Large results that are on their way at a time."""

Step: TypeAlias = Callable[[], Deferred[None] | None]
"""Something to do when it is its turn; what follows waits for the end of it."""


def no_longer_kept(task_id: int) -> KernelError:
    """Why there is no result of a task that is done."""
    return ResultAlreadyRetrieved(
        f"the result of task {task_id} is no longer kept: results are kept up to an age and a size (see [controller] "
        "in ipython1.kernel.ini), or it had reached only its client when its engine and the controller died"
    )


class ResultPost:
    """What waits to be sent to one client.

    :param confirm: called with the number of a batch that was transferred.
    """

    def __init__(
        self, link: FrameLink, journal: Journal, rows: TaskRows, confirm: Callable[[int], None]
    ) -> None:
        self._link = link
        self._journal = journal
        self._rows = rows
        self._confirm = confirm
        self._steps: deque[Step] = deque()
        self._busy = False
        self._asked = False
        self._large = 0

    def add(self, batch: Batch) -> None:
        """Deliver a batch."""
        self._steps.append(lambda: self._send(batch))
        self._go()

    def tell(self, finished: Sequence[Finished]) -> None:
        """Deliver results that need not be confirmed."""
        for each in finished:
            if len(each.payload) > LARGE:
                self._steps.append(self._telling_large(each))
        small = [each for each in finished if len(each.payload) <= LARGE]
        if small:
            self._steps.append(
                lambda: self._send_frames(taskwire.pack_done(self._rows.rows(small), 0))
            )
        self._go()

    def tell_kept(self, task_ids: Sequence[int], missing: Callable[[int], None]) -> None:
        """Deliver results that are in the journal.

        :param missing: called with each that is not there, when what came before was sent.
        """
        self._read_steps(task_ids, missing)
        self._go()

    def refuse(self, task_id: int, error: tuple[str, str]) -> None:
        """Tell of an error instead of a result."""
        self._steps.append(lambda: self._send_refusal(_head(task_id), error))
        self._go()

    def then(self, call: Callable[[], None]) -> None:
        """Call something when all so far was sent."""
        self._steps.append(call)
        self._go()

    def stop(self) -> None:
        """The link is lost."""
        self._steps.clear()

    # -- one after the other

    def _go(self) -> None:
        link = self._link
        while self._steps and not self._busy and not self._asked and not link.lost:
            if not link.has_room:
                self._asked = True
                link.when_room(self._room)
                return
            if self._large >= LARGE_AT_ONCE:
                return
            waiting = self._steps.popleft()()
            if waiting is not None:
                self._busy = True
                waiting.addErrback(lambda failure: log.failure("a result was not sent", failure))
                waiting.addCallback(self._done)

    def _room(self) -> None:
        self._asked = False
        self._go()

    def _done(self, nothing: object) -> None:
        self._busy = False
        self._go()

    # -- batches

    def _send(self, batch: Batch) -> None:
        if batch.confirmed and batch.taken:
            return
        if not batch.finished:
            self._again(batch)
        elif len(batch.finished) == 1 and batch.size > LARGE:
            self._send_large(batch.finished[0], batch.number)
        else:
            self._send_frames(self._rows.frames(batch))

    def _again(self, batch: Batch) -> None:
        """Deliver a batch that is in the journal only, before what waits behind it."""
        behind, self._steps = self._steps, deque()
        self._read_steps(batch.ids, self._tell_missing)
        self._steps.append(lambda: self._send_frames(taskwire.pack_done((), batch.number)))
        self._steps.extend(behind)

    def _tell_missing(self, task_id: int) -> None:
        self._send_refusal(_head(task_id), to_wire(no_longer_kept(task_id)))

    def _send_frames(self, packed: Iterable[taskwire.Frame]) -> None:
        for parts, size in packed:
            self._link.send_packed(parts, size)

    def _telling_large(self, finished: Finished) -> Step:
        return lambda: self._send_large(finished, 0)

    def _send_large(self, finished: Finished, number: int) -> None:
        self._transfer(self._rows.head(finished), finished.payload, number)

    def _transfer(self, head: bytes, payload: Bytes, number: int) -> None:
        """Send a large result; the number of its batch is confirmed by the end of the transfer."""
        link = self._link

        def ended(reason: str | None) -> None:
            self._large -= 1
            if link.lost:
                return
            if reason is not None:
                task_id = DONE_HEAD.unpack(head)[0]
                problem = MessageSizeError(
                    f"the client did not take the result of task {task_id} ({len(payload)} bytes): {reason}"
                )
                self._send_refusal(head, to_wire(problem))
            if number:
                self._confirm(number)
            self._go()

        self._large += 1
        link.send_large(taskwire.DONE, 0, head, [payload], ended)

    def _send_refusal(self, head: bytes, error: tuple[str, str]) -> None:
        data = messages.pack_json(error)
        task_id, _, _, *rest = DONE_HEAD.unpack(head)
        refused = DONE_HEAD.pack(task_id, len(data), Status.REFUSED, *rest)
        self._send_frames(taskwire.pack_done([(refused, data)], 0))

    # -- from the journal

    def _read_steps(self, task_ids: Sequence[int], missing: Callable[[int], None]) -> None:
        for start in range(0, len(task_ids), AT_ONCE):
            self._steps.append(self._reading(task_ids[start : start + AT_ONCE], missing))

    def _reading(self, task_ids: Sequence[int], missing: Callable[[int], None]) -> Step:
        return lambda: Deferred.fromCoroutine(self._read(task_ids, missing))

    async def _read(self, task_ids: Sequence[int], missing: Callable[[int], None]) -> None:
        """Send results of the journal."""
        try:
            stored = await self._journal.fetch_results(task_ids)
        except KernelError:
            log.failure("results cannot be read from the journal")
            stored = {}
        small = list(_inline(stored.values()))
        self._send_frames(taskwire.pack_done(small, 0) if small else ())
        for task_id in task_ids:
            result = stored.get(task_id)
            if result is None:
                missing(task_id)
            elif not isinstance(result.payload, bytes) or len(result.payload) > LARGE:
                await self._send_stored(result)

    async def _send_stored(self, result: StoredResult) -> None:
        payload = result.payload
        if isinstance(payload, PayloadFile):
            try:
                payload = await self._journal.read_payload(payload, 0, payload.size)
            except KernelError as problem:
                self._send_refusal(result.head, to_wire(problem))
                return
        self._transfer(with_size(result.head, len(payload)), payload, 0)


def _head(task_id: int) -> bytes:
    """The packed head of a task of which nothing else is known."""
    now = time.time()
    return DONE_HEAD.pack(task_id, 0, Status.REFUSED, -1, 0, now, now, 0.0)


def _inline(results: Iterable[StoredResult]) -> Iterator[tuple[bytes, bytes]]:
    """Heads and payloads of those that are not large."""
    for result in results:
        if isinstance(result.payload, bytes) and len(result.payload) <= LARGE:
            yield result.head, result.payload
