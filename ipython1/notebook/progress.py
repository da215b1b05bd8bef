"""Progress bars: one line in a terminal, a bar in a notebook, nothing elsewhere."""

from __future__ import annotations

import sys
from typing import Any, Final, Protocol, TextIO

from ipython1.notebook.frontend import FrontEnd, front_end

WIDTH: Final = 30
"""Characters of a bar in a terminal."""


class Bar(Protocol):
    """Shows how far something is."""

    def show(self, done: int, total: int, seconds: float) -> None:
        """It is so far after so many seconds."""

    def close(self) -> None:
        """It will not be shown again; what was shown last stays."""


def describe(label: str, done: int, total: int, seconds: float, unit: str = "engine") -> str:
    """``execute: 2 of 4 engines done, 3.2 s``."""
    return f"{label}: {done_of(done, total, unit)}, {seconds:.1f} s"


def done_of(done: int, total: int, unit: str) -> str:
    """``2 of 4 engines done``."""
    return f"{done} of {total} {unit}{'' if total == 1 else 's'} done"


class TerminalBar:
    """A line that is written again and again."""

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
    """A bar of HTML that is updated in its place."""

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
        """Nothing is left to do."""


def make_bar(label: str, unit: str = "engine") -> Bar | None:
    """A bar that suits where this process shows things; None where nobody looks.

    :param unit: what is counted, in the singular.
    """
    if front_end() is FrontEnd.NOTEBOOK:
        return NotebookBar(label, unit)
    if sys.stderr is not None and sys.stderr.isatty():
        return TerminalBar(label, unit, sys.stderr)
    return None
