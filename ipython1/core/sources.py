"""Source text of commands and tasks, by made-up file names, so that tracebacks can show it."""

from __future__ import annotations

import linecache
import os
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from IPython.core.compilerop import CachingCompiler

_SOURCE_BYTES: Final = 16 << 20
"""How much text a register keeps, not counting the latest."""


class SourceRegister:
    """The latest source text of commands or tasks, by made-up file names, for tracebacks.

    :param prefix: the beginning of the names, which are unique among all engines, because functions move between
        engines.
    :param max_count: how many texts are kept.
    """

    def __init__(self, prefix: str, max_count: int) -> None:
        self._prefix = prefix
        self._token = os.urandom(5).hex()
        self._max_count = max_count
        # In insertion order.
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._bytes = 0
        self._serial = 0

    def add(self, source: str, number: int) -> str:
        """Keep ``source`` and return the file name to compile it with."""
        self._serial += 1
        name = f"{self._prefix}{number}-{self._token}{self._serial:x}>"
        size = len(source)
        # As lines of files have it: each has an end.
        whole = source if source.endswith("\n") else source + "\n"
        linecache.cache[name] = (size, None, whole.splitlines(keepends=True), name)
        sizes = self._sizes
        sizes[name] = size
        self._bytes += size
        while len(sizes) > self._max_count or (self._bytes > _SOURCE_BYTES and len(sizes) > 1):
            oldest, size = sizes.popitem(last=False)
            self._bytes -= size
            linecache.cache.pop(oldest, None)
        return name

    def drop(self, name: str) -> None:
        """Forget one text."""
        size = self._sizes.pop(name, None)
        if size is not None:
            self._bytes -= size
            linecache.cache.pop(name, None)

    def clear(self) -> None:
        """Forget all texts."""
        for name in list(self._sizes):
            self.drop(name)


class EngineCompiler(CachingCompiler):
    """Names cells as this package does, and keeps a limited number of their texts."""

    register: SourceRegister
    number: Callable[[], int]

    def __init__(self) -> None:
        super().__init__()
        # Python's default flags would call every unclosed bracket "incomplete input".
        self.reset_compiler_flags()

    def cache(self, transformed_code: str, number: int = 0, raw_code: str | None = None) -> str:
        return self.register.add(transformed_code, self.number())
