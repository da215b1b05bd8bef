"""Text with progress bars in a shorter form, after which a terminal shows the same."""

from __future__ import annotations

from typing import NamedTuple

from ipython1.core.terminaltext import Row, TerminalText, is_plain, without_styles


class _Sent(NamedTuple):
    """What a reader has of a line.

    :ivar characters: how many, or -1 if they were written again.
    :ivar style: the colour sequences in effect after them.
    """

    characters: int
    style: str


class Condenser:
    """Replaces pieces of a growing text by shorter ones, after which a terminal shows the same."""

    def __init__(self) -> None:
        self._terminal = TerminalText()
        self._sent: dict[int, _Sent] = {0: _Sent(0, "")}
        self._style = ""

    def condense(self, text: str) -> str:
        """Return what stands for ``text``, which is what was written since the last call."""
        terminal = self._terminal
        number, column = terminal.rows[terminal.row].number, terminal.column
        plain = terminal.at_end and is_plain(text)
        hidden = terminal.hidden
        if "\x1b" in text or "\r" in text or "\x08" in text:
            terminal.feed(text)
        else:
            terminal.leap(text)
        changes = text if plain and terminal.at_end else self._changes(number, column)
        if terminal.hidden is not hidden and not is_plain(text):
            changes += "\x1b[?25l" if terminal.hidden else "\x1b[?25h"
        self._note()
        return changes

    def _note(self) -> None:
        """Note that the reader has everything."""
        terminal = self._terminal
        terminal.gone.clear()
        sent = self._sent
        for row in terminal.rows:
            if row.changed:
                row.changed = False
                sent[row.number] = _Sent(-1 if row.rewritten else row.written, row.end_style)
        self._style = terminal.style
        first = terminal.rows[0].number
        if len(sent) > len(terminal.rows):
            for number in [each for each in sent if each < first]:
                del sent[number]

    def _changes(self, number: int, column: int) -> str:
        """Return what makes the changes, with the reader's cursor in a line and a column."""
        terminal = self._terminal
        changed = [row for row in (*terminal.gone, *terminal.rows) if row.changed]
        styles = [*map(self._style_before, changed), terminal.style]
        style = self._style
        parts: list[str] = []
        if changed and style != styles[0]:
            # Where it becomes part of no line that is as it was written.
            parts.append("\x1b[1G" + (_switch(style, styles[0]) if column else ""))
            style, column = styles[0] if column else style, 0
        for row, after in zip(changed, styles[1:], strict=True):
            parts.append(self._move(number, row.number))
            if row.number != number:
                column = -1 if row.number < number or row.number <= max(self._sent) else 0
            number = row.number
            sent = self._sent.get(number)
            if row.rewritten:
                parts.append(f"\x1b[1G\x1b[2K{_switch(style, '')}{row}\x1b[0m{after}")
                style, column = after, -1
            else:
                content = str(row)
                if sent is not None:
                    place = _width(content, sent.characters)
                    parts.append("" if column == place else f"\x1b[{place + 1}G")
                    content = content[sent.characters :]
                parts.append(content)
                style, column = row.end_style, row.width
        parts.append(self._place_cursor(number, column))
        parts.append(_switch(style, terminal.style))
        return "".join(parts)

    def _style_before(self, row: Row) -> str:
        """Return the colour sequences that must be in effect before a line is written."""
        if row.rewritten:
            return ""
        sent = self._sent.get(row.number)
        return row.style if sent is None else sent.style

    def _move(self, start: int, stop: int) -> str:
        """Return what moves a reader's cursor to another line; a line that it has not gets its end before."""
        if stop <= start:
            return f"\x1b[{start - stop}A" if stop < start else ""
        last = max(self._sent)
        known = min(stop, last) - start
        ends = [
            row.end or "\n"
            for row in (*self._terminal.gone, *self._terminal.rows)
            if max(start, last) <= row.number < stop
        ]
        return (f"\x1b[{known}B" if known > 0 else "") + "".join(ends)

    def _place_cursor(self, number: int, column: int) -> str:
        terminal = self._terminal
        wanted = terminal.rows[terminal.row].number
        move = self._move(number, wanted)
        if move or column != terminal.column:
            move += f"\x1b[{terminal.column + 1}G"
        return move


def _switch(before: str, after: str) -> str:
    """Return what changes the colour sequences in effect."""
    return "" if before == after else "\x1b[0m" + after


def _width(content: str, sent: int) -> int:
    """Return the column after the first characters of a line."""
    return len(without_styles(content[:sent]))
