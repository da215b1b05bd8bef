"""Telling the user soon which hosts' engines cannot reach the controller, while they still try."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from ipython1.kernel.basics.error import KernelError

WAITS: Final = "waiting for the controller for up to"
REGISTERED: Final = "registered as engine"
"""What an engine's log says."""

MOMENTS: Final = (4.0, 17.0, 32.0)
"""Seconds after its start at which an engine's log is read: after an attempt that was refused, and slow ones."""

LINES: Final = 5


def why_it_waits(lines: list[str]) -> str:
    """Return why an engine waits for the controller, by the last lines of its log; empty if it does not."""
    told = [line for line in lines if WAITS in line or REGISTERED in line]
    if not told or REGISTERED in told[-1]:
        return ""
    return told[-1].partition(WAITS)[2].partition(": ")[2]


class WaitNotes:
    """Looks at the logs of one engine per host.

    :param read_log: gives the last lines of an engine's log, by its id.
    :param say: takes lines for the user.
    """

    def __init__(
        self,
        clock: Any,
        read_log: Callable[[int, int], Awaitable[list[str]]],
        say: Callable[[str], None],
    ) -> None:
        self._clock = clock
        self._read_log = read_log
        self._say = say
        self._calls: dict[str, list[IDelayedCall]] = {}

    def started(self, host: str, engine_id: int) -> None:
        """An engine was started; the first one of its host since :meth:`forget` is looked at."""
        if host not in self._calls:
            self._calls[host] = [
                self._clock.callLater(moment, self._begin_to_look, host, engine_id)
                for moment in MOMENTS
            ]

    def forget(self, host: str) -> None:
        """The engines of a host are gone, or need not be looked at any more."""
        for call in self._calls.pop(host, []):
            if call.active():
                call.cancel()

    def close(self) -> None:
        """Look at nothing any more."""
        for host in list(self._calls):
            self.forget(host)

    def _begin_to_look(self, host: str, engine_id: int) -> None:
        Deferred.fromCoroutine(self._look(host, engine_id))

    async def _look(self, host: str, engine_id: int) -> None:
        try:
            reason = why_it_waits(await self._read_log(engine_id, LINES))
        except KernelError:
            return
        if reason and host in self._calls:
            for call in self._calls[host]:
                if call.active():
                    call.cancel()
            self._say(f"engine {engine_id} on {host} cannot reach the controller: {reason}")
