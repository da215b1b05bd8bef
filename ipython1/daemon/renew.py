"""What must be made anew in a forked child before it may run a program.

A child of the warm template shares with it what the kernel hands down: the reactor's wake-up pipe and its epoll
instance (one *object* in the kernel for all of them), the state of random generators, signal handlers.  Here each
is replaced, so that the child is as good as a freshly started process.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import types
from typing import Any


def renew_reactor() -> None:
    """Give the installed reactor, if there is one, its own poller and wake-up pipe.

    Modules imported in the template hold the reactor object, so it is initialised again in place rather than replaced.
    It has never run (the template runs no reactor), so nothing is lost by that.
    """
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    if reactor is None:
        return
    waker = getattr(reactor, "waker", None)
    poller = getattr(reactor, "_poller", None)
    # Closing this process's copies leaves the template's own untouched; unregistering would not.
    for descriptor in (getattr(waker, "i", None), getattr(waker, "o", None)):
        if isinstance(descriptor, int):
            with contextlib.suppress(OSError):
                os.close(descriptor)
    close = getattr(poller, "close", None)
    if close is not None:
        close()
    type(reactor).__init__(reactor)


def renew_random() -> None:
    """Seed the random generators anew, so that siblings do not draw the same numbers."""
    random.seed()
    numpy_random: Any = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def renew_signals() -> None:
    """Undo the template's signal handling, and let in what waited since the fork."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def renew_main_module() -> None:
    """Give the child an empty ``__main__``: user code of an engine lives there."""
    # The old one is still executing below us; it must not be collected.
    sys.modules["ipython1.daemon._template_main"] = sys.modules["__main__"]
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = sys.modules["builtins"]
    sys.modules["__main__"] = main
