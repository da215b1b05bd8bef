"""An engine's connection: makes the link, and makes it again when it is lost, for a bounded time.

===========  ===========================================  ===================================================
state        event                                        becomes
===========  ===========================================  ===================================================
connecting   the controller welcomes the engine           connected
connecting   it does not, the first time                  (the engine ends with an error)
connected    the link is lost                             connecting, at once and then after longer and longer
                                                          pauses (see :class:`~ipython1.kernel.wire.again.Pauses`)
connecting   nobody is there for too long                 (the engine ends with an error)
any          the engine is to stop                        (ended)
===========  ===========================================  ===================================================
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

log = Logger()


class EngineConnection:
    """Keeps the engine connected.

    :param open_link: makes a connection and registers; gives the welcome.
    :param give_up_after: seconds without a controller after which ``run`` ends with an error.
    """

    def __init__(
        self,
        open_link: Callable[[], Awaitable[messages.Welcome]],
        end: EngineEnd,
        clock: IReactorTime,
        give_up_after: float,
    ) -> None:
        self._open_link = open_link
        self._end = end
        self._clock = clock
        self._give_up_after = give_up_after
        self._pauses = Pauses(clock)

    async def run(self, on_registered: Callable[[messages.Welcome], None]) -> None:
        """Stay connected; returns when the engine is to stop.

        :raises KernelError: when the first attempt fails, or the controller is gone for too long.
        """
        welcome = await self._open_link()
        while not self._end.stopping:
            self._pauses.connected()
            on_registered(welcome)
            reason = await self._end.lost
            if self._end.stopping:
                return
            log.info("the controller is out of reach: {reason}", reason=reason)
            welcome = await self._connect_again()

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
