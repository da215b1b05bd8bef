"""Keeps a client connected: makes its link, and makes it again when it is lost, for a bounded time.

The states are those of :class:`~ipython1.kernel.calls.clientlink.ClientEnd`; while it is away, :class:`LinkKeeper`
tries at once and then after longer and longer pauses (see :class:`~ipython1.kernel.wire.again.Pauses`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from ipython1.kernel.basics.error import KernelError
from ipython1.kernel.calls.awaynotice import AwayNotice
from ipython1.kernel.calls.clientlink import ClientEnd
from ipython1.kernel.calls.locate import Place, locate
from ipython1.kernel.calls.sshroute import PATIENCE, SshRoute
from ipython1.kernel.host.turns import turns_of
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.again import Pauses

log: Logger = Logger()

TRY_FOR = 10.0
"""Seconds that one attempt to connect again may take."""


class LinkKeeper:
    """Connects one client to one interface of a controller.

    :param source: see :func:`~ipython1.kernel.calls.locate.locate`; a file is read again for each attempt.
    :param hello: the client's greeting.
    :param give_up_after: seconds without a controller after which calls fail; 0 to give up at once.
    :param login: how to log in to a host through which to connect (see
        :func:`~ipython1.kernel.calls.sshroute.check_ssh`); None to connect directly.
    :ivar place: where the controller is, once it was found.
    """

    def __init__(
        self,
        reactor: Any,
        end: ClientEnd,
        source: Any,
        hello: messages.Hello,
        give_up_after: float,
        login: tuple[str, ...] | None = None,
        notice: Callable[[Any, ClientEnd], AwayNotice] = AwayNotice,
    ) -> None:
        self._reactor = reactor
        self._end = end
        self._source = source
        self._hello = hello
        self._give_up_after = give_up_after
        self._pauses = Pauses(reactor)
        self._tub: Any = None
        self._trying: Deferred[None] | None = None
        self._notice = notice(reactor, end)
        end.call_later = reactor.callLater
        self._route = None if login is None else SshRoute(reactor, login, source, hello.role)
        self.place: Place

    async def open(self, timeout: float) -> None:
        """Connect for the first time.

        :raises KernelError: if no connection can be made; the message says why.
        """
        await self._connect(timeout)
        self._pauses.connected()
        self._end.check()
        self._end.on_away.append(self._away)
        self._end.reconnects = self._give_up_after > 0

    async def close(self) -> None:
        """Close the connection for good."""
        self._end.say_goodbye()
        self._end.reconnects = False
        trying = self._trying
        if trying is not None:
            over: Deferred[None] = Deferred()
            trying.addCallback(over.callback)
            trying.cancel()
            await over
        tub, self._tub = self._tub, None
        await _close_tub(tub)
        self._end.close()
        if self._route is not None:
            await self._route.release()

    async def _connect(self, timeout: float) -> None:
        if self._route is None:
            self.place = locate(self._source, self._hello.role)
            await self._connect_to(self.place, timeout)
            return
        begun = self._reactor.seconds()
        self.place = await self._route.place(timeout)
        try:
            left = max(timeout - (self._reactor.seconds() - begun), 0.1)
            await self._connect_to(self.place, left)
        except KernelError as problem:
            raise await self._route.explain(problem) from None
        self._route.works()

    async def _connect_to(self, place: Place, timeout: float) -> None:
        from ipython1.kernel.tub import tubs
        from ipython1.kernel.tub.gate import register
        from ipython1.kernel.wire.link import FrameLink, TurnFlusher

        reactor = self._reactor
        tub = tubs.make_tub()
        if self._route is not None:
            tub.connect_through(self._route.start, PATIENCE)
        try:
            begun = reactor.seconds()
            gate = await tubs.connect(tub, str(place.furl), timeout, reactor)
            flusher = TurnFlusher(turns_of(reactor).call_soon, reactor)
            link = FrameLink(flusher, self._end)
            left = max(timeout - (reactor.seconds() - begun), 0.1)
            welcome = await register(gate, self._hello, link, left, reactor, reactor)
        except BaseException:
            await _close_tub(tub)
            raise
        old, self._tub = self._tub, tub
        Deferred.fromCoroutine(_close_tub(old))
        self._end.attach(link, welcome)
        if link.lost:
            self._end.link_lost("the connection was lost while it was made")

    # -- while the controller is away

    def _away(self, reason: str) -> None:
        log.info("the controller is out of reach: {reason}", reason=reason)
        self._notice.begin(reason)
        if self._trying is None:
            self._trying = Deferred.fromCoroutine(self._connect_again(reason))
            self._trying.addErrback(self._stopped)
            self._trying.addBoth(self._tried)

    def _tried(self, result: object) -> None:
        self._trying = None
        self._notice.end()
        reason = self._end.away
        if reason is not None and self._end.reconnects:  # it was lost again as soon as it was made
            self._away(reason)

    def _stopped(self, failure: Any) -> None:
        if failure.check(CancelledError) is None:
            log.failure("connecting again failed", failure)
            self._end.give_up(f"connecting again failed: {failure.getErrorMessage()}")

    async def _connect_again(self, reason: str) -> None:
        deadline = self._reactor.seconds() + self._give_up_after
        while True:
            await deferLater(self._reactor, self._pauses.next())
            if self._end.away is None:
                return
            try:
                await self._connect(TRY_FOR)
                self._pauses.connected()
                return
            except KernelError as problem:
                if not self._end.reconnects:
                    return
                if self._reactor.seconds() > deadline:
                    self._end.give_up(
                        f"{reason}; it could not be reached again for {self._give_up_after:g} s: {problem}"
                    )
                    return


async def _close_tub(tub: Any) -> None:
    from ipython1.kernel.tub import tubs

    if tub is not None:
        await tubs.close(tub)
