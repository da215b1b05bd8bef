"""Tubs of the kernel: real ones, over loopback."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from unittest import SkipTest

from foolscap.logging import log as foolscap_log
from foolscap.referenceable import Referenceable
from foolscap.tokens import RemoteException
from twisted.internet import endpoints, error, interfaces, protocol, reactor, ssl, task
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from ipython1.kernel.basics.error import ConnectionError, ProtocolError, SecurityError
from ipython1.kernel.host.addresses import interfaces as interfaces_here
from ipython1.kernel.host.addresses import is_local
from ipython1.kernel.host.certificates import make_certificate
from ipython1.kernel.host.furl import parse_furl
from ipython1.kernel.tub import fastbroker, strangers, tubs
from ipython1.kernel.tub.connector import PATIENCE as CONNECTOR_PATIENCE
from ipython1.kernel.tub.connector import STAGGER, KernelConnector, TCPHints
from ipython1.kernel.tub.fastbroker import FastBroker, send_batch
from ipython1.kernel.tub.kerneltub import ContextFactory, KernelTub

PATIENT = 30.0
"""Seconds after which a waiting test fails."""


class Inbox(Referenceable):
    """Takes batches, and other calls."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.peer: Any = None
        self._waiting: Deferred[bytes] | None = None

    def next(self) -> Deferred[bytes]:
        """The next batch."""
        self._waiting = Deferred()
        return self._waiting

    def remote_deliver(self, batch: bytes) -> None:
        self.got.append(batch)
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting.callback(batch)

    def remote_attach(self, peer: Any) -> None:
        self.peer = peer

    def remote_fail(self) -> None:
        raise ValueError("what went wrong")


class Talker(protocol.Protocol):
    """A server that is no controller: says ``greeting``, answers ``reply`` to anything, or is silent."""

    def __init__(self, owner: OtherServer) -> None:
        self.owner = owner

    def connectionMade(self) -> None:
        self.owner.connections += 1
        if self.owner.greeting:
            self.transport.write(self.owner.greeting)

    def dataReceived(self, data: bytes) -> None:
        self.owner.heard += data
        if self.owner.reply is None:
            if not self.owner.spoken_to.called:
                self.owner.spoken_to.callback(None)
        elif self.owner.reply:
            self.transport.write(self.owner.reply)
        else:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        self.owner.connections -= 1
        if not self.owner.left.called:
            self.owner.left.callback(None)


class OtherServer(protocol.Factory):
    """See :class:`Talker`; ``reply`` None is silence, empty closes."""

    noisy = False

    def __init__(self, greeting: bytes = b"", reply: bytes | None = None) -> None:
        self.greeting = greeting
        self.reply = reply
        self.heard = b""
        self.connections = 0
        self.spoken_to: Deferred[None] = Deferred()
        self.left: Deferred[None] = Deferred()

    def buildProtocol(self, addr: Any) -> Talker:
        return Talker(self)


class Stranger(protocol.Protocol):
    """A client that writes ``words`` and waits to be dropped."""

    def __init__(self, words: bytes = b"") -> None:
        self.words = words
        self.heard = b""
        self.dropped: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(self.words)

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        self.dropped.callback(None)


