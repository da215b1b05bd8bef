"""A client's tasks: what it submits, and the results.

:class:`ClientTasks` is shared by the blocking client's threads and the reactor's thread.  It joins the outbox (see
:mod:`~ipython1.kernel.tasks.outbox`), the results that arrive (:mod:`~ipython1.kernel.tasks.deliveries`) and who waits
for them, and settles with a controller that is back who has what.

===========  ==================================================  ==================================================
state        on                                                  becomes
===========  ==================================================  ==================================================
(new)        :meth:`~ClientTasks.begin`                          in touch
in touch     the link is lost                                    away: nothing is sent, submitting goes on
away         the link is made again                              settling: asks what the controller has
settling     its answer                                          in touch: sends again what it has not
settling     the link is lost                                    away
any          the link is lost for good                           lost: everything that waits fails
===========  ==================================================  ==================================================
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as AnswerLate
from twisted.logger import Logger

from ipython1.kernel.basics.error import (
    ClientClosed,
    ConnectionError,
    KernelError,
    ResultNotCompleted,
)
from ipython1.kernel.calls.awaynotice import write_notice
from ipython1.kernel.calls.clientlink import CLOSED, ClientEnd
from ipython1.kernel.tasks.deliveries import Deliveries
from ipython1.kernel.tasks.encoder import Packed
from ipython1.kernel.tasks.outbox import Outbox
from ipython1.kernel.tasks.resultbook import ResultBook, aborted_result, places_in, refused_result
from ipython1.kernel.tasks.runningoutput import RunningOutput
from ipython1.kernel.wire import taskwire
from ipython1.kernel.wire.frames import Buffer, Bytes
from ipython1.kernel.wire.link import FrameLink
from ipython1.kernel.wire.messages import unpack_ids
from ipython1.kernel.wire.tasksync import ResyncAnswer, ranges_of

log: Logger = Logger()

LEASE_AGAIN = 1.0
"""Seconds after which ids are asked for again that the controller could not give."""

FAILED_MOST = 100_000
"""The last failed tasks, of which a controller that is back is told."""

IDS_AT_ONCE = 10_000
"""The maximum number of ids in a question."""


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
    :param reactor: calls functions in its thread (``callFromThread``, ``callLater``).
    :ivar running: what tasks write while they run.
    :ivar submit: puts a task into the outbox; see :meth:`Outbox.submit`.
    """

    def __init__(self, end: ClientEnd, reactor: Any) -> None:
        self._end = end
        self._reactor = reactor
        self._outbox = Outbox(lambda: reactor.callFromThread(self._send))
        self._link: FrameLink | None = None
        self._no_room_on: FrameLink | None = None
        self._sent_again: Deferred[None] | None = None
        self._lock = threading.Lock()
        self._waiters: set[Waiter] = set()
        self._flushing: list[tuple[int, Deferred[None]]] = []
        self.results: ResultBook = ResultBook()
        self._failed: deque[int] = deque(maxlen=FAILED_MOST)
        self.running: RunningOutput = RunningOutput()
        self.submit: Callable[..., int | None] = self._outbox.submit
        self.borrow: Callable[[Packed], None] = self._outbox.borrow
        self.release: Callable[[Packed], None] = self._outbox.release
        self.unsent: Callable[[], list[int]] = self._outbox.unsent
        deliveries = Deliveries(end, self.store, self.results.is_open)
        end.handlers[taskwire.DONE] = deliveries.received
        end.handlers[taskwire.CREDIT] = self._credit_received
        end.handlers[taskwire.NOTE] = self._note_received
        end.handlers[taskwire.TASK_OUTPUT] = self._output_received
        end.on_lost.append(self._lost)
        end.others_wait.append(self._something_waits)

    # -- the link, in the reactor's thread

    async def begin(self, timeout: float | None = None) -> None:
        """Get the first ids and credit.

        :param timeout: how long the controller may take, in seconds; None (default) for any time.
        :raises ConnectionError: if the controller is gone for good.
        :raises ResultNotCompleted: if the time is over; tells what is wrong with the controller (a full disk).
        """
        answer = self._end.ask("begin")
        if timeout is not None:
            answer.addTimeout(timeout, self._reactor)
        try:
            block, credit = await answer
        except AnswerLate:
            late = f"no answer within {timeout:g} s"
            raise ResultNotCompleted("; ".join((late, *self._end.warnings.lines))) from None
        self._limit_sizes()
        self._outbox.begin((block[0], block[1]), (credit[0], credit[1]))
        self._end.settle_first = lambda: Deferred.fromCoroutine(self._settle())
        if self._end.connected:
            self._link = self._end.link
            self._send()

    def _limit_sizes(self) -> None:
        most = self._end.max_message or taskwire.MOST_BYTES
        self._outbox.most_bytes = min(most, taskwire.MOST_BYTES)

    async def _settle(self) -> None:
        """Find out what a controller has that is back, and send again what it has not."""
        link = self._end.link
        self._limit_sizes()
        try:
            told = await self._end.ask(
                "resync",
                missing=ranges_of(self._open_ids()),
                functions=[digest.hex() for digest in self._outbox.known_functions()],
                failed=ranges_of(sorted(set(self._failed))),
            )
            gone = self._outbox.resync(ResyncAnswer.unpack(told), self.results.is_open)
        except ConnectionError:
            return  # it is away again, or gone for good
        except Exception as problem:
            log.failure("the controller that is back cannot be understood")
            self._end.give_up(f"what it has of this client is not known: {problem}")
            return
        if link.lost:
            return
        self._link = link
        self._fail_lost(gone)
        self._fetch_again()
        # What is asked after this may be about tasks that were sent before.
        sent_again = self._sent_again = Deferred()
        self._send()
        self._tell_flushed()
        await sent_again

    def _open_ids(self) -> Iterable[int]:
        for start, stop in self._outbox.ranges():
            yield from self.results.open_among(start, stop)

    def _fail_lost(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Fail tasks that the controller had said it had, and has not."""
        lost = [
            task_id
            for start, stop in ranges
            if start < stop
            for task_id in self.results.open_among(start, stop)
        ]
        for task_id in lost:
            problem = KernelError(
                f"task {task_id} is lost: the controller had acknowledged it and does not know it any more; "
                "its journal is incomplete. Submit it again"
            )
            self.store(refused_result(task_id, time.time(), problem))

    def _fetch_again(self) -> None:
        """Ask again for the tasks of others that are waited for: the controller may have forgotten who waits."""
        with self._lock:
            waited = {task_id for waiter in self._waiters for task_id in waiter.missing}
        foreign = self._outbox.foreign(sorted(waited))
        for start in range(0, len(foreign), IDS_AT_ONCE):
            self._fetch_part(foreign[start : start + IDS_AT_ONCE])

    def _fetch_part(self, task_ids: list[int]) -> None:
        def failed(failure: Any) -> None:
            if failure.check(ConnectionError):
                return  # it is gone for good, which fails all who wait
            if len(task_ids) > 1:
                for task_id in task_ids:
                    self._fetch_part([task_id])
            else:
                self.store(refused_result(task_ids[0], time.time(), failure.value))

        self._end.ask("fetch", taskids=task_ids, wait=True).addErrback(failed)

    def _something_waits(self) -> bool:
        return bool(self._waiters or self._flushing or self._outbox.room_awaited)

    def _lost(self, reason: str) -> None:
        problem: ConnectionError
        if self._end.closed:
            problem = ClientClosed(
                f"{CLOSED} by its close(); create a new client, which can fetch results by their ids"
            )
        else:
            problem = ConnectionError(
                f"the controller is gone ({reason}); results that had not arrived are lost to this client. When it is "
                "there again, create a new client; results that it has kept can be fetched by their ids"
            )
        self._link = None
        ready = self._outbox.fail(problem)
        with self._lock:
            waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            waiter.fail(problem)
        for call in ready:
            call()
        flushing, self._flushing = self._flushing, []
        for _, deferred in flushing:
            deferred.errback(problem)

    # -- sending, in the reactor's thread

    def _send(self) -> None:
        """Send what may be sent, and request new ids if necessary."""
        link = self._link
        if link is None or link.lost:
            return  # the outbox does not wake anybody before it is called again
        if not link.has_room:
            self._outbox.stall()
            if self._no_room_on is not link:
                self._no_room_on = link
                link.when_room(self._send_on)
            return
        sending = self._outbox.send(link)
        if self._sent_again is not None and self._outbox.all_sent_again:
            sent_again, self._sent_again = self._sent_again, None
            sent_again.callback(None)
        if sending.more:
            self._reactor.callFromThread(self._send)
        if sending.wants_ids:
            self._lease()
        for call in sending.ready:
            call()

    def _send_on(self) -> None:
        self._no_room_on = None
        self._send()

    def _lease(self) -> None:
        def leased(block: list[int]) -> None:
            self._outbox.add_block((block[0], block[1]))
            self._send()

        def failed(failure: Any) -> None:
            if failure.check(ConnectionError):
                return  # it is gone for good, which fails all who wait
            log.warn("the controller gives no ids: {reason}", reason=failure.getErrorMessage())
            self._outbox.no_block()
            self._reactor.callLater(LEASE_AGAIN, self._send)

        self._end.ask("lease").addCallbacks(leased, failed)

    def _credit_received(self, flags: int, accepted: int, meta: Buffer, payload: Buffer) -> None:
        if self._link is None or self._link.lost:
            return  # the answer to ``resync`` says more
        self._outbox.credit(accepted, taskwire.unpack_credit(meta))
        self._send()
        self._tell_flushed()

    def _note_received(self, flags: int, ident: int, meta: Buffer, payload: Buffer) -> None:
        write_notice(str(payload, errors="replace"))

    def _output_received(self, flags: int, task_id: int, meta: Buffer, payload: Buffer) -> None:
        engine_id, stream = unpack_ids(meta[:4])[0], bytes(meta[4:]).decode()
        self.running.add(task_id, engine_id, stream, bytes(payload).decode(errors="replace"))

    def _tell_flushed(self) -> None:
        if self._flushing:
            first = self._outbox.first_open
            while self._flushing and self._flushing[0][0] <= first:
                self._flushing.pop(0)[1].callback(None)

    def flushed(self) -> Deferred[None]:
        """Return a Deferred that fires once the controller has all tasks submitted so far, for certain.

        Call this in the reactor's thread.
        """
        deferred: Deferred[None] = Deferred()
        if self._outbox.lost is not None:
            deferred.errback(self._outbox.lost)
        else:
            self._flushing.append((self._outbox.next_id, deferred))
            self._tell_flushed()
        return deferred

    # -- submitting, in any thread

    def when_room(self, call: Callable[[], None]) -> None:
        """Call ``call`` once, in the reactor's thread, when there may be room to submit again."""
        if not self._outbox.when_room(call):
            self._reactor.callFromThread(call)

    def take_back(self, task_ids: Iterable[int]) -> set[int]:
        """Abort unsent tasks, whose results nobody here waits for, and return their ids."""
        taken = self._outbox.take_back(task_ids)
        if taken:
            with self._lock:
                self.results.never(taken)
        return taken

    def abort_unsent(self, task_ids: Iterable[int]) -> set[int]:
        """Abort unsent tasks, which fail at once, and return their ids."""
        taken = self._outbox.take_back(task_ids)
        if taken:
            now = time.time()
            data = b"".join(aborted_result(task_id, now) for task_id in sorted(taken))
            self._reactor.callFromThread(self.store, data)
        return taken

    # -- results

    def store(self, data: Bytes) -> None:
        """Store results, and notify waiters; in the reactor's thread."""
        places = places_in(data, self._failed)
        with self._lock:
            new = self.results.add(data, places)
            self.running.forget(new)
            waiters = list(self._waiters)
        for waiter in waiters:
            waiter.done(new)

    def to_ask_for(self, task_ids: Iterable[int]) -> list[int]:
        """Return the tasks of which only the controller can tell more: of others, cleared, never sent, or read before.

        The results of the last ones are stored again when they come.
        """
        wanted = sorted(task_ids)
        with self._lock:
            marked = self.results.want(wanted)
        foreign = self._outbox.foreign(wanted)
        return sorted(marked.union(foreign)) if marked else foreign

    def watch(self, waiter: Waiter, task_ids: Iterable[int]) -> list[int]:
        """Make ``waiter`` wait for more tasks, and return those that are already done."""
        wanted = list(task_ids)
        with self._lock:
            missing = self.results.missing(wanted)
            waiter.missing |= missing
            self._waiters.add(waiter)
        return [task_id for task_id in wanted if task_id not in missing]

    def add_waiter(self, waiter: Waiter, task_ids: Iterable[int]) -> frozenset[int]:
        """Notify ``waiter`` of tasks as they are done, and return those that are not done yet.

        :raises ConnectionError: if the controller is gone for good and not all are done.
        """
        with self._lock:
            missing = frozenset(self.results.missing(task_ids))
            if missing:
                if self._outbox.lost is not None:
                    raise self._outbox.lost
                waiter.missing |= missing
                self._waiters.add(waiter)
        return missing

    def remove_waiter(self, waiter: Waiter) -> None:
        """Stop notifying a waiter."""
        with self._lock:
            self._waiters.discard(waiter)

    def forget(self, task_ids: Iterable[int]) -> None:
        """Delete results that were read."""
        with self._lock:
            for task_id in task_ids:
                self.results.discard(task_id)

    def cleared(self, task_ids: Iterable[int] | None) -> None:
        """Note that the controller has deleted tasks (None: all that were done); in the reactor's thread."""
        with self._lock:
            self.results.cleared(task_ids)
