"""Connections of clients: from the user's FURL or file to a registered link."""

from ipython1.kernel.calls.connect import Connection, connect_blocking, open_connection

__all__ = [
    "Connection",
    "connect_blocking",
    "open_connection",
]
