"""How a process names the host it runs on."""

from ipython1.kernel.host.hosts import host_identity

__all__ = [
    "host_identity",
]
