"""Standard output that takes no more: what a command does when its reader has gone, or a disk is full."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import Final

_ERRORS: Final = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def writing(command: str, write: Callable[[], int]) -> int:
    """Do something that prints, and return its exit status; 0 if its reader has enough, 1 if it cannot be written.

    :param command: the name for the message.
    :raises OSError: what has nothing to do with the output.
    """
    try:
        status = write()
        sys.stdout.flush()
    except OSError as problem:
        if problem.errno not in _ERRORS:
            raise
        # What is flushed at the exit goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(problem, BrokenPipeError):  # who reads has enough
            return 0
        print(f"{command}: the output cannot be written: {problem.strerror}", file=sys.stderr)
        return 1
    return status
