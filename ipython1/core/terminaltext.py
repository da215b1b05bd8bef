"""Text as a terminal would show it: carriage returns, erasing and cursor movement of progress bars are carried out.

:func:`rendered` gives the final state of a whole text; :class:`TerminalText` follows a growing one.  Text without such
control characters is never changed, and neither are the lines around it.  The terminal is endlessly
wide and :data:`HEIGHT` lines high: what has scrolled out of it is final.
"""

from __future__ import annotations

import re
from typing import Final

HEIGHT: Final = 60
"""Lines above the last one that can still be changed."""

LONG_GAP: Final = 20_000
"""Characters without any moves that are worth to be left alone."""

LONGEST_STYLE: Final = 200
"""Characters of colour sequences that are kept for a character."""

LONGEST_SEQUENCE: Final = 64
"""Characters of an incomplete escape sequence that are held back until it is complete."""

_MOVES: Final = re.compile(r"\r(?!\r*\n)|\x08|\x1b\[[0-9;]*[A-GKJ]|\x1b\[\?25[lh]")
"""What makes a text differ from what a terminal shows."""

_TOKEN: Final = re.compile(
    r"\r*\n|\r|\x08|\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_=>0-9]"
)
_SPECIAL: Final = re.compile(r"[\n\x1b\x08]")
_UNFINISHED: Final = re.compile(r"(?:\r+|\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*\x1b?)?)\Z")
_STYLE: Final = re.compile(r"\x1b\[[0-9;:]*m")

Cell = tuple[str, str]
"""The colour sequences before a character, and the character."""


def is_plain(text: str) -> bool:
    """Return whether a terminal shows a text as it is."""
    return _MOVES.search(text) is None


def rendered(text: str) -> str:
    """Return what a terminal shows of a text in the end; a plain text is returned as it is."""
    if "\r" not in text and "\x1b" not in text and "\x08" not in text:
        return text
    if is_plain(text):
        return text
    terminal = TerminalText()
    done: list[str] = []
    start = position = 0
    for match in (*_MOVES.finditer(text), None):
        stop = len(text) if match is None else match.start()
        if stop - position > LONG_GAP:
            # Most of what lies between is final, and as it was written.
            first = text.find("\n", position, stop) + 1
            last = _lines_back(text, position, stop)
            if 0 < first < last:
                terminal.feed(text[start:first])
                if terminal.at_new_line:
                    middle = text[first:last]
                    done += (str(terminal), middle)
                    terminal = TerminalText(_style_after(terminal.style, middle))
                    start = last
                else:
                    start = first
        position = stop if match is None else match.end()
    terminal.feed(text[start:])
    terminal.finish()
    return "".join((*done, str(terminal)))


def _lines_back(text: str, start: int, stop: int) -> int:
    """Return where the last :data:`HEIGHT` lines of a part begin; 0 if it has no more."""
    for _ in range(HEIGHT + 1):
        stop = text.rfind("\n", start, stop)
        if stop < 0:
            return 0
    return stop + 1


def _style_after(style: str, text: str) -> str:
    """Return the colour sequences in effect after a text."""
    for match in _STYLE.finditer(text):
        style = _joined(style, match[0])
    return style


def without_superseded(text: str) -> str:
    """Return a text without the states of a bar that later ones in the same line cover completely.

    The first state stays, so that it can be seen that the line was written again.
    """
    states = text.split("\r")
    if len(states) < 4:
        return text
    simple = [state != "" and _SPECIAL.search(state) is None for state in states]
    kept = [states[-1]]
    covered = _covers(states[-1])
    for number in range(len(states) - 2, 0, -1):
        state = states[number]
        if simple[number] and simple[number - 1] and number > 1 and len(state) <= covered:
            continue
        kept.append(state)
        covered = max(covered, len(state)) if simple[number] else _covers(state)
    kept.append(states[0])
    return "\r".join(reversed(kept))


def _covers(state: str) -> int:
    """Return how many characters of a line a state covers for certain."""
    match = _SPECIAL.search(state)
    return len(state) if match is None else match.start()


def without_styles(text: str) -> str:
    """Return a text without colours and other escape sequences."""
    return _TOKEN.sub(lambda match: "" if match[0][0] == "\x1b" else match[0], text)


