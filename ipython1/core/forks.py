"""Children that user code forks and does not end.

A process that calls ``os.fork()`` by hand and lets the child run on would have two sessions: the child would come
back from the user's code into ours, with none of the threads that talk to anybody.  Such a child ends where the
user's code ends, in the way in which a Python program ends there.
"""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from typing import NoReturn


def leave(error: BaseException | None) -> NoReturn:
    """End this forked child: with what ``SystemExit`` says, or a traceback and 1, or 0."""
    status = 1
    try:
        if error is None:
            status = 0
        elif isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
            status = error.code or 0
        elif isinstance(error, SystemExit):
            print(error.code, file=sys.stderr)
        else:
            traceback.print_exception(error)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(status & 0xFF)
