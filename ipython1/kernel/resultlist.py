"""The results of commands, as shown at a prompt."""

from ipython1.kernel.calls.resultlist import QueueStatusList, ResultList

__all__ = [
    "QueueStatusList",
    "ResultList",
]
