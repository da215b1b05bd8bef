"""A test of logic: what happens to commands when their engine dies."""

from __future__ import annotations

from twisted.trial import unittest

from ipython1.kernel.error import CompositeError, EngineDied
from ipython1.testing import InMemoryCluster


class DeathTests(unittest.SynchronousTestCase):
    def test_what_waits_fails_with_its_engine(self) -> None:
        cluster = InMemoryCluster(2)
        mec = cluster.multiengine()
        cluster.engines[0].worker.held = True  # it is busy
        pending = mec.execute("a = 1", targets=0, block=False)
        cluster.engines[0].kill()
        cluster.pump.run()  # let everything happen that there is to happen
        with self.assertRaises(CompositeError) as caught:
            pending.get_result()
        self.assertIsInstance(caught.exception.exceptions[0], EngineDied)
        self.assertEqual(mec.get_ids(), [1])
