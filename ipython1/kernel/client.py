"""What users import: the blocking clients, tasks, results and errors.

    >>> from ipython1.kernel import client
    >>> mec = client.MultiEngineClient()
    >>> tc = client.TaskClient()

Names are loaded when they are first used, so that importing this module is quick.
"""

from __future__ import annotations

import importlib
from typing import Any

from ipython1.kernel.error import *  # noqa: F403
from ipython1.kernel.error import CompositeError, ConnectionError

_WHERE = {
    "MultiEngineClient": "ipython1.kernel.multiengineclient",
    "PendingResult": "ipython1.kernel.pendingresult",
    "ResultList": "ipython1.kernel.resultlist",
    "QueueStatusList": "ipython1.kernel.resultlist",
    "TaskClient": "ipython1.kernel.taskclient",
    "Task": "ipython1.kernel.taskobjects",
    "StringTask": "ipython1.kernel.taskobjects",
    "MapTask": "ipython1.kernel.taskobjects",
    "TaskResult": "ipython1.kernel.taskobjects",
    "remote": "ipython1.kernel.contexts",
    "Cluster": "ipython1.kernel.cluster",
    "AsyncCluster": "ipython1.kernel.asynccluster",
    "MultiEngineExecutor": "ipython1.kernel.executors",
    "TaskExecutor": "ipython1.kernel.executors",
}

__all__ = [  # noqa: PLE0604 (its names are loaded when they are used)
    *_WHERE,
    "CompositeError",
    "ConnectionError",
    "get_multiengine_client",
    "get_task_client",
    "register_joblib_backend",
]


def get_multiengine_client(furl_or_file: Any = "", timeout: float = 10.0) -> Any:
    """A blocking client of the MultiEngine interface; see :class:`MultiEngineClient`."""
    from ipython1.kernel.multiengineclient import MultiEngineClient

    return MultiEngineClient(furl_or_file, timeout)


def get_task_client(furl_or_file: Any = "", timeout: float = 10.0) -> Any:
    """A blocking client of the Task interface; see :class:`TaskClient`."""
    from ipython1.kernel.taskclient import TaskClient

    return TaskClient(furl_or_file, timeout)


def register_joblib_backend(
    client: Any = None, name: str = "ipython1", make_default: bool = False
) -> None:
    """Make engines known to joblib under a name; see :mod:`ipython1.kernel.joblibbackend`.

    :raises ImportError: when joblib is not installed.
    """
    from ipython1.kernel.clients import joblibbackend

    joblibbackend.register_joblib_backend(client, name, make_default)


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        value = getattr(importlib.import_module(_WHERE[name]), name)
        globals()[name] = value
        return value
    if name in ("default_mec_address", "default_task_address"):
        # Read each time: a cluster that is started again may listen elsewhere.
        from ipython1.kernel.calls.locate import default_address

        return default_address("multiengine" if name == "default_mec_address" else "task")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
