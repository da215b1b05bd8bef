"""The Foolscap face of the Task interface."""

from ipython1.kernel.controller.taskfc import FCTaskController, IFCTaskController, TaskSession

__all__ = [
    "FCTaskController",
    "IFCTaskController",
    "TaskSession",
]
