"""The results of non-blocking calls."""

from ipython1.kernel.calls.pendingresult import PendingResult

__all__ = [
    "PendingResult",
]
