"""The futures of executors."""

from ipython1.kernel.futures.executorfuture import EngineFuture, RemoteTraceback
from ipython1.kernel.futures.taskfuture import SubmittedCall, TaskFuture

__all__ = [
    "EngineFuture",
    "RemoteTraceback",
    "SubmittedCall",
    "TaskFuture",
]
