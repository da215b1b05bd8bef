"""The result of a non-blocking call, which may not have finished.

:class:`PendingResult` is a ``concurrent.futures.Future``, so everything that works with futures works with it.
It can also be awaited in asyncio.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import CancelledError, Future
from concurrent.futures._base import FINISHED, LOGGER
from functools import partial
from typing import Any, ClassVar, Protocol

from twisted.logger import Logger

from ipython1.checks import check_seconds, check_timeout
from ipython1.core.interrupt import raised_by_handler
from ipython1.core.terminaltext import rendered
from ipython1.kernel.basics.error import InvalidDeferredID, ResultNotCompleted
from ipython1.kernel.basics.publicmethods import reporting
from ipython1.kernel.calls.answer import Answer, Signal
from ipython1.kernel.calls.attendance import attend, show_the_rest, watch_progress
from ipython1.kernel.calls.awaited import call_back
from ipython1.kernel.calls.calloutput import CallOutput
from ipython1.kernel.calls.calls import Reading
from ipython1.kernel.calls.elements import Elements
from ipython1.kernel.calls.liveview import LiveView
from ipython1.kernel.calls.pendingcard import PendingCard
from ipython1.kernel.calls.runningcall import Call
from ipython1.kernel.calls.twistedutil import (
    call_own,
    in_reactor_thread,
    reactor_in_thread,
    refuse_in_reactor_thread,
)
from ipython1.kernel.objects.enginewaits import waiters_of, waiting
from ipython1.kernel.wire.messages import OK, Outcome
from ipython1.kernel.wire.waits import Needs
from ipython1.notebook.progress import done_of

log: Logger = Logger()


class Finish(Protocol):
    """Converts the controller's answer to the result of the call, or raises its error."""

    def __call__(self, raw: Any, /) -> Any: ...


class _Over(Signal):
    """Waits for a future as the functions of ``concurrent.futures`` do."""

    __slots__ = ()

    def add_result(self, future: object) -> None:
        self.set()

    add_exception = add_cancelled = add_result


