"""The asynchronous task client."""

from ipython1.kernel.clients.asynctaskclient import AsyncPendingMap, AsyncTaskClient

__all__ = [
    "AsyncPendingMap",
    "AsyncTaskClient",
]