class TubCase(TestCase):
    """Creates Tubs and closes them."""

    timeout = PATIENT

    def make_tub(self, cert_pem: bytes | None = None) -> KernelTub:
        tub = tubs.make_tub(cert_pem)
        self.addCleanup(lambda: Deferred.fromCoroutine(tubs.close(tub)))
        return tub

    async def serve(
        self, cert_pem: bytes | None = None, **options: Any
    ) -> tuple[KernelTub, Inbox, str]:
        """Return a listening Tub with one registered object, and its FURL."""
        tub = self.make_tub(cert_pem)
        await tubs.listen(tub, "127.0.0.1", 0, **options)
        inbox = Inbox()
        return tub, inbox, tubs.register(tub, inbox)

    async def other_server(self, server: OtherServer) -> int:
        """Start the server and return its port."""
        listening = await endpoints.TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(
            server
        )
        self.addCleanup(listening.stopListening)
        return listening.getHost().port

    async def stranger(self, port: int, words: bytes = b"") -> Stranger:
        endpoint = endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        return await endpoints.connectProtocol(endpoint, Stranger(words))

    def connect(
        self, tub: KernelTub, furl: str, timeout: float = PATIENT, **options: Any
    ) -> Deferred[Any]:
        return Deferred.fromCoroutine(tubs.connect(tub, furl, timeout, **options))

    async def assert_refused(
        self,
        furl: str,
        kind: type[Exception],
        *words: str,
        tub: KernelTub | None = None,
        **options: Any,
    ) -> str:
        """Assert that connecting fails with ``kind``, leaves nothing behind and reveals no secret."""
        tub = tub or self.make_tub()
        logged: list[str] = []

        def observe(event: Any) -> None:
            logged.append(str(event))

        globalLogPublisher.addObserver(observe)
        try:
            await self.connect(tub, furl, **options)
        except kind as problem:
            message = str(problem)
        else:
            self.fail("it connected")
        finally:
            globalLogPublisher.removeObserver(observe)
        for word in words:
            self.assertIn(word, message)
        self.assertNotIn("\n", message)
        self.assertNotIn("Traceback", message)
        secret = furl.rpartition("/")[2]
        for text in (message, *logged, *map(str, foolscap_log.theLogger.get_buffered_events())):
            self.assertNotIn(secret, text)
        await tub.all_closed()
        self.assertEqual(
            [tub.tubConnectors, tub.waitingForBrokers, tub.brokers, tub._activeConnectors],
            [{}, {}, {}, []],
        )
        return message


def move(furl: str, port: int, host: str = "127.0.0.1") -> str:
    """Return the same capability at another location."""
    return str(parse_furl(furl).with_location(host, port))