class Row:
    """A line on a terminal: as it was written, until a part of it is written again.

    :ivar number: counts from the beginning of the text.
    :ivar end: what ended it: ``\\n``, ``\\r\\n``, or nothing so far.
    :ivar style: the colour sequences in effect at its beginning.
    :ivar end_style: the same at the end of what was written without going back.
    :ivar rewritten: whether a part of it was written again or erased.
    :ivar changed: whether it has changed since somebody reset this.
    """

    __slots__ = (
        "_cells",
        "_pieces",
        "changed",
        "end",
        "end_style",
        "number",
        "rewritten",
        "style",
        "width",
    )

    def __init__(self, number: int, style: str = "") -> None:
        self.number: int = number
        self.style: str = style
        self.end_style: str = style
        self.width: int = 0
        self.end: str = ""
        self.rewritten: bool = False
        self.changed: bool = True
        self._pieces: list[str] = []
        self._cells: list[Cell] = []

    def write(self, column: int, text: str, style: str) -> None:
        """Write text at a column."""
        self.changed = True
        if not self.rewritten and column == self.width and style == self.end_style:
            self._pieces.append(text)
        else:
            self._to_cells()
            cells = self._cells
            if column > len(cells):
                cells += [("", " ")] * (column - len(cells))
            cells[column : column + len(text)] = [(style, each) for each in text]
        self.width = max(self.width, column + len(text))

    def add_sequence(self, column: int, sequence: str, before: str, after: str) -> None:
        """Keep a sequence that takes no place in a line that is as it was written.

        :param before: the colour sequences in effect before it.
        :param after: the same after it.
        """
        if not self.rewritten and column == self.width and before == self.end_style:
            self._pieces.append(sequence)
            self.end_style = after
            self.changed = True

    def erase(self, start: int, stop: int) -> None:
        """Replace a part by spaces, or by nothing at the end."""
        if start >= self.width:
            return
        self.changed = True
        self._to_cells()
        if stop >= self.width:
            del self._cells[start:]
            self.width = start
        else:
            self._cells[start:stop] = [("", " ")] * (stop - start)

    def clear(self) -> None:
        """Erase all of it."""
        self._to_cells()
        self._cells.clear()
        self.width = 0
        self.changed = True

    def _to_cells(self) -> None:
        if self.rewritten:
            return
        self.rewritten = True
        self.end = self.end and "\n"
        style = self.style
        position = 0
        text = "".join(self._pieces)
        for match in _TOKEN.finditer(text):
            self._cells += [(style, each) for each in text[position : match.start()]]
            if _STYLE.fullmatch(match[0]):
                style = _joined(style, match[0])
            position = match.end()
        self._cells += [(style, each) for each in text[position:]]
        self._pieces = []

    def __str__(self) -> str:
        if not self.rewritten:
            return "".join(self._pieces)
        cells = self._cells
        last = len(cells)
        while last and cells[last - 1] == ("", " "):
            last -= 1
        parts: list[str] = []
        before = ""
        for style, character in cells[:last]:
            if style != before:
                if before:
                    parts.append("\x1b[0m")
                parts.append(style)
                before = style
            parts.append(character)
        if before:
            parts.append("\x1b[0m")
        return "".join(parts)

    @property
    def written(self) -> int:
        """How many characters a line has that is as it was written."""
        return sum(map(len, self._pieces))


def _joined(style: str, sequence: str) -> str:
    """Return the colour sequences that are in effect after another one."""
    if sequence in ("\x1b[m", "\x1b[0m"):
        return ""
    return sequence if len(style) > LONGEST_STYLE else style + sequence


