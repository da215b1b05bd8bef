"""Base classes for tests of ``unittest``: each test has a cluster, in this process or of processes of its own.

::

    from ipython1.testing import ClusterTestCase

    class SumTest(ClusterTestCase):
        engines = 2

        def test_sum(self):
            self.assertEqual(sum(self.mec.map(abs, [-1, -2])), 3)
"""

from __future__ import annotations

from typing import ClassVar
from unittest import TestCase

from ipython1.kernel.clients.multiengineclient import MultiEngineClient
from ipython1.testing.inprocess import InProcessCluster
from ipython1.testing.lending import lender
from ipython1.testing.numbers import check_engines
from ipython1.testing.temporary import TemporaryCluster


class InProcessTestCase(TestCase):
    """Every test has an :class:`~ipython1.testing.InProcessCluster` of its own.

    A ``setUp`` of yours calls ``super().setUp()`` first.

    :cvar engines: the number of engines; 2 unless you set it.
    :ivar cluster: the cluster.
    :ivar mec: a ``MultiEngineClient`` of it.
    """

    engines: ClassVar[int] = 2
    cluster: InProcessCluster
    mec: MultiEngineClient

    def setUp(self) -> None:
        super().setUp()
        engines = check_engines(self.engines, "engines")
        self.cluster = self.enterContext(InProcessCluster(engines))
        self.mec = self.cluster.multiengine()


class ClusterTestCase(TestCase):
    """Every test has a :class:`~ipython1.testing.TemporaryCluster` for itself, which is reset afterwards.

    All tests of the process with as many engines use the same one, which is started for the first of them.  Meanwhile,
    clients that name no cluster find it.  A ``setUp`` of yours calls ``super().setUp()`` first.

    :cvar engines: the number of engines; 2 unless you set it.
    :cvar fresh: whether every test gets new engine processes; False unless you set it.
    :ivar cluster: the cluster.
    :ivar mec: a ``MultiEngineClient`` of it.
    """

    engines: ClassVar[int] = 2
    fresh: ClassVar[bool] = False
    cluster: TemporaryCluster
    mec: MultiEngineClient

    def setUp(self) -> None:
        super().setUp()
        self.cluster = self.enterContext(lender.lend(self.engines, self.fresh))
        self.mec = self.cluster.multiengine()
