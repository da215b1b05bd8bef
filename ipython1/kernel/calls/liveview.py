"""What somebody who waits sees: the output of engines as it comes, their progress bars, how far it is, why it waits."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from twisted.logger import Logger

from ipython1.kernel.basics.error import CompositeError
from ipython1.kernel.calls.liveoutput import STREAMS, Key, LiveLines
from ipython1.kernel.calls.livesteps import Steps, steps_for
from ipython1.kernel.calls.resultlist import ResultList, session_styles
from ipython1.notebook.frontend import person_waits, present_moment
from ipython1.notebook.livearea import INTERVAL, Area, open_area
from ipython1.notebook.progress import meter

log: Logger = Logger()

LIVE_AFTER: Final = 1.0
"""Seconds of waiting after which something is shown."""

ALL_IS_PENDING: Final = "with block=False, the pending result's stdout and stderr have all"


class Outputs(Protocol):
    """A call whose output comes while it runs."""

    prints: bool

    def streams(self) -> list[Key]: ...

    def output_since(self, key: Key, position: int) -> tuple[str, int]: ...

    def whole_outputs(self, ids: Iterable[int]) -> Mapping[int, Mapping[str, Any]]: ...

    def take_steps(self) -> Sequence[tuple[int, Any]]: ...


class Running(Protocol):
    """The tasks that run."""

    def lines(self) -> list[tuple[int, str]]: ...

    def take_steps(self) -> Sequence[tuple[int, Any]]: ...


Count = Callable[[], tuple[int, int, int, str]]
"""Returns how many are done, of how many, how many of those have failed, and what is counted, in the singular."""


class Progress:
    """How far something is, as a line of text.

    :param label: the text before the numbers.
    :param count: counts it.
    :param before: how many seconds ago it began.
    """

    def __init__(self, label: str, count: Count, before: float = 0.0) -> None:
        self._label = label
        self._count = count
        self._begun = time.monotonic() - before

    def line(self, width: int) -> str:
        """Return the line, with at most ``width`` characters."""
        done, total, failed, unit = self._count()
        seconds = time.monotonic() - self._begun
        return meter(self._label, done, total, seconds, unit, failed, width)


class LiveView:
    """Shows a waiting user what engines write and display, and the lines that change, below that.

    :param pending: the call whose output is shown; None for none.
    :param area: where lines that change are shown; None if they cannot be.
    :param progress: how far it is; None to show that not.
    :param notes: returns lines for the user, such as why nothing goes on.
    :param running: tasks, whose last lines are shown while they run.
    :param news: returns new lines for the user that stay, such as an error of one engine.
    """

    def __init__(
        self,
        pending: Outputs | None,
        area: Area | None,
        progress: Progress | None = None,
        notes: Callable[[], Sequence[str]] = lambda: (),
        running: Running | None = None,
        news: Callable[[], Sequence[str]] = lambda: (),
    ) -> None:
        self._running = running
        self._news = news
        self._pending = pending
        self._area = area
        self._progress = progress
        self._notes = notes
        self._noted: Sequence[str] = ()
        prints = pending is not None and pending.prints
        more = ALL_IS_PENDING if prints else "the result has more"
        self._lines = _Lines(more, hints=area is None)
        self._steps: Steps = steps_for()
        self._positions: dict[Key, int] = {}

    def update(self) -> None:
        """Show what is new."""
        lines = self._new_lines()
        notes = self._notes()
        steps = self._new_steps()
        news = self._news()
        if lines or steps or news:
            if self._area is not None:
                self._area.wipe()
            self._lines.print(lines)
            self._do(steps)
            _print_news(news)
        if self._area is not None:
            self._area.show([*self._progress_lines(), *notes, *self._moving()])
        elif notes != self._noted:
            self._noted = notes
            _print_news(notes)

    def _new_lines(self) -> list[tuple[Key, str]]:
        lines: list[tuple[Key, str]] = []
        pending = self._pending
        if pending is not None:
            for key in pending.streams():
                text, dropped = pending.output_since(key, self._positions.get(key, 0))
                if text or dropped:
                    self._positions[key] = self._positions.get(key, 0) + dropped + len(text)
                    lines += self._lines.feed(key, text, dropped)
            lines += self._of_engines_done(pending)
        lines += self._lines.tick()
        return lines

    def _of_engines_done(self, pending: Outputs) -> Iterator[tuple[Key, str]]:
        """Yield the rest of what moved when an engine ended: what it wrote last was perhaps not sent."""
        moving = dict.fromkeys(key for key, _ in self._lines.moving())
        if not moving:
            return
        outputs = pending.whole_outputs({engine_id for engine_id, _ in moving})
        for key in moving:
            whole = outputs.get(key[0], {}).get(key[1])
            if whole:
                yield from self._lines.close(key, self._lines.shown.rest(*key, whole))

    def _progress_lines(self) -> list[str]:
        if self._progress is None or self._area is None:
            return []
        return [self._progress.line(self._area.width)]

    def _moving(self) -> list[str]:
        return [
            f"[{engine_id}] {line}"
            for engine_id, line in sorted(
                [
                    *((key[0], line) for key, line in self._lines.moving()),
                    *self._steps.lines(),
                    *(() if self._running is None else self._running.lines()),
                ],
                key=lambda each: each[0],
            )
        ]

    def rest(self, keep: bool = False) -> None:
        """End the lines that change; what they are in the end is shown with everything else.

        :param keep: whether they stay visible.
        """
        if self._area is not None:
            self._area.close(keep)

    def finish(self, value: Any) -> None:
        """End the view; if any output was shown, show the rest too, and record that in the result ``value``."""
        self._do_last_steps()
        shown = self._lines.shown
        shown.displayed = {
            number: each for number, each in self._steps.shown.items() if each.places
        }
        if not self._lines.used and not shown.displayed:
            return
        if self._lines.used:
            self.close({result["id"]: result for result in results_in(value)})
        shown.moment = present_moment()
        if isinstance(value, (ResultList, CompositeError)):
            value.shown = shown

    def close(self, outputs: Mapping[int, Mapping[str, Any]]) -> None:
        """Show what was not shown yet of the engines' whole output, by id."""
        self._do_last_steps()
        self.rest()
        self._lines.close_all(outputs)

    def _do_last_steps(self) -> None:
        self._do(self._new_steps())

    def _do(self, steps: Sequence[tuple[int, Any]]) -> None:
        for engine_id, step in steps:
            try:
                self._steps.do(engine_id, step)
            except Exception:
                # What user code displays may be anything; the wait goes on.
                log.failure("engine {id} has displayed something strange", id=engine_id)

    def _new_steps(self) -> list[tuple[int, Any]]:
        sources = (self._pending, self._running)
        return [step for source in sources if source is not None for step in source.take_steps()]


