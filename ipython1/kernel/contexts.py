"""``with mec:`` blocks, whose bodies run on the engines."""

from ipython1.kernel.calls.contexts import RemoteContext, remote

__all__ = [
    "RemoteContext",
    "remote",
]
