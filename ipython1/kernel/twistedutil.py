"""The interface between blocking threads and the reactor's thread."""

from ipython1.kernel.calls.twistedutil import (
    ReactorInThread,
    blockingCallFromThread,
    in_reactor_thread,
    reactor_in_thread,
    refuse_in_reactor_thread,
)

__all__ = [
    "ReactorInThread",
    "blockingCallFromThread",
    "in_reactor_thread",
    "reactor_in_thread",
    "refuse_in_reactor_thread",
]
