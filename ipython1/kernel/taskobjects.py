"""Tasks and their results."""

from ipython1.kernel.objects.taskobjects import (
    BaseTask,
    MapTask,
    Namespace,
    StringTask,
    Task,
    TaskResult,
)

__all__ = [
    "BaseTask",
    "MapTask",
    "Namespace",
    "StringTask",
    "Task",
    "TaskResult",
]
