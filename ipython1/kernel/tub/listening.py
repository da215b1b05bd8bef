"""Listening at one port of one or several addresses, IPv4 and IPv6.

Only :mod:`ipython1.kernel.tub.tubs` and its parts import this module, and do so late, because it imports the reactor.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from typing import Any

from foolscap.pb import Listener
from twisted.application.service import Service
from twisted.internet import defer, endpoints
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorSocket, IStreamServerEndpoint
from zope.interface import implementer

from ipython1.kernel.host.addresses import IPV6_EVERYWHERE
from ipython1.kernel.tub.strangers import Doorkeeper

BACKLOG = 1024

ATTEMPTS = 20
"""How many free ports are tried until one is free at all addresses."""

_NO_IPV6 = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}


class KernelListener(Listener):
    """A Listener that reports whether it can listen, and has a Doorkeeper."""

    noisy = False

    def __init__(self, tub: Any, endpoint: Any, doorkeeper: Doorkeeper) -> None:
        super().__init__(tub, endpoint, negotiationClass=tub.negotiationClass)
        self.doorkeeper = doorkeeper

    def startService(self) -> None:
        Service.startService(self)

    async def open(self) -> int:
        """Listen and return the port.

        :raises twisted.internet.error.CannotListenError: if the port is in use or not permitted.
        """
        port: Any = await self._ep.listen(self)
        self._lp = port
        return int(port.getHost().port)

    async def close(self) -> None:
        """Stop listening; nothing else may have been done with it."""
        port, self._lp = self._lp, None
        if port is not None:
            await defer.maybeDeferred(port.stopListening)


@implementer(IStreamServerEndpoint)
class IPv6Endpoint:
    """Listens for IPv6 alone; an endpoint of Twisted may take the port for IPv4, too."""

    def __init__(self, reactor: Any, port: int, ip: str) -> None:
        self._reactor = reactor
        self._port = port
        self._ip = ip

    def listen(self, factory: Any) -> defer.Deferred[Any]:
        return defer.execute(self._listen, factory)

    def _listen(self, factory: Any) -> Any:
        if not IReactorSocket.providedBy(self._reactor):  # Windows, where IPv6 is alone anyway
            return self._reactor.listenTCP(self._port, factory, BACKLOG, self._ip)
        try:
            with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                if os.name == "posix":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((self._ip, self._port))
                sock.listen(BACKLOG)
                sock.setblocking(False)
                return self._reactor.adoptStreamPort(sock.fileno(), socket.AF_INET6, factory)
        except OSError as problem:
            raise CannotListenError(self._ip, self._port, problem) from None


def _endpoint(reactor: Any, ip: str, port: int) -> Any:
    if ":" in ip:
        return IPv6Endpoint(reactor, port, ip)
    return endpoints.TCP4ServerEndpoint(reactor, port, BACKLOG, ip)


async def open_listeners(
    tub: Any, ips: Sequence[str], port: int, doorkeeper: Doorkeeper, reactor: Any
) -> tuple[list[KernelListener], int]:
    """Listen at one port of several addresses.

    :param ips: the addresses; all of IPv6 does not matter on a host that has none.
    :param port: 0 for any free port.
    :returns: what listens, and its port.
    :raises twisted.internet.error.CannotListenError: if the port is in use or not permitted.
    """
    attempts = ATTEMPTS if port == 0 and len(ips) > 1 else 1
    while True:
        opened: list[KernelListener] = []
        found = port
        try:
            for ip in ips:
                listener = KernelListener(tub, _endpoint(reactor, ip, found), doorkeeper)
                try:
                    found = await listener.open()
                except CannotListenError as problem:
                    if not (opened and ip == IPV6_EVERYWHERE and _number(problem) in _NO_IPV6):
                        raise
                else:
                    opened.append(listener)
        except CannotListenError as problem:
            for listener in opened:
                await listener.close()
            attempts -= 1
            if _number(problem) != errno.EADDRINUSE or not attempts:
                raise
        else:
            return opened, found


def _number(problem: CannotListenError) -> int | None:
    number: int | None = getattr(problem.socketError, "errno", None)
    return number
