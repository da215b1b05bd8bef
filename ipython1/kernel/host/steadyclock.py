"""Timers that follow a clock which nobody can set.

Twisted's reactor takes its time from the wall clock.  When that is set back by an hour, every timer fires an hour
late; when it is set forward, all fire at once, and whoever waits for a connection gives up.
"""

from __future__ import annotations

import time
from typing import Any


def keep_steady(reactor: Any) -> None:
    """Have ``reactor`` measure time with ``time.monotonic``; for processes of ours, before anything is scheduled.

    Nothing changes when something is scheduled already, as that has been given a time of the other clock.
    """
    if not reactor.getDelayedCalls():
        reactor.seconds = time.monotonic
