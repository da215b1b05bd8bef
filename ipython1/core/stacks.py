"""Finds where user code is right now, to explain why an engine does not respond."""

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
from ipython1.system import STACKS

IDLE: Final = "no user code is running"
BUILTIN: Final = "in a built-in function called as a task"


_awaited: object = None


@contextmanager
def awaiting(coroutine: object) -> Iterator[None]:
    """Make stacks show where ``coroutine`` is, rather than the event loop that runs it, during the block."""
    global _awaited
    previous, _awaited = _awaited, coroutine
    try:
        yield
    finally:
        _awaited = previous


_OWN_THREADS: Final = ("ipython1-reactor", "PoolThread-twisted")
"""How the names of this process's own threads begin."""


def has_other_threads() -> bool:
    """Whether user code has started threads that still run, with or without the module ``threading``."""
    main = threading.main_thread()
    own = {
        thread.ident
        for thread in threading.enumerate()
        if thread is main or thread.name.startswith(_OWN_THREADS)
    }
    return not own.issuperset(sys._current_frames())


def main_thread_stack() -> str:
    """Format the main thread's user frames with their source lines, outermost first; may be called in any thread.

    This needs the interpreter lock, so it blocks while C code holds it; :func:`enable_c_dump` does not.

    :return: plain text; :data:`IDLE` if the session is idle.
    """
    ident = threading.main_thread().ident
    frame = sys._current_frames().get(ident) if ident is not None else None
    try:
        places = stack_places(frame)
    finally:
        del frame  # it would keep all of the user's locals alive
    if places is None:
        return IDLE
    waiting = _awaited
    if waiting is not None and not any(is_cell(place.code.co_filename) for place in places):
        places = coroutine_places(waiting) or places
    if not places:
        return BUILTIN
    return shorten(format_places(places, context=1), MAX_TEXT)


def enable_c_dump(path: str | os.PathLike[str]) -> Callable[[], None]:
    """On SIGUSR1, append all threads' Python stacks to the file ``path`` (created with mode 0600).

    This works even while C code holds the interpreter lock or is stuck, as the handler runs no Python code.

    :return: a function that turns it off and closes the file.
    :raises OSError: if the file cannot be opened.
    """
    import faulthandler

    if STACKS is None or not hasattr(faulthandler, "register"):
        return lambda: None
    fd = set_high(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    faulthandler.register(STACKS, file=fd, all_threads=True, chain=False)
    active = True

    def disable() -> None:
        nonlocal active
        if active:
            active = False
            faulthandler.unregister(STACKS)
            os.close(fd)

    return disable
