"""The Task interface: engines are a load-balanced pool.

The controller imports this module, so tasks, which are pickled, are loaded only on first use.
"""

from typing import TYPE_CHECKING

from ipython1.kernel.basics.naming import lazy_names as _lazy_names
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

if TYPE_CHECKING:
    from ipython1.kernel.objects.after import After
    from ipython1.kernel.objects.taskobjects import (
        BaseTask,
        MapTask,
        StringTask,
        Task,
        TaskResult,
    )

__all__ = [
    "After",
    "BaseTask",
    "FIFOScheduler",
    "IScheduledTask",
    "IScheduler",
    "ITask",
    "ITaskController",
    "ITaskObserver",
    "IWorker",
    "LIFOScheduler",
    "MapTask",
    "PriorityScheduler",
    "StringTask",
    "Task",
    "TaskController",
    "TaskResult",
]

_TASKS = ("BaseTask", "MapTask", "StringTask", "Task", "TaskResult")
_WHERE = dict.fromkeys(_TASKS, "ipython1.kernel.objects.taskobjects")
if not TYPE_CHECKING:
    __getattr__ = _lazy_names(__name__, {**_WHERE, "After": "ipython1.kernel.objects.after"})
