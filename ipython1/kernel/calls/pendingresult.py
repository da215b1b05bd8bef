"""A call that may not be finished: what non-blocking calls return.

:class:`PendingResult` is a ``concurrent.futures.Future``, so everything that works with futures works with it.
It can also be awaited in asyncio.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any, ClassVar, Protocol

from twisted.logger import Logger
from twisted.python.failure import Failure

from ipython1.kernel.basics.error import InvalidDeferredID, ResultNotCompleted
from ipython1.kernel.calls.attendance import attend, watch_progress
from ipython1.kernel.calls.calls import Call
from ipython1.kernel.calls.liveoutput import Key, StreamedText
from ipython1.kernel.calls.twistedutil import refuse_in_reactor_thread
from ipython1.kernel.wire.messages import Outcome
from ipython1.notebook.progress import done_of

log = Logger()


class Finish(Protocol):
    """Turns what the controller answered into what the call returns, or raises."""

    def __call__(self, raw: Any, /) -> Any: ...


class PendingResult(Future[Any]):
    """A result that comes later.

    :ivar engine_ids: the engines that the call runs on, once it is accepted.
    :ivar name: the client's method.
    :ivar client: the client that made the call.
    """

    unit: ClassVar[str] = "engine"
    """What :attr:`progress` counts."""

    def __init__(self, finish: Finish, name: str, client: Any = None) -> None:
        super().__init__()
        self._finish = finish
        self.name = name
        self.client = client
        self._decode_lock = threading.Lock()
        self._decoded: tuple[Any, BaseException | None] | None = None
        self._accepted: Future[list[int]] = Future()
        self._call: Call | None = None
        self._run_in_reactor: Callable[..., Any] | None = None
        self._dropped = False
        self._output_listeners: list[Callable[[int, str, str], None]] = []
        self._output_texts: dict[Key, StreamedText] = {}
        self.engine_ids: list[int] = []

    def __repr__(self) -> str:
        state = "finished" if self.done() else done_of(*self.progress, self.unit)
        return f"<PendingResult of {self.name}: {state}>"

    # -- what users call

    def get_result(
        self, default: Any = None, block: bool = True, timeout: float | None = None
    ) -> Any:
        """The result; raises what the call would have raised.

        :param default: what to return when it is not there and ``block`` is False.
        :param timeout: seconds to wait at most.
        :raises ResultNotCompleted: after ``timeout``; the call goes on.
        :raises InvalidDeferredID: when it was dropped by ``flush``.
        """
        if not block and not self.done():
            return default
        try:
            return self.result(timeout)
        except TimeoutError as problem:
            if self.done() or isinstance(problem, ResultNotCompleted):
                raise
            raise ResultNotCompleted(
                f"{self.name} did not finish within {timeout:g} s; it is still running"
            ) from None

    @property
    def r(self) -> Any:
        """The result; waits for it."""
        return self.get_result(block=True)

    @property
    def ready(self) -> bool:
        """Whether the result, or an error, is there."""
        return self.done()

    @property
    def progress(self) -> tuple[int, int]:
        """How many engines are done, and on how many it runs."""
        call = self._call
        return (0, 0) if call is None else (len(call.outcomes), len(call.ids))

    @property
    def unfinished(self) -> list[int]:
        """The engines that are not done."""
        call = self._call
        if call is None or self.done():
            return []
        return [engine_id for engine_id in call.ids if engine_id not in call.outcomes]

    def failures(self) -> dict[int, BaseException]:
        """What the engines that are done have raised, by id; also while others still run."""
        call = self._call
        if call is None:
            return {}
        found = {
            each.engine_id: call.request.problem_of(each) for each in list(call.outcomes.values())
        }
        return {engine_id: problem for engine_id, problem in found.items() if problem is not None}

    def is_command(self, origin: str, number: int) -> bool:
        """Whether a command of an engine, named by its client (hex) and number, belongs to this call."""
        call = self._call
        return call is not None and call.end.origin.hex() == origin and number in call.numbers

    @property
    def stdout(self) -> dict[int, str]:
        """What running commands have written so far, by engine id, where output is streamed; the end if it is long."""
        return self._output_of("stdout")

    @property
    def stderr(self) -> dict[int, str]:
        """The same for standard error."""
        return self._output_of("stderr")

    def _output_of(self, stream: str) -> dict[int, str]:
        texts = dict(self._output_texts)
        return {
            engine_id: str(text) for (engine_id, of), text in sorted(texts.items()) if of == stream
        }

    def add_callback(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call ``f(result, *args, **kwargs)`` when it is finished; ``result`` is an exception if it failed."""

        def call_it(_: Any) -> None:
            try:
                value: Any = self.result()
            except Exception as problem:
                value = problem
            f(value, *args, **kwargs)

        self.add_done_callback(call_it)

    def wait_interactive(self, timeout: float | None = None, interval: float = 0.2) -> bool:
        """Wait with a progress bar, in a terminal and in a notebook; elsewhere without.

        :param timeout: seconds to wait at most.
        :param interval: seconds between looks.
        :returns: whether it is finished.
        """
        refuse_in_reactor_thread()
        return watch_progress(self, timeout, interval)

    def abort(self) -> None:
        """End it: where it has not begun it is removed from the queue, where it runs it is interrupted."""
        if self._call is not None and self._run_in_reactor is not None and not self.done():
            self._run_in_reactor(self._call.abort)

    def cancel(self) -> bool:
        """Like :meth:`abort`; the result then tells what each engine did.  Always False: nothing is forgotten."""
        self.abort()
        return False

    def __await__(self) -> Generator[Any, None, Any]:
        import asyncio

        return asyncio.wrap_future(self).__await__()

    def on_output(self, listener: Callable[[int, str, str], None]) -> None:
        """Call ``listener(engine_id, stream, text)`` for output of the running command, in the reactor's thread."""
        self._output_listeners.append(listener)

    def remove_output_listener(self, listener: Callable[[int, str, str], None]) -> None:
        """Undo :meth:`on_output`."""
        self._output_listeners.remove(listener)

    def streams(self) -> list[Key]:
        """The engines and streams on which something was written so far."""
        return sorted(self._output_texts, key=lambda key: (key[0], key[1] != "stdout"))

    def output_since(self, key: Key, position: int) -> tuple[str, int]:
        """See :meth:`StreamedText.since <ipython1.kernel.calls.liveoutput.StreamedText.since>`."""
        return self._output_texts[key].since(position)

    def wait_done(self, timeout: float | None) -> None:
        """Wait until it is finished, without reading the answer.

        :raises TimeoutError: after ``timeout`` seconds.
        """
        super().exception(timeout)

    # -- Future's own, with the answer read when it is asked for

    def result(self, timeout: float | None = None) -> Any:
        value, problem = self._outcome(timeout)
        if problem is not None:
            raise problem.with_traceback(None)
        return value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        return self._outcome(timeout)[1]

    def _outcome(self, timeout: float | None) -> tuple[Any, BaseException | None]:
        view = None
        if not self.done():
            if self._dropped:
                raise self._gone()
            refuse_in_reactor_thread()
            view = attend(self, timeout)
        value: Any = None
        problem = super().exception(0)
        if problem is None:
            value, problem = self._decode(super().result(0))
        if view is not None:
            view.finish(value if problem is None else problem)
        return value, problem

    def _decode(self, raw: Any) -> tuple[Any, BaseException | None]:
        with self._decode_lock:
            if self._dropped:
                return None, self._gone()
            if self._decoded is None:
                try:
                    self._decoded = (self._finish(raw), None)
                except Exception as problem:
                    self._decoded = (None, problem)
            return self._decoded

    def _gone(self) -> InvalidDeferredID:
        return InvalidDeferredID(f"the result of {self.name} was dropped by flush()")

    # -- for the client

    def drop(self) -> None:
        """Forget the result, whether it is there or not, unless it was read already."""
        with self._decode_lock:
            if self._decoded is None:
                self._dropped = True

    def follow(self, call: Call, run_in_reactor: Callable[..., Any]) -> None:
        """Take the result from ``call``; in the reactor's thread."""
        self._call = call
        self._run_in_reactor = run_in_reactor
        call.on_output = self._output
        call.accepted.addCallbacks(self._now_accepted, self._refused)
        call.done.addCallbacks(self._done, self._failed)

    def follow_deferred(self, deferred: Any) -> None:
        """Take the result from a Deferred; in the reactor's thread."""
        self._accepted.set_result([])
        deferred.addCallbacks(self._done, self._failed)

    def wait_accepted(self) -> None:
        """Return when the controller has queued it; raises when it refused."""
        refuse_in_reactor_thread()
        self._accepted.result()

    def _now_accepted(self, ids: Sequence[int]) -> None:
        self.engine_ids = list(ids)
        self._accepted.set_result(self.engine_ids)

    def _refused(self, failure: Failure) -> None:
        self._accepted.set_exception(failure.value or CancelledError())

    def _done(self, raw: Sequence[Outcome]) -> None:
        self.set_result(raw)

    def _failed(self, failure: Failure) -> None:
        self.set_exception(failure.value or CancelledError())

    def _output(self, engine_id: int, stream: str, text: str) -> None:
        self._output_texts.setdefault((engine_id, stream), StreamedText()).add(text)
        for listener in list(self._output_listeners):
            try:
                listener(engine_id, stream, text)
            except Exception:
                # It is the user's, and must not end the connection.
                log.failure("an output listener of {name} failed", name=self.name)
