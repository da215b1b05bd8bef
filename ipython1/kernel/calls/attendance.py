"""Waiting for calls: with live output in interactive sessions; Ctrl-C ends the wait, but not the call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol

from ipython1.core.interrupt import raised_by_handler
from ipython1.kernel.basics.error import WaitInterrupted
from ipython1.kernel.calls.failedsofar import Announcer, described, engines
from ipython1.kernel.calls.liveoutput import Key
from ipython1.kernel.calls.liveview import LIVE_AFTER, LiveView, Progress, keep_watching
from ipython1.kernel.calls.waitnotes import away_engines
from ipython1.kernel.objects import enginewaits
from ipython1.notebook.frontend import name_of, person_waits
from ipython1.notebook.livearea import open_area

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

    def count(self) -> tuple[int, int, int, str]: ...

    @property
    def progress(self) -> tuple[int, int]: ...

    @property
    def unfinished(self) -> list[int]: ...

    def failures(self) -> dict[int, BaseException]: ...

    def done(self) -> bool: ...

    def wait_done(self, timeout: float | None) -> None: ...

    def add_done_callback(self, fn: Callable[[Any], object], /) -> None: ...

    def streams(self) -> list[Key]: ...

    def output_since(self, key: Key, position: int) -> tuple[str, int]: ...

    def whole_outputs(self, ids: Iterable[int]) -> Mapping[int, Mapping[str, Any]]: ...

    @property
    def has_widgets(self) -> bool: ...

    def take_steps(self) -> Sequence[tuple[int, Any]]: ...


def show_the_rest(pending: Waited, view: LiveView | None, value: Any) -> None:
    """Show a waiting user what was not shown of the output of a call that is done.

    :param view: what showed the output while the call ran, if anything did.
    :param value: the result or the error.
    """
    if not pending.prints:
        if view is None and pending.has_widgets and person_waits():
            view = LiveView(pending, None)
        if view is not None:
            view.finish(value)
    elif person_waits():
        pending.prints = False
        (view or pending.view or LiveView(pending, None)).close(pending.outputs)


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
        if _wait_a_while(pending, LIVE_AFTER if timeout is None else min(timeout, LIVE_AFTER)):
            return None
        left = None if timeout is None else max(timeout - LIVE_AFTER, 0.0)
        progress = None
        if pending.count()[3] != "engine":
            progress = Progress(pending.name, pending.count, LIVE_AFTER)
        view = LiveView(
            pending, open_area(), progress, _notes(pending), news=Announcer(pending).news
        )
        with enginewaits.waiting(pending):
            if not keep_watching(partial(_wait_a_while, pending), view, left, after=0.0):
                raise TimeoutError
        return view
    except KeyboardInterrupt:
        raise interrupted([pending]) from None


def _notes(pending: Waited) -> Callable[[], Sequence[str]]:
    """Return what tells why a call does not go on."""
    connection = getattr(pending.client, "_connection", None)
    if connection is None:
        return lambda: ()
    return away_engines(connection.end, connection.reactor, lambda: pending.unfinished).lines


def _wait_a_while(pending: Waited, seconds: float | None) -> bool:
    """Wait for some time; return whether the call is done."""
    try:
        pending.wait_done(seconds)
    except TimeoutError as problem:
        if raised_by_handler(problem):
            raise  # it is the user's
    return pending.done()


def watch_progress(pending: Waited, timeout: float | None, interval: float) -> bool:
    """Wait at most ``timeout`` seconds until ``pending`` is done, with a progress bar where it can be displayed.

    :returns: whether it is done.
    :raises WaitInterrupted: on Ctrl-C.
    """
    area = open_area()
    view = None
    if area is not None:
        progress = Progress(pending.name, pending.count)
        view = LiveView(None, area, progress, _notes(pending), news=Announcer(pending).news)
    pause = max(interval, LEAST_INTERVAL)
    try:
        return keep_watching(
            partial(_wait_a_while, pending), view, timeout, after=0.0, interval=pause, keep=True
        )
    except KeyboardInterrupt:
        raise interrupted([pending]) from None


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
