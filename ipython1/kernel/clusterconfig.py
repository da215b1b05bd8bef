"""The configuration of a cluster."""

from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.launchers.clusterconfig import (
    BatchOptions,
    ClusterConfig,
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
