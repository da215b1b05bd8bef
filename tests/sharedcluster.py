"""A cluster that the tests of a class share."""

from __future__ import annotations

import atexit
from typing import Any, ClassVar

from twisted.trial import unittest

from ipython1.testing import RealCluster


class SharedClusterCase(unittest.SynchronousTestCase):
    """Tests of one class on one cluster.  The first test starts it; it ends after the last test, or with the process.

    (Trial does not run ``setUpClass`` and ``setUpModule``.)
    """

    engines: ClassVar[int] = 4
    cluster: ClassVar[RealCluster | None] = None
    _left: ClassVar[set[str]] = set()

    def setUp(self) -> None:
        cls = type(self)
        if not cls._left:
            cls._left = {name for name in dir(cls) if name.startswith("test")}
            atexit.register(cls.stop_cluster)
        if cls.cluster is None:
            cls.cluster = cls.new_cluster().start()
        self.addCleanup(self._one_less)

    @classmethod
    def new_cluster(cls) -> RealCluster:
        """The cluster, not started; for classes that need a special one.

        :raises SkipTest: if it cannot be had here.
        """
        return RealCluster(cls.engines)

    def run(self, result: Any) -> None:
        """Stop the cluster after a failed test, so that whatever still runs there cannot disturb other tests."""
        before = _failures(result)
        super().run(result)
        if _failures(result) > before:
            self.stop_cluster()

    def _one_less(self) -> None:
        cls = type(self)
        cls._left.discard(self._testMethodName)
        if not cls._left:
            cls.stop_cluster()

    @classmethod
    def stop_cluster(cls) -> None:
        cluster, cls.cluster = cls.cluster, None
        if cluster is not None:
            cluster.stop()


def _failures(result: Any) -> int:
    return len(getattr(result, "errors", ())) + len(getattr(result, "failures", ()))
