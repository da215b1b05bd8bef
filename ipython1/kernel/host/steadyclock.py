"""Timers that follow the monotonic clock.

Twisted's reactor uses the wall clock.  If it is set back by an hour, every timer fires an hour late; if it is set
forward, all fire at once, and pending connection attempts time out.
"""

from __future__ import annotations

import time
from typing import Any


def keep_steady(reactor: Any) -> None:
    """Make ``reactor`` measure time with ``time.monotonic``; call this in our own processes, before scheduling calls.

    It does nothing if calls are scheduled already, as their times are those of the other clock.
    """
    if not reactor.getDelayedCalls():
        reactor.seconds = time.monotonic
