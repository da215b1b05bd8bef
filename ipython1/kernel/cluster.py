"""Clusters from Python: start, change and stop them without a shell."""

from ipython1.kernel.clusters.cluster import Cluster

__all__ = [
    "Cluster",
]
