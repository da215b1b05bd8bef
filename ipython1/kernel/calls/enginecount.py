"""Waiting until enough engines are registered."""

from __future__ import annotations

import sys
import time
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout

from ipython1.checks import check_int, check_timeout
from ipython1.core.interrupt import raised_by_handler
from ipython1.core.texts import compress_ids
from ipython1.kernel.basics.error import ConnectionError, ResultNotCompleted, WaitInterrupted
from ipython1.kernel.calls.answer import Answer
from ipython1.kernel.calls.clientlink import ClientEnd
from ipython1.kernel.calls.twistedutil import (
    blockingCallFromThread,
    reactor_in_thread,
    refuse_in_reactor_thread,
)
from ipython1.notebook.frontend import person_waits

LINE_AFTER: Final = 1.0
"""Seconds of waiting after which a person sees how many engines there are."""

TICK: Final = 0.25
"""Seconds between two updates of that."""


class EngineCount:
    """Watches the engines of one client until there are ``n``; used in the reactor's thread.

    :ivar wanted: ``n``.
    :ivar enough: fires with the sorted ids.
    """

    def __init__(self, end: ClientEnd, n: int) -> None:
        self._end = end
        self.wanted = n
        self.enough: Deferred[list[int]] = Deferred(lambda _: None)

    @property
    def there(self) -> int:
        """The number of engines now."""
        return len(self._end.ids)

    def begin(self) -> None:
        """Watch from now on."""
        self._end.on_ids_changed(self._changed)
        self._end.on_lost.append(self._lost)
        try:
            self._end.check()
        except ConnectionError as problem:
            self._fail(problem)
        else:
            self._changed(sorted(self._end.ids))

    def end(self) -> None:
        """Watch no longer."""
        self._end.remove_ids_callback(self._changed)
        self._end.on_lost.remove(self._lost)

    def _changed(self, ids: list[int]) -> None:
        if len(ids) >= self.wanted and not self.enough.called:
            self.enough.callback(ids)

    def _lost(self, reason: str) -> None:
        try:
            self._end.check()
        except ConnectionError as problem:
            self._fail(problem)

    def _fail(self, problem: ConnectionError) -> None:
        if not self.enough.called:
            self.enough.errback(problem)

    def late(self, timeout: float) -> ResultNotCompleted:
        """Return the error for a time-out."""
        ids = sorted(self._end.ids)
        if not ids:
            there = "none is registered"
        elif len(ids) == 1:
            there = f"only 1 is registered: engine {ids[0]}"
        else:
            there = f"only {len(ids)} are registered: engines {compress_ids(ids)}"
        return ResultNotCompleted(
            f"there were not {self.wanted} engines within {timeout:g} s; {there}. The engines' logs tell more"
        )


async def wait_for_engines(
    end: ClientEnd, reactor: Any, n: int, timeout: float | None
) -> list[int]:
    """Wait until ``n`` engines are registered.

    :raises ResultNotCompleted: after ``timeout`` seconds.
    :raises ConnectionError: if the connection is lost for good.
    """
    count = EngineCount(end, n)
    count.begin()
    if timeout is not None:
        count.enough.addTimeout(timeout, reactor)
    try:
        return await count.enough
    except DeferredTimeout:
        assert timeout is not None
        raise count.late(timeout) from None
    finally:
        count.end()


def wait_for_engines_blocking(end: ClientEnd, n: int, timeout: float | None) -> list[int]:
    """Wait in another thread than the reactor's; a person who waits sees how many engines there are.

    :raises ResultNotCompleted, ConnectionError: as for :func:`wait_for_engines`.
    :raises WaitInterrupted: on Ctrl-C.
    """
    n, timeout = check_int("n", n, 1), check_timeout("timeout", timeout)
    refuse_in_reactor_thread()
    reactor_in_thread.start()
    count, answer = EngineCount(end, n), Answer[list[int]]()
    count.enough.addCallbacks(
        answer.set_result, lambda failure: answer.set_exception(failure.value)
    )
    begun = time.monotonic()
    blockingCallFromThread(count.begin)
    try:
        return _watch(count, answer, begun, timeout) if person_waits() else answer.result(timeout)
    except TimeoutError as problem:
        if timeout is None or answer.is_there() or raised_by_handler(problem):
            raise
        raise count.late(timeout) from None
    except KeyboardInterrupt:
        raise WaitInterrupted(
            f"KeyboardInterrupt: stopped waiting for {n} engines; {count.there} are registered"
        ) from None
    finally:
        blockingCallFromThread(count.end)


def _watch(
    count: EngineCount, answer: Answer[list[int]], begun: float, timeout: float | None
) -> list[int]:
    line = _Line()
    try:
        pause = LINE_AFTER
        while True:
            left = None if timeout is None else timeout - (time.monotonic() - begun)
            if left is not None and left <= pause:
                return answer.result(left)
            try:
                return answer.result(pause)
            except TimeoutError as problem:
                if answer.is_there() or raised_by_handler(problem):
                    raise
            pause = TICK
            seconds = time.monotonic() - begun
            line.show(f"{count.there} of {count.wanted} engines registered, {seconds:.1f} s")
    finally:
        line.close()


class _Line:
    """A line on the standard error that is rewritten on each update."""

    def __init__(self) -> None:
        self._width = 0

    def show(self, text: str) -> None:
        if sys.stderr is not None:
            sys.stderr.write("\r" + text.ljust(self._width))
            sys.stderr.flush()
            self._width = len(text)

    def close(self) -> None:
        if self._width and sys.stderr is not None:
            sys.stderr.write("\n")
            sys.stderr.flush()
