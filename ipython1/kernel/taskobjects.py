"""Tasks and their results."""

from ipython1.kernel.objects.after import After
from ipython1.kernel.objects.taskobjects import (
    BaseTask,
    MapTask,
    Namespace,
    StringTask,
    Task,
    TaskResult,
)

__all__ = [
    "After",
    "BaseTask",
    "MapTask",
    "Namespace",
    "StringTask",
    "Task",
    "TaskResult",
]
