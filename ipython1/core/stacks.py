"""Where user code is right now, for whoever wonders why an engine does not answer."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from ipython1.core.lowlevel import set_high
from ipython1.core.texts import shorten
from ipython1.core.tracebacks import (
    MAX_TEXT,
    coroutine_places,
    format_places,
    is_cell,
    stack_places,
)

IDLE: Final = "no user code is running"
BUILTIN: Final = "in a built-in function that was called as a task"


_awaited: object = None


@contextmanager
def awaiting(coroutine: object) -> Iterator[None]:
    """While an event loop runs a command's coroutine: where that stands says more than where the loop is."""
    global _awaited
    previous, _awaited = _awaited, coroutine
    try:
        yield
    finally:
        _awaited = previous


def main_thread_stack() -> str:
    """The main thread's user frames with their source lines, outermost first; from any thread.

    :return: plain text; :data:`IDLE` when the session runs nothing.  Needs the interpreter lock, so while C code
        holds that this waits; :func:`enable_c_dump` does not.
    """
    ident = threading.main_thread().ident
    frame = sys._current_frames().get(ident) if ident is not None else None
    try:
        places = stack_places(frame)
    finally:
        del frame  # a frame kept here would keep all of the user's locals
    if places is None:
        return IDLE
    waiting = _awaited
    if waiting is not None and not any(is_cell(place.code.co_filename) for place in places):
        places = coroutine_places(waiting) or places
    if not places:
        return BUILTIN
    return shorten(format_places(places, context=1), MAX_TEXT)


def enable_c_dump(path: str | os.PathLike[str]) -> Callable[[], None]:
    """On SIGUSR1, append all threads' Python stacks to the file ``path`` (made 0600 if new).

    Works while C code holds the interpreter lock or the process is stuck in it, as the handler runs no Python code.

    :return: a function that turns it off and closes the file.
    :raises OSError: when the file cannot be opened.
    """
    import faulthandler
    import signal

    if not hasattr(signal, "SIGUSR1") or not hasattr(faulthandler, "register"):
        return lambda: None
    fd = set_high(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    faulthandler.register(signal.SIGUSR1, file=fd, all_threads=True, chain=False)
    active = True

    def disable() -> None:
        nonlocal active
        if active:
            active = False
            faulthandler.unregister(signal.SIGUSR1)
            os.close(fd)

    return disable
