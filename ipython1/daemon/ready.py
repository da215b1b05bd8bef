"""What a program reports to the nanny that started it: that it is ready for use, and that its exit was requested.

The nanny puts the number of a pipe into the environment; a program writes one line to it.  If it is started by hand,
there is no such pipe, and the report does nothing.

A program that runs user code cannot report a requested exit by status 0, because user code can exit with 0, too.  So
it exits with the status given in the environment.
"""

from __future__ import annotations

import contextlib
import os

READY_VARIABLE = "IPYTHON1_READY_FD"
LEAVE_VARIABLE = "IPYTHON1_LEAVE_STATUS"

LEFT = 86
"""The exit status of a program whose exit was requested, if other code may end it with 0."""


def decline_ready() -> bool:
    """Leave the report to others, and close the pipe: only the controller knows when an engine is usable.

    :returns: whether a nanny was waiting for the report.
    """
    number = os.environ.pop(READY_VARIABLE, "")
    if number.isdigit():
        with contextlib.suppress(OSError):
            os.close(int(number))
    return number.isdigit()


def announce_ready(text: str = "") -> bool:
    """Report that this process is ready (that the controller listens); works once.

    :param text: one line about it, shown in the cluster's status.
    :returns: whether a nanny was waiting for the report.
    """
    number = os.environ.pop(READY_VARIABLE, "")
    if not number.isdigit():
        return False
    descriptor = int(number)
    with contextlib.suppress(OSError):
        os.write(descriptor, text.replace("\n", " ").encode()[:500] + b"\n")
        os.close(descriptor)
        return True
    return False


def take_leave_status() -> int:
    """Return the status for a requested exit of this process; call this once, before running user code."""
    text = os.environ.pop(LEAVE_VARIABLE, "")
    return int(text) if text.isdigit() else 0
