"""Progress bars: one line in a terminal, a bar in a notebook, nothing elsewhere."""

from __future__ import annotations

import sys
from typing import Any, Final, Protocol, TextIO

from ipython1.notebook.frontend import FrontEnd, front_end

WIDTH: Final = 30
"""Characters of a bar in a terminal."""


class Bar(Protocol):
    """Shows progress."""

    def show(self, done: int, total: int, seconds: float) -> None:
        """Update the bar: ``done`` of ``total`` after ``seconds``."""

    def close(self) -> None:
        """Stop updating; the last state stays visible."""


def describe(label: str, done: int, total: int, seconds: float, unit: str = "engine") -> str:
    """Return a text such as ``execute: 2 of 4 engines done, 3.2 s``."""
    return f"{label}: {done_of(done, total, unit)}, {seconds:.1f} s"


def done_of(done: int, total: int, unit: str) -> str:
    """Return a text such as ``2 of 4 engines done``."""
    return f"{done} of {total} {unit}{'' if total == 1 else 's'} done"


class TerminalBar:
    """A line that is rewritten on each update."""

    def __init__(self, label: str, unit: str, file: TextIO) -> None:
        self._label = label
        self._unit = unit
        self._file = file
        self._length = 0

    def show(self, done: int, total: int, seconds: float) -> None:
        filled = WIDTH * done // total if total else 0
        bar = "#" * filled + "." * (WIDTH - filled)
        line = f"[{bar}] {describe(self._label, done, total, seconds, self._unit)}"
        self._file.write("\r" + line.ljust(self._length))
        self._file.flush()
        self._length = len(line)

    def close(self) -> None:
        if self._length:
            self._file.write("\n")
            self._file.flush()


class NotebookBar:
    """An HTML bar that is updated in place."""

    def __init__(self, label: str, unit: str) -> None:
        self._label = label
        self._unit = unit
        self._handle: Any = None

    def show(self, done: int, total: int, seconds: float) -> None:
        from IPython.display import HTML, display

        from ipython1.notebook.html import progress_html

        page = HTML(
            progress_html(done, total, describe(self._label, done, total, seconds, self._unit))
        )
        if self._handle is None:
            self._handle = display(page, display_id=True)
        else:
            self._handle.update(page)

    def close(self) -> None:
        """Do nothing: the last bar stays displayed."""


def make_bar(label: str, unit: str = "engine") -> Bar | None:
    """Return a bar for this process's front end; None if no user can see it.

    :param label: the text before the numbers.
    :param unit: what is counted, in the singular.
    """
    if front_end() is FrontEnd.NOTEBOOK:
        return NotebookBar(label, unit)
    if sys.stderr is not None and sys.stderr.isatty():
        return TerminalBar(label, unit, sys.stderr)
    return None
