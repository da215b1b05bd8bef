"""The standard streams of a process that may have been started without some of them, as daemons and scripts do."""

from __future__ import annotations

import os
import sys
from typing import Final

NAMES: Final = ("stdin", "stdout", "stderr")
"""The names in ``sys`` of the streams of descriptors 0, 1 and 2."""


def is_open(descriptor: int) -> bool:
    """Return whether a file descriptor is open."""
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def open_standard_streams() -> None:
    """Open those of the standard streams that are closed, on the null device.

    Otherwise the next sockets and files would have their numbers, and lose them to whatever redirects the streams.  A
    program calls this before it opens anything.
    """
    for descriptor, name in enumerate(NAMES):
        if not is_open(descriptor):
            null = os.open(os.devnull, os.O_RDWR)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
            os.set_inheritable(descriptor, True)
        if getattr(sys, name) is None:
            open_stream(descriptor)


def open_stream(descriptor: int) -> None:
    """Make a new Python stream for a standard descriptor that is open."""
    stream = open(  # noqa: SIM115 - it lasts as long as the process
        descriptor,
        "w" if descriptor else "r",
        buffering=1,
        errors="backslashreplace",
        closefd=False,
    )
    setattr(sys, NAMES[descriptor], stream)
    setattr(sys, f"__{NAMES[descriptor]}__", stream)


def private_stdio() -> tuple[int, int]:
    """Move the connection from stdin and stdout to other descriptors, so that no code writes to it by accident."""
    reader, writer = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    return reader, writer
