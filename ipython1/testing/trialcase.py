"""The base class of trial's tests that use the reactor: a cluster of processes, and asynchronous clients.

A blocking client would wait for the reactor, which these tests have in their own thread; what blocks runs in another.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from ipython1.kernel.clients.asyncclient import (
    AsyncMultiEngineClient,
    get_multiengine_client,
    get_task_client,
)
from ipython1.kernel.clients.asynctaskclient import AsyncTaskClient
from ipython1.testing.lending import lender
from ipython1.testing.temporary import TemporaryCluster


class AsyncClusterTestCase(TestCase):
    """Every test has a :class:`~ipython1.testing.TemporaryCluster` for itself, which is reset afterwards.

    It is the one of :class:`~ipython1.testing.ClusterTestCase`, for tests that return Deferreds or are coroutines.  A
    ``setUp`` of yours is a coroutine, and awaits ``super().setUp()`` first.

    :cvar engines: the number of engines; 2 unless you set it.
    :cvar fresh: whether every test gets new engine processes; False unless you set it.
    :ivar cluster: the cluster; call methods of it that use engines with :meth:`in_thread`.
    :ivar mec: an ``AsyncMultiEngineClient`` of it.
    """

    engines: ClassVar[int] = 2
    fresh: ClassVar[bool] = False
    cluster: TemporaryCluster
    mec: AsyncMultiEngineClient

    async def setUp(self) -> None:  # type: ignore[override]
        lent = lender.lend(self.engines, self.fresh)
        self.cluster = await self.in_thread(lent.__enter__)
        self.addCleanup(self._give_back, lent)
        self.mec = await get_multiengine_client(str(self.cluster.files.multiengine_furl))
        self.addCleanup(self.mec.close)

    async def task(self) -> AsyncTaskClient:
        """Connect a new ``AsyncTaskClient`` to the cluster; it is closed after the test."""
        client: AsyncTaskClient = await get_task_client(str(self.cluster.files.task_furl))
        self.addCleanup(client.close)
        return client

    def in_thread(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function that blocks, in another thread; returns a Deferred of its result."""
        return deferToThread(function, *args, **kwargs)

    async def _give_back(self, lent: AbstractContextManager[TemporaryCluster]) -> None:
        await self.in_thread(lent.__exit__, None, None, None)
        # Trial wants no connection to be left.
        await self.in_thread(self.cluster.disconnect)
