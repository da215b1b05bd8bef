"""Limits for the display of long output."""

from __future__ import annotations

from typing import Final

MAX_LINES: Final = 1000
"""Maximum lines of one engine's output to display; if there are more, the first and last ones.  Data is never cut."""

MAX_CHARACTERS: Final = 100_000
"""Maximum characters of one engine's output to display."""


MAX_TOTAL: Final = 1_000_000
"""Maximum characters to display of the output of all engines together."""

LEAST: Final = 2000
"""Characters of one engine's output that are displayed however many engines there are."""

MAX_ROWS: Final = 200
"""Maximum engines, or other things, to display one by one."""


def share_of(count: int) -> int:
    """Return how many characters of each of ``count`` texts to display."""
    return min(MAX_CHARACTERS, max(LEAST, MAX_TOTAL // max(count, 1)))


def bounded(text: str, where: str, most: int = MAX_CHARACTERS) -> str:
    """Return ``text``, or only its beginning and end if it is too long to display.

    :param where: where the user finds all of it, for the note in the middle.
    :param most: the maximum number of characters.
    """
    lines = text.split("\n", MAX_LINES)
    if len(lines) > MAX_LINES:
        lines = text.split("\n")
        half = MAX_LINES // 2
        mark = f"[... {len(lines) - 2 * half} lines not shown; {where} has the full text ...]"
        text = "\n".join([*lines[:half], mark, *lines[-half:]])
    if len(text) > most:
        half = most // 2
        mark = f"[... {len(text) - 2 * half} characters not shown; {where} has the full text ...]"
        text = f"{text[:half]}\n{mark}\n{text[-half:]}"
    return text
