"""What a cluster is to be."""

from ipython1.kernel.clusters.config import (
    BatchOptions,
    ClusterConfig,
    ClusterError,
    ControllerOptions,
    MpiOptions,
    SshOptions,
)

__all__ = [
    "BatchOptions",
    "ClusterConfig",
    "ClusterError",
    "ControllerOptions",
    "MpiOptions",
    "SshOptions",
]
