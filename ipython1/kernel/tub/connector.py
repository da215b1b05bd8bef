"""Connecting to a Tub that may be at several places: Foolscap's TubConnector, one attempt after the other.

The places are tried in the given order.  The next one begins when one has failed, and if the host of the last one has
not answered for a quarter of a second, so that hosts that are out of reach delay nobody.  Where a host has accepted the
connection the Tub is most likely there; it has much longer, as it may have a thousand others to serve, and further
attempts of all of these would be the last thing it needs.  The first place that proves to be the Tub's ends the other
attempts.  (RFC 8305 calls this happy eyeballs.)

===========  ======================================  ============================================================
a place      event                                   becomes
===========  ======================================  ============================================================
later        it is the first                         tried
later        another one failed                      tried
later        the last one began 0.25 s ago           tried
later        one accepted the connection 10 s ago    tried
tried        the Tub has answered there              the one that is used; all others are given up
tried        it has failed                           failed; when nothing is tried or later, so has the connector
===========  ======================================  ============================================================
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
"""Seconds without an answer of a host after which the next place is tried as well."""

PATIENCE = 10.0
"""The same for a host that has accepted the connection."""


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
        if self._later:
            self.remainingLocations = [self._later.popleft()]
        self._try_next_after(STAGGER)
        super().connectToAll()

    def _try_next_after(self, seconds: float) -> None:
        self._stop_timer()
        if self._later:
            self._timer = self.clock.callLater(seconds, self._time_is_up)

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

    def _connectionSuccess(self, p: Any, hint: str, lp: Any) -> None:
        super()._connectionSuccess(p, hint, lp)
        self._try_next_after(self.tub.patience)

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
        self.failureReason: Failure = Failure(AttemptsFailed(self.failures))
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
