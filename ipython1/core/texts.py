"""Text from possibly hostile objects, which never raises whatever their own methods do; and lists of ids."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable
from typing import Final

MAX_MESSAGE: Final = 100_000
"""The maximum length of an exception's message, in characters."""


def clean_text(text: object) -> str:
    """Return ``text`` as a plain string that UTF-8 can encode (lone surrogates are escaped)."""
    plain = str.__str__(text) if isinstance(text, str) else ""
    return plain if plain.isascii() else plain.encode("utf-8", "backslashreplace").decode()


def shorten(text: str, limit: int) -> str:
    """Replace the middle of a ``text`` of more than ``limit`` characters by a note."""
    if len(text) <= limit:
        return text
    head = limit // 4
    cut = len(text) - limit
    return f"{text[:head]}\n[... {cut} characters were cut here ...]\n{text[-(limit - head) :]}"


def clip(text: str, width: int) -> str:
    """Cut ``text`` to at most ``width`` characters, ending in three dots, for use within a line."""
    return text if len(text) <= width else text[: width - 3] + "..."


def type_name(value: object) -> str:
    """Return the name of an object's type."""
    try:
        return clean_text(type(value).__name__) or "object"
    except BaseException:
        return "object"


def message_of(exc: BaseException) -> str:
    """Return ``str(exc)``, or a replacement if that raises; cut to :data:`MAX_MESSAGE` characters, plus a note."""
    try:
        text = clean_text(str(exc))
    except BaseException as problem:
        return f"<its message could not be shown: __str__ raised {type_name(problem)}>"
    return shorten(text, MAX_MESSAGE)


class _ShortRepr(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = 1000
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = 50


_short_repr: Final = _ShortRepr()


def short_repr(value: object) -> str:
    """Return ``repr(value)``, shortened to about a thousand characters."""
    try:
        return clean_text(_short_repr.repr(value))
    except BaseException:
        return f"<{type_name(value)} with failing repr>"


def did_you_mean(word: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """Return a question for the end of an error about a mistyped word; empty if no known word is like it.

    :param likeness: how much they must be alike, from 0 to 1.
    """
    from difflib import get_close_matches

    found = get_close_matches(word, list(known), 1, likeness)
    return f"; did you mean {found[0]!r}?" if found else ""


def compress_ids(ids: Iterable[int]) -> str:
    """Format ids such as ``[0, 1, 2, 5]`` as ``0-2,5``."""
    runs: list[list[int]] = []
    for number in sorted(set(ids)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def expand_ids(text: str) -> list[int]:
    """Return the ids of a text such as ``0-2,5``, in its order; ``1-7:2`` counts in steps.  Other words are ignored."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part)
        if match is not None:
            first, last, step = (int(each) if each else None for each in match.groups())
            assert first is not None
            found += range(first, (last or first) + 1, step or 1)
    return found
