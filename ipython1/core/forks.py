"""Children that user code forks and does not terminate.

If user code calls ``os.fork()`` and lets the child continue, the child would return from the user's code into the
session's, without the threads that communicate.  So such a child exits where the user's code ends, just like a
Python program.
"""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from typing import NoReturn


def leave(error: BaseException | None) -> NoReturn:
    """Exit this forked child: with the status of ``SystemExit``, with a traceback and 1, or with 0."""
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
