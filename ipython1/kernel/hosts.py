"""How a process identifies its host."""

from ipython1.kernel.host.hosts import host_identity

__all__ = [
    "host_identity",
]
