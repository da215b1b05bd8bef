"""Waiting for calls: with live output in interactive sessions; Ctrl-C ends the wait, but not the call."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol

from ipython1.core.interrupt import raised_by_handler
from ipython1.kernel.basics.error import CompositeError, WaitInterrupted
from ipython1.kernel.calls.failedsofar import Announcer, described, engines
from ipython1.kernel.calls.liveoutput import STREAMS, Key, LiveLines
from ipython1.kernel.calls.resultlist import ResultList, session_styles
from ipython1.kernel.objects import enginewaits
from ipython1.notebook.frontend import name_of, person_waits, present_moment
from ipython1.notebook.progress import make_bar

LIVE_AFTER: Final = 1.0
"""Seconds of waiting after which live output is shown."""

TICK: Final = 0.25
"""Seconds between checks for incomplete lines."""

ALL_IS_PENDING: Final = "with block=False, the pending result's stdout and stderr have all"

LEAST_INTERVAL: Final = 0.02
"""Minimum seconds between updates of a progress bar."""


class Waited(enginewaits.Waited, Protocol):
    """A ``PendingResult``, as this module uses it."""

    name: str
    client: Any
    prints: bool
    streams_output: bool
    view: LiveView | None

    @property
    def outputs(self) -> Mapping[int, Mapping[str, Any]]: ...

    @property
    def unit(self) -> str: ...

    @property
    def progress(self) -> tuple[int, int]: ...

    @property
    def unfinished(self) -> list[int]: ...

    def failures(self) -> dict[int, BaseException]: ...

    def done(self) -> bool: ...

    def wait_done(self, timeout: float | None) -> None: ...

    def add_done_callback(self, fn: Callable[[Any], object], /) -> None: ...

    def on_output(self, listener: Callable[[int, str, str], None]) -> None: ...

    def remove_output_listener(self, listener: Callable[[int, str, str], None]) -> None: ...

    def streams(self) -> list[Key]: ...

    def output_since(self, key: Key, position: int) -> tuple[str, int]: ...


class LiveView:
    """Shows the output of a call's engines while it runs."""

    def __init__(self, pending: Waited) -> None:
        self._pending = pending
        self._lines = _Lines(ALL_IS_PENDING if pending.prints else "the result has more")
        self._positions: dict[Key, int] = {}

    def update(self, before: Callable[[], None] = lambda: None) -> None:
        """Show the output since the last update.

        :param before: called first if there is anything to show.
        """
        lines: list[tuple[Key, str]] = []
        for key in self._pending.streams():
            text, dropped = self._pending.output_since(key, self._positions.get(key, 0))
            if text or dropped:
                self._positions[key] = self._positions.get(key, 0) + dropped + len(text)
                lines += self._lines.feed(key, text, dropped)
        lines += self._lines.tick()
        if lines:
            before()
            self._lines.print(lines)

    def finish(self, value: Any) -> None:
        """End the view; if any output was shown, show the rest too, and record that in the result ``value``."""
        if not self._lines.used:
            return
        self.close({result["id"]: result for result in results_in(value)})
        shown = self._lines.shown
        shown.moment = present_moment()
        if isinstance(value, (ResultList, CompositeError)):
            value.shown = shown

    def close(self, outputs: Mapping[int, Mapping[str, Any]]) -> None:
        """Show what was not shown yet of the engines' whole output, by id."""
        self._lines.close_all(outputs)


class _Lines(LiveLines):
    """Prints lines with the label of their engine.

    :ivar used: whether it has printed any.
    """

    def __init__(self, more: str) -> None:
        super().__init__(time.monotonic, more)
        self._styles = session_styles()
        self.used = False

    def close_all(self, outputs: Mapping[int, Mapping[str, Any]]) -> None:
        for engine_id, output in sorted(outputs.items()):
            for stream in STREAMS:
                key = (engine_id, stream)
                self.print(self.close(key, self.shown.rest(*key, output.get(stream, ""))))
        self.print(self.end())

    def print(self, lines: Iterable[tuple[Key, str]]) -> None:
        styles = self._styles
        for (engine_id, stream), line in lines:
            self.used = True
            before = styles.before_out if stream == "stdout" else styles.before_err
            file = sys.stdout if stream == "stdout" else sys.stderr
            file.write(f"{before}[{engine_id}]{styles.after} {line}\n")
            file.flush()


def show_output(engine_id: int, output: Mapping[str, str], more: str) -> None:
    """Show the output of one call that is done.

    :param more: where the lines are that are left out, for the marks.
    """
    _Lines(more).close_all({engine_id: output})


def show_the_rest(pending: Waited, view: LiveView | None, value: Any) -> None:
    """Show a waiting user what was not shown of the output of a call that is done.

    :param view: what showed the output while the call ran, if anything did.
    :param value: the result or the error.
    """
    if not pending.prints:
        if view is not None:
            view.finish(value)
    elif person_waits():
        pending.prints = False
        (view or pending.view or LiveView(pending)).close(pending.outputs)


