"""The asynchronous clients: the methods of the blocking ones, returning Deferreds."""

from ipython1.kernel.clients.asyncclient import (
    AsyncMultiEngineClient,
    AsyncPendingResult,
    get_multiengine_client,
    get_task_client,
)
from ipython1.kernel.clients.awaitable import AwaitableDeferred

__all__ = [
    "AsyncMultiEngineClient",
    "AsyncPendingResult",
    "AwaitableDeferred",
    "get_multiengine_client",
    "get_task_client",
]
