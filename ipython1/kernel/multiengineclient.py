"""The blocking MultiEngine client."""

from ipython1.kernel.calls.pendingresult import PendingResult
from ipython1.kernel.calls.resultlist import QueueStatusList, ResultList
from ipython1.kernel.clients.multiengineclient import MultiEngineClient

__all__ = [
    "MultiEngineClient",
    "PendingResult",
    "QueueStatusList",
    "ResultList",
]
