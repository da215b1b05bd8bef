"""Foolscap's Tub, Negotiation, Listener and TubConnector with the limits that this kernel needs.

Only :mod:`ipython1.kernel.tub.tubs` imports this module, and does so late, because Foolscap imports the reactor.

Differences from stock Foolscap: TLS 1.3 only, with one context for all connections of a Tub; the operating system
detects dead peers (:mod:`ipython1.kernel.host.sockets`); connections are aborted if the peer does not close its side;
accepted connections are strangers (:mod:`ipython1.kernel.tub.strangers`) until they name a capability; no FURL ever
crosses the wire or reaches a log; tables keyed by the peer's certificate stay small; a failed connection attempt
reports the result of each location hint and leaves nothing behind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import Any

from foolscap import crypto
from foolscap.logging import log as foolscap_log
from foolscap.negotiate import PLAINTEXT, Negotiation
from foolscap.pb import Tub
from foolscap.referenceable import TubRef
from foolscap.tokens import BananaError
from twisted.internet import defer, error, ssl, task, tcp
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from ipython1.kernel.host import addresses, sockets
from ipython1.kernel.tub import tlsstream
from ipython1.kernel.tub.connector import PATIENCE, KernelConnector, TCPHints
from ipython1.kernel.tub.fastbroker import FastBroker
from ipython1.kernel.tub.pipes import PipeHints, Starter
from ipython1.kernel.tub.transportroom import DEAF_WATER, TransportRoom
from ipython1.kernel.tub.wholewrites import Gathered

log: Logger = Logger()

STRANGER_LIMIT = 64 * 1024
WRONG_NAMES = 8
PEERS_REMEMBERED = 1024
WATCH_INTERVAL = sockets.DEAD_AFTER / sockets.PeerWatch.INTERVALS

# Foolscap's log messages are dropped; formatting them costs more than the rest of a negotiation.
for _facility in ("negotiation", "connection", "listener", "tub"):
    foolscap_log.set_generation_threshold(foolscap_log.SCARY, f"foolscap.{_facility}")


class OtherTub(BananaError):
    """The program that listens there has a different certificate from the one in the FURL."""


class NotFoolscap(BananaError):
    """The program that listens there speaks another protocol."""


class ContextFactory(crypto.FoolscapContextFactory):
    """TLS 1.3 with Foolscap's check of the peer's certificate, made once."""

    _made: Any = None

    def getContext(self) -> Any:
        if self._made is None:
            self._made = super().getContext()
        return self._made


class StrangerBroker(FastBroker):
    """The Broker of an accepted connection, which may send only little until it has named a capability.

    :param leave: called once, when it has done so or is gone.
    """

    message_limit: int = STRANGER_LIMIT

    def __init__(self, *args: Any, leave: Callable[[], object], **kwargs: Any) -> None:
        self._leave = leave
        self._wrong_names = 0
        self.trusted: bool = False
        super().__init__(*args, **kwargs)
        self.room: TransportRoom = TransportRoom(DEAF_WATER)

    def remote_getReferenceByName(self, name: bytes) -> Any:
        try:
            found = super().remote_getReferenceByName(name)
        except Exception:
            self._wrong_names += 1
            if self._wrong_names >= WRONG_NAMES and not self.trusted:
                self.abort("it asked for too many names that do not exist")
            raise
        if not self.trusted:
            self.trusted = True
            self.message_limit = FastBroker.message_limit
            self._leave()
        return found

    def reportReceiveError(self, f: Failure) -> None:
        if self.trusted:
            super().reportReceiveError(f)
        else:
            log.info("dropped an unauthenticated connection from {peer}", peer=self.peer_name())
            self._abort_transport()

    def connectionLost(self, why: Failure = connectionDone) -> None:
        self._leave()
        super().connectionLost(why)


class KernelNegotiation(Negotiation):
    """Also registers the open connections of its Tub."""

    SERVER_TIMEOUT = 0  # the listener's Doorkeeper has a deadline for all phases
    _books: KernelTub
    transport: Any
    tub: Any
    brokerClass: Any

    def log(self, *args: Any, **kwargs: Any) -> int:
        return 0

    def initClient(self, connector: Any, targetHost: str, connectionInfo: Any) -> None:
        super().initClient(connector, targetHost, connectionInfo)
        self._books = connector.tub

    def initServer(self, listener: Any, connectionInfo: Any) -> None:
        super().initServer(listener, connectionInfo)
        self._books = listener._tub

    def connectionMade(self) -> None:
        self._books.connection_opened(self)
        sockets.tune(self.transport.socket)
        if not self.isClient:
            self.listener.doorkeeper.arrived(self, self.transport.abortConnection)
        super().connectionMade()

    def sendBlock(self, block: dict[str, Any]) -> None:
        transport = self.transport
        self.transport = gathered = Gathered(transport)
        try:
            super().sendBlock(block)
        finally:
            self.transport = transport
            gathered.flush()

    def dataReceived(self, chunk: bytes) -> None:
        # Stock code keeps everything that a peer sends after it was refused.
        if self.failureReason is not None:
            return
        if self.isClient and self.receive_phase == PLAINTEXT:
            begin = (self.buffer + chunk)[:5]
            if not b"HTTP/".startswith(begin):
                self.failureReason: Failure = Failure(
                    NotFoolscap("it does not answer as Foolscap does")
                )
        if self.failureReason is None:
            super().dataReceived(chunk)
        if self.isClient and self.failureReason is not None:
            # Abort, as there is nothing left to send and closing TLS would wait for the other side.
            self.transport.abortConnection()

    def handlePLAINTEXTClient(self, header: bytes) -> None:
        first = header.split(b"\r\n", 1)[0]
        if first.split()[1:2] != [b"101"]:
            if b"unknown TubID" in first:
                raise OtherTub("it does not know this identity")
            raise NotFoolscap("it answers like a web server")
        super().handlePLAINTEXTClient(header)

    def evaluateHello(self, offer: dict[str, str]) -> Any:
        # Stock code also compares the certificate with the FURL, but its error cannot be told from others.
        if self.isClient:
            them = self.theirCertificate
            if them is None or crypto.digest32(them.digest("sha1")) != self.target.getTubID():
                raise OtherTub("it has another certificate")
        return super().evaluateHello(offer)

    def startTLS(self, cert: Any) -> None:
        if self.buffer:
            # Stock code would treat it as the beginning of the encrypted data.
            raise NotFoolscap("it sent extra data before TLS")
        # An adopted socket counts as a server's.
        switched = self.isClient and isinstance(self.transport, tcp.Server)
        self.transport.startTLS(self.tub.context_factory, normal=not switched)
        tlsstream.write_through(self.transport)

    def switchToBanana(self, params: Any) -> None:
        if not self.isClient:
            leave = partial(self.listener.doorkeeper.left, self)
            self.brokerClass = partial(self.tub.accepted_broker_class, leave=leave)
        try:
            super().switchToBanana(params)
        finally:
            # From now on the transport notifies the Broker instead of this object.
            lost = self.connectionLost

            def connection_lost(reason: Failure = connectionDone) -> None:
                lost(reason)
                self._books.connection_closed(self)

            self.connectionLost = connection_lost  # type: ignore[method-assign]
            # It lives as long as the connection, and is done.
            self.theirCertificate: Any = None
            self.negotiationOffer: dict[str, str] = {}

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.isClient:
            self.listener.doorkeeper.left(self)
        super().connectionLost(reason)
        self._books.connection_closed(self)


class _Sequence(dict[str, int]):
    """Replaces Foolscap's table of each peer's last connection number.

    The only requirement is that a peer's numbers increase, so one counter serves all peers.
    """

    _latest = 0

    def get(self, key: str, default: Any = None) -> int:
        return self._latest

    def __setitem__(self, key: str, value: int) -> None:
        self._latest = value


class _Latest(dict[str, Any]):
    """Keeps the newest :data:`PEERS_REMEMBERED` entries."""

    def __setitem__(self, key: str, value: Any) -> None:
        self.pop(key, None)
        super().__setitem__(key, value)
        if len(self) > PEERS_REMEMBERED:
            del self[next(iter(self))]


class KernelTub(Tub):
    """See the module's docstring; created by :func:`ipython1.kernel.tubs.make_tub`."""

    brokerClass = FastBroker
    accepted_broker_class: type[FastBroker] = StrangerBroker
    negotiationClass = KernelNegotiation
    unsafeTracebacks = False
    # No keepalive messages: a process that is busy in C code cannot answer them, but its operating system can
    # (sockets.tune).
    keepaliveTimeout: Any = None
    disconnectTimeout: Any = None

    def setup(self, _test_options: dict[str, Any]) -> None:
        super().setup(_test_options)
        self.setOption("accept-gifts", False)
        self.setOption("expose-remote-exception-types", False)
        self.master_table: _Sequence = _Sequence()
        self.slave_table: _Latest = _Latest()
        self._connectionHandlers: dict[str, Any] = {"tcp": TCPHints()}
        self.patience: float = PATIENCE
        self.in_order: Callable[[Sequence[tuple[str, int]]], Sequence[tuple[str, int]]]
        self.in_order = addresses.in_order
        self._open: set[object] = set()
        self._all_closed: defer.Deferred[None] | None = None
        self._reaching: Counter[TubRef] = Counter()
        self._watches: dict[Any, sockets.PeerWatch] = {}
        self._watching: task.LoopingCall | None = None

    def setupEncryption(self, certData: bytes) -> None:
        super().setupEncryption(certData)
        self.context_factory: ContextFactory = ContextFactory(
            privateKey=self.myCertificate.privateKey.original.to_cryptography_key(),
            certificate=self.myCertificate.original.to_cryptography(),
            raiseMinimumTo=ssl.TLSVersion.TLSv1_3,
        )
        self.context_factory.getContext()  # reports a key that does not match

    def getOrCreateURLForReference(self, ref: Any) -> None:
        """Return None: peers do not need FURLs of objects to which they hold references."""

    def startService(self) -> None:
        if not self.running:  # stock code breaks if it is called twice
            super().startService()

    # Open connections

    @property
    def open_connections(self) -> int:
        """How many sockets are connected."""
        return len(self._open)

    def connection_opened(self, connection: object) -> None:
        """Register a connected or accepted socket."""
        self._open.add(connection)

    def connection_closed(self, connection: object) -> None:
        """Unregister a connection whose socket is closed."""
        self._open.discard(connection)
        self._tell_if_all_closed()

    def connectorFinished(self, c: Any) -> None:
        super().connectorFinished(c)
        self._tell_if_all_closed()

    def _tell_if_all_closed(self) -> None:
        if not self._open and not self._activeConnectors and self._all_closed is not None:
            done, self._all_closed = self._all_closed, None
            done.callback(None)

    def all_closed(self) -> defer.Deferred[None]:
        """Return a Deferred that fires when no socket is open and no connection attempt is in progress."""
        if not self._open and not self._activeConnectors:
            return defer.succeed(None)
        if self._all_closed is None:
            self._all_closed = defer.Deferred()
        waiting: defer.Deferred[None] = defer.Deferred()
        self._all_closed.chainDeferred(waiting)
        return waiting

    # Busy peers

    def brokerAttached(self, tubref: TubRef, broker: Any, isClient: bool) -> None:
        super().brokerAttached(tubref, broker, isClient)
        sock = getattr(broker.transport, "socket", None)
        if sock is not None:
            self._watches[broker] = sockets.PeerWatch(sock)
        if self._watching is None:
            self._watching = task.LoopingCall(self._look_at_peers)
            self._watching.start(WATCH_INTERVAL, now=False)

    def brokerDetached(self, broker: Any, why: Failure) -> None:
        super().brokerDetached(broker, why)
        self._watches.pop(broker, None)
        if not self.brokers and self._watching is not None:
            self._watching.stop()
            self._watching = None

    def _look_at_peers(self) -> None:
        now = monotonic()
        for broker, watch in list(self._watches.items()):
            if not watch.look(now):
                log.warn(
                    "the host of {peer} does not answer; closing the connection",
                    peer=broker.peer_name(),
                )
                broker.abort(f"its host did not answer for {sockets.DEAD_AFTER:g} s")

    # Connecting

    def connect_through(self, start: Starter, patience: float) -> None:
        """Make all connections through programs, and to the places in the order of the FURL.

        :param patience: seconds after which the next place is tried as well.
        """
        self._connectionHandlers = {"tcp": PipeHints(start)}
        self.patience = patience
        self.in_order = list

    async def reach(self, tubref: TubRef, name: str) -> Any:
        """Get the reference with this name from this Tub; cancellation and failure leave nothing behind."""
        self._reaching[tubref] += 1
        waiting = self.getBrokerForTubRef(tubref)
        try:
            broker = await waiting
            return await broker.getYourReferenceByName(name)
        finally:
            self._stop_waiting(tubref, waiting)
            self._reaching[tubref] -= 1
            if not self._reaching[tubref]:
                del self._reaching[tubref]
                self._leave_unused(tubref)

    def _stop_waiting(self, tubref: TubRef, waiting: object) -> None:
        hopeful = self.waitingForBrokers.get(tubref, [])
        if waiting in hopeful:
            hopeful.remove(waiting)
            if not hopeful:
                del self.waitingForBrokers[tubref]
                connector = self.tubConnectors.pop(tubref, None)
                if connector is not None:
                    connector.shutdown()

    def _leave_unused(self, tubref: TubRef) -> None:
        broker = self.brokers.get(tubref)
        if broker is not None and not broker.yourReferenceByCLID and not broker.myReferenceByCLID:
            broker.shutdown(Failure(error.ConnectionDone("the connection is unused")))

    def getBrokerForTubRef(self, tubref: TubRef) -> defer.Deferred[Any]:
        ready = tubref in self.brokers or tubref.getTubID() == self.tubID
        if not ready and tubref not in self.tubConnectors:
            connector = KernelConnector(self, tubref, self._connectionHandlers)
            self.tubConnectors[tubref] = connector
            waiting: defer.Deferred[Any] = defer.Deferred()
            self.waitingForBrokers.setdefault(tubref, []).append(waiting)
            connector.connect()
            return waiting
        found: defer.Deferred[Any] = super().getBrokerForTubRef(tubref)
        return found

    def attempt_status(self, tub_id: str) -> dict[str, str]:
        """Return the status of each location hint of a connection attempt in progress."""
        connector = self.tubConnectors.get(TubRef(tub_id))
        return {} if connector is None else connector.getConnectionInfo().connectorStatuses

    async def close(self) -> None:
        """Close every listener and connection; return when all sockets are closed."""
        for listener in self.getListeners():
            await defer.maybeDeferred(self.stopListeningOn, listener)
            listener.doorkeeper.close()
        if self.running:
            await self.stopService()
        await self.all_closed()
