"""Connections of clients: from what the user names to a registered link."""

from ipython1.kernel.calls.connect import Connection, connect_blocking, open_connection

__all__ = [
    "Connection",
    "connect_blocking",
    "open_connection",
]
