"""Tasks in an engine: an inbox that the reactor's thread fills and the main thread empties.

Runs are begun in the order in which they came.  Results are told in batches: when there is nothing more to
run, when the last batch is ``FLUSH_AFTER`` seconds ago, and around a *guarded* run, which may end the process.

=============================  ============================  =======================================================
a run that is                  on                            becomes
=============================  ============================  =======================================================
waiting                        the main thread takes it      current
waiting                        ``RETRACT``                   given back (the controller is told)
waiting                        ``STOP``                      ended, with ``STOPPED``
current                        ``STOP``                      interrupted; ends as it ends
current                        its end                       ended
=============================  ============================  =======================================================
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from time import perf_counter  # user code may replace the one in the module
from typing import Any, Final, Protocol

from twisted.logger import Logger

from ipython1.core.interrupt import InterruptGate
from ipython1.kernel.wire import frames, taskwire
from ipython1.kernel.wire.arrivals import Arrivals
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.link import FrameLink, ThreadOutbox
from ipython1.kernel.wire.taskwire import Result, Status

log = Logger()

FLUSH_AFTER: Final = 0.002
"""Seconds after which results are told even if there is more to run."""

LOOK_EVERY: Final = 0.005
"""Seconds between looks at results that wait for the end of a long run."""

LONG: Final = 4
"""A run that was there at so many looks is reported.  The thread that runs tasks waits for the network after each such
run, so that it is certain which run a process died of; shorter ones are not worth it."""

STOP_AGAIN: Final = 0.01
"""Seconds after which a run that was just beginning is interrupted again."""

DEPEND_LIMIT: Final = 5.0
"""Seconds that a dependency function may take; then it is interrupted, which means no."""

SYNC_LIMIT: Final = 1.0
"""Seconds that the main thread waits at most for the reactor's thread to send something."""


class Runner(Protocol):
    """Runs a task's payload in the main thread."""

    def run(self, payload: bytes, stopping: Callable[[], bool]) -> tuple[Status, bytes, float]: ...

    def failed(self, problem: BaseException) -> bytes: ...

    def depends(self, digest: bytes) -> bool: ...

    def add_function(self, digest: bytes, data: bytes) -> None: ...

    def forget_function(self, digest: bytes) -> None: ...


class Run:
    """One run of a task."""

    __slots__ = ("attempt", "guarded", "payload", "reported", "stop", "task_id")

    def __init__(self, task_id: int, attempt: int, flags: int, payload: bytes) -> None:
        self.task_id = task_id
        self.attempt = attempt
        self.guarded = bool(flags & taskwire.GUARDED)
        self.payload = payload
        self.reported = False
        self.stop = False

    @property
    def key(self) -> tuple[int, int]:
        """What names it for ever."""
        return (self.task_id, self.attempt)

    def stopping(self) -> bool:
        """Whether it is to end."""
        return self.stop


class _Question:
    """An evaluation of a dependency function; a new object each time."""


