"""A progress line for long waits in a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

SHOW_AFTER = 1.0
"""Seconds of waiting after which the line appears."""

INTERVAL = 0.2


def progress_line(
    wanted: bool | None,
    wait: Callable[[float | None], bool],
    progress: Callable[[], tuple[int, int]],
    timeout: float | None,
    file: TextIO | None = None,
    what: str = "tasks",
    show: Callable[[Callable[[], None]], None] | None = None,
) -> bool:
    """Wait, and show progress if it takes long.

    :param wanted: whether to show it: True, False, or None to show it if ``file`` is a terminal.
    :param wait: waits for a number of seconds (None: without limit); returns whether the wait is over.
    :param progress: returns the number of items that are done, and of all items.
    :param timeout: the maximum time to wait, in seconds; None for no limit.
    :param file: the stream; default: standard error.
    :param what: what the items are called.
    :param show: called now and then to print what else there is to show, with a function that wipes the line before.
    :returns: whether the wait is over.
    """
    out = sys.stderr if file is None else file
    if wanted is None:
        wanted = bool(getattr(out, "isatty", lambda: False)())
    if not wanted and show is None:
        return wait(timeout)
    deadline = None if timeout is None else time.monotonic() + timeout
    begin = time.monotonic()
    line = _Line(out)
    pause = SHOW_AFTER
    try:
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            if wait(pause if left is None else max(0.0, min(pause, left))):
                return True
            if left is not None and left <= pause:
                return False
            pause = INTERVAL
            if show is not None:
                show(line.wipe)
            if wanted:
                line.write(describe(*progress(), time.monotonic() - begin, what))
    finally:
        line.wipe()


class _Line:
    """A line of a terminal that is written again and again."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._width = 0

    def write(self, text: str) -> None:
        self._out.write("\r" + text.ljust(self._width))
        self._out.flush()
        self._width = len(text)

    def wipe(self) -> None:
        if self._width:
            self._out.write("\r" + " " * self._width + "\r")
            self._out.flush()
        self._width = 0


def describe(done: int, total: int, seconds: float, what: str = "tasks") -> str:
    """Describe progress: ``120 of 2000 tasks done, 12 s, about 188 s to go``."""
    text = f"{done} of {total} {what} done, {seconds:.0f} s"
    if done:
        text += f", about {seconds / done * (total - done):.0f} s to go"
    return text
