"""The Foolscap face of the Monitor interface."""

from ipython1.kernel.controller.monitorfc import FCMonitor, IFCMonitor, MonitorSession

__all__ = [
    "FCMonitor",
    "IFCMonitor",
    "MonitorSession",
]