class PendingResult(PendingCard, CallOutput, Future[Any], Elements):
    """The result of a call that may still be running; a ``concurrent.futures.Future`` that can also be awaited.

    Iteration yields the elements of the result in order, each as soon as it is there: what each engine gave, or the
    items of a map.  ``len(pr)`` is their number; ``pr[0]`` and slices give them by position.  An element that failed
    raises its engine's exception when it is reached.

    :ivar engine_ids: the ids of the engines that the call runs on; empty until the controller has accepted it.
    :ivar name: the name of the client's method.
    :ivar client: the client that made the call.
    :ivar prints: whether the output is printed for a waiting user, because the result does not contain it; False once
        it was printed.
    :ivar streams_output: whether output may come while the call runs.
    :param announced: whether :meth:`wait_accepted` will be called.
    :param known: gets what was read of each engine.
    :ivar view: what shows that while the call runs, if anything but :meth:`result` does.
    """

    unit: ClassVar[str] = "engine"
    """What :attr:`progress` counts."""

    def __init__(
        self,
        finish: Finish,
        name: str,
        client: Any = None,
        outputs: Mapping[int, Mapping[str, Any]] | None = None,
        prints: bool = False,
        announced: bool = False,
        known: dict[int, Reading] | None = None,
    ) -> None:
        super().__init__()
        self._begun = time.monotonic()
        self._ended: float | None = None
        self._known = {} if known is None else known
        self._waiters = waiters_of(self)
        self._finish = finish
        self._outputs = {} if outputs is None else outputs
        self.prints = prints
        self.streams_output: bool = True
        self.view: LiveView | None = None
        self.name = name
        self.client = client
        self._decode_lock = threading.Lock()
        self._decoded: tuple[Any, BaseException | None] | None = None
        self._accepted: Answer[list[int]] | None = Answer() if announced else None
        self._over = _Over()
        waiters: list[Any] = self._waiters
        waiters.insert(0, self._over)
        self._call: Call | None = None
        self._run_in_reactor: Callable[..., Any] | None = None
        self._dropped = False
        self._begin_output()
        self.engine_ids: list[int] = []

    def __repr__(self) -> str:
        state = "finished" if self.done() else done_of(*self.progress, self.unit)
        return f"<PendingResult of {self.name}: {state}>"

    # -- for users

    @reporting
    def get(self, timeout: float | None = None) -> Any:
        """Return the result, as ``multiprocessing`` and ipyparallel call it; see :meth:`get_result`."""
        return self.get_result(timeout=timeout)

    def successful(self) -> bool:
        """Return whether the call succeeded.

        :raises ValueError: if it is not done.
        """
        if not self.done():
            raise ValueError(f"{self.name} is not done")
        return self.exception() is None

    @reporting
    def get_result(
        self, default: Any = None, block: bool = True, timeout: float | None = None
    ) -> Any:
        """Return the result, or raise the error that the blocking call would have raised.

        :param default: the value to return if the call is not done and ``block`` is False.
        :param block: whether to wait; default: True.
        :param timeout: the maximum time to wait, in seconds; default: no limit.
        :raises ResultNotCompleted: if the call is not done after ``timeout``; it keeps running.
        :raises InvalidDeferredID: if the client's ``flush`` dropped the result.
        :raises WaitInterrupted: on Ctrl-C; the call keeps running.
        :raises CompositeError: if any engine failed.
        """
        timeout = check_timeout("timeout", timeout)
        if not block and not self.done():
            return default
        try:
            return self.result(timeout)
        except TimeoutError as problem:
            if self.done() or isinstance(problem, ResultNotCompleted) or raised_by_handler(problem):
                raise
            raise ResultNotCompleted(
                f"{self.name} did not finish within {timeout:g} s; it is still running"
            ) from None

    @property
    def r(self) -> Any:
        """The result; reading it waits for the call, like :meth:`get_result`."""
        return self.get_result(block=True)

    @property
    def ready(self) -> bool:
        """Whether the call is done, with a result or an error."""
        return self.done()

    @property
    def progress(self) -> tuple[int, int]:
        """The number of engines that are done, and of all engines of the call."""
        call = self._call
        if call is None:
            return 0, 0
        return len(call.ids) - len(call.unfinished), len(call.ids)

    @property
    def failed_so_far(self) -> int:
        """How many of those that are done have failed."""
        call = self._call
        outcomes = [] if call is None else list(call.outcomes.values())
        return sum(1 for each in outcomes if each.status != OK)

    def count(self) -> tuple[int, int, int, str]:
        """Return how many are done, of how many, how many of those have failed, and what is counted.

        Of a map whose output is streamed that are items, else engines.
        """
        call = self._call
        items = None if call is None else call.request.items
        total = 0 if items is None else items.total
        if not total or not self.streams_output:
            return (*self.progress, self.failed_so_far, self.unit)
        done, failed = self.items_done
        return min(done, total), total, failed, "item"

    @property
    def unfinished(self) -> list[int]:
        """The ids of the engines that are not done."""
        call = self._call
        if call is None or self.done():
            return []
        return call.unfinished

    def is_command(self, origin: str, number: int) -> bool:
        """Return whether a command belongs to this call.

        :param origin: the uuid of the command's client, in hexadecimal.
        :param number: the number that the client gave the command.
        """
        call = self._call
        return call is not None and call.end.origin.hex() == origin and number in call.numbers

    @property
    def stdout(self) -> dict[int, str]:
        """The standard output, a dict of texts by engine id; engines that wrote nothing are left out.

        Before the call is done, that is what was streamed so far (in interactive sessions only; only the end of long
        output is kept).
        """
        return self._output_of("stdout")

    @property
    def stderr(self) -> dict[int, str]:
        """The standard error, like :attr:`stdout`."""
        return self._output_of("stderr")

    @property
    def outputs(self) -> Mapping[int, Mapping[str, Any]]:
        """What the engines wrote, as ``stdout`` and ``stderr``, by engine id, once the result was decoded."""
        return self._outputs

    def _output_of(self, stream: str) -> dict[int, str]:
        if self.done() and super().exception(0) is None:
            self._decode(super().result(0))
        streamed = dict(self._output_texts)
        texts = {
            engine_id: rendered(str(text))
            for (engine_id, of), text in streamed.items()
            if of == stream
        }
        for engine_id, output in self._outputs.items():
            if output.get(stream):
                texts[engine_id] = output[stream]
        return dict(sorted(texts.items()))

    @reporting
    def add_callback(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call ``f(result, *args, **kwargs)`` once the call is done; ``result`` is an exception if it failed.

        ``f`` runs in the reactor's thread, or at once if the call is already done.
        """

        if not callable(f):
            raise TypeError(f"f must be callable, not {f!r:.100}")

        def call_it(_: Any) -> None:
            try:
                value: Any = self.result()
            except Exception as problem:
                if raised_by_handler(problem):
                    raise
                value = problem
            f(value, *args, **kwargs)

        self.add_done_callback(call_it)

    @reporting
    def wait_interactive(self, timeout: float | None = None, interval: float = 0.2) -> bool:
        """Wait until the call is done, with a progress bar in terminals and notebooks.

        :param timeout: the maximum time to wait, in seconds; default: no limit.
        :param interval: seconds between updates of the bar, at least 0.02; default: 0.2.
        :returns: whether the call is done.
        :raises WaitInterrupted: on Ctrl-C; the call keeps running.
        :raises ClientError: in the reactor's thread.
        """
        refuse_in_reactor_thread()
        interval = check_seconds("interval", interval)
        return watch_progress(self, check_timeout("timeout", timeout), interval)

    def abort(self) -> None:
        """Abort the call: remove it from the queues of engines where it has not begun, interrupt it where it runs."""
        if self._call is not None and self._run_in_reactor is not None and not self.done():
            self._run_in_reactor(self._call.abort)

    def cancel(self) -> bool:
        """Abort the call, like :meth:`abort`.

        :returns: False, as the future is not cancelled: its result still shows what each engine did.
        """
        self.abort()
        return False

    def __await__(self) -> Generator[Any, None, Any]:
        import asyncio

        with waiting(self):
            return (yield from asyncio.wrap_future(self).__await__())

    def wait_done(self, timeout: float | None) -> None:
        """Wait until the call is done, without decoding the result.

        :raises TimeoutError: after ``timeout`` seconds.
        """
        if self.done():
            return
        if reactor_in_thread.ended:
            reactor_in_thread.check()
        with waiting(self):
            call = self._call
            if call is not None:
                call.end.read_until(self.done, timeout)
            if not self._over.wait(timeout):
                raise TimeoutError

    def done(self) -> bool:
        # Without its lock, which the reactor's thread takes.
        return self._state == FINISHED

    # -- the methods of Future, which decode the answer when it is first needed

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        def seen(future: Future[Any]) -> None:  # a reference to self would be a cycle
            try:
                call_back(fn, future)
            except (SystemExit, GeneratorExit):
                if not in_reactor_thread():
                    raise
                # There it would end the connection.
                log.failure("a callback of {pending} failed", pending=future)
            except Exception:
                LOGGER.exception("exception calling callback for %r", future)  # as futures do

        super().add_done_callback(lambda future: call_own(partial(seen, future)))

    def when_over(self, function: Callable[[Any], object]) -> None:
        """Call a function of this package when the call is done."""
        super().add_done_callback(function)

    @reporting
    def result(self, timeout: float | None = None) -> Any:
        __tracebackhide__ = True
        value, problem = self._outcome(timeout)
        if problem is not None:
            raise problem.with_traceback(None)
        return value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        return self._outcome(timeout)[1]

    def _outcome(self, timeout: float | None) -> tuple[Any, BaseException | None]:
        timeout = check_timeout("timeout", timeout)
        view = None
        if not self.done():
            if self._dropped:
                raise self._gone()
            refuse_in_reactor_thread()
            view = attend(self, timeout)
        value: Any = None
        problem = self._exception
        if problem is None:
            value, problem = self._decode(self._result)
        show_the_rest(self, view, value if problem is None else problem)
        return value, problem

    def _decode(self, raw: Any) -> tuple[Any, BaseException | None]:
        with self._decode_lock:
            if self._dropped:
                return None, self._gone()
            if self._decoded is None:
                try:
                    self._decoded = (self._finish(raw), None)
                except Exception as problem:
                    if raised_by_handler(problem):
                        raise  # it can be decoded again
                    self._decoded = (None, problem)
            return self._decoded

    def _read(self, call: Call, key: int) -> Reading:
        with self._decode_lock:
            if self._dropped:
                raise self._gone()
            return call.request.reading(call.outcomes[key], self._known)

    def _wait_for_answer(self, timeout: float | None) -> bool:
        try:
            attend(self, timeout)
        except TimeoutError as problem:
            if raised_by_handler(problem):
                raise
        return self.done()

    def _gone(self) -> InvalidDeferredID:
        return InvalidDeferredID(f"the result of {self.name} was dropped by flush()")

    # -- for those who wait on an engine (see ``objects.enginewaits``)

    def needs(self) -> Needs | None:
        """Return what has to happen before the call is done; in the reactor's thread."""
        if self.done():
            return None
        return Needs("") if self._call is None else self._call.needs()

    def give_up(self, problem: Exception) -> None:
        """End the call with ``problem``, as it would never be done; in the reactor's thread."""
        if self._call is not None:
            self._call.give_up(problem)

    # -- for the client

    def drop(self) -> None:
        """Discard the present or future result, unless it has been decoded."""
        with self._decode_lock:
            if self._decoded is None:
                self._dropped = True

    def follow(self, call: Call, run_in_reactor: Callable[..., Any]) -> None:
        """Be the result of ``call``, whose observer is :attr:`observer`; in the reactor's thread."""
        self._call = call
        self._run_in_reactor = run_in_reactor

    @property
    def observer(self) -> _Observer:
        """What tells this of its call."""
        return _Observer(self)

    def follow_deferred(self, deferred: Any) -> None:
        """Take the result from a Deferred; in the reactor's thread."""
        deferred.addCallbacks(
            self.set_result,
            lambda failure: self.set_exception(failure.value or CancelledError()),
        )

    def wait_accepted(self) -> None:
        """Wait until the controller has accepted an announced call; raise its error if it refused the call."""
        refuse_in_reactor_thread()
        assert self._accepted is not None
        self._accepted.result()


class _Observer:
    """Tells a pending result what becomes of its call."""

    __slots__ = ("_pending",)

    def __init__(self, pending: PendingResult) -> None:
        self._pending = pending

    def accepted(self, ids: list[int]) -> None:
        pending = self._pending
        pending.engine_ids = list(ids)
        if pending._accepted is not None:
            pending._accepted.set_result(pending.engine_ids)

    def refused(self, problem: BaseException) -> None:
        if self._pending._accepted is not None:
            self._pending._accepted.set_exception(problem)

    def output(self, key: int, stream: str, text: str) -> None:
        self._pending._output(key, stream, text)

    def done(self, outcomes: list[Outcome]) -> None:
        pending = self._pending
        pending._ended = time.monotonic()
        pending.set_result(outcomes)

    def failed(self, problem: BaseException) -> None:
        pending = self._pending
        pending._ended = time.monotonic()
        pending.set_exception(problem)
