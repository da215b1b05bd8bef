"""An in-memory cluster, for our own tests and for users' tests."""

from ipython1.testing.cluster import InMemoryCluster as InMemoryCluster
from ipython1.testing.cluster import InMemoryEngine as InMemoryEngine
from ipython1.testing.memory import Pump as Pump
from ipython1.testing.memory import ReactorPump as ReactorPump
from ipython1.testing.processes import RealCluster as RealCluster
