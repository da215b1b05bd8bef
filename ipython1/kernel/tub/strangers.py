"""Limits on connections that have not yet named a capability.

A Tub's id is not secret, so anyone who reaches the port can ask for a reference by name.  Until a connection has
named one that exists, it is a stranger: it has a deadline, and the number of strangers is limited.

=========  ==================================================  =====================================
state      event                                               becomes
=========  ==================================================  =====================================
(new)      ``arrived``                                         stranger; the oldest goes at the cap
stranger   ``left``: it named a capability, or its             forgotten
           connection was lost
stranger   its deadline                                        dropped
=========  ==================================================  =====================================

At the cap the oldest stranger is dropped, not the newcomer: an honest peer needs only milliseconds, so a flood of
idle connections never locks it out.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final, Protocol

from twisted.internet.interfaces import IDelayedCall

from ipython1.kernel.host.openfiles import OTHER_FILES, file_limit

PATIENCE = 10.0
"""Seconds that a stranger has to name a capability."""

MOST_STRANGERS = 2048
"""The maximum number of strangers at a time; lower if the process may open only few files."""


FEWEST: Final = 16
"""The maximum where hardly any files are left."""


class Clock(Protocol):
    """The part of a reactor that is used here."""

    def callLater(self, delay: float, function: Callable[[], object], /) -> IDelayedCall: ...


class Doorkeeper:
    """Limits the strangers of one listening port.

    :param clock: the reactor, or a ``task.Clock``.
    :param most: the cap; None for the default, which leaves half of the process's files to trusted connections, and
        takes none that these need.
    :param patience: the deadline in seconds.
    :param connections: gives the number of all connections, those of strangers among them.
    """

    def __init__(
        self,
        clock: Clock,
        most: int | None = None,
        patience: float = PATIENCE,
        connections: Callable[[], int] = lambda: 0,
    ) -> None:
        self._clock = clock
        self._most = most
        self._patience = patience
        self._connections = connections
        self._strangers: dict[Hashable, tuple[Callable[[], object], IDelayedCall]] = {}

    def __len__(self) -> int:
        return len(self._strangers)

    def arrived(self, stranger: Hashable, drop: Callable[[], object]) -> None:
        """Register an accepted connection; ``drop`` closes it immediately."""
        if len(self._strangers) >= self._cap():
            self._drop(next(iter(self._strangers)))
        timer = self._clock.callLater(self._patience, lambda: self._drop(stranger))
        self._strangers[stranger] = (drop, timer)

    def _cap(self) -> int:
        if self._most is not None:
            return self._most
        limit = file_limit()
        trusted = self._connections() - len(self._strangers)
        return min(MOST_STRANGERS, max(FEWEST, min(limit // 2, limit - OTHER_FILES - trusted)))

    def left(self, stranger: Hashable) -> None:
        """Forget a connection that is trusted or lost; unknown ones are ignored."""
        _, timer = self._strangers.pop(stranger, (None, None))
        if timer is not None and timer.active():
            timer.cancel()

    def close(self) -> None:
        """Drop every stranger."""
        for stranger in list(self._strangers):
            self._drop(stranger)

    def _drop(self, stranger: Hashable) -> None:
        drop, _ = self._strangers[stranger]
        self.left(stranger)
        drop()
