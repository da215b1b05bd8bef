"""A few lines below everything else that change while somebody waits: progress, and bars that engines draw.

In a terminal they are written again in their place; in a notebook they are one display that is updated.  They are for
waiting users only and are gone, or at rest, when the wait is over.
"""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from typing import Any, Final, Protocol, TextIO

from ipython1.core.terminaltext import without_styles
from ipython1.notebook.frontend import FrontEnd, front_end

MOST_LINES: Final = 20
"""Lines that are shown at the same time."""

LEFT_FREE: Final = 2
"""Lines of a terminal that are left to everything else."""

INTERVAL: Final = 0.1
"""Seconds between two updates: more often nobody can see."""


class Area(Protocol):
    """Lines that change."""

    width: int
    """Characters for which there is place in a line."""

    def show(self, lines: Sequence[str]) -> None:
        """Show these lines instead of those before."""

    def wipe(self) -> None:
        """Make place for other output; the next :meth:`show` shows all lines again."""

    def close(self, keep: bool = False) -> None:
        """End it.

        :param keep: whether the lines stay visible.
        """


class TerminalArea:
    """Lines at the bottom of a terminal."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._drawn: list[str] = []
        self._size()

    def _size(self) -> None:
        columns, rows = _terminal_size(self._file)
        self.width: int = max(columns - 1, 10)
        self.height: int = max(min(rows - LEFT_FREE, MOST_LINES), 1)

    def show(self, lines: Sequence[str]) -> None:
        self._size()
        wanted = [clipped(each, self.width) for each in shortened(lines, self.height)]
        if wanted == self._drawn:
            return
        parts = [self._back()]
        # What stays as long as it was is written over, as erasing first would flicker.
        parts.append("\n".join(f"{line}\x1b[K" for line in wanted))
        if len(self._drawn) > len(wanted):
            parts.append("\x1b[J")
        self._write("".join(parts))
        self._drawn = wanted

    def _back(self) -> str:
        """Return what moves the cursor to the beginning of the first line."""
        up = len(self._drawn) - 1
        return "\r" + (f"\x1b[{up}A" if up > 0 else "")

    def wipe(self) -> None:
        if self._drawn:
            self._write(f"{self._back()}\x1b[J")
            self._drawn = []

    def close(self, keep: bool = False) -> None:
        if keep and self._drawn:
            self._write("\n")
            self._drawn = []
        self.wipe()

    def _write(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()


class DumbArea:
    """One line of a terminal that cannot move its cursor: the first line is written over the one before."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._drawn = ""
        self._size()

    def _size(self) -> None:
        self.width: int = min(max(_terminal_size(self._file)[0] - 1, 10), 79)

    def show(self, lines: Sequence[str]) -> None:
        self._size()
        line = clipped(lines[0], self.width) if lines else ""
        if line != self._drawn:
            rest = min(columns_of(self._drawn), self.width) - columns_of(line)
            self._write("\r" + line + " " * rest)
            self._drawn = line

    def wipe(self) -> None:
        if self._drawn:
            self._write("\r" + " " * min(columns_of(self._drawn), self.width) + "\r")
            self._drawn = ""

    def close(self, keep: bool = False) -> None:
        if keep and self._drawn:
            self._write("\n")
            self._drawn = ""
        self.wipe()

    def _write(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()


class NotebookArea:
    """Lines in the output of a notebook's cell: one display, which is updated in its place."""

    width = 100

    def __init__(self) -> None:
        self._handle: Any = None
        self._drawn: list[str] = []

    def show(self, lines: Sequence[str]) -> None:
        wanted = [clipped(each, self.width) for each in shortened(lines, MOST_LINES)]
        if wanted != self._drawn:
            self._drawn = wanted
            self._display("\n".join(wanted))

    def _display(self, text: str) -> None:
        from IPython.display import display

        from ipython1.notebook.html import lines_block_html

        data = {"text/plain": text, "text/html": lines_block_html(text) if text else ""}
        if self._handle is None:
            if text:
                self._handle = display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)

    def wipe(self) -> None:
        """Do nothing: other output comes below."""

    def close(self, keep: bool = False) -> None:
        if not keep and self._drawn:
            self.show([])


def open_area(file: TextIO | None = None) -> Area | None:
    """Return an area of this process's front end; None if no user can see one.

    :param file: a stream to draw on; default: standard error, where it is a terminal.
    """
    if file is None:
        if front_end() is FrontEnd.NOTEBOOK:
            return NotebookArea()
        file = sys.stderr
        if file is None or not _is_terminal(file):
            return None
    if os.environ.get("TERM", "") in ("", "dumb") and os.name == "posix":
        return DumbArea(file)
    return TerminalArea(file)


def _terminal_size(file: TextIO) -> tuple[int, int]:
    """Return columns and rows of the terminal that is written to; the environment may name another one's."""
    try:
        columns, rows = os.get_terminal_size(file.fileno())
    except (OSError, ValueError, AttributeError):
        columns, rows = shutil.get_terminal_size()
    return columns or 80, rows or 24


def _is_terminal(file: TextIO) -> bool:
    try:
        return file.isatty()
    except (ValueError, AttributeError):
        return False


def shortened(lines: Sequence[str], most: int) -> list[str]:
    """Return the lines, or the first ones and how many are left out."""
    if len(lines) <= most:
        return list(lines)
    return [*lines[: most - 1], f"... and {len(lines) - most + 1} more lines"]


def clipped(line: str, width: int) -> str:
    """Return a line without colours and control characters, as far as there is place for it.

    :param width: columns of a terminal; a Chinese or Japanese character takes two of them.
    """
    line = without_styles(line).replace("\t", " ").replace("\n", " ")
    kept: list[str] = []
    column = fits = 0
    for character in line:
        category = unicodedata.category(character)
        if category == "Cc":
            continue
        column += _columns(character, category)
        if column > width:
            return "".join(kept[:fits]) + "\u2026"
        kept.append(character)
        if column < width:
            fits = len(kept)
    return "".join(kept)


def columns_of(line: str) -> int:
    """Return how many columns of a terminal a line without control characters takes."""
    return sum(_columns(each, unicodedata.category(each)) for each in line)


def _columns(character: str, category: str) -> int:
    if category in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
