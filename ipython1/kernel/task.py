"""The Task interface: engines are a load-balanced pool."""

from ipython1.kernel.basics.taskinterfaces import (
    IScheduledTask,
    IScheduler,
    ITask,
    ITaskController,
    ITaskObserver,
    IWorker,
)
from ipython1.kernel.controller.task import TaskController
from ipython1.kernel.controller.taskschedulers import (
    FIFOScheduler,
    LIFOScheduler,
    PriorityScheduler,
)

__all__ = [
    "FIFOScheduler",
    "IScheduledTask",
    "IScheduler",
    "ITask",
    "ITaskController",
    "ITaskObserver",
    "IWorker",
    "LIFOScheduler",
    "PriorityScheduler",
    "TaskController",
]
