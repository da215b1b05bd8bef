"""Limits for the display of long output."""

from __future__ import annotations

from typing import Final

MAX_LINES: Final = 1000
"""Maximum lines of one engine's output to display; if there are more, the first and last ones.  Data is never cut."""

MAX_CHARACTERS: Final = 100_000
"""Maximum characters of one engine's output to display."""


def bounded(text: str, where: str) -> str:
    """Return ``text``, or only its beginning and end if it is too long to display.

    :param where: where the user finds all of it, for the note in the middle.
    """
    lines = text.split("\n", MAX_LINES)
    if len(lines) > MAX_LINES:
        lines = text.split("\n")
        half = MAX_LINES // 2
        mark = f"[... {len(lines) - 2 * half} lines not shown; {where} has the full text ...]"
        text = "\n".join([*lines[:half], mark, *lines[-half:]])
    if len(text) > MAX_CHARACTERS:
        half = MAX_CHARACTERS // 2
        mark = f"[... {len(text) - 2 * half} characters not shown; {where} has the full text ...]"
        text = f"{text[:half]}\n{mark}\n{text[-half:]}"
    return text
