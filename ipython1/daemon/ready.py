"""How a program tells the nanny that started it that it is ready for use.

The nanny leaves the number of a pipe in the environment; a program writes one line to it.  Started by hand there is no
such pipe, and telling does nothing.
"""

from __future__ import annotations

import contextlib
import os

READY_VARIABLE = "IPYTHON1_READY_FD"


def is_awaited() -> bool:
    """Whether a nanny waits to be told, which it was not yet."""
    return os.environ.get(READY_VARIABLE, "").isdigit()


def announce_ready(text: str = "") -> bool:
    """Tell once that this process is ready (the controller listens, the engine is registered).

    :param text: one line about it, shown in the cluster's status.
    :returns: whether somebody was waiting to be told.
    """
    awaited, number = is_awaited(), os.environ.pop(READY_VARIABLE, "")
    if not awaited:
        return False
    descriptor = int(number)
    with contextlib.suppress(OSError):
        os.write(descriptor, text.replace("\n", " ").encode()[:500] + b"\n")
        os.close(descriptor)
        return True
    return False