class _Lines(LiveLines):
    """Prints lines with the label of their engine.

    :ivar used: whether it has printed any.
    """

    def __init__(self, more: str, hints: bool = True) -> None:
        super().__init__(time.monotonic, more, hints)
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


def _print_news(lines: Sequence[str]) -> None:
    if lines and sys.stderr is not None:
        print(*lines, sep="\n", file=sys.stderr, flush=True)


def show_output(engine_id: int, output: Mapping[str, str], more: str) -> None:
    """Show the output of one call that is done.

    :param more: where the lines are that are left out, for the marks.
    """
    _Lines(more).close_all({engine_id: output})


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


def keep_watching(
    wait: Callable[[float | None], bool],
    view: LiveView | None,
    timeout: float | None,
    after: float = LIVE_AFTER,
    interval: float = INTERVAL,
    keep: bool = False,
) -> bool:
    """Wait, and show what is to be seen if it takes long.

    :param wait: waits for a number of seconds (None: without limit); returns whether the wait is over.
    :param view: what is shown; None for nothing.
    :param timeout: the maximum time to wait, in seconds; None for no limit.
    :param after: seconds after which something is shown; 0 for at once.
    :param interval: seconds between updates.
    :param keep: whether the lines that change stay visible in the end.
    :returns: whether the wait is over.
    """
    if view is None:
        return wait(timeout)
    deadline = None if timeout is None else time.monotonic() + timeout
    pause = after
    try:
        if not after:
            view.update()
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            if wait(pause if left is None else max(0.0, min(pause, left))):
                if keep:
                    view.update()
                return True
            if left is not None and left <= pause:
                return False
            pause = interval
            view.update()
    finally:
        view.rest(keep)


def progress_view(
    wanted: bool | None,
    label: str,
    count: Count,
    pending: Outputs | None = None,
    notes: Callable[[], Sequence[str]] = lambda: (),
    running: Running | None = None,
) -> LiveView | None:
    """Return what shows the progress of a wait; None if nobody would see it.

    :param wanted: whether to show progress: True, False, or None to show it where a user can see it.
    :param pending: a call whose output is shown to a user at a prompt, too.
    :param notes: see :class:`LiveView`.
    :param running: tasks, whose last lines are shown to a user at a prompt, too.
    """
    watched = person_waits()
    area = open_area() if wanted is not False or watched else None
    if wanted and area is None:
        area = open_area(sys.stderr)
    if area is None and not watched:
        return None
    progress = None if wanted is False else Progress(label, count)
    return LiveView(
        pending if watched else None, area, progress, notes, running if watched else None
    )
