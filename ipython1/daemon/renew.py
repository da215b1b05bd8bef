"""Replaces what a forked child must not share with its parent before it runs a program.

A child inherits from the warm template: the reactor's wake-up pipe and epoll instance (a single *object* in the
kernel for all processes), the state of random generators, and signal handlers.  These functions replace each of them,
so that the child is equivalent to a newly started process.
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
    """Give the installed reactor, if any, its own poller and wake-up pipe.

    Modules imported in the template refer to the reactor object, so it is reinitialised in place and not replaced.
    This loses nothing, because it has never run (the template does not run it).
    """
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    if reactor is None:
        return
    waker = getattr(reactor, "waker", None)
    poller = getattr(reactor, "_poller", None)
    # Closing this process's copies does not affect the template's; unregistering would.
    for descriptor in (getattr(waker, "i", None), getattr(waker, "o", None)):
        if isinstance(descriptor, int):
            with contextlib.suppress(OSError):
                os.close(descriptor)
    close = getattr(poller, "close", None)
    if close is not None:
        close()
    type(reactor).__init__(reactor)


def renew_random() -> None:
    """Reseed the random generators, so that siblings do not draw the same numbers."""
    random.seed()
    numpy_random: Any = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def renew_signals() -> None:
    """Undo the template's signal handling, and unblock signals that have been pending since the fork."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def renew_main_module() -> None:
    """Give the child an empty ``__main__``, which holds an engine's user code."""
    # The old module is still executing further down the stack, so it must not be collected.
    sys.modules["ipython1.daemon._template_main"] = sys.modules["__main__"]
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = sys.modules["builtins"]
    sys.modules["__main__"] = main
