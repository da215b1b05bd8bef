"""Room on a link: whether what is sent now leaves this process soon, and a call when it does again.

Who has much to send asks ``has_room`` before each piece and, where there is none, waits with ``when_room``.  Thus a
party that reads slowly is sent slowly, and what waits for it stays where it comes from.  Small frames that steer
something are sent regardless.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from twisted.logger import Logger

log: Logger = Logger()

HIGH_WATER: Final = 1024 * 1024
"""Bytes written that the operating system has not taken: beyond this there is no room until all are taken.

The operating system itself still holds some when it has taken all, so the network is never idle for that.
"""


class Room(Protocol):
    """Something that can be written to as long as there is room."""

    @property
    def has_room(self) -> bool:
        """Whether more may be written now."""

    def when_room(self, call: Callable[[], None]) -> None:
        """Call ``call`` once, as soon as there is room, which may be at once; never after the connection is lost."""


class RoomQueue:
    """Those that wait for room on one link, and get it in turn.

    :param call_soon: calls something in a later turn.
    """

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._call_soon = call_soon
        self._transport: Room | None = None
        self._waiting: deque[Callable[[], None]] = deque()
        self._asked = False

    def attach(self, transport: Room) -> None:
        """There is room when ``transport`` has it; before, there is none."""
        self._transport = transport
        self._ask()

    def detach(self) -> None:
        """The connection is lost; nobody will get room any more."""
        self._transport = None
        self._waiting.clear()

    @property
    def has_room(self) -> bool:
        """Whether more may be written now."""
        return self._transport is not None and self._transport.has_room

    def add(self, call: Callable[[], None]) -> None:
        """Call ``call`` once, in a later turn, when there is room and those that wait already have had theirs."""
        self._waiting.append(call)
        self._ask()

    def _ask(self) -> None:
        if self._waiting and not self._asked and self._transport is not None:
            self._asked = True
            self._transport.when_room(self._soon)

    def _soon(self) -> None:
        self._call_soon(self._give)

    def _give(self) -> None:
        self._asked = False
        # Whoever waits again for more waits behind the others.
        for _ in range(len(self._waiting)):
            if not self.has_room or not self._waiting:
                break
            call = self._waiting.popleft()
            try:
                call()
            except Exception:
                log.failure("sending to a party that can be sent to again failed")
        self._ask()
