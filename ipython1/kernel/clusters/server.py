"""What can be ordered of a running cluster, over its control connection."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.python.failure import Failure

from ipython1.daemon import osprocess
from ipython1.kernel.clusters.progress import StartProgress
from ipython1.kernel.clusters.service import ClusterService
from ipython1.kernel.host.controlserver import Order
from ipython1.kernel.launchers.adaptation import Adaptation
from ipython1.kernel.launchers.clusterconfig import ClusterConfig

ORDERS = (
    *("status", "started", "stop", "add", "remove", "restart", "restart_controller"),
    *("signal", "logs", "wait", "adapt"),
)


EnginesLike = Callable[[ClusterConfig, Sequence[str], str], ClusterConfig]
"""Gives how engines are started that are added to a cluster: from what the cluster was started with, the words of a
command line, and the directory where relative paths in it start."""


class Orders:
    """What can be asked of a cluster; each public coroutine is an order.

    :param engines_like: see :data:`EnginesLike`.
    :param reactor: for time limits.
    """

    def __init__(self, service: ClusterService, engines_like: EnginesLike, reactor: Any) -> None:
        self._service = service
        self._reactor = reactor
        self._engines_like = engines_like
        self._outcome: Any = None
        self._waiters: list[Deferred[Any]] = []

    def all(self) -> dict[str, Order]:
        """Return the orders by name."""
        return {name: getattr(self, name) for name in ORDERS}

    def set_started(self, outcome: StartProgress | Failure) -> None:
        """The start is settled: what became of it, or why there is no cluster."""
        self._outcome = outcome
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(outcome)

    async def status(self) -> Any:
        """Everything that is known."""
        return self._service.status().to_json()

    async def started(self, until: float | None = None) -> Any:
        """Wait for the end of the start, at most until a time; gives the usable ids, what failed, and what is queued.

        :param until: in seconds since 1970.
        """
        waiter: Deferred[Any] = Deferred()
        if self._outcome is None:
            self._waiters.append(waiter)
            if until is not None:
                waiter.addTimeout(max(0.0, float(until) - time.time()), self._reactor)
        else:
            waiter.callback(self._outcome)
        try:
            progress: StartProgress = await waiter
        except DeferredTimeout:
            self._waiters.remove(waiter)
            progress = self._service.progress or StartProgress()
        return {**progress.to_json(), "queue": self._service.queue_text}

    async def stop(self, grace: float | None = None) -> Any:
        """End the cluster; answered when it has begun, the connection closes when it is done."""
        self._service.stop(grace)

    async def add(self, count: int | None, words: Sequence[str] = (), directory: str = "") -> Any:
        """Start more engines, as the first or, where ``words`` of a command line say so, in another way.

        :param count: how many; None for as many as the hosts have that are named, else for one.
        """
        config = self._engines_like(self._service.config, words, directory) if words else None
        return (await self._service.add_engines(count, config)).to_json()

    async def remove(self, ids: list[int]) -> Any:
        """End engines."""
        await self._service.remove_engines([int(each) for each in ids])

    async def restart(self, engine: int) -> Any:
        """End an engine and start it again."""
        await self._service.restart_engine(int(engine))

    async def restart_controller(self) -> Any:
        """End the controller in good order and start it again."""
        await self._service.restart_controller()

    async def signal(self, ids: list[int] | None, number: int | str) -> Any:
        """Send engines a signal."""
        self._service.signal(ids, osprocess.signal_number(number))

    async def logs(self, engine: int | None, lines: int) -> Any:
        """The last lines of a log."""
        return await self._service.logs(engine, int(lines))

    async def adapt(self, adaptation: dict[str, Any] | None) -> Any:
        """Have engines come and go; None for no more changes."""
        want = None if adaptation is None else Adaptation.from_json(adaptation)
        self._service.scaling.adapt(want)

    async def wait(self, count: int | None, seconds: float | None) -> Any:
        """Wait for engines."""
        number = None if count is None else int(count)
        limit = None if seconds is None else float(seconds)
        return await self._service.wait_for_engines(number, limit)
