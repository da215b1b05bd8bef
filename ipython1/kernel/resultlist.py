"""The results of commands, as shown at a prompt."""

from ipython1.kernel.calls.resultlist import EngineResult, QueueStatusList, ResultList

__all__ = [
    "EngineResult",
    "QueueStatusList",
    "ResultList",
]
