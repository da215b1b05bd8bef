"""Copies of the engines' FURL on their hosts, which are replaced when the controller gets another FURL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from ipython1.kernel.basics.error import KernelError

INTERVAL: Final = 2.0
"""Seconds between two looks at the controller's FURL."""


class FurlCopies:
    """Which host has which FURL.

    :param furl: returns the FURL that hosts should have; may raise OSError.
    :param copy: called with a host and the FURL; copies it, or raises KernelError, and is called again then.
    """

    log: Logger = Logger()

    def __init__(
        self, reactor: Any, furl: Callable[[], str], copy: Callable[[str, str], Awaitable[None]]
    ) -> None:
        self._furl = furl
        self._copy = copy
        self._copied: dict[str, str] = {}
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor

    def made(self, host: str, furl: str) -> None:
        """A host has a copy, which is to be kept up to date from now on."""
        self._copied[host] = furl
        if not self._looking.running:
            self._looking.start(INTERVAL, now=False)

    def host_gone(self, host: str) -> None:
        """Leave a host alone; it may have no copy."""
        self._copied.pop(host, None)

    def close(self) -> None:
        """Leave all hosts alone."""
        self._copied.clear()
        if self._looking.running:
            self._looking.stop()

    def _look(self) -> None:
        try:
            furl = self._furl()
        except OSError:
            return  # the next look may find it
        for host, copied in list(self._copied.items()):
            if copied != furl:
                self._copied[host] = furl
                done: Deferred[None] = Deferred.fromCoroutine(self._replace(host, furl))
                done.addErrback(self._failed, host, copied)

    async def _replace(self, host: str, furl: str) -> None:
        await self._copy(host, furl)
        self.log.info("{host} has the new FURL for engines", host=host)

    def _failed(self, failure: Failure, host: str, before: str) -> None:
        failure.trap(KernelError)
        self.log.warn(
            "{host} has not got the new FURL for engines: {why}",
            host=host,
            why=failure.getErrorMessage(),
        )
        if host in self._copied:
            self._copied[host] = before
