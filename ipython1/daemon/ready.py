"""What a program tells those who started it: that it is ready for use, and that it ends because it was to end.

The nanny leaves the number of a pipe in the environment; a program writes one line to it.  Started by hand there is no
such pipe, and telling does nothing.

A program that runs code of others cannot tell its own end by exit status 0, which that code can give as well.  It ends
with the status that the environment names.
"""

from __future__ import annotations

import contextlib
import os

READY_VARIABLE = "IPYTHON1_READY_FD"
LEAVE_VARIABLE = "IPYTHON1_LEAVE_STATUS"

LEFT = 86
"""The exit status of a program that ends because it was to end, where something else may end it with 0."""


def decline_ready() -> bool:
    """Leave it to others to tell when this process is ready: whether an engine is usable, the controller knows.

    :returns: whether a nanny waited to be told.
    """
    number = os.environ.pop(READY_VARIABLE, "")
    if number.isdigit():
        with contextlib.suppress(OSError):
            os.close(int(number))
    return number.isdigit()


def announce_ready(text: str = "") -> bool:
    """Tell once that this process is ready: the controller listens.

    :param text: one line about it, shown in the cluster's status.
    :returns: whether somebody was waiting to be told.
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
    """The status with which this process is to end when it was told to end; called once, before code of others."""
    text = os.environ.pop(LEAVE_VARIABLE, "")
    return int(text) if text.isdigit() else 0