def results_in(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the results of commands that a result or an error of engines contains."""
    found: list[Any] = []
    if isinstance(value, ResultList):
        found = list(value)
    elif isinstance(value, CompositeError):
        infos = [getattr(each, "_ipython_engine_info", {}) for each in value.exceptions]
        found = [*value.results, *(info.get("result") for info in infos)]
    for result in found:
        if isinstance(result, dict) and "input" in result:
            yield result


def attend(pending: Waited, timeout: float | None) -> LiveView | None:
    """Wait until ``pending`` is done.

    :returns: the view that showed its output, if any; call its ``finish`` with the result.
    :raises TimeoutError: if it is not done after ``timeout`` seconds.
    :raises WaitInterrupted: on Ctrl-C.
    """
    try:
        if not pending.streams_output or not person_waits():
            pending.wait_done(timeout)
            return None
        deadline = None if timeout is None else time.monotonic() + timeout
        _wait_a_while(pending, LIVE_AFTER if timeout is None else min(timeout, LIVE_AFTER))
        if pending.done():
            return None
        with enginewaits.waiting(pending):
            return _watch(pending, deadline)
    except KeyboardInterrupt:
        raise interrupted([pending]) from None


def _wait_a_while(pending: Waited, seconds: float) -> None:
    try:
        pending.wait_done(seconds)
    except TimeoutError as problem:
        if raised_by_handler(problem):
            raise  # it is the user's


def _watch(pending: Waited, deadline: float | None) -> LiveView:
    changes: SimpleQueue[None] = SimpleQueue()
    view, announcer = LiveView(pending), Announcer(pending)

    def changed(*_: object) -> None:
        changes.put(None)

    pending.on_output(changed)
    pending.add_done_callback(changed)
    try:
        while not pending.done():
            view.update()
            left = TICK if deadline is None else min(TICK, deadline - time.monotonic())
            if left <= 0:
                raise TimeoutError
            announcer.update()
            with suppress(Empty):
                changes.get(timeout=left)
                while True:
                    changes.get_nowait()
    finally:
        pending.remove_output_listener(changed)
    return view


def watch_progress(pending: Waited, timeout: float | None, interval: float) -> bool:
    """Wait at most ``timeout`` seconds until ``pending`` is done, with a progress bar where it can be displayed.

    :returns: whether it is done.
    :raises WaitInterrupted: on Ctrl-C.
    """
    bar, announcer = make_bar(pending.name, pending.unit), Announcer(pending)
    begun = time.monotonic()
    try:
        while True:
            over = pending.done()
            waited = time.monotonic() - begun
            if bar is not None:
                announcer.update(bar.close)
                bar.show(*pending.progress, waited)
            left = None if timeout is None else timeout - waited
            if over or (left is not None and left <= 0):
                return over
            pause = max(interval, LEAST_INTERVAL)
            _wait_a_while(pending, pause if left is None else min(pause, left))
    except KeyboardInterrupt:
        raise interrupted([pending]) from None
    finally:
        if bar is not None:
            bar.close()


def wait_for_all(pending_results: Sequence[Any], timeout: float | None) -> int:
    """Wait until all calls are done, successful or not.

    :param timeout: the maximum time to wait, in seconds; None for no limit.
    :returns: how many are not done after that.
    :raises WaitInterrupted: on Ctrl-C; the calls continue.
    """
    from concurrent.futures import wait

    try:
        _, unfinished = wait(pending_results, timeout)
    except KeyboardInterrupt:
        raise interrupted(pending_results) from None
    return len(unfinished)


def interrupted(pending_results: Sequence[Waited]) -> WaitInterrupted:
    """Return the error of a wait that Ctrl-C ended: one line that says what is still running and how to end it."""
    going_on = [pending for pending in pending_results if not pending.done()]
    if not going_on:
        return WaitInterrupted("KeyboardInterrupt")
    pending = going_on[0]
    calls = getattr(pending.client, "pending", [])
    if pending not in calls:
        return WaitInterrupted(
            f"KeyboardInterrupt: {pending.name} is still running; abort() ends it, r waits for it again"
            f"{_failed_so_far(pending)}"
        )
    client = name_of(pending.client, "mec")
    if len(going_on) > 1:
        return WaitInterrupted(
            f"KeyboardInterrupt: {len(going_on)} calls are still running. {client}.pending lists them: .abort() ends "
            f"one, .r waits for it; {client}.interrupt() interrupts what is running"
        )
    ids = pending.unfinished
    who = f"{pending.name} is still running{f' on {engines(ids)}' if ids else ''}"
    place = -1 if pending is calls[-1] else calls.index(pending)
    return WaitInterrupted(
        f"KeyboardInterrupt: {who}. {client}.pending[{place}] is this call: "
        f".abort() ends it, .r waits for it again; {client}.interrupt() interrupts what is running"
        f"{_failed_so_far(pending)}"
    )


def _failed_so_far(pending: Waited) -> str:
    """Return lines for the end of a message: what engines have raised already; empty if nothing."""
    return "".join(f"\n{text}" for text in described(pending.failures()))
