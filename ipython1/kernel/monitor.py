"""The Monitor interface: clients look at a controller, and can change nothing."""

from ipython1.kernel.controller.monitor import IMonitor, Monitor

__all__ = [
    "IMonitor",
    "Monitor",
]
