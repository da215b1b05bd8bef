"""Tasks in an engine: an inbox that the reactor's thread fills and the main thread empties.

Runs are begun in the order in which they came.  Results are told in batches: when there is nothing more to
run, when the last batch is ``FLUSH_AFTER`` seconds ago, and around a *guarded* run, which may end the process.  They
are kept until the controller has them for certain (see :mod:`~ipython1.kernel.engine.taskresults`).

=============================  ============================  =======================================================
a run that is                  on                            becomes
=============================  ============================  =======================================================
arriving                       its data are here             waiting; nothing, if this run is held already
arriving                       there is no memory for it     ended, with ``REFUSED`` and the reason
arriving                       the link is lost              (gone): it never came
waiting                        the main thread takes it      current
waiting                        ``RETRACT``                   given back (the controller is told)
waiting                        ``STOP``                      ended, with ``STOPPED``
current                        ``STOP``                      interrupted; ends as it ends
current                        its end                       ended
ended                          ``SAFE``                      (gone)
waiting                        an unknown controller         ended, with ``STOPPED``
current                        an unknown controller         interrupted; ends as it ends
ended                          an unknown controller         (gone)
=============================  ============================  =======================================================

The main thread takes nothing while the link is lost, or while too many results wait for ``SAFE``.  A greeting names
what waits, is current or has ended; a controller that knows this engine goes on from there, and is sent the results
again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from time import perf_counter  # user code may replace the one in the module
from typing import Any, Final, TypeAlias

from twisted.logger import Logger

from ipython1.core.interrupt import InterruptGate
from ipython1.core.userhandlers import UserHandlers
from ipython1.kernel.basics.error import MessageSizeError, to_wire
from ipython1.kernel.engine.runner import Runner
from ipython1.kernel.engine.taskresults import TaskResults
from ipython1.kernel.wire import frames, messages, taskwire
from ipython1.kernel.wire.arrivals import Arrivals
from ipython1.kernel.wire.frames import Buffer, Bytes
from ipython1.kernel.wire.link import Link, ThreadOutbox
from ipython1.kernel.wire.taskwire import Status

log: Logger = Logger()

FLUSH_AFTER: Final = 0.002
"""Seconds after which results are told even if there is more to run."""

LOOK_EVERY: Final = 0.005
"""Seconds between looks at results that wait for the end of a long run."""

LONG: Final = 4
"""A run that was there at so many looks is reported.  The thread that runs tasks waits for the network after each such
run, so that it is certain which run a process died of; shorter ones are not worth it."""

STOP_AGAIN: Final = 0.01  # seconds after which a run that was just beginning is interrupted again

DEPEND_LIMIT: Final = 5.0
"""Seconds that a dependency function may take; then it is interrupted, which means no."""

MOST_OF_PROBLEM: Final = 300  # characters that are told of what a dependency function raised

SYNC_LIMIT: Final = 1.0  # seconds that the main thread waits at most for something to be sent


Key: TypeAlias = tuple[int, int]
"""Task id and attempt, which name a run for ever."""


class _Question:
    """An evaluation of a dependency function; a new object each time."""


class EngineTasks:
    """The tasks of an engine.

    :param runner: runs them.
    :param gate: interrupts them.
    :param outbox: sends, from any thread.
    :param reactor: calls things in its own thread (``callFromThread``, ``callLater``).
    :param wake: wakes the main thread.
    :param handlers: the signal handlers of user code, which run only while it does.
    :ivar watch: called in the reactor's thread with a long run, and ``ended`` in the main thread with each at its end.
    """

    def __init__(
        self,
        runner: Runner,
        gate: InterruptGate,
        outbox: ThreadOutbox,
        reactor: Any,
        wake: Callable[[], None],
        handlers: UserHandlers | None = None,
    ) -> None:
        self._runner = runner
        self._handlers = UserHandlers() if handlers is None else handlers
        self._gate = gate
        self._outbox = outbox
        self._reactor = reactor
        self._wake = wake
        self._inbox: deque[Key] = deque()
        self._waiting: dict[Key, tuple[int, Bytes]] = {}
        self._held: set[Key] = set()
        self._questions: deque[bytes] = deque()
        self._question: _Question | None = None
        self._asked: bytes | None = None
        self._limit_call: Any = None
        self._current: Key | None = None
        self._reported: Key | None = None
        self._stopped: Key | None = None
        self._arriving = Arrivals()
        self._stop_on_arrival: set[Key] = set()
        self._verdicts: dict[Key, bytes] = {}
        self._results = TaskResults(outbox)
        self._running_at_greeting: Key | None = None
        self._name = "the engine"
        self._told_at = 0.0
        self._look: Any = None
        self._last_look: Key | None = None
        self._looks = 0
        self.properties_version: int = 0
        self.watch: Callable[[Key | None], object] = bool
        self.ended: Callable[[Key], object] = bool
        self.handlers: dict[int, Callable[[int, int, Buffer, Buffer], None]] = {
            taskwire.RUN: self._run_received,
            taskwire.FUNCTION: self._function_received,
            taskwire.FORGET: self._forget_received,
            taskwire.RETRACT: self._retract_received,
            taskwire.STOP: self._stop_received,
            taskwire.ASK_DEPEND: self._question_received,
            taskwire.SAFE: self._safe_received,
        }

    # -- the main thread

    def run_one(self) -> bool:
        """Run the next task, or answer a question about dependencies; False when there is nothing to do."""
        results = self._results
        link = results.link
        if link is None or link.lost:
            # What waits here may be with another engine by now, and must not run twice.
            return False
        if self._questions:
            self._answer(self._questions.popleft())
            return True
        if results.full:
            return False
        entry = self._next_run()
        key = self._current
        if entry is None or key is None:
            return False
        flags, payload = entry
        if flags & taskwire.GUARDED:
            self._tell_begin(key, link)
        gate = self._gate
        result: Bytes = b""
        status, duration = Status.STOPPED, 0.0
        try:
            gate.current = key
            self._handlers.begins()
            # It may have been told to end while it was beginning.
            if self._stopped != key:
                status, result, duration = self._runner.run(payload, self._stopping)
        except KeyboardInterrupt:
            pass  # it came between two lines of ours
        except BaseException as late:  # a signal handler or a trace function of user code
            self._handlers.put_aside()
            status, result = Status.FAILED, self._runner.failed(late)
        finally:
            gate.current = None
        self._handlers.task_ended()
        self.ended(key)
        # It has ended before it stops being current, so that a greeting names it at any time.
        now = self._add((key[0], key[1], status, duration, result))
        self._current = None
        if self._reported is key:
            self._tell()
            self._sync()
        elif now - self._told_at >= FLUSH_AFTER:
            self._tell()
        return True

    def _add(self, result: taskwire.Result) -> float:
        """A run of the main thread has come to this; returns the time."""
        results, note = self._results, self._runner.note
        if self._verdicts and (verdict := self._verdicts.pop(result[:2], None)):
            result = (*result[:2], Status.STOPPED, result[3], verdict)
        if note is not None and result[2] in (Status.OK, Status.FAILED):
            results.note((result[0], result[1]), note)
        results.add(result)
        results.ended = now = perf_counter()
        return now

    def _next_run(self) -> tuple[int, Bytes] | None:
        """The flags and the payload of the next run, which is current now; None if there is none."""
        while self._inbox:
            # It is current before it stops waiting, so that a stop and a greeting find it at any time.
            key = self._current = self._inbox.popleft()
            # Whoever takes it out of ``_waiting`` has it; the reactor's thread may have been first.
            entry = self._waiting.pop(key, None)
            if entry is not None:
                return entry
            self._current = None
        return None

    def broken_off(self, trouble: BaseException) -> None:
        """See :class:`~ipython1.kernel.engine.worker.WorkSource`."""
        key = self._current
        if key is not None:
            self._gate.current = None
            self._add((*key, Status.FAILED, 0.0, self._runner.failed(trouble)))
            self._current = None
            self._tell()
        digest, self._asked = self._asked, None
        if digest is not None:
            self._gate.current = self._question = None
            self._post_answer(digest, self.properties_version, False, type(trouble).__name__)

    def _tell_begin(self, run: Key, link: Link) -> None:
        """Tell all results so far, and then that a run begins."""
        self._tell()
        self._reported = run
        self._outbox.post(*taskwire.pack_begun(run), link)
        self._sync()

    def _stopping(self) -> bool:
        """Whether the current run is to end."""
        return self._stopped is not None and self._stopped == self._current

    def idle(self) -> None:
        """There is nothing more to run for now."""
        if self._results:
            self._tell()

    def _tell(self) -> None:
        self._told_at = perf_counter()
        self._results.tell()

    def _answer(self, digest: bytes) -> None:
        # Properties may have changed since it was asked; the answer is about the present ones.
        version = self.properties_version
        self._asked = digest
        question = self._question = _Question()
        self._reactor.callFromThread(self._limit, question)
        try:
            self._gate.current = question
            self._handlers.begins()
            answer, problem = self._runner.depends(digest)
        except BaseException as raised:
            # It came between two lines of ours.
            answer, problem = False, type(raised).__name__
        finally:
            self._gate.current = self._question = None
        self._handlers.ended()
        self._asked = None
        self._post_answer(digest, version, answer, problem)

    def _post_answer(self, digest: bytes, version: int, answer: bool, problem: str) -> None:
        meta = taskwire.pack_depends(digest, answer, " ".join(problem.split())[:MOST_OF_PROBLEM])
        frame = frames.pack_frame(taskwire.DEPENDS, version, meta)
        self._outbox.post([frame], len(frame))

    def _limit(self, question: _Question) -> None:
        """Have a dependency function end in time."""
        if self._limit_call is not None and self._limit_call.active():
            self._limit_call.cancel()
        if self._question is question:
            self._limit_call = self._reactor.callLater(DEPEND_LIMIT, self._end, question)

    def _end(self, question: _Question) -> None:
        if self._question is question and not self._gate.request(question):
            self._limit_call = self._reactor.callLater(STOP_AGAIN, self._end, question)

    def _sync(self) -> None:
        """Return when what was posted is on its way."""
        written = threading.Event()
        self._reactor.callFromThread(self._push_out, written)
        written.wait(SYNC_LIMIT)

    # -- the reactor's thread

    @property
    def _link(self) -> Link | None:
        return self._outbox.link

    def _push_out(self, written: threading.Event) -> None:
        link = self._link
        if link is not None:
            link.flush()
        # What the socket did not take at once is written in the next turn.
        later = self._reactor.callLater
        later(0, lambda: later(0, written.set))
        self._look_soon()
        self.watch(self._current)

    def _look_soon(self) -> None:
        if self._look is None:
            self._look = self._reactor.callLater(LOOK_EVERY, self._look_at_run)

    def _look_at_run(self) -> None:
        """Tell results that wait for the end of a long run, and tell of the run itself when it is very long."""
        self._look = None
        run = self._current
        if run is None or run is not self._last_look:
            self._last_look = run
            self._looks = 0
        elif run is not self._reported:
            self._looks += 1
            self.idle()
            if self._looks >= LONG:
                self._reported = run
                self.watch(run)
                if self._link is not None:
                    self._link.send_packed(*taskwire.pack_begun(run))
        if (run is not None and run is not self._reported) or self._waiting:
            self._look_soon()

    def _run_received(self, flags: int, ident: int, meta: Buffer, payload: Buffer) -> None:
        if not flags & frames.BULK:
            runs = taskwire.unpack_runs(payload)
            self._arriving.in_turn(lambda: self._put(runs))
            return
        task_id, attempt, run_flags = taskwire.unpack_run(meta)
        link = self._link
        assert link is not None
        self._arriving.transfer(
            link,
            payload,
            lambda data: self._put([(task_id, attempt, run_flags, data)]),
            lambda reason: self._refuse((task_id, attempt), reason),
        )

    def _refuse(self, run: Key, reason: str) -> None:
        """Tell the controller why a run cannot begin."""
        self._stop_on_arrival.discard(run)
        problem = MessageSizeError(f"task {run[0]} did not arrive at {self._name}: {reason}")
        payload = messages.pack_json(to_wire(problem))
        self._results.add((*run, Status.REFUSED, 0.0, payload))
        self._tell()

    def _function_received(self, flags: int, ident: int, meta: Buffer, payload: Buffer) -> None:
        digest = bytes(meta)
        if flags & frames.BULK:
            link = self._link
            assert link is not None
            self._arriving.transfer(
                link,
                payload,
                lambda data: self._runner.add_function(digest, bytes(data)),
                lambda reason: self._runner.lack_function(
                    digest, f"the function of this task did not arrive at {self._name}: {reason}"
                ),
            )
        else:
            self._runner.add_function(digest, bytes(payload))

    def _forget_received(self, flags: int, ident: int, meta: Buffer, payload: Buffer) -> None:
        self._runner.forget_function(bytes(meta))

    def _put(self, runs: Sequence[tuple[int, int, int, Bytes]]) -> None:
        waiting, inbox, held = self._waiting, self._inbox, self._held
        for task_id, attempt, flags, payload in runs:
            run = (task_id, attempt)
            if run not in waiting and run not in held and run != self._current:
                waiting[run] = (flags, payload)
                inbox.append(run)
        self._look_soon()
        self._wake()
        if self._stop_on_arrival:
            for task_id, attempt, _, _ in runs:
                if (task_id, attempt) in self._stop_on_arrival:
                    self._stop_on_arrival.discard((task_id, attempt))
                    self._stop((task_id, attempt))

    def _retract_received(self, flags: int, ident: int, meta: Buffer, payload: Buffer) -> None:
        runs = taskwire.unpack_keys(payload)
        # What is still on its way can be given back when it is here.
        self._arriving.in_turn(lambda: self._give_back(runs))

    def _give_back(self, runs: Iterable[Key]) -> None:
        given = [key for key in runs if self._waiting.pop(key, None) is not None]
        self._held.difference_update(given)
        if self._link is not None:
            self._link.send(taskwire.GIVEN_BACK, 0, b"", taskwire.pack_keys(given))

    def _stop_received(self, flags: int, ident: int, meta: Buffer, payload: Buffer) -> None:
        run = (ident, taskwire.unpack_attempt(meta))
        if len(payload):
            self._verdicts[run] = bytes(payload)
        self._stop(run)

    def _stop(self, run: Key) -> None:
        if self._waiting.pop(run, None) is not None:
            self._results.add((*run, Status.STOPPED, 0.0, self._verdicts.pop(run, b"")))
            self._tell()
        elif run == self._current:
            self._stopped = run
            if not self._gate.request(run):
                self._reactor.callLater(STOP_AGAIN, self._stop, run)
        elif self._arriving:
            self._stop_on_arrival.add(run)
        else:
            self._verdicts.pop(run, None)

    def _safe_received(self, flags: int, ident: int, meta: Buffer, payload: Buffer) -> None:
        if self._results.safe(ident):
            self._wake()

    def _question_received(self, flags: int, ident: int, meta: Buffer, payload: Buffer) -> None:
        self._questions.append(bytes(meta))
        self._wake()

    # -- the properties, and the connection

    def properties_changed(self) -> None:
        """The engine's properties have changed; in the main thread."""
        self.properties_version += 1
        self._post_properties(None)

    def _post_properties(self, link: Link | None) -> None:
        frame = frames.pack_frame(frames.PROPERTIES, self.properties_version)
        self._outbox.post([frame], len(frame), link)

    @property
    def running_key(self) -> Key | None:
        """Id and attempt of the task that runs."""
        return self._current

    def interrupt(self) -> bool:
        """Interrupt the task that runs, if one does; it fails with ``KeyboardInterrupt``.

        A dependency function is interrupted as well, which means no.
        """
        run, question = self._current, self._question
        if question is not None:
            return self._gate.request(question)
        return run is not None and self._gate.request(run)

    def add_to(self, holds: messages.Holds) -> messages.Holds:
        """Name in a greeting the runs that are under way or wait, and those that have ended."""
        runs, ended = self._named()
        return replace(holds, runs=runs, ended=ended)

    def _named(self) -> tuple[tuple[Key, ...], tuple[Key, ...]]:
        # In the order in which runs go on from one to the next, so that none is missed.
        waiting = list(self._waiting)
        current = self._running_at_greeting = self._current
        ended = dict.fromkeys(self._results.keys())
        runs = dict.fromkeys(waiting if current is None else [current, *waiting])
        return tuple(run for run in runs if run not in ended), tuple(ended)

    def registered(self, kept: bool, engine_id: int) -> None:
        """The engine has registered, perhaps again.

        :param kept: whether the controller has what it had, so that what is left here matters to it.
        """
        self._name = f"engine {engine_id}"
        link = self._outbox.link
        if link is None:
            return
        if self.properties_version:
            self._post_properties(link)
        self._arriving.clear()
        self._stop_on_arrival.clear()
        self._verdicts = {run: each for run, each in self._verdicts.items() if run == self._current}
        if kept:
            runs, ended = self._named()
            self._held = {*runs, *ended}
        else:
            self._forget()
        self._results.resume(link)
        run = self._current
        if run is not None:
            self._outbox.post(*taskwire.pack_begun(run), link)
        if run is not None or self._waiting:
            self._look_soon()
        self._wake()

    def _forget(self) -> None:
        """Let go of the runs of a controller that is lost, or has given them to others.

        The controller gets a result of each run that the greeting said is not done, and knows by this that it is over.
        """
        self._held = set()
        self._questions.clear()
        self._results.drop(self._running_at_greeting)
        for run in list(self._waiting):
            self._stop(run)
        current = self._current
        if current is not None:
            self._stop(current)
