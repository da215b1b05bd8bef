"""The client for those who may only look at a controller."""

from ipython1.kernel.clients.monitorclient import MonitorClient
from ipython1.kernel.wire.monitoring import EngineInfo, HistoryEntry

__all__ = [
    "EngineInfo",
    "HistoryEntry",
    "MonitorClient",
]
