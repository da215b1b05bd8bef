"""Ending a cluster: its controller, what runs on this host, and what runs elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.logger import Logger

from ipython1.daemon.link import NannyLink
from ipython1.daemon.protocol import End
from ipython1.daemon.supervisor import ProcessSupervisor
from ipython1.kernel.launchers.programs import CONTROLLER_KEY

CONTROLLER_FIRST = 2.0
"""Seconds by which the controller may end before the engines are ended, too."""

END_LIMIT = 40.0
"""Seconds after its grace within which a nanny must have ended."""


class Stopping:
    """See the module's text.

    :param elsewhere: gives the launchers, which end what this host's nanny does not end.
    :param say: shows a line to the user.
    """

    log: Logger = Logger()

    def __init__(
        self,
        reactor: Any,
        supervisor: ProcessSupervisor,
        nanny: NannyLink,
        elsewhere: Callable[[], Sequence[Any]],
        say: Callable[[str], object],
    ) -> None:
        self._reactor = reactor
        self._supervisor = supervisor
        self._nanny = nanny
        self._elsewhere = elsewhere
        self._say = say

    async def end(self, grace: float, client: Any) -> None:
        """End everything, the controller first.

        :param grace: seconds that processes may take before they are killed.
        :param client: the connection to the controller, to be closed; None if there is none.
        """
        self._supervisor.close()
        await self._end_controller(min(grace, CONTROLLER_FIRST))
        self._nanny.send(End(grace))
        if client is not None:
            client.close().addErrback(lambda failure: None)
        closing = [Deferred.fromCoroutine(each.close(grace)) for each in self._elsewhere()]
        try:
            await first_error(closing)
        except Exception as problem:
            self.log.failure("the launcher did not close")
            self._say(f"processes on other hosts may still be running: {problem}")
        gone: Deferred[None] = Deferred()
        self._nanny.lost.addBoth(lambda result: gone.callback(None) if not gone.called else None)
        gone.addTimeout(grace + END_LIMIT, self._reactor)
        try:
            await gone
        except DeferredTimeout:
            self._say("some processes could not be stopped")

    def hurry(self, grace: float) -> None:
        """Allow what is being ended less time.

        :param grace: in seconds.
        """
        self._nanny.send(End(grace))
        for each in self._elsewhere():
            Deferred.fromCoroutine(each.close(grace)).addErrback(
                lambda failure: self.log.failure("the launcher cannot be hurried", failure)
            )

    async def _end_controller(self, limit: float) -> None:
        """Let the controller end first, so that clients hear that it was stopped, and not that its engines died."""
        status = self._supervisor.status().get(CONTROLLER_KEY)
        if status is None or not status.alive or not limit:
            return
        ended = self._supervisor.stop(CONTROLLER_KEY)
        with contextlib.suppress(DeferredTimeout):
            await ended.addTimeout(limit, self._reactor)


async def first_error(waiting: list[Deferred[Any]]) -> None:
    """Wait for all of them, or for the first that fails.

    :raises Exception: what that one failed with.
    """
    try:
        await gatherResults(waiting, consumeErrors=True)
    except FirstError as first:
        first.subFailure.raiseException()
