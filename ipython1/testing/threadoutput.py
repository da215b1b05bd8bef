"""What code in several threads of one process prints, told apart by thread."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO


class _Router(io.TextIOBase):
    """Stands for a stream of ``sys``: gives what a thread writes to that thread's buffer, if it has one."""

    def __init__(self, behind: TextIO, name: str) -> None:
        self._behind = behind
        self._name = name

    def write(self, text: str) -> int:
        own = _of_threads.get(threading.get_ident())
        if own is None:
            return self._behind.write(text)
        return own.write(self._name, text)

    def flush(self) -> None:
        if threading.get_ident() not in _of_threads:
            self._behind.flush()

    def writable(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)


class ThreadOutput:
    """What one thread prints while it captures; an ``OutputSource``, which another thread may look at meanwhile.

    :ivar peeked_in: which capture was looked at last.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._texts: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._peeked = {"stdout": 0, "stderr": 0}
        self._captures = 0
        self.peeked_in: int = 0

    def write(self, name: str, text: str) -> int:
        """Note what the thread has printed."""
        with self._lock:
            self._texts[name].append(text)
        return len(text)

    @contextmanager
    def capture(self) -> Iterator[None]:
        """Have what this thread prints noted here."""
        ident = threading.get_ident()
        with _lock:
            _of_threads[ident] = self
            _redirect()
        try:
            yield
        finally:
            with _lock:
                del _of_threads[ident]
                if not _of_threads:
                    _restore()

    def take(self) -> tuple[str, str]:
        """Return what was printed since the last call."""
        with self._lock:
            said = "".join(self._texts["stdout"]), "".join(self._texts["stderr"])
            for name in self._texts:
                self._texts[name] = []
                self._peeked[name] = 0
            self._captures += 1
        return said

    def peek(self) -> tuple[str, str]:
        """Return what was printed since the last look; from any thread."""
        with self._lock:
            self.peeked_in = self._captures
            news = []
            for name, texts in self._texts.items():
                news.append("".join(texts[self._peeked[name] :]))
                self._peeked[name] = len(texts)
        return news[0], news[1]


_lock = threading.Lock()
_of_threads: dict[int, ThreadOutput] = {}
_routers: dict[str, _Router] = {}


def _redirect() -> None:
    """Put routers before the streams that ``sys`` has now; a test runner may have exchanged them."""
    for name in ("stdout", "stderr"):
        present = getattr(sys, name)
        if not isinstance(present, _Router):
            _routers[name] = _Router(present, name)
            setattr(sys, name, _routers[name])


def _restore() -> None:
    """Put back the streams, unless somebody else has done that."""
    for name, router in _routers.items():
        if getattr(sys, name) is router:
            setattr(sys, name, router._behind)
    _routers.clear()
