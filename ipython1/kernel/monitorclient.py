"""The client for those who may only look at a controller."""

from ipython1.kernel.clients.monitorclient import MonitorClient
from ipython1.kernel.wire.monitoring import (
    EngineInfo,
    FailureInfo,
    HistoryEntry,
    News,
    Span,
    TaskCounts,
    Traffic,
    WorkInfo,
)

__all__ = [
    "EngineInfo",
    "FailureInfo",
    "HistoryEntry",
    "MonitorClient",
    "News",
    "Span",
    "TaskCounts",
    "Traffic",
    "WorkInfo",
]
