"""Calling OpenSSH's client: options, and whether it can ask the user for a password."""

from __future__ import annotations

import os
from typing import Final

FORWARDING: Final = (
    *("-o", "LogLevel=INFO"),  # else it does not name the port that a server has chosen
    *("-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3"),
)
"""Options of each ``ssh`` process that forwards connections; of those given twice, ``ssh`` uses the first."""

BATCH: Final = ("-o", "BatchMode=yes")

UNSHARED: Final = ("-o", "ControlMaster=no", "-o", "ControlPath=none")
"""Options by which it has a connection of its own, so that a forwarding ends with it."""


def unattended_options() -> tuple[str, ...]:
    """Return the options by which ``ssh`` fails, instead of asking, where there is nobody to ask."""
    return () if has_terminal() else BATCH


def has_terminal() -> bool:
    """Return whether ``ssh`` can ask the user for a password: there is a terminal, and it is this program's turn."""
    try:
        terminal = os.open(os.ctermid(), os.O_RDWR)
    except (AttributeError, OSError):
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
