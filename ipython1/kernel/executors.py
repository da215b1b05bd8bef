"""Engines as implementations of ``concurrent.futures.Executor``."""

from ipython1.kernel.futures.executorfuture import EngineFuture, RemoteTraceback
from ipython1.kernel.futures.executors import EngineExecutor, MultiEngineExecutor, TaskExecutor
from ipython1.kernel.futures.taskfuture import SubmittedCall, TaskFuture

__all__ = [
    "EngineExecutor",
    "EngineFuture",
    "MultiEngineExecutor",
    "RemoteTraceback",
    "SubmittedCall",
    "TaskExecutor",
    "TaskFuture",
]
