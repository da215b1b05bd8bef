"""The module for users: the blocking clients, tasks, results and errors.

    >>> from ipython1.kernel import client
    >>> mec = client.MultiEngineClient()
    >>> tc = client.TaskClient()

Names are loaded on first use, so that importing this module is fast.
"""

from typing import Any

from ipython1.kernel.basics import error as _error
from ipython1.kernel.basics.naming import lazy_names as _lazy_names

_ROOM = "ipython1.kernel."
_WHERE = {
    "After": _ROOM + "objects.after",
    "AsyncCluster": _ROOM + "clusters.asynccluster",
    "Cluster": _ROOM + "clusters.cluster",
    "MapTask": _ROOM + "objects.taskobjects",
    "MonitorClient": _ROOM + "clients.monitorclient",
    "MultiEngineClient": _ROOM + "clients.multiengineclient",
    "MultiEngineExecutor": _ROOM + "futures.executors",
    "MultiEngineView": _ROOM + "clients.multiengineclient",
    "PendingResult": _ROOM + "calls.pendingresult",
    "QueueStatusList": _ROOM + "calls.resultlist",
    "ResultList": _ROOM + "calls.resultlist",
    "StringTask": _ROOM + "objects.taskobjects",
    "Task": _ROOM + "objects.taskobjects",
    "TaskClient": _ROOM + "clients.taskclient",
    "TaskExecutor": _ROOM + "futures.executors",
    "TaskResult": _ROOM + "objects.taskobjects",
    "get_multiengine_client": _ROOM + "clients.factories",
    "get_task_client": _ROOM + "clients.factories",
    "register_joblib_backend": _ROOM + "clients.factories",
    "remote": _ROOM + "calls.contexts",
    **{name: _error.__name__ for name in _error.__all__ if name[0].isupper()},
}
_ADDRESSES = {"default_mec_address": "multiengine", "default_task_address": "task"}

__all__ = sorted(_WHERE)  # noqa: PLE0605 (loaded on first use)

_load = _lazy_names(__name__, _WHERE)


def __getattr__(name: str) -> Any:
    if name in _ADDRESSES:
        # Read each time: a restarted cluster may listen elsewhere.
        from ipython1.kernel.calls.locate import default_address

        return default_address(_ADDRESSES[name])
    return _load(name)


def __dir__() -> list[str]:
    return sorted([*__all__, *_ADDRESSES])
