"""Waiting until something is true of a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout

from ipython1.kernel.basics.error import ClusterError, ResultNotCompleted


class Waiting:
    """All who wait for something that changes with a cluster's status.

    :param reactor: for time limits.
    :param describe: what there is when the time is over (``2 engines were usable``), for the error.
    """

    def __init__(self, reactor: Any, describe: Callable[[], str]) -> None:
        self._reactor = reactor
        self._describe = describe
        self._looks: list[Callable[[], None]] = []
        self._over = ""

    async def until(self, condition: Callable[[], bool], timeout: float | None) -> None:
        """Wait until a condition holds.

        :param condition: looked at now and after each change; what it raises ends the wait.
        :param timeout: seconds; None for no limit.
        :raises ResultNotCompleted: when the time is over.
        :raises ClusterError: when the cluster is stopped meanwhile, or was before; with why.
        """
        done: Deferred[None] = Deferred()

        def look() -> None:
            if done.called:
                return
            if self._over:
                done.errback(ClusterError(self._over))
                return
            try:
                holds = condition()
            except Exception as problem:  # of this one alone: the others still have to look
                done.errback(problem)
                return
            if holds:
                done.callback(None)

        self._looks.append(look)
        try:
            look()
            if timeout is not None and not done.called:
                done.addTimeout(timeout, self._reactor)
            await done
        except DeferredTimeout:
            raise ResultNotCompleted(f"{self._describe()} after {timeout:g} s") from None
        finally:
            self._looks.remove(look)

    def changed(self) -> None:
        """Have everybody look again."""
        for look in list(self._looks):
            look()

    def end(self, reason: str) -> None:
        """Nothing will come true any more.

        :param reason: what everybody is told who waits, or begins to.
        """
        self._over = self._over or reason
        self.changed()
