"""Looks at a controller for all that watch it, and goes on when it is back after it was out of reach.

================  =============================================  =======================================
state             event                                          becomes
================  =============================================  =======================================
new               ``begin``                                      watching, or it fails
watching          an answer                                      watching; it looks again after a pause
watching          the link is lost, or there is no answer        away since then
away              it is reached again                            watching; everything is told anew
any               ``close``                                      closed
================  =============================================  =======================================
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger

from ipython1.kernel.basics.error import ConnectionError, KernelError
from ipython1.kernel.watching.picture import Picture
from ipython1.kernel.watching.source import NewsSource
from ipython1.kernel.wire.again import Pauses
from ipython1.kernel.wire.monitoring import News

VISIBLE_PAUSE = 0.2
"""Seconds between two looks while somebody sees the page."""

HIDDEN_PAUSE = 2.0
"""The same if all pages are hidden, or there is none: the trends and Prometheus get their numbers."""

SHARE = 1.0
"""How long a pause is at least, in times that the controller took to answer: a slow one is spared."""

ANSWER_LIMIT = 10.0
"""Seconds without an answer after which the controller counts as out of reach."""


class Viewer(Protocol):
    """A page that is open somewhere.

    :ivar hidden: whether nobody sees it.
    """

    hidden: bool

    def show(self, event: str, data: bytes) -> None:
        """Show an event: ``'whole'``, ``'news'`` or ``'away'``."""
        ...


@dataclass(frozen=True, slots=True)
class Away:
    """That the controller is out of reach.

    :ivar since: in seconds since the epoch.
    """

    since: float
    reason: str


class Watcher:
    """Looks at a controller.

    :param clock: the reactor.
    :param open: connects to the controller.
    :ivar picture: what is known of it.
    :ivar away: set while it is out of reach.
    """

    log: Logger = Logger()

    def __init__(
        self,
        clock: Any,
        open: Callable[[], Awaitable[NewsSource]],
        now: Callable[[], float] = time.time,
    ) -> None:
        self.picture: Picture = Picture()
        self.away: Away | None = None
        self._clock = clock
        self._open = open
        self._now = now
        self._viewers: set[Viewer] = set()
        self._pauses = Pauses(clock)
        self._next_look: IDelayedCall | None = None
        self._looked = 0.0
        self._took = 0.0
        self._loop: Deferred[None] | None = None

    async def begin(self) -> None:
        """Connect, and look for the first time.

        :raises KernelError: if the controller cannot be reached.
        """
        source = await self._open()
        try:
            self.picture.update(await self._look(source))
        except BaseException:
            await source.close()
            raise
        self._pauses.connected()
        self._loop = Deferred.fromCoroutine(self._run(source))
        self._loop.addErrback(self._stopped)

    async def close(self) -> None:
        """Stop looking."""
        loop, self._loop = self._loop, None
        if loop is not None:
            over: Deferred[None] = Deferred()
            loop.addBoth(lambda result: over.callback(None))
            loop.cancel()
            await over

    # -- viewers

    def add(self, viewer: Viewer) -> None:
        """Show a page everything, and then what changes."""
        self._viewers.add(viewer)
        self.show_all(viewer)
        call = self._next_look
        if call is not None and call.active():
            sooner = max(0.0, self._looked + self.pause - self._clock.seconds())
            if self._clock.seconds() + sooner < call.getTime():
                call.reset(sooner)

    def remove(self, viewer: Viewer) -> None:
        """A page is closed."""
        self._viewers.discard(viewer)

    def show_all(self, viewer: Viewer) -> None:
        """Show a page everything."""
        if self.picture.latest is not None:
            viewer.show("whole", self.picture.whole())
        if self.away is not None:
            viewer.show("away", _packed(self.away))

    def _show(self, event: str, data: bytes) -> None:
        for viewer in list(self._viewers):
            viewer.show(event, data)

    # -- looking

    async def _run(self, first: NewsSource) -> None:
        source: NewsSource | None = first
        while True:
            try:
                if source is None:
                    await deferLater(self._clock, self._pauses.next())
                    source = await self._open()
                    self._pauses.connected()
                    self.picture.forget_mark()
                await self._watch(source)
            except KernelError as problem:
                self._lost(problem)
            finally:
                closing, source = source, None
                if closing is not None:
                    await closing.close()

    async def _watch(self, source: NewsSource) -> None:
        while True:
            if self.picture.mark:
                await self._until_next_look()
            news = await self._look(source)
            delta = self.picture.update(news)
            if news.whole or self.away is not None:
                self.away = None
                for viewer in list(self._viewers):
                    self.show_all(viewer)
            else:
                self._show("news", delta)

    async def _look(self, source: NewsSource) -> News:
        begun = self._clock.seconds()
        asking = Deferred.fromCoroutine(_awaited(source.news(self.picture.mark)))
        asking.addTimeout(ANSWER_LIMIT, self._clock)
        try:
            news = await asking
        except DeferredTimeout:
            raise ConnectionError(f"it has not answered for {ANSWER_LIMIT:g} s") from None
        self._looked = self._clock.seconds()
        self._took = self._looked - begun
        return news

    @property
    def pause(self) -> float:
        """Seconds until the next look."""
        seen = any(not each.hidden for each in self._viewers)
        return max(VISIBLE_PAUSE if seen else HIDDEN_PAUSE, SHARE * self._took)

    async def _until_next_look(self) -> None:
        over: Deferred[None] = Deferred()
        call = self._next_look = self._clock.callLater(self.pause, over.callback, None)
        try:
            await over
        finally:
            self._next_look = None
            if call.active():
                call.cancel()

    def _lost(self, problem: KernelError) -> None:
        reason = str(problem)
        if self.away is None:
            self.log.info("the controller is out of reach: {reason}", reason=reason)
            self.away = Away(self._now(), reason)
        elif self.away.reason == reason:
            return
        else:
            self.away = Away(self.away.since, reason)
        self._show("away", _packed(self.away))

    def _stopped(self, failure: Any) -> None:
        if failure.check(CancelledError) is None:
            self.log.failure("watching has failed", failure)
            self.away = Away(self._now(), f"the monitor has failed: {failure.getErrorMessage()}")
            self._show("away", _packed(self.away))


async def _awaited(answer: Awaitable[News]) -> News:
    return await answer


def _packed(away: Away) -> bytes:
    import json

    return json.dumps({"since": away.since, "reason": away.reason}).encode()