class TerminalText:
    """A growing text on a terminal.

    :ivar rows: the lines that can still be changed.
    :ivar gone: the lines that have scrolled out since somebody emptied this list, oldest first.
    :ivar row: the line with the cursor, an index of :attr:`rows`.
    :ivar column: of the cursor.
    :ivar style: the colour sequences in effect.
    :ivar hidden: whether the cursor is hidden, as something that moves is shown.
    :ivar went_up: whether the cursor has ever been moved up, as by several bars below each other.
    """

    def __init__(self, style: str = "") -> None:
        self.rows: list[Row] = [Row(0, style)]
        self.gone: list[Row] = []
        self.row: int = 0
        self.column: int = 0
        self.style: str = style
        self.hidden: bool = False
        self.went_up: bool = False
        self._held = ""
        self._saved = (0, 0)

    def leap(self, text: str) -> None:
        """Write text without any control characters but line ends, and forget the lines that scroll out."""
        head, *lines = text.rsplit("\n", HEIGHT)
        count = head.count("\n") + 1 if len(lines) == HEIGHT else 0
        if not count or not self.at_end:
            self.feed(text)
            return
        number = self.rows[-1].number + count
        self.rows = [Row(number + place, self.style) for place in range(HEIGHT)]
        for row, line in zip(self.rows, lines, strict=True):
            if line:
                row.write(0, line, self.style)
            row.end = "\n"
        self.rows[-1].end = ""
        self.row, self.column = HEIGHT - 1, len(lines[-1])

    @property
    def at_end(self) -> bool:
        """Whether the next character comes after everything else."""
        row = self.rows[-1]
        return self.row == len(self.rows) - 1 and self.column == row.width and not self._held

    @property
    def at_new_line(self) -> bool:
        """Whether the cursor is in a last line in which nothing has been written."""
        row = self.rows[-1]
        fresh = not row.rewritten and not row.written and row.style == self.style
        return self.at_end and fresh

    def feed(self, text: str) -> None:
        """Write more text."""
        text = self._held + text
        self._held = ""
        tail = _UNFINISHED.search(text, max(len(text) - LONGEST_SEQUENCE, 0))
        if tail is not None:
            self._held = tail[0]
            text = text[: tail.start()]
        text = without_superseded(text)
        position = 0
        for match in _TOKEN.finditer(text):
            if match.start() > position:
                self._write(text[position : match.start()])
            self._do(match[0])
            position = match.end()
        if position < len(text):
            self._write(text[position:])

    def finish(self) -> None:
        """Write what was held back, as nothing more comes."""
        held, self._held = self._held, ""
        if held and held[0] == "\r":
            self.column = 0
        elif held:
            self._write(held)

    def __str__(self) -> str:
        rows = [*self.gone, *self.rows]
        return "".join([f"{row}{row.end}" for row in rows])

    def _write(self, text: str) -> None:
        self.rows[self.row].write(self.column, text, self.style)
        self.column += len(text)

    def _do(self, token: str) -> None:
        if token[-1] == "\n":
            self._new_line(token)
        elif token == "\r":
            self.column = 0
        elif token == "\x08":
            self.column = max(self.column - 1, 0)
        elif token[1] == "[":
            self._control(token)
        elif token == "\x1b7":
            self._saved = (self.rows[self.row].number, self.column)
        elif token == "\x1b8":
            self._go_to(*self._saved)
        else:
            self.rows[self.row].add_sequence(self.column, token, self.style, self.style)

    def _new_line(self, end: str) -> None:
        row = self.rows[self.row]
        if self.row < len(self.rows) - 1:
            self.row += 1
        else:
            # Before a line end that is no move, carriage returns belong to the text.
            row.end = "\n" if row.rewritten or self.column != row.width else end
            row.changed = True
            self.rows.append(Row(row.number + 1, self.style))
            self.row += 1
            if len(self.rows) > HEIGHT:
                self.gone.append(self.rows.pop(0))
                self.row -= 1
        self.column = 0

    def _control(self, token: str) -> None:
        row = self.rows[self.row]
        if token[-1] == "m":
            if _STYLE.fullmatch(token):
                before, self.style = self.style, _joined(self.style, token)
                row.add_sequence(self.column, token, before, self.style)
            return
        if token in ("\x1b[?25l", "\x1b[?25h"):
            self.hidden = token[-1] == "l"
            return
        values = token[2:-1]
        if values and not values.replace(";", "").isdigit():
            return
        first = values.split(";")[0]
        count = int(first[:6]) if first else 0
        many = max(count, 1)
        match token[-1]:
            case "A":
                self.went_up = True
                self.row = max(self.row - many, 0)
            case "B":
                self.row = min(self.row + many, len(self.rows) - 1)
            case "C":
                self.column += min(many, 10_000)
            case "D":
                self.column = max(self.column - many, 0)
            case "E":
                self.row, self.column = min(self.row + many, len(self.rows) - 1), 0
            case "F":
                self.row, self.column = max(self.row - many, 0), 0
            case "G":
                self.column = min(many, 10_000) - 1
            case "K":
                self._erase_line(row, count)
            case "J" if count == 0:
                self._erase_line(row, 0)
                for below in self.rows[self.row + 1 :]:
                    below.erase(0, below.width)

    def _erase_line(self, row: Row, which: int) -> None:
        if which == 0:
            row.erase(self.column, row.width)
        elif which == 1:
            row.erase(0, self.column + 1)
        else:
            row.clear()

    def _go_to(self, number: int, column: int) -> None:
        self.row = min(max(number - self.rows[0].number, 0), len(self.rows) - 1)
        self.column = column
