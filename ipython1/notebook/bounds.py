"""How much of long output is displayed."""

from __future__ import annotations

from typing import Final

MAX_LINES: Final = 1000
"""Lines of one engine's output that are displayed; of more, the first and the last.  The data is never cut."""

MAX_CHARACTERS: Final = 100_000
"""The same for characters."""


def bounded(text: str, where: str) -> str:
    """``text``, or its beginning and end if it is too long to display; ``where`` tells how to get all of it."""
    lines = text.split("\n", MAX_LINES)
    if len(lines) > MAX_LINES:
        lines = text.split("\n")
        half = MAX_LINES // 2
        mark = f"[... {len(lines) - 2 * half} lines are not shown; {where} has all of it ...]"
        text = "\n".join([*lines[:half], mark, *lines[-half:]])
    if len(text) > MAX_CHARACTERS:
        half = MAX_CHARACTERS // 2
        mark = f"[... {len(text) - 2 * half} characters are not shown; {where} has all of it ...]"
        text = f"{text[:half]}\n{mark}\n{text[-half:]}"
    return text
