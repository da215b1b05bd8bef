"""Calling what users have given to be called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

log: Logger = Logger()


def guarded(callback: Callable[[Any], object], value: Any) -> None:
    """Call a user's callback, whose errors must not end the connection."""
    try:
        callback(value)
    except KeyboardInterrupt:
        raise
    except BaseException:
        log.failure("a callback failed")
