"""The asynchronous task client."""

from ipython1.kernel.clients.asynclazymap import AsyncLazyMap
from ipython1.kernel.clients.asyncpendingmap import AsyncPendingMap
from ipython1.kernel.clients.asynctaskclient import AsyncTaskClient

__all__ = [
    "AsyncLazyMap",
    "AsyncPendingMap",
    "AsyncTaskClient",
]
