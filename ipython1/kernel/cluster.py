"""Clusters from Python: started, changed and ended without a shell."""

from ipython1.kernel.clusters.cluster import Cluster

__all__ = [
    "Cluster",
]
