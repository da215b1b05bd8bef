"""Engines as implementations of ``concurrent.futures.Executor``."""

from ipython1.kernel.futures.executorfuture import EngineFuture, RemoteTraceback
from ipython1.kernel.futures.executors import EngineExecutor, MultiEngineExecutor, TaskExecutor

__all__ = [
    "EngineExecutor",
    "EngineFuture",
    "MultiEngineExecutor",
    "RemoteTraceback",
    "TaskExecutor",
]
