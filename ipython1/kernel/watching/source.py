"""Where the news of a controller come from."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol

from ipython1.kernel.basics.error import ConnectionError
from ipython1.kernel.calls.connect import Connection, open_connection
from ipython1.kernel.wire.messages import MONITOR
from ipython1.kernel.wire.monitoring import News, unpack_news

CONNECT_TIMEOUT = 10.0
"""Seconds that connecting to the controller may take."""


class NewsSource(Protocol):
    """Tells what a controller does."""

    def news(self, mark: int) -> Awaitable[News]:
        """Return what has changed since an earlier look.

        :param mark: that of the earlier look; 0 for the first.
        :raises KernelError: if the controller does not tell.
        """
        ...

    def close(self) -> Awaitable[None]:
        """Give up the connection."""
        ...


class ControllerNews:
    """The news of a controller, by the capability that only lets its holder look.

    :param connection: to the Monitor interface; it is not made again when it is lost.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._loss = ""
        connection.end.on_lost.append(self._lost)

    @classmethod
    async def open(cls, reactor: Any, furl_or_file: str) -> ControllerNews:
        """Connect to a controller.

        :param furl_or_file: as for :class:`~ipython1.kernel.monitorclient.MonitorClient`.
        :raises KernelError: if that fails; the message says why.
        """
        return cls(await open_connection(reactor, furl_or_file, MONITOR, CONNECT_TIMEOUT, 0.0))

    async def news(self, mark: int) -> News:
        """See :class:`NewsSource`."""
        try:
            return unpack_news(await self._connection.end.ask("news", mark=mark))
        except ConnectionError as problem:
            # What it says besides is for those who wait for results.
            raise ConnectionError(self._loss or str(problem)) from None

    async def close(self) -> None:
        """See :class:`NewsSource`."""
        await self._connection.close()

    def _lost(self, reason: str) -> None:
        self._loss = reason
