"""Process 1 of a container: runs the program in a child, passes signals on to it, and collects orphans.

Linux spares process 1 the default actions of signals, so what does not handle SIGTERM would ignore it.  And processes
that lose their parents become children of process 1, where they stay as zombies unless it collects them.
"""

from __future__ import annotations

import os
import signal
from typing import Final

_FROM_KERNEL: Final = 0x80
"""``SI_KERNEL``: the signal comes from the terminal, which has sent it to the child as well."""


def leave_first_place() -> None:
    """If this is process 1, return in a child of it, and exit as the child does; call it before there are threads."""
    if os.getpid() != 1 or not hasattr(signal, "sigwaitinfo"):
        return
    every = signal.valid_signals()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, every)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    while True:
        came = signal.sigwaitinfo(every)
        if came.si_signo == signal.SIGCHLD:
            _collect(child)
        elif came.si_code != _FROM_KERNEL:
            os.kill(child, came.si_signo)


def _collect(child: int) -> None:
    """Collect children that have ended; exits if ``child`` is one of them."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)