class TalkTests(TubCase):
    """Two Tubs that can connect."""

    async def test_batches_both_ways(self) -> None:
        _, server_inbox, furl = await self.serve()
        client = self.make_tub()
        reference = await self.connect(client, furl)
        inbox = Inbox()
        await reference.callRemote("attach", inbox)
        for batch in (b"", b"small", bytes(range(256)) * 4000):
            arrived = server_inbox.next()
            self.assertTrue(send_batch(reference, batch))
            self.assertEqual(await arrived, batch)
            arrived = inbox.next()
            self.assertTrue(send_batch(server_inbox.peer, [batch, b"!"]))
            self.assertEqual(await arrived, batch + b"!")

    async def test_batches_and_calls_of_all_sizes_keep_their_order(self) -> None:
        """Short and long ones, faster than the socket accepts them, and calls on Foolscap's stock path."""
        _, inbox, furl = await self.serve()
        reference = await self.connect(self.make_tub(), furl)
        sizes = [0, 1, 5000, 2**14 - 1, 2**14, 2**14 + 1, 2**16, 2**18, 2**20, 3]
        sent = [bytes([n % 251]) * size for n, size in enumerate(sizes * 8)]
        for number, batch in enumerate(sent):
            if number % 3:
                self.assertTrue(send_batch(reference, batch))
            else:
                reference.callRemoteOnly("deliver", batch)
        await self.assertFailure(reference.callRemote("fail"), RemoteException)
        self.assertEqual([len(batch) for batch in inbox.got], [len(batch) for batch in sent])
        self.assertEqual(inbox.got, sent)

    async def test_what_was_sent_before_closing_arrives(self) -> None:
        _, inbox, furl = await self.serve()
        client = self.make_tub()
        reference = await self.connect(client, furl)
        arrived = inbox.next()
        self.assertTrue(send_batch(reference, b"x" * 2**20))
        await tubs.close(client)
        self.assertEqual(len(await arrived), 2**20)
        self.assertFalse(send_batch(reference, b"too late"))

    async def test_the_connection_is_as_it_should_be(self) -> None:
        server, _, furl = await self.serve()
        client = self.make_tub()
        reference = await self.connect(client, furl)
        for tub in (server, client):
            (broker,) = tub.brokers.values()
            self.assertIsInstance(broker, FastBroker)
            self.assertEqual(broker.transport.getHandle().get_protocol_version_name(), "TLSv1.3")
            sock = broker.transport.socket
            self.assertTrue(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            self.assertTrue(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
            # No timers per connection, and no pings that a busy process would not answer.
            self.assertIsNone(broker.keepaliveTimer)
            self.assertIsNone(broker.disconnectTimer)
            self.assertEqual(len(tub._watches), 1)
            tub._look_at_peers()
            self.assertTrue(broker.transport.connected)
        self.assertNotIn(parse_furl(furl).name, repr(reference))

    async def test_one_tls_context_serves_all_connections(self) -> None:
        server, _, furl = await self.serve()
        used = set()
        for _ in range(2):
            await self.connect(self.make_tub(), furl)
        for broker in server.brokers.values():
            used.add(broker.transport.getHandle().get_context())
        self.assertEqual(len(used), 1)

    async def test_an_exception_of_the_other_side_comes_without_its_files(self) -> None:
        _, _, furl = await self.serve()
        reference = await self.connect(self.make_tub(), furl)
        problem = await self.assertFailure(reference.callRemote("fail"), RemoteException)
        self.assertIn("what went wrong", problem.failure.getErrorMessage())
        self.assertNotIn("test_tubs.py", str(problem.failure.getTraceback()))

    async def test_many_references_of_one_controller_share_a_connection(self) -> None:
        server, _, furl = await self.serve()
        other_furl = tubs.register(server, Inbox())
        client = self.make_tub()
        both = [self.connect(client, furl), self.connect(client, other_furl)]
        references = [await one for one in both]
        self.assertEqual(len(server._open), 1)
        self.assertIsNot(references[0], references[1])

    async def test_a_controller_that_starts_again_keeps_its_furl(self) -> None:
        certificate = make_certificate()
        server, _, furl = await self.serve(certificate)
        client = self.make_tub()
        reference = await self.connect(client, furl)
        lost: Deferred[None] = Deferred()
        reference.notifyOnDisconnect(lost.callback, None)
        port = parse_furl(furl).hints[0][1]
        await tubs.close(server)
        await lost
        self.assertIs(send_batch(reference, b"late"), False)
        self.assertIn("closed", reference.tracker.broker.lost_reason)
        again = self.make_tub(certificate)
        self.assertEqual(await tubs.listen(again, "127.0.0.1", port), port)
        inbox = Inbox()
        self.assertEqual(tubs.register(again, inbox, parse_furl(furl).name), furl)
        arrived = inbox.next()
        send_batch(await self.connect(client, furl), b"hello again")
        self.assertEqual(await arrived, b"hello again")

    async def test_an_old_connection_does_not_stand_in_the_way(self) -> None:
        # Which side decides about duplicates depends on the certificates, so several are tried.
        server, inbox, furl = await self.serve()
        for _ in range(4):
            client = self.make_tub()
            await self.connect(client, furl)
            for _ in range(2):
                # The client has dropped the connection, and the server has not noticed.
                (old,) = client.brokers.values()
                old.finish(Failure(error.ConnectionLost()))
                arrived = inbox.next()
                reference = await self.connect(client, furl)
                send_batch(reference, b"back")
                self.assertEqual(await arrived, b"back")
                old.transport.abortConnection()
            await tubs.close(client)
        self.assertEqual(len(server.master_table), 0)
        self.assertLessEqual(len(server.slave_table), 4)

    async def test_an_unused_reference_ends_quietly_with_its_connection(self) -> None:
        _, _, furl = await self.serve()
        client = self.make_tub()
        reference = await self.connect(client, furl)
        reference.tracker.broker.abort("enough")
        self.assertEqual(reference.tracker.broker.lost_reason, "enough")
        del reference
        await client.all_closed()
        self.assertEqual(self.flushLoggedErrors(), [])


class ListenTests(TubCase):
    """Where a Tub listens and what its FURLs say."""

    async def hints(self, ip: str, location: str | None) -> tuple[list[tuple[str, int]], int]:
        tub = self.make_tub()
        port = await tubs.listen(tub, ip, 0, location)
        return list(parse_furl(tubs.register(tub, Inbox())).hints), port

    async def test_loopback_says_loopback(self) -> None:
        hints, port = await self.hints("127.0.0.1", None)
        self.assertEqual(hints, [("127.0.0.1", port)])

    async def test_all_interfaces_say_where_others_can_reach_them(self) -> None:
        for ip in ("", "::", "0.0.0.0"):
            hints, port = await self.hints(ip, None)
            self.assertEqual(hints[-1], ("127.0.0.1", port))
            for host, hinted in hints:
                self.assertTrue(is_local(host))
                self.assertEqual(hinted, port)
                self.assertFalse(ip == "0.0.0.0" and ":" in host)

    async def test_both_families_are_served_at_one_port(self) -> None:
        if not is_local("::1"):
            raise SkipTest("this host has no IPv6")
        tub = self.make_tub()
        port = await tubs.listen(tub, "", 0)
        furl = tubs.register(tub, Inbox())
        for host in ("::1", "127.0.0.1"):
            await self.connect(self.make_tub(), move(furl, port, host))
        other = self.make_tub()
        with self.assertRaises(ConnectionError) as caught:
            await tubs.listen(other, "::", port)
        self.assertIn("in use", str(caught.exception))
        self.assertEqual(other.getListeners(), [])

    async def test_ipv6_alone_leaves_the_port_to_others(self) -> None:
        if not is_local("::1"):
            raise SkipTest("this host has no IPv6")
        port = await tubs.listen(self.make_tub(), "::1", 0)
        self.assertEqual(await tubs.listen(self.make_tub(), "127.0.0.1", port), port)

    async def test_what_is_no_place_of_this_host(self) -> None:
        with self.assertRaises(ConnectionError) as caught:
            await tubs.listen(self.make_tub(), "nothing0.invalid", 0)
        self.assertIn("no such address, name or network interface", str(caught.exception))
        self.assertIn(", ".join(interfaces_here()), str(caught.exception))

    async def test_a_given_location(self) -> None:
        hints, port = await self.hints("127.0.0.1", "head.example, 10.0.0.1:99,tcp:[::1]:7,::1")
        expected = [("head.example", port), ("10.0.0.1", 99), ("::1", 7), ("::1", port)]
        self.assertEqual(hints, expected)

    async def test_a_malformed_location_is_refused_before_listening(self) -> None:
        for location in ("", "a b", "host:port", "host:0", "pb://x@y/z", "a,,b"):
            tub = self.make_tub()
            with self.assertRaises(SecurityError):
                await tubs.listen(tub, "127.0.0.1", 0, location)
            self.assertEqual(tub.getListeners(), [])

    async def test_a_port_in_use(self) -> None:
        _, _, furl = await self.serve()
        port = parse_furl(furl).hints[0][1]
        for wrong in (port, 70000):
            with self.assertRaises(ConnectionError) as caught:
                await tubs.listen(self.make_tub(), "127.0.0.1", wrong)
            self.assertIn(f"cannot listen at 127.0.0.1:{wrong}", str(caught.exception))
            self.assertNotIn("\n", str(caught.exception))

    async def test_names_cannot_be_guessed(self) -> None:
        tub, _, furl = await self.serve()
        names = {parse_furl(furl).name, parse_furl(tubs.register(tub, Inbox())).name}
        self.assertEqual(len(names), 2)
        for name in names:
            self.assertTrue(re.fullmatch("[a-z2-7]{32}", name))

    async def test_a_controller_of_this_host_is_reached_by_one_connection(self) -> None:
        tub = self.make_tub()
        await tubs.listen(tub, "0.0.0.0", 0)
        accepted: list[object] = []
        opened = tub.connection_opened
        tub.connection_opened = lambda one: (accepted.append(one), opened(one))  # type: ignore[method-assign]
        await self.connect(self.make_tub(), tubs.register(tub, Inbox()))
        self.assertEqual(len(accepted), 1)


class MakeTests(TubCase):
    """What make_tub accepts."""

    def test_what_is_no_certificate(self) -> None:
        first, second = make_certificate(), make_certificate()
        border = b"-----BEGIN CERTIFICATE"
        key, _, certificate = first.partition(border)
        mixed = key + border + second.partition(border)[2]
        half = first[: len(first) // 2]
        for pem in (b"", b"\n", b"not a certificate", half, key, border + certificate, mixed):
            with self.assertRaises(SecurityError) as caught:
                tubs.make_tub(pem)
            self.assertIn("certificate", str(caught.exception))

    def test_a_tub_without_one_gets_its_own(self) -> None:
        first, second = self.make_tub(), self.make_tub()
        self.assertNotEqual(first.tubID, second.tubID)
        first.startService()  # a second call is harmless

    def test_the_same_certificate_is_the_same_identity(self) -> None:
        pem = make_certificate()
        self.assertEqual(self.make_tub(pem).tubID, self.make_tub(pem).tubID)

    def test_importing_is_cheap_and_assertions_are_needed(self) -> None:
        program = (
            "import sys\n"
            "from ipython1.kernel import error, tubs\n"
            "assert_off = [m for m in ('foolscap', 'twisted.internet.reactor') if m in sys.modules]\n"
            "try: tubs.make_tub()\n"
            "except error.SecurityError as problem: print(assert_off, problem)\n"
        )
        done = subprocess.run(
            [sys.executable, "-O", "-c", program],
            check=False,
            capture_output=True,
            text=True,
            timeout=PATIENT,
        )
        self.assertEqual(done.stderr, "")
        self.assertTrue(
            done.stdout.startswith("[] Python runs with assertions disabled (-O"), done.stdout
        )

    def test_the_hint_handler_keeps_its_interface(self) -> None:
        from foolscap.ipb import IConnectionHintHandler

        verifyObject(IConnectionHintHandler, TCPHints())


class RefusedTests(TubCase):
    """One clear error for each way in which connecting fails."""

    async def test_nobody_listens(self) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
            _, _, furl = await self.serve()
            await self.assert_refused(
                move(furl, port), ConnectionError, f"127.0.0.1:{port}", "is the controller running?"
            )

    async def test_the_host_has_no_address(self) -> None:
        @implementer(interfaces.IHostnameResolver)
        class NoNames:
            def resolveHostName(
                self, receiver: Any, hostName: str, *args: Any, **kwargs: Any
            ) -> Any:
                receiver.resolutionBegan(self)
                receiver.resolutionComplete()
                return self

        before = reactor.installNameResolver(NoNames())
        self.addCleanup(reactor.installNameResolver, before)
        _, _, furl = await self.serve()
        await self.assert_refused(
            move(furl, 999, "nowhere.invalid"),
            ConnectionError,
            "nowhere.invalid:999",
            "has no address",
        )

    async def test_a_wrong_capability(self) -> None:
        server, _, furl = await self.serve()
        wrong = furl[:-1] + ("a" if furl[-1] != "a" else "b")
        await self.assert_refused(
            wrong, SecurityError, "does not know", "old.furl", source="old.furl"
        )
        await server.all_closed()

    async def test_a_wrong_capability_leaves_the_others_of_that_controller_alone(self) -> None:
        server, inbox, furl = await self.serve()
        client = self.make_tub()
        reference = await self.connect(client, furl)
        await self.assertFailure(self.connect(client, furl + "x"), SecurityError)
        arrived = inbox.next()
        send_batch(reference, b"still here")
        self.assertEqual(await arrived, b"still here")
        self.assertEqual(len(server._open), 1)

    async def test_another_controller_listens_there_now(self) -> None:
        _, _, old = await self.serve()
        other, _, furl = await self.serve()
        port = parse_furl(furl).hints[0][1]
        await self.assert_refused(
            move(old, port), SecurityError, f"127.0.0.1:{port}", "certificate"
        )
        await other.all_closed()

    async def test_an_impostor_with_another_certificate(self) -> None:
        _, _, real = await self.serve()
        impostor, _, furl = await self.serve()
        asked: list[Any] = []
        impostor.getReferenceForName = lambda name: asked.append(name)  # type: ignore[method-assign]
        # It claims any identity it is asked for, which the unencrypted part of a connection allows.
        impostor.listeners[0].lookupTubID = lambda tub_id: (impostor, None)
        port = parse_furl(furl).hints[0][1]
        await self.assert_refused(move(real, port), SecurityError, "another certificate")
        self.assertEqual(asked, [])
        await impostor.all_closed()

    async def test_other_programs(self) -> None:
        _, _, furl = await self.serve()
        for server, kind, words in (
            (
                OtherServer(reply=b"HTTP/1.1 404 Not Found\r\n\r\n"),
                ProtocolError,
                "not a controller",
            ),
            (OtherServer(greeting=b"SSH-2.0-OpenSSH_9.2\r\n"), ProtocolError, "not a controller"),
            (OtherServer(reply=b"\x00" * 5000), ProtocolError, "not a controller"),
            (OtherServer(reply=b"HTTP/1.1 " + b"x" * 5000), ProtocolError, "Header too long"),
            (OtherServer(reply=b""), ConnectionError, "closed the connection"),
            (
                OtherServer(reply=b"HTTP/1.1 101 Switching\r\nUpgrade: TLS/1.0\r\n\r\nno tls"),
                ProtocolError,
                "not a controller",
            ),
        ):
            port = await self.other_server(server)
            await self.assert_refused(move(furl, port), kind, f"127.0.0.1:{port}", words)
            await server.left
            self.assertNotIn(parse_furl(furl).name.encode(), server.heard)

    async def test_an_older_tls(self) -> None:
        server, _, furl = await self.serve()
        client = self.make_tub()
        own = client.myCertificate
        client.context_factory = ContextFactory(
            privateKey=own.privateKey.original.to_cryptography_key(),
            certificate=own.original.to_cryptography(),
            lowerMaximumSecurityTo=ssl.TLSVersion.TLSv1_2,
        )
        await self.assert_refused(furl, ProtocolError, "TLS 1.3", tub=client)
        await server.all_closed()

    async def test_a_tub_that_was_closed(self) -> None:
        _, _, furl = await self.serve()
        client = self.make_tub()
        await tubs.close(client)
        await self.assert_refused(furl, ConnectionError, "closed", tub=client)

    async def test_a_silent_server(self) -> None:
        _, _, furl = await self.serve()
        server = OtherServer()
        port = await self.other_server(server)
        clock = task.Clock()
        refused = Deferred.fromCoroutine(
            self.assert_refused(
                move(furl, port),
                ConnectionError,
                f"127.0.0.1:{port}",
                "within 10 s",
                timeout=10,
                clock=clock,
            )
        )
        await server.spoken_to
        clock.advance(9.9)
        self.assertNoResult(refused)
        clock.advance(0.2)
        await refused
        await server.left

    async def test_a_controller_that_is_stuck(self) -> None:
        server, _, furl = await self.serve()
        asked: Deferred[None] = Deferred()

        def never(name: str) -> Deferred[None]:
            asked.callback(None)
            return Deferred()

        server.getReferenceForName = never  # type: ignore[method-assign]
        clock = task.Clock()
        refused = Deferred.fromCoroutine(
            self.assert_refused(
                furl, ConnectionError, "it is busy or stuck", timeout=10, clock=clock
            )
        )
        await asked
        clock.advance(10)
        await refused
        await server.all_closed()

    async def test_giving_up_early(self) -> None:
        _, _, furl = await self.serve()
        server = OtherServer()
        port = await self.other_server(server)
        client = self.make_tub()
        attempt = self.connect(client, move(furl, port))
        other = self.connect(client, move(furl, port))
        await server.spoken_to
        attempt.cancel()
        await self.assertFailure(attempt, CancelledError)
        self.assertNoResult(other)
        other.cancel()
        await self.assertFailure(other, CancelledError)
        await server.left
        await client.all_closed()
        self.assertEqual(client._activeConnectors, [])

    async def test_malformed_furls(self) -> None:
        client = self.make_tub()
        _, _, furl = await self.serve()
        for wrong in ("", "pb://", "http://localhost/", furl[:30], furl.replace("@", "@x y")):
            problem = await self.assertFailure(
                self.connect(client, wrong, source="my.furl"), SecurityError
            )
            self.assertIn("my.furl", str(problem))
            self.assertNotIn(parse_furl(furl).name, str(problem))

    async def test_closing_while_connecting(self) -> None:
        _, _, furl = await self.serve()
        server = OtherServer()
        port = await self.other_server(server)
        client = self.make_tub()
        attempt = self.connect(client, move(furl, port))
        await server.spoken_to
        await tubs.close(client)
        await server.left
        self.assertNoResult(attempt)
        attempt.cancel()
        await self.assertFailure(attempt, CancelledError)


class PlacesTests(TubCase):
    """A Tub that may be at several places."""

    def setUp(self) -> None:
        self.clock = task.Clock()
        self.patch(KernelConnector, "clock", self.clock)

    def places(self, furl: str, *ports: int) -> str:
        """The FURL of a Tub that may be at any of these ports of 127.0.0.1, in this order."""
        hints = tuple(("127.0.0.1", port) for port in ports)
        return str(replace(parse_furl(furl), hints=hints))

    def closed_port(self) -> int:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port: int = unused.getsockname()[1]
            return port

    async def test_the_next_place_follows_a_failure_at_once(self) -> None:
        server, _, furl = await self.serve()
        other, _, _ = await self.serve()
        ports = [self.closed_port(), other_port(other), other_port(server)]
        await self.connect(self.make_tub(), self.places(furl, *ports))

    async def test_a_place_that_answers_is_the_only_one_tried(self) -> None:
        _, _, furl = await self.serve()
        silent = OtherServer()
        port = parse_furl(furl).hints[0][1]
        wrong = await self.other_server(silent)
        await self.connect(self.make_tub(), self.places(furl, port, wrong))
        self.clock.advance(STAGGER)
        self.assertEqual(silent.connections, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_a_host_that_does_not_answer_delays_nobody(self) -> None:
        _, _, furl = await self.serve()
        connecting = self.connect(
            self.make_tub(), self.places(furl, self.deaf_port(), furl_port(furl))
        )
        self.clock.advance(STAGGER / 2)
        self.assertNoResult(connecting)
        self.clock.advance(STAGGER / 2)
        await connecting

    async def test_one_that_accepted_the_connection_has_longer(self) -> None:
        """It may be a busy controller, and all who wait for it would come twice."""
        _, _, furl = await self.serve()
        silent = OtherServer()
        wrong = await self.other_server(silent)
        connecting = self.connect(self.make_tub(), self.places(furl, wrong, furl_port(furl)))
        await silent.spoken_to
        self.clock.advance(CONNECTOR_PATIENCE - 0.1)
        self.assertNoResult(connecting)
        self.assertEqual(silent.connections, 1)
        self.clock.advance(0.2)
        await connecting
        await silent.left

    def deaf_port(self) -> int:
        """A port whose host drops what would begin a connection: its queue of connections is full."""
        deaf = socket.socket()
        self.addCleanup(deaf.close)
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(3):
            filler = socket.socket()
            self.addCleanup(filler.close)
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        port: int = deaf.getsockname()[1]
        return port

    async def test_no_place_leads_there(self) -> None:
        _, _, furl = await self.serve()
        ports = [self.closed_port(), self.closed_port()]
        await self.assert_refused(
            self.places(furl, *ports), ConnectionError, *(f"127.0.0.1:{port}" for port in ports)
        )
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_giving_up_ends_all_attempts(self) -> None:
        _, _, furl = await self.serve()
        silent = OtherServer()
        wrong = await self.other_server(silent)
        client = self.make_tub()
        connecting = self.connect(client, self.places(furl, wrong, self.closed_port()))
        await silent.spoken_to
        connecting.cancel()
        await self.assertFailure(connecting, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        await silent.left
        await client.all_closed()


def furl_port(furl: str) -> int:
    """The first port in a FURL."""
    return parse_furl(furl).hints[0][1]


def other_port(tub: KernelTub) -> int:
    """Where a Tub listens."""
    port: int = tub.listeners[0]._lp.getHost().port
    return port


class StrangerTests(TubCase):
    """Connections to the port without a capability."""

    async def test_idle_connections_are_dropped_and_honest_ones_served(self) -> None:
        clock = task.Clock()
        server, _, furl = await self.serve(clock=clock)
        place = parse_furl(furl)
        port = place.hints[0][1]
        hello = f"GET /id/{place.tub_id} HTTP/1.1\r\nUpgrade: TLS/1.0\r\n\r\n".encode()
        idle = [await self.stranger(port, words) for words in (b"", b"GET ", hello)]
        await self.connect(self.make_tub(), furl)
        clock.advance(strangers.PATIENCE)
        for one in idle:
            await one.dropped
        self.assertEqual(len(server._open), 1)
        self.assertEqual(clock.getDelayedCalls(), [])

    async def test_a_flood_does_not_keep_anybody_out(self) -> None:
        server, _, furl = await self.serve(clock=task.Clock(), most_strangers=5)
        port = parse_furl(furl).hints[0][1]
        flood = [await self.stranger(port) for _ in range(20)]
        await self.connect(self.make_tub(), furl)
        for one in flood[:15]:
            await one.dropped
        self.assertLessEqual(len(server._open), 6)

    async def test_garbage_is_dropped_at_once(self) -> None:
        server, _, furl = await self.serve(clock=task.Clock())
        place = parse_furl(furl)
        hello = f"GET /id/{place.tub_id} HTTP/1.1\r\nUpgrade: TLS/1.0\r\n\r\n".encode()
        for words in (
            b"\x16\x03\x01" + bytes(5000),
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /id/" + b"a" * 5000,
            b"GET /id/aaaa HTTP/1.1\r\n\r\n",
            hello + b"this is not TLS, but a lot of text that goes on for a while",
        ):
            one = await self.stranger(place.hints[0][1], words)
            await one.dropped
        await server.all_closed()
        self.assertEqual(self.flushLoggedErrors(), [])

    async def guess(self, action: Callable[[Any], Awaitable[None] | None]) -> KernelTub:
        """Return a server after a peer with another certificate has run ``action`` with its Broker."""
        clock = task.Clock()
        server, _, furl = await self.serve(clock=clock)
        client = self.make_tub()
        broker = await client.getBrokerForTubRef(_tubref(furl))
        done = action(broker)
        if done is not None:
            await done
        await client.all_closed()
        await server.all_closed()
        self.assertEqual(clock.getDelayedCalls(), [])
        return server

    async def test_guessing_ends_soon(self) -> None:
        async def guess(broker: Any) -> None:
            while not broker.disconnected:
                broker.getYourReferenceByName(b"guess").addErrback(lambda failure: None)
                await task.deferLater(reactor, 0)

        await self.guess(guess)
        self.assertEqual(self.flushLoggedErrors(), [])

    async def test_a_long_name_is_not_kept(self) -> None:
        def ask(broker: Any) -> None:
            broker.getYourReferenceByName(b"x" * 200_000).addErrback(lambda failure: None)

        await self.guess(ask)
        self.assertEqual(self.flushLoggedErrors(), [])

    async def test_a_capability_lifts_the_limits(self) -> None:
        clock = task.Clock()
        server, inbox, furl = await self.serve(clock=clock)
        reference = await self.connect(self.make_tub(), furl)
        clock.advance(1000)
        reference.callRemoteOnly("deliver", b"x" * 500_000, extra=None)  # refused, but read
        arrived = inbox.next()
        send_batch(reference, b"y" * 500_000)
        self.assertEqual(len(await arrived), 500_000)
        self.assertEqual(len(server.listeners[0].doorkeeper), 0)
        self.flushLoggedErrors(TypeError)


def _tubref(furl: str) -> Any:
    from foolscap.referenceable import TubRef

    place = parse_furl(furl)
    return TubRef(place.tub_id, [f"tcp:{host}:{port}" for host, port in place.hints])


class CloseTests(TubCase):
    """Closing a Tub."""

    async def test_everything_is_closed_when_it_returns(self) -> None:
        server, _, furl = await self.serve()
        clients = [self.make_tub() for _ in range(3)]
        for client in clients:
            await self.connect(client, furl)
        await self.stranger(parse_furl(furl).hints[0][1])
        await tubs.close(server)
        self.assertEqual(len(server._open), 0)
        for client in clients:
            await tubs.close(client)
        await tubs.close(server)

    async def test_a_peer_that_takes_no_part_is_not_waited_for(self) -> None:
        self.patch(fastbroker, "CLOSE_GRACE", 0.05)
        server, _, furl = await self.serve()
        client = self.make_tub()
        await self.connect(client, furl)
        (stuck,) = client.brokers.values()
        stuck.transport.stopReading()
        await tubs.close(server)
        self.assertEqual(len(server._open), 0)
        stuck.transport.startReading()
        await client.all_closed()
