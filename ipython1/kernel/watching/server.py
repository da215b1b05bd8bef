"""The monitor's server: it listens on this host only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.protocols.policies import WrappingFactory

from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.watching.admission import Admission
from ipython1.kernel.watching.logtails import LogTails
from ipython1.kernel.watching.source import NewsSource
from ipython1.kernel.watching.watcher import Watcher
from ipython1.kernel.watching.web import MonitorPages, QuietSite

HOST = "127.0.0.1"

MOST_CONNECTIONS = 400
"""Connections at the same time: what as many pages as there can be need, and fewer than a process may have files."""


class Connections(WrappingFactory):
    """Knows its connections, which browsers keep open; when there are too many, the oldest that shows no page goes.

    So nobody else on this host can keep the user out by taking them all.

    :param pages: says which connections show a page.
    """

    noisy = False

    def __init__(self, site: QuietSite, pages: MonitorPages) -> None:
        super().__init__(site)
        self._pages = pages
        self._going: set[Any] = set()

    def registerProtocol(self, p: Any) -> None:
        super().registerProtocol(p)
        if len(self.protocols) <= MOST_CONNECTIONS:
            return
        there = [each for each in self.protocols if each not in self._going]
        if len(there) > MOST_CONNECTIONS:
            kept = self._pages.viewing()
            oldest = next((each for each in there if each not in kept), p)
            self._going.add(oldest)
            oldest.transport.abortConnection()

    def unregisterProtocol(self, p: Any) -> None:
        super().unregisterProtocol(p)
        self._going.discard(p)


class MonitorServer:
    """Serves the page of one controller.

    :param open: connects to the controller.
    :param logs: the cluster's log files, if they are on this host.
    :param metrics_token: admits Prometheus; empty for none.
    :param entered: called each time a browser has opened the address.
    """

    def __init__(
        self,
        reactor: Any,
        open: Callable[[], Awaitable[NewsSource]],
        logs: LogTails | None = None,
        metrics_token: str = "",
        entered: Callable[[], None] = lambda: None,
    ) -> None:
        self._reactor = reactor
        self._admission = Admission(metrics_token)
        self._watcher = Watcher(reactor, open)
        self._pages = MonitorPages(self._watcher, self._admission, logs, entered)
        self._site = Connections(QuietSite(self._pages, timeout=60), self._pages)
        self._listening: Any = None

    async def start(self, port: int = 0) -> None:
        """Connect to the controller, and listen.

        :param port: 0 for any free one.
        :raises KernelError: if the controller cannot be reached, or the port is taken.
        """
        await self._watcher.begin()
        try:
            self._listening = self._reactor.listenTCP(port, self._site, interface=HOST)
        except CannotListenError as problem:
            await self._watcher.close()
            reason = getattr(problem.socketError, "strerror", None) or problem.socketError
            raise ClusterError(
                f"the monitor cannot listen on port {port}: {reason}; choose another --port, or leave it out"
            ) from None

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listening.getHost().port)

    @property
    def url(self) -> str:
        """The address of the page, with the token."""
        return f"http://{HOST}:{self.port}/?token={self._admission.token}"

    async def close(self) -> None:
        """End it, with all connections."""
        listening, self._listening = self._listening, None
        if listening is not None:
            await listening.stopListening()
        self._pages.close()
        for connection in list(self._site.protocols):
            connection.loseConnection()
        await self._watcher.close()
