"""What non-blocking calls return."""

from ipython1.kernel.calls.pendingresult import PendingResult

__all__ = [
    "PendingResult",
]
