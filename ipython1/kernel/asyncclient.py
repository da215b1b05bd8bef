"""The asynchronous clients: the methods of the blocking ones, returning Deferreds."""

from ipython1.kernel.basics.error import CompositeError
from ipython1.kernel.calls.resultlist import QueueStatusList, ResultList
from ipython1.kernel.clients.asyncclient import (
    AsyncMultiEngineClient,
    AsyncMultiEngineView,
    AsyncPendingResult,
    get_multiengine_client,
    get_task_client,
)
from ipython1.kernel.clients.awaitable import AwaitableDeferred
from ipython1.kernel.objects.taskobjects import MapTask, StringTask, Task, TaskResult

__all__ = [
    "AsyncMultiEngineClient",
    "AsyncMultiEngineView",
    "AsyncPendingResult",
    "AwaitableDeferred",
    "CompositeError",
    "MapTask",
    "QueueStatusList",
    "ResultList",
    "StringTask",
    "Task",
    "TaskResult",
    "get_multiengine_client",
    "get_task_client",
]
