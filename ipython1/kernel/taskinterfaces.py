"""The interfaces of the task system."""

from ipython1.kernel.basics.taskinterfaces import (
    IScheduledTask,
    IScheduler,
    ITask,
    ITaskController,
    ITaskObserver,
    IWorker,
)

__all__ = [
    "IScheduledTask",
    "IScheduler",
    "ITask",
    "ITaskController",
    "ITaskObserver",
    "IWorker",
]
