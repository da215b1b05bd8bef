"""Where engines are, and what an interrupt did, as people read it."""

from ipython1.kernel.calls.stacklist import InterruptList, StackList

__all__ = [
    "InterruptList",
    "StackList",
]
