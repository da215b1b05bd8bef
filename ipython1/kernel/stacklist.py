"""Where engines are and what an interrupt did, as shown to users."""

from ipython1.kernel.calls.stacklist import InterruptList, StackList

__all__ = [
    "InterruptList",
    "StackList",
]
