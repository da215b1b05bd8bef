"""Source lines that travel with functions, so that tracebacks show them where Python has no file to read them from.

What is typed at a prompt or in a notebook is in no file; Python keeps its text in :mod:`linecache` only, in the process
where it was typed.
"""

from __future__ import annotations

import linecache
import threading
from collections import OrderedDict
from types import CodeType
from typing import Any, Final, NamedTuple

MOST_OF_ONE: Final = 8192
"""Characters; the lines of a longer function do not travel."""

MOST_KEPT: Final = 1 << 20
"""Characters of lines from elsewhere that a process keeps, apart from the latest."""


class SourceLines(NamedTuple):
    """Some lines of a text.

    :ivar name: what the text is called, a code object's ``co_filename``.
    :ivar first: the number of the first of the lines, from 1.
    :ivar text: the lines.
    """

    name: str
    first: int
    text: str


def lines_of(code: CodeType) -> SourceLines | None:
    """The lines of ``code`` if they are in no file, but known here."""
    entry: Any = linecache.cache.get(code.co_filename)
    # A text that was read from a file has a time of change, which is not None.
    if entry is None or len(entry) != 4 or entry[1] is not None:
        return None
    first = code.co_firstlineno
    last = max((line for _, _, line in code.co_lines() if line is not None), default=first)
    text = "".join(entry[2][max(first, 1) - 1 : last])
    if not text or len(text) > MOST_OF_ONE:
        return None
    return SourceLines(code.co_filename, max(first, 1), text)


class ForeignLines:
    """Lines that came from other processes, put where tracebacks find them; the latest of them only."""

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._most = most
        self._lock = threading.Lock()
        # In order of arrival.
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._total = 0

    def add(self, lines: SourceLines) -> None:
        """Keep them, beside what came of the same text before; a text that this process has itself stays as it is."""
        name, first, text = lines
        with self._lock:
            entry: Any = linecache.cache.get(name)
            if entry is not None and name not in self._sizes:
                return
            new = text.splitlines(keepends=True)
            known = [] if entry is None else list(entry[2])
            end = first - 1 + len(new)
            if known[first - 1 : end] == new:
                return
            known += [""] * (end - len(known))
            known[first - 1 : end] = new
            linecache.cache[name] = (len(text), None, known, name)
            # An empty line takes some room too.
            size = sum(map(len, known)) + len(known)
            self._total += size - self._sizes.pop(name, 0)
            self._sizes[name] = size
            while self._total > self._most and len(self._sizes) > 1:
                oldest, size = self._sizes.popitem(last=False)
                self._total -= size
                linecache.cache.pop(oldest, None)


_foreign = ForeignLines()


def code_with_lines(lines: tuple[str, int, str], args: tuple[Any, ...]) -> CodeType:
    """What pickles call: a code object of ``args``, whose source lines are ``lines``."""
    _foreign.add(SourceLines(*lines))
    return CodeType(*args)
