"""Clusters for asynchronous programs."""

from ipython1.kernel.clusters.asynccluster import AsyncCluster

__all__ = [
    "AsyncCluster",
]
