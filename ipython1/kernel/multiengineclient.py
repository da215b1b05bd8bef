"""The blocking MultiEngine client."""

from ipython1.kernel.calls.pendingresult import PendingResult
from ipython1.kernel.calls.resultlist import QueueStatusList, ResultList
from ipython1.kernel.clients.multiengineclient import MultiEngineClient, MultiEngineView

__all__ = [
    "MultiEngineClient",
    "MultiEngineView",
    "PendingResult",
    "QueueStatusList",
    "ResultList",
]
