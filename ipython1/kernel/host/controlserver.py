"""The side of a control connection that carries out orders; see :mod:`ipython1.kernel.host.control`."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorTCP, IReactorUNIX
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from ipython1.daemon.handover import take
from ipython1.daemon.link import adopt_connection
from ipython1.kernel.basics.error import KernelError, ProtocolError
from ipython1.kernel.host.control import (
    choose_socket_path,
    decode,
    encode,
    error_to_wire,
    line_buffer,
    note_socket_path,
    remove_socket,
    write_place,
)
from ipython1.system import LOOPBACK, UNIX_SOCKETS, new_token

Order: TypeAlias = Callable[..., Coroutine[Any, Any, Any]]


class ControlConnection(Protocol):
    """One connection that gives orders.

    :param on_end: called when it closes.
    :param secret: what must be shown first; empty if nothing must.
    """

    log: Logger = Logger()

    def __init__(
        self,
        server: ControlServer,
        on_end: Callable[[], object] = lambda: None,
        secret: str = "",
    ) -> None:
        self._server = server
        self._secret = f"{secret}\n".encode() if secret else b""
        self._shown = b""
        self._on_end = on_end
        self._lines = line_buffer()
        self.watching: bool = False

    def dataReceived(self, data: bytes) -> None:
        if self._secret:
            self._shown += data
            shown, data = self._shown[: len(self._secret)], self._shown[len(self._secret) :]
            if len(shown) < len(self._secret):
                return
            if not hmac.compare_digest(shown, self._secret):
                if self.transport is not None:
                    self.transport.loseConnection()
                return
            self._secret = self._shown = b""
        try:
            for line in self._lines.feed(data):
                self._take(decode(line))
        except ProtocolError as problem:
            self.send({"id": 0, "error": error_to_wire(problem)})
            if self.transport is not None:
                self.transport.loseConnection()

    def _take(self, request: dict[str, Any]) -> None:
        number, do = request.pop("id", 0), str(request.pop("do", ""))
        if do == "watch":
            self.watching = bool(request.get("on", True))
            self.send({"id": number, "value": None})
            return
        if do == "detach":
            self._on_end = lambda: None
            self.send({"id": number, "value": None})
            return
        order = self._server.orders.get(do)
        if order is None:
            self.send({"id": number, "error": ["ProtocolError", f"there is no order {do!r}"]})
            return

        def answer(value: Any) -> None:
            self.send({"id": number, "value": value})

        def refuse(failure: Failure) -> None:
            problem = failure.value
            if not isinstance(problem, (KernelError, TypeError, ValueError)):
                self.log.failure("the order {do} failed", failure, do=do)
            assert problem is not None
            self.send({"id": number, "error": error_to_wire(problem)})

        try:
            done = Deferred.fromCoroutine(order(**request))
        except TypeError as problem:
            self.send({"id": number, "error": error_to_wire(problem)})
            return
        done.addCallbacks(answer, refuse)

    def send(self, content: dict[str, Any]) -> None:
        """Send a message."""
        if self.transport is not None and self.connected:
            self.transport.write(encode(content))

    def connectionMade(self) -> None:
        self._server.connections.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._server.connections.discard(self)
        self._on_end()


class ControlServer(Factory):
    """All connections that give orders to this process.

    :param orders: what may be ordered, by name: coroutine functions whose keyword arguments come from the other side.
    """

    noisy = False

    def __init__(self, orders: Mapping[str, Order]) -> None:
        self.orders = orders
        self.connections: set[ControlConnection] = set()
        self._port: Any = None
        self._secret = ""

    def buildProtocol(self, addr: object) -> ControlConnection:
        return ControlConnection(self, secret=self._secret)

    def listen(self, reactor: Any, path: Path) -> None:
        """Take orders at a socket of that name, which is replaced."""
        path.unlink(missing_ok=True)
        if not UNIX_SOCKETS:
            self._secret = new_token()
            self._port = reactor.listenTCP(0, self, interface=LOOPBACK)
            write_place(path, self._port.getHost().port, self._secret)
            return
        # The directory is private; the mode of the socket itself says the same to those who look.
        self._port = reactor.listenUNIX(str(path), self, mode=0o600)

    def adopt_owner(self, reactor: Any, number: int, on_end: Callable[[], object]) -> None:
        """Take orders from the process that has started this one; ``on_end`` is called when its side ends.

        :param number: see :func:`ipython1.daemon.handover.take`.
        """
        connection = take(number)
        adopt_connection(reactor, connection, ControlConnection(self, on_end))

    def tell(self, content: dict[str, Any]) -> None:
        """Send an event to those who watch."""
        for connection in list(self.connections):
            if connection.watching:
                connection.send(content)

    def close(self) -> Deferred[None]:
        """End all connections and listen no more."""
        for connection in list(self.connections):
            if connection.transport is not None:
                connection.transport.loseConnection()
        port, self._port = self._port, None
        done: Deferred[None] = Deferred()
        stopping = port.stopListening() if port is not None else None
        if stopping is None:
            done.callback(None)
        else:
            stopping.addBoth(lambda _: done.callback(None))
        return done


class ControlSocket:
    """A control server at a socket of its own."""

    log: Logger = Logger()

    def __init__(self, server: ControlServer, path: Path, wanted: Path) -> None:
        self._server = server
        self._path = path
        self._wanted = wanted

    @classmethod
    def open(cls, reactor: Any, wanted: Path, orders: Mapping[str, Order]) -> ControlSocket | None:
        """Take orders at ``wanted``, or near it; None where that is impossible, which the log says."""
        if not (IReactorUNIX if UNIX_SOCKETS else IReactorTCP).providedBy(reactor):
            return None
        server = ControlServer(orders)
        try:
            path = choose_socket_path(wanted)
            server.listen(reactor, path)
            note_socket_path(path, wanted)
        except (CannotListenError, KernelError, OSError) as problem:
            cls.log.warn("no orders are taken at {path}: {problem}", path=wanted, problem=problem)
            return None
        return cls(server, path, wanted)

    async def close(self) -> None:
        """End all connections, and remove the socket."""
        await self._server.close()
        remove_socket(self._path, self._wanted)
