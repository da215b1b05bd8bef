"""The blocking task client."""

from ipython1.kernel.clients.taskclient import TaskClient
from ipython1.kernel.objects.after import After
from ipython1.kernel.objects.taskobjects import MapTask, StringTask, Task, TaskResult
from ipython1.kernel.tasks.lazymap import LazyMap
from ipython1.kernel.tasks.pendingmap import PendingMap
from ipython1.kernel.wire.tasksync import TaskEntry

__all__ = [
    "After",
    "LazyMap",
    "MapTask",
    "PendingMap",
    "StringTask",
    "Task",
    "TaskClient",
    "TaskEntry",
    "TaskResult",
]