class EngineTasks:
    """The tasks of an engine.

    :param runner: runs them.
    :param gate: interrupts them.
    :param outbox: sends, from any thread.
    :param reactor: calls things in its own thread (``callFromThread``, ``callLater``).
    :param wake: wakes the main thread.
    """

    def __init__(
        self,
        runner: Runner,
        gate: InterruptGate,
        outbox: ThreadOutbox,
        reactor: Any,
        wake: Callable[[], None],
    ) -> None:
        self._runner = runner
        self._gate = gate
        self._outbox = outbox
        self._reactor = reactor
        self._wake = wake
        self._inbox: deque[Run] = deque()
        self._waiting: dict[tuple[int, int], Run] = {}
        self._questions: deque[bytes] = deque()
        self._question: _Question | None = None
        self._limit_call: Any = None
        self._current: Run | None = None
        self._arriving = Arrivals()
        self._stop_on_arrival: set[tuple[int, int]] = set()
        self._results: deque[Result] = deque()
        self._results_lock = threading.Lock()
        self._rows = 0
        self._told_at = 0.0
        self._look: Any = None
        self._last_look: Run | None = None
        self._looks = 0
        self.properties_version = 0
        self.handlers: dict[int, Callable[[int, int, Buffer, Buffer], None]] = {
            taskwire.RUN: self._run_received,
            taskwire.FUNCTION: self._function_received,
            taskwire.FORGET: self._forget_received,
            taskwire.RETRACT: self._retract_received,
            taskwire.STOP: self._stop_received,
            taskwire.ASK_DEPEND: self._question_received,
        }

    # -- the main thread

    def run_one(self) -> bool:
        """Run the next task, or answer a question about dependencies; False when there is nothing to do."""
        if self._outbox.link is None:
            # What waits here may be with another engine by now, and must not run twice.
            return False
        if self._questions:
            self._answer(self._questions.popleft())
            return True
        waiting = self._waiting
        while True:
            try:
                run = self._inbox.popleft()
            except IndexError:
                return False
            # It is current before it stops waiting, so that a stop finds it at any time.
            self._current = run
            # Whoever takes it out of ``_waiting`` has it; the reactor's thread may have been first.
            if waiting.pop((run.task_id, run.attempt), None) is not None:
                break
            self._current = None
        if run.guarded:
            self._flush()
            run.reported = True
            self._send_now(taskwire.BEGUN, run)
        gate = self._gate
        status, payload, duration = Status.STOPPED, b"", 0.0
        try:
            gate.current = run.key
            # It may have been told to end while it was beginning.
            if not run.stop:
                status, payload, duration = self._runner.run(run.payload, run.stopping)
        except KeyboardInterrupt:
            pass  # it came between two lines of ours
        except BaseException as late:  # a signal handler or a trace function of user code
            status, payload = Status.FAILED, self._runner.failed(late)
        finally:
            gate.current = None
        self._current = None
        self._results.append((run.task_id, run.attempt, status, duration, payload))
        if run.reported:
            self._flush()
            self._sync()
        elif perf_counter() - self._told_at >= FLUSH_AFTER:
            self._flush()
        return True

    def idle(self) -> None:
        """There is nothing more to run for now."""
        if self._results:
            self._flush()

    def _answer(self, digest: bytes) -> None:
        # Properties may have changed since it was asked; the answer is about the present ones.
        version = self.properties_version
        question = self._question = _Question()
        self._reactor.callFromThread(self._limit, question)
        try:
            self._gate.current = question
            answer = self._runner.depends(digest)
        except BaseException:
            # It came between two lines of ours.
            answer = False
        finally:
            self._gate.current = self._question = None
        frame = frames.pack_frame(taskwire.DEPENDS, version, taskwire.pack_depends(digest, answer))
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

    def _send_now(self, kind: int, run: Run) -> None:
        frame = frames.pack_frame(kind, run.task_id, taskwire.pack_attempt(run.attempt))
        self._outbox.post([frame], len(frame))
        self._sync()

    def _sync(self) -> None:
        """Return when what was posted is on its way."""
        written = threading.Event()
        self._reactor.callFromThread(self._push_out, written)
        written.wait(SYNC_LIMIT)

    def _flush(self) -> None:
        """Tell all results that are there; from either thread."""
        self._told_at = perf_counter()
        with self._results_lock:
            results: list[Result] = []
            while self._results:
                result = self._results.popleft()
                if len(result[4]) > taskwire.INLINE:
                    self._post(results)
                    results = []
                    task_id, attempt, status, duration, payload = result
                    head = taskwire.pack_result_head(task_id, attempt, status, duration)
                    self._rows += 1
                    self._outbox.post_large(taskwire.RESULTS, self._rows, head, [payload])
                else:
                    results.append(result)
            self._post(results)

    def _post(self, results: list[Result]) -> None:
        first = self._rows + 1
        self._rows += len(results)
        for parts, size in taskwire.pack_results(results, first):
            self._outbox.post(parts, size)

    # -- the reactor's thread

    @property
    def _link(self) -> FrameLink | None:
        return self._outbox.link

    def _push_out(self, written: threading.Event) -> None:
        link = self._link
        if link is not None:
            link.flush()
        # What the socket did not take at once is written in the next turn.
        later = self._reactor.callLater
        later(0, lambda: later(0, written.set))
        self._look_soon()

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
        elif not run.reported:
            self._looks += 1
            if self._results:
                self._flush()
            if self._looks >= LONG:
                run.reported = True
                link = self._link
                if link is not None:
                    link.send(taskwire.BEGUN, run.task_id, taskwire.pack_attempt(run.attempt))
        if (run is not None and not run.reported) or self._waiting:
            self._look_soon()

    def _run_received(self, flags: int, ident: int, meta: Buffer, payload: Buffer) -> None:
        if flags & frames.BULK:
            task_id, attempt, run_flags = taskwire.unpack_run(meta)
            link = self._link
            assert link is not None
            self._arriving.transfer(
                link, payload, lambda data: self._put([Run(task_id, attempt, run_flags, data)])
            )
        else:
            runs = [Run(*entry) for entry in taskwire.unpack_runs(payload)]
            self._arriving.in_turn(lambda: self._put(runs))

    def _function_received(self, flags: int, ident: int, meta: Buffer, payload: Buffer) -> None:
        digest = bytes(meta)
        if flags & frames.BULK:
            link = self._link
            assert link is not None
            self._arriving.transfer(
                link, payload, lambda data: self._runner.add_function(digest, data)
            )
        else:
            self._runner.add_function(digest, bytes(payload))

    def _forget_received(self, flags: int, ident: int, meta: Buffer, payload: Buffer) -> None:
        self._runner.forget_function(bytes(meta))

    def _put(self, runs: list[Run]) -> None:
        for run in runs:
            self._waiting[run.key] = run
            self._inbox.append(run)
        self._look_soon()
        self._wake()
        if self._stop_on_arrival:
            for run in runs:
                if run.key in self._stop_on_arrival:
                    self._stop_on_arrival.discard(run.key)
                    self._stop(*run.key)

    def _retract_received(self, flags: int, ident: int, meta: Buffer, payload: Buffer) -> None:
        given = [
            key for key in taskwire.unpack_keys(payload) if self._waiting.pop(key, None) is not None
        ]
        if self._link is not None:
            self._link.send(taskwire.GIVEN_BACK, 0, b"", taskwire.pack_keys(given))

    def _stop_received(self, flags: int, ident: int, meta: Buffer, payload: Buffer) -> None:
        self._stop(ident, taskwire.unpack_attempt(meta))

    def _stop(self, task_id: int, attempt: int) -> None:
        run = self._waiting.pop((task_id, attempt), None)
        if run is not None:
            self._results.append((task_id, attempt, Status.STOPPED, 0.0, b""))
            self._flush()
            return
        run = self._current
        if run is not None and run.key == (task_id, attempt):
            run.stop = True
            if not self._gate.request(run.key):
                self._reactor.callLater(STOP_AGAIN, self._stop, task_id, attempt)
        elif self._arriving:
            self._stop_on_arrival.add((task_id, attempt))

    def _question_received(self, flags: int, ident: int, meta: Buffer, payload: Buffer) -> None:
        self._questions.append(bytes(meta))
        self._wake()

    # -- the properties, and the connection

    def properties_changed(self) -> None:
        """The engine's properties have changed; in the main thread."""
        self.properties_version += 1
        frame = frames.pack_frame(frames.PROPERTIES, self.properties_version)
        self._outbox.post([frame], len(frame))

    @property
    def running_key(self) -> tuple[int, int] | None:
        """Id and attempt of the task that runs."""
        run = self._current
        return None if run is None else run.key

    def interrupt(self) -> bool:
        """Interrupt the task that runs, if one does; it fails with ``KeyboardInterrupt``.

        A dependency function is interrupted as well, which means no.
        """
        run, question = self._current, self._question
        if question is not None:
            return self._gate.request(question)
        return run is not None and self._gate.request(run.key)

    def registered(self, kept: bool = False) -> None:
        """The engine has registered, perhaps again.

        What it had was given to others, or is lost with the controller that knew it.

        :param kept: whether the controller still has what it had, so that what is left here matters to it.
        """
        if self.properties_version:
            frame = frames.pack_frame(frames.PROPERTIES, self.properties_version)
            self._outbox.post([frame], len(frame))
        self._waiting.clear()
        self._arriving.clear()
        self._results.clear()
        run = self._current
        if run is not None:
            self._stop(*run.key)
