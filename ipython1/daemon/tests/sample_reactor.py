"""A small program that uses the reactor, for the nanny's tests; the nanny's template has imported it."""

from __future__ import annotations

from collections.abc import Sequence

from ipython1.daemon.ready import take_pipe


def main(argv: Sequence[str]) -> int:
    """Use the reactor's timers, threads and sockets in this process."""
    from twisted.internet import protocol, reactor, threads  # type: ignore[attr-defined]
    from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol

    outcome: list[str] = []

    class Echo(protocol.Protocol):
        def dataReceived(self, data: bytes) -> None:
            assert self.transport is not None
            self.transport.write(data)

    class Ask(protocol.Protocol):
        def connectionMade(self) -> None:
            assert self.transport is not None
            self.transport.write(b"hello")

        def dataReceived(self, data: bytes) -> None:
            outcome.append(data.decode())
            threads.deferToThread(lambda: outcome.append("thread")).addCallback(
                lambda _: reactor.stop()
            )

    factory = protocol.Factory.forProtocol(Echo)

    def listening(port: object) -> object:
        address = port.getHost()  # type: ignore[attr-defined]
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", address.port)
        return connectProtocol(endpoint, Ask())

    endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    reactor.callLater(0.01, lambda: endpoint.listen(factory).addCallback(listening))
    reactor.callLater(20, reactor.stop)
    reactor.run()
    take_pipe().ready(" ".join(outcome))
    return 0


def preload() -> None:
    """Import what this program needs; called by the warm template."""
    import twisted.internet.reactor  # noqa: F401
