"""What a program wrote for a terminal, as HTML: escaped, with its colours, and without what it wrote over."""

from __future__ import annotations

import html
import re
from typing import Final

from ipython1.core.terminaltext import rendered

_ESCAPE: Final = re.compile(
    r"\x1b\[(?P<codes>[0-9;:]*)m"  # colours
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # other control sequences, which move the cursor and the like
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # titles, links
    r"|\x1b[@-Z\\-_]?"
)
_NAMES: Final = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def text_html(text: str) -> str:
    """Return the HTML of a text; its colours are the classes that Jupyter's themes define for terminals."""
    if not _CONTROL.search(text) and "\r" not in text:
        return html.escape(text, quote=True)
    text = rendered(text.replace("\r\n", "\n"))
    parts: list[str] = []
    style = _Style()
    end = 0
    for match in _ESCAPE.finditer(text):
        parts.append(style.dress(text[end : match.start()]))
        end = match.end()
        if match["codes"] is not None:
            style.take(match["codes"])
    parts.append(style.dress(text[end:]))
    return "".join(parts)


class _Style:
    """The colours and weight of the text that follows."""

    def __init__(self) -> None:
        self._foreground = self._background = ""
        self._flags: set[str] = set()

    def take(self, codes: str) -> None:
        """Follow an escape sequence."""
        numbers = [int(each or 0) for each in re.split("[;:]", codes)]
        while numbers:
            number = numbers.pop(0)
            if number in (38, 48):
                # Colours of larger palettes are left out.
                skipped = {5: 1, 2: 3}.get(numbers.pop(0) if numbers else 0, 0)
                del numbers[:skipped]
            else:
                self._take(number)

    def _take(self, number: int) -> None:
        flags = {1: "bold", 3: "italic", 4: "underline", 7: "inverse"}
        if number == 0:
            self._foreground = self._background = ""
            self._flags.clear()
        elif number in flags:
            self._flags.add(flags[number])
        elif number in (22, 23, 24, 27):
            self._flags.discard(flags.get(number - 20, "bold"))
        elif 30 <= number <= 37:
            self._foreground = f"ansi-{_NAMES[number - 30]}-fg"
        elif 90 <= number <= 97:
            self._foreground = f"ansi-{_NAMES[number - 90]}-intense-fg"
        elif 40 <= number <= 47:
            self._background = f"ansi-{_NAMES[number - 40]}-bg"
        elif 100 <= number <= 107:
            self._background = f"ansi-{_NAMES[number - 100]}-intense-bg"
        elif number == 39:
            self._foreground = ""
        elif number == 49:
            self._background = ""

    def dress(self, text: str) -> str:
        """Return the HTML of a piece of text."""
        if not text:
            return ""
        escaped = html.escape(_CONTROL.sub("", text), quote=True)
        classes = [self._foreground, self._background]
        classes += [
            f"ansi-{flag}" for flag in ("bold", "underline", "inverse") if flag in self._flags
        ]
        shown = " ".join(filter(None, classes))
        italic = ' style="font-style: italic"' if "italic" in self._flags else ""
        if not shown and not italic:
            return escaped
        return f'<span class="{shown}"{italic}>{escaped}</span>'
