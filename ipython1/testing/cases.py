"""Base classes for tests of ``unittest``: each test has a cluster, in this process or of processes of its own.

::

    from ipython1.testing import ClusterTestCase

    class SumTest(ClusterTestCase):
        engines = 2

        def test_sum(self):
            self.assertEqual(sum(self.mec.map(abs, [-1, -2])), 3)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ClassVar, Final
from unittest import SkipTest, TestCase, TestResult

from ipython1.kernel.clients.multiengineclient import MultiEngineClient
from ipython1.testing.inprocess import InProcessCluster
from ipython1.testing.lending import lender
from ipython1.testing.numbers import check_engines
from ipython1.testing.temporary import TemporaryCluster

__unittest = True  # its frames are not shown

LOG_TITLE: Final = "Captured ipython1 cluster log:"


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
    clients that name no cluster find it.  When a test fails, its error shows what the cluster's processes logged during
    the test.  A ``setUp`` of yours calls ``super().setUp()`` first.

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
        self._log_sizes = self.cluster.log_sizes()
        self.mec = self.cluster.multiengine()

    def run(self, result: TestResult | None = None) -> TestResult | None:
        name = self._testMethodName
        method = getattr(self, name)

        @wraps(method)
        def with_log() -> Any:
            __tracebackhide__ = True
            with self._log_noted():
                return method()

        before = vars(self).get(name)
        setattr(self, name, with_log)
        try:
            return super().run(result)
        finally:
            if before is None:
                delattr(self, name)
            else:
                setattr(self, name, before)

    @contextmanager
    def subTest(self, *args: Any, **params: Any) -> Iterator[None]:
        with super().subTest(*args, **params), self._log_noted():
            yield

    @contextmanager
    def _log_noted(self) -> Iterator[None]:
        """Add to an error what the cluster logged since the test began."""
        __tracebackhide__ = True
        try:
            yield
        except SkipTest:
            raise
        except Exception as problem:
            logged = self.cluster.logged_since(self._log_sizes)
            if logged and not any(
                each.startswith(LOG_TITLE) for each in getattr(problem, "__notes__", ())
            ):
                problem.add_note(f"{LOG_TITLE}\n{logged}")
            raise
