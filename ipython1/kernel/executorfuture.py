"""The futures of executors."""

from ipython1.kernel.futures.executorfuture import EngineFuture, RemoteTraceback

__all__ = [
    "EngineFuture",
    "RemoteTraceback",
]
