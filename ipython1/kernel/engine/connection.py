"""An engine's connection: makes the link, and makes it again when it is lost, for a bounded time.

===========  ===========================================  ===================================================
state        event                                        becomes
===========  ===========================================  ===================================================
connecting   the controller welcomes the engine           connected
connecting   it cannot be reached                         connecting, at once and then after longer and longer
                                                          pauses (see :class:`~ipython1.kernel.wire.again.Pauses`)
connecting   it refuses the engine, the first time        (the engine ends with an error)
connecting   nobody is there for too long                 (the engine ends with an error)
connected    the link is lost                             connecting
any          the engine is to stop                        (ended)
===========  ===========================================  ===================================================

An engine may be started before its controller.  So a FURL that leads nowhere may be an old one, which the controller
replaces when it starts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from ipython1.kernel.basics.error import ConnectionError, KernelError
from ipython1.kernel.engine.end import EngineEnd
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.again import Pauses

log: Logger = Logger()


class EngineConnection:
    """Keeps the engine connected.

    :param open_link: makes a connection and registers; gives the welcome.
    :param first_wait: seconds for which the first connection is tried.
    :param give_up_after: seconds without a controller after which ``run`` ends with an error.
    :param waiting: told why the first connection cannot be made yet.
    """

    def __init__(
        self,
        open_link: Callable[[], Awaitable[messages.Welcome]],
        end: EngineEnd,
        clock: IReactorTime,
        give_up_after: float,
        first_wait: float = 0.0,
        waiting: Callable[[KernelError], None] = lambda problem: None,
    ) -> None:
        self._open_link = open_link
        self._end = end
        self._clock = clock
        self._give_up_after = give_up_after
        self._first_wait = first_wait
        self._waiting = waiting
        self._pauses = Pauses(clock)

    async def run(self, on_registered: Callable[[messages.Welcome], None]) -> None:
        """Stay connected; returns when the engine is to stop.

        :raises KernelError: when the controller cannot be reached for too long, or refuses a new engine.
        """
        welcome = await self._connect_first()
        while not self._end.stopping:
            self._pauses.connected()
            on_registered(welcome)
            reason = await self._end.lost
            if self._end.stopping:
                return
            log.info("the controller is out of reach: {reason}", reason=reason)
            welcome = await self._connect_again()

    async def _connect_first(self) -> messages.Welcome:
        deadline = self._clock.seconds() + self._first_wait
        self._pauses.next()  # there is none before the first attempt
        told = False
        while True:
            try:
                return await self._open_link()
            except ConnectionError as problem:
                if self._clock.seconds() >= deadline or self._end.stopping:
                    raise
                if not told:
                    self._waiting(problem)
                    told = True
            await deferLater(self._clock, self._pauses.next())

    async def _connect_again(self) -> messages.Welcome:
        deadline = self._clock.seconds() + self._give_up_after
        while True:
            await deferLater(self._clock, self._pauses.next())
            try:
                return await self._open_link()
            except KernelError as problem:
                if self._clock.seconds() > deadline or self._end.stopping:
                    raise ConnectionError(
                        f"the controller could not be reached for {self._give_up_after:g} s ({problem}); "
                        "the engine exits"
                    ) from None
