"""Connecting to a Tub that may be at several places: Foolscap's TubConnector, one attempt after the other.

The places are tried in the given order.  The next one begins when one has failed, or after a quarter of a second, so
that a place that does not answer delays nobody, and one that answers is not connected to twice.  The first that proves
to be the Tub ends the other attempts.  (RFC 8305 calls this happy eyeballs.)

===========  ====================================  ==============================================================
a place      event                                 becomes
===========  ====================================  ==============================================================
later        it is the first                       tried
later        another one failed                    tried
later        the last one began 0.25 s ago         tried
tried        the Tub has answered there            the one that is used; all others are given up
tried        it has failed                         failed; when nothing is tried or later, so has the connector
===========  ====================================  ==============================================================
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from foolscap.connection import TubConnector
from foolscap.ipb import IConnectionHintHandler, InvalidHintError
from twisted.internet import endpoints, reactor
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from ipython1.kernel.host import addresses

STAGGER = 0.25
"""Seconds after which the next place is tried as well."""


class AttemptsFailed(Exception):
    """No location hint led to the Tub; ``failures`` maps each to its Failure."""

    def __init__(self, failures: dict[str, Failure]) -> None:
        super().__init__(", ".join(failures))
        self.failures = failures


class KernelConnector(TubConnector):
    """See the module's docstring; it remembers the result of each hint."""

    clock: IReactorTime = reactor

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.failures: dict[str, Failure] = {}
        self._later = deque(self.remainingLocations)
        self.remainingLocations: list[str] = []
        self._timer: IDelayedCall | None = None

    def connectToAll(self) -> None:
        self._try_next()

    def _try_next(self) -> None:
        self._stop_timer()
        if self._later:
            self.remainingLocations = [self._later.popleft()]
            if self._later:
                self._timer = self.clock.callLater(STAGGER, self._time_is_up)
        super().connectToAll()

    def _time_is_up(self) -> None:
        self._timer = None
        self._try_next()

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def checkForFailure(self) -> None:
        if not self._later:
            super().checkForFailure()

    def _connectionFailed(self, reason: Failure, hint: str, lp: Any) -> None:
        self._failed_at(hint, reason)
        super()._connectionFailed(reason, hint, lp)

    def connectorNegotiationFailed(self, n: Any, location: str, reason: Failure) -> None:
        self._failed_at(location, reason)
        super().connectorNegotiationFailed(n, location, reason)

    def _failed_at(self, hint: str, reason: Failure) -> None:
        self.failures[hint] = reason
        if self._later:
            self._try_next()

    def cancelRemainingConnections(self) -> None:
        self._later.clear()
        self._stop_timer()
        # Closing TLS in the middle of its handshake would wait for the peer without a time limit.
        for negotiation in self.pendingNegotiations:
            negotiation.transport.abortConnection()
        super().cancelRemainingConnections()

    def failed(self) -> None:
        self.failureReason = Failure(AttemptsFailed(self.failures))
        self.tub.connectorFinished(self)  # before the waiting callers are notified
        super().failed()


@implementer(IConnectionHintHandler)  # type: ignore[misc]
class TCPHints:
    """Connects to ``tcp:host:port``; for an address without a name resolver and thus without a thread."""

    def hint_to_endpoint(
        self, hint: str, reactor: Any, update_status: Callable[[str], None]
    ) -> tuple[Any, str]:
        address, _, port = hint.removeprefix("tcp:").rpartition(":")
        if not (address and port.isdecimal()):
            raise InvalidHintError("it must have the form tcp:host:port")
        host = address.strip("[]")
        if not addresses.is_ip(host):
            return endpoints.HostnameEndpoint(reactor, host, int(port)), host
        kind = endpoints.TCP6ClientEndpoint if ":" in host else endpoints.TCP4ClientEndpoint
        return kind(reactor, host, int(port)), host

    def describe(self) -> str:
        return "tcp"
