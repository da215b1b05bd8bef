"""Clusters for tests, ours and users': in memory, in the test's process, and of processes; see also the pytest plugin.

Nothing is imported before it is used, as test runners load the plugin whether or not it is needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipython1.testing.cases import ClusterTestCase as ClusterTestCase
    from ipython1.testing.cases import InProcessTestCase as InProcessTestCase
    from ipython1.testing.cluster import InMemoryCluster as InMemoryCluster
    from ipython1.testing.cluster import InMemoryEngine as InMemoryEngine
    from ipython1.testing.inprocess import InProcessCluster as InProcessCluster
    from ipython1.testing.lending import ClusterLender as ClusterLender
    from ipython1.testing.memory import Pump as Pump
    from ipython1.testing.memory import ReactorPump as ReactorPump
    from ipython1.testing.processes import RealCluster as RealCluster
    from ipython1.testing.temporary import TemporaryCluster as TemporaryCluster
    from ipython1.testing.trialcase import AsyncClusterTestCase as AsyncClusterTestCase

_MODULES = {
    "AsyncClusterTestCase": "trialcase",
    "ClusterLender": "lending",
    "ClusterTestCase": "cases",
    "InMemoryCluster": "cluster",
    "InMemoryEngine": "cluster",
    "InProcessCluster": "inprocess",
    "InProcessTestCase": "cases",
    "Pump": "memory",
    "RealCluster": "processes",
    "ReactorPump": "memory",
    "TemporaryCluster": "temporary",
}

__all__ = [
    "AsyncClusterTestCase",
    "ClusterLender",
    "ClusterTestCase",
    "InMemoryCluster",
    "InMemoryEngine",
    "InProcessCluster",
    "InProcessTestCase",
    "Pump",
    "ReactorPump",
    "RealCluster",
    "TemporaryCluster",
]


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
