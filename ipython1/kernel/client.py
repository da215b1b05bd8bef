"""The module for users: the blocking clients, tasks, results and errors.

    >>> from ipython1.kernel import client
    >>> mec = client.MultiEngineClient()
    >>> tc = client.TaskClient()

Names are loaded on first use, so that importing this module is fast.
"""

from typing import TYPE_CHECKING, Any

from ipython1.kernel.basics import error as _error
from ipython1.kernel.basics.naming import lazy_names as _lazy_names

if TYPE_CHECKING:
    from ipython1.kernel.basics.error import (
        BrokenEnginePool,
        ClientClosed,
        ClientError,
        ClusterError,
        CompositeError,
        ConnectionError,
        DependencyFailed,
        EngineDied,
        FileTimeoutError,
        IdInUse,
        InvalidClientID,
        InvalidDeferredID,
        InvalidEngineID,
        InvalidProperty,
        JournalError,
        KernelError,
        MessageSizeError,
        NoController,
        NoDefaultAddress,
        NoEnginesRegistered,
        NotAPendingResult,
        NotDefined,
        NotStarted,
        OutOfMemory,
        PartsMissing,
        ProtocolError,
        QueueCleared,
        ResultAlreadyRetrieved,
        ResultNotCompleted,
        SecurityError,
        SerializationError,
        StopLocalExecution,
        TaskAborted,
        TaskRejectError,
        TaskTimeout,
        UnpickleableException,
        VersionMismatch,
        WaitInterrupted,
        WaitsForever,
    )
    from ipython1.kernel.calls.contexts import (
        remote,
    )
    from ipython1.kernel.calls.pendingresult import (
        PendingResult,
    )
    from ipython1.kernel.calls.resultlist import (
        QueueStatusList,
        ResultList,
    )
    from ipython1.kernel.clients.factories import (
        get_multiengine_client,
        get_task_client,
        register_joblib_backend,
    )
    from ipython1.kernel.clients.monitorclient import (
        MonitorClient,
    )
    from ipython1.kernel.clients.multiengineclient import (
        MultiEngineClient,
        MultiEngineView,
    )
    from ipython1.kernel.clients.taskclient import (
        TaskClient,
    )
    from ipython1.kernel.clusters.asynccluster import (
        AsyncCluster,
    )
    from ipython1.kernel.clusters.cluster import (
        Cluster,
    )
    from ipython1.kernel.futures.executors import (
        MultiEngineExecutor,
        TaskExecutor,
    )
    from ipython1.kernel.objects.after import (
        After,
    )
    from ipython1.kernel.objects.taskobjects import (
        MapTask,
        StringTask,
        Task,
        TaskResult,
    )

    default_mec_address: tuple[str, int]
    default_task_address: tuple[str, int]

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

__all__ = [
    "After",
    "AsyncCluster",
    "BrokenEnginePool",
    "ClientClosed",
    "ClientError",
    "Cluster",
    "ClusterError",
    "CompositeError",
    "ConnectionError",
    "DependencyFailed",
    "EngineDied",
    "FileTimeoutError",
    "IdInUse",
    "InvalidClientID",
    "InvalidDeferredID",
    "InvalidEngineID",
    "InvalidProperty",
    "JournalError",
    "KernelError",
    "MapTask",
    "MessageSizeError",
    "MonitorClient",
    "MultiEngineClient",
    "MultiEngineExecutor",
    "MultiEngineView",
    "NoController",
    "NoDefaultAddress",
    "NoEnginesRegistered",
    "NotAPendingResult",
    "NotDefined",
    "NotStarted",
    "OutOfMemory",
    "PartsMissing",
    "PendingResult",
    "ProtocolError",
    "QueueCleared",
    "QueueStatusList",
    "ResultAlreadyRetrieved",
    "ResultList",
    "ResultNotCompleted",
    "SecurityError",
    "SerializationError",
    "StopLocalExecution",
    "StringTask",
    "Task",
    "TaskAborted",
    "TaskClient",
    "TaskExecutor",
    "TaskRejectError",
    "TaskResult",
    "TaskTimeout",
    "UnpickleableException",
    "VersionMismatch",
    "WaitInterrupted",
    "WaitsForever",
    "get_multiengine_client",
    "get_task_client",
    "register_joblib_backend",
    "remote",
]


def _other_names() -> dict[str, str]:
    from ipython1.kernel.calls.othernames import MODULE

    return MODULE


_load = _lazy_names(__name__, _WHERE, _other_names)


if not TYPE_CHECKING:  # a type checker knows all names, and finds misspelt ones

    def __getattr__(name: str) -> Any:
        if name in _ADDRESSES:
            # Read each time: a restarted cluster may listen elsewhere.
            from ipython1.kernel.calls.locate import default_address

            return default_address(_ADDRESSES[name])
        return _load(name)


def __dir__() -> list[str]:
    return sorted([*__all__, *_ADDRESSES])
