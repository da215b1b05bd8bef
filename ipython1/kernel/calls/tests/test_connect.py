"""Clients and engines that connect over loopback: the gates, one clear error each, and loss."""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path
from typing import Any

import numpy
from foolscap.referenceable import Referenceable
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from ipython1.kernel.basics.error import (
    ClientError,
    CompositeError,
    ConnectionError,
    KernelError,
    NoController,
    SecurityError,
)
from ipython1.kernel.calls import awaynotice
from ipython1.kernel.calls.connect import open_connection
from ipython1.kernel.clients.asyncclient import AsyncMultiEngineClient, get_multiengine_client
from ipython1.kernel.controller.enginefc import FCEngines
from ipython1.kernel.host import clientconfig
from ipython1.kernel.host.certificates import make_certificate
from ipython1.kernel.host.furl import parse_furl
from ipython1.kernel.host.security import IPythonDirs, write_furl
from ipython1.kernel.tub import tubs
from ipython1.kernel.tub.gate import Gate
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.link import TurnFlusher
from ipython1.testing import InMemoryCluster, ReactorPump
from ipython1.testing.folders import temporary_path

PATIENT = 20.0


class SilentGate(Referenceable):
    """Something that has the right FURL and never answers."""

    def remote_register(self, greeting: bytes, link: Any) -> Deferred[Any]:
        return Deferred()


class ConnectCase(TestCase):
    """A controller with a port, and two engines in memory."""

    timeout = 60

    async def setUp(self) -> None:
        self.directory = Path(temporary_path(self))
        self.patch(os, "environ", {**os.environ, "IPYTHONDIR": str(self.directory)})
        IPythonDirs.resolve().prepare()
        self.cluster = InMemoryCluster(2, ReactorPump())
        self.addCleanup(self.kill_engines)
        self.certificate = make_certificate()
        self.controller_tub = await self.listen(self.certificate)
        self.furls: dict[str, str] = {}
        self.publish()
        self.file = self.directory / "security" / "ipcontroller-mec.furl"
        write_furl(self.file, self.furls[messages.MULTIENGINE])

    def kill_engines(self) -> None:
        """Leave no timer of the controller's behind."""
        for engine in self.cluster.engines:
            engine.kill()

    async def listen(self, certificate: bytes, port: int = 0) -> Any:
        tub = tubs.make_tub(certificate)
        self.addCleanup(lambda: Deferred.fromCoroutine(tubs.close(tub)))
        self.port = await tubs.listen(tub, "127.0.0.1", port)
        return tub

    def publish(self) -> None:
        """Offer the controller's interfaces, under the FURLs that they had before."""
        flusher = TurnFlusher(lambda flush: reactor.callLater(0, flush))
        faces = {
            messages.MULTIENGINE: Gate(self.cluster.multiengine_face.accept, flusher),
            messages.ENGINE: Gate(FCEngines(self.cluster.controller).accept, flusher),
            "silent": SilentGate(),
        }
        for name, face in faces.items():
            old = self.furls.get(name)
            self.furls[name] = tubs.register(
                self.controller_tub, face, None if old is None else parse_furl(old).name
            )

    async def client(self, where: Any = "", timeout: float = PATIENT) -> AsyncMultiEngineClient:
        client = AsyncMultiEngineClient(
            await open_connection(reactor, where, messages.MULTIENGINE, timeout)
        )
        self.addCleanup(client.close)
        return client

    async def refused(
        self, where: Any, *kinds: type[BaseException], timeout: float = PATIENT
    ) -> str:
        """What connecting there raises, which must come soon."""
        begun = time.monotonic()
        try:
            await self.client(where, timeout)
        except kinds as problem:
            self.assertLess(time.monotonic() - begun, PATIENT)
            return str(problem)
        raise AssertionError("it was accepted")


class ConnectingTest(ConnectCase):
    async def test_every_way_to_name_a_controller(self) -> None:
        parsed = parse_furl(self.furls[messages.MULTIENGINE])
        for where in (
            "",
            str(self.file),
            self.file,
            self.furls[messages.MULTIENGINE],
            parsed,
            ("127.0.0.1", self.port),
        ):
            client = await self.client(where)
            self.assertEqual(await client.get_ids(), [0, 1])
            self.assertIn(str(self.port), repr(client))
            self.assertNotIn(parsed.name, repr(client))

    async def test_calls_over_the_wire(self) -> None:
        client = await get_multiengine_client(timeout=PATIENT)
        self.addCleanup(client.close)
        array = numpy.arange(200_000.0)
        await client.push({"a": array})
        pulled = await client.pull("a")
        for each in pulled:
            numpy.testing.assert_array_equal(each, array)
            each[0] = 1
        self.assertEqual(await client.map(abs, [-1, -2, 3]), [1, 2, 3])
        with self.assertRaises(CompositeError):
            await client.execute("1/0")

    async def test_several_clients_have_connections_of_their_own(self) -> None:
        first, second = await self.client(), await self.client()
        await first.close()
        self.assertEqual(await second.get_ids(), [0, 1])
        with self.assertRaises(ConnectionError):
            await first.get_ids()

    async def test_timeouts_that_are_none(self) -> None:
        for wrong in (-1, float("nan"), float("inf")):
            said = await self.refused("", ValueError, timeout=wrong)
            self.assertIn("timeout must be a number of seconds from 0", said)
        for wrong in (None, "10", True):
            said = await self.refused("", TypeError, timeout=wrong)  # type: ignore[arg-type]
            self.assertIn("timeout must be a number of seconds", said)

    async def test_a_connection_that_nobody_has_ends(self) -> None:
        connection = await open_connection(reactor, "", messages.MULTIENGINE, PATIENT)
        connection.close_when_unused()
        gone: Deferred[str] = Deferred()
        connection.end.on_lost.append(gone.callback)
        del connection
        gc.collect()
        await gone

    async def test_a_connection_that_was_closed_is_not_closed_again(self) -> None:
        connection = await open_connection(reactor, "", messages.MULTIENGINE, PATIENT)
        connection.close_when_unused()
        await connection.close()
        called: list[Any] = []
        self.patch(reactor, "callFromThread", called.append)
        del connection
        gc.collect()
        self.assertEqual(called, [])

    async def test_the_controller_goes_away(self) -> None:
        self.patch(clientconfig, "_settings", {"reconnect_timeout": 0.0})
        client = await self.client()
        for engine in self.cluster.engines:
            engine.worker.held = True
        calls = [client.execute("a = 1"), client.queue_status(), client.push({"a": bytes(10**6)})]
        lost: Deferred[str] = Deferred()
        client.on_connection_lost(lost.callback)
        await tubs.close(self.controller_tub)
        await lost
        for call in calls:
            try:
                await call
            except ConnectionError as problem:
                self.assertIn("the controller is gone", str(problem))
            else:
                self.assertIs(call, calls[1])

    async def test_a_client_that_goes_away_is_forgotten(self) -> None:
        before = len(self.cluster.controller._on_register)
        client = await self.client()
        self.assertEqual(len(self.cluster.controller._on_register), before + 1)
        gone: Deferred[None] = Deferred()
        unregister = self.cluster.controller.on_register_engine_do_not

        def seen(callback: Any) -> None:
            unregister(callback)
            gone.callback(None)

        self.patch(self.cluster.controller, "on_register_engine_do_not", seen)
        await client.close()
        await gone
        self.assertEqual(len(self.cluster.controller._on_register), before)


class AgainTest(ConnectCase):
    """Clients whose connection is lost, and who make it again."""

    async def setUp(self) -> None:
        await super().setUp()
        self.told: list[str] = []
        self.patch(awaynotice, "write_notice", self.told.append)
        self.patch(awaynotice, "FIRST", 0.05)

    async def lose(self, client: AsyncMultiEngineClient) -> None:
        """Close the controller's port, and wait until the client knows."""
        away: Deferred[str] = Deferred()
        client._connection.end.on_away.append(away.callback)
        await tubs.close(self.controller_tub)
        await away
        client._connection.end.on_away.remove(away.callback)

    async def come_back(self) -> None:
        self.controller_tub = await self.listen(self.certificate, self.port)
        self.publish()

    async def test_what_is_asked_meanwhile_is_answered_when_the_controller_is_back(self) -> None:
        client = await self.client()
        for _ in range(2):
            await self.lose(client)
            asked = client.get_ids()
            told: Deferred[None] = Deferred()
            self.patch(
                awaynotice,
                "write_notice",
                lambda text: (self.told.append(text), told.callback(None)),
            )
            await told
            self.patch(awaynotice, "write_notice", self.told.append)
            await self.come_back()
            self.assertEqual(await asked, [0, 1])
        self.assertIn("the controller has been away for 0 s", self.told[0])
        self.assertIn("waiting; Ctrl-C stops waiting", self.told[0])
        self.assertIn("the controller is back after 0 s", self.told)

    async def test_it_hears_of_engines_that_came_and_went_meanwhile(self) -> None:
        client = await self.client()
        changes: list[list[int]] = []
        client._connection.end.on_ids_changed(changes.append)
        await self.lose(client)
        self.cluster.engines[0].kill()
        self.cluster.add_engine()
        await self.come_back()
        self.assertEqual(await client.get_ids(), [1, 2])
        self.assertEqual(changes, [[1, 2]])

    async def test_a_controller_without_the_state_of_the_one_before(self) -> None:
        client = await self.client()
        await self.lose(client)
        asked = client.get_ids()
        self.cluster = InMemoryCluster(2, ReactorPump())
        await self.come_back()
        with self.assertRaisesRegex(ConnectionError, "started anew, without the state"):
            await asked
        with self.assertRaisesRegex(ConnectionError, "started anew, without the state"):
            await client.get_ids()

    async def test_it_gives_up_in_the_end(self) -> None:
        self.patch(clientconfig, "_settings", {"reconnect_timeout": 0.2})
        client = await self.client()
        await self.lose(client)
        with self.assertRaisesRegex(ConnectionError, "could not be reached again for 0.2 s"):
            await client.get_ids()

    async def test_a_controller_that_ends_on_purpose_is_not_waited_for(self) -> None:
        client = await self.client()
        lost: Deferred[str] = Deferred()
        client.on_connection_lost(lost.callback)
        self.cluster.controller.clients.say_goodbye("the controller was stopped")
        self.assertEqual(await lost, "the controller was stopped")
        with self.assertRaisesRegex(ConnectionError, "the controller was stopped"):
            await client.get_ids()

    async def test_a_client_that_is_closed_while_the_controller_is_away(self) -> None:
        client = await self.client()
        await self.lose(client)
        asked = client.get_ids()
        await client.close()
        with self.assertRaisesRegex(ConnectionError, "the client was closed"):
            await asked

    async def test_what_must_not_be_asked_twice_fails(self) -> None:
        client = await self.client()
        for engine in self.cluster.engines:
            engine.worker.held = True
        asked = client.interrupt()
        await client.queue_status()
        await self.lose(client)
        with self.assertRaisesRegex(ConnectionError, "did the interrupt is not known"):
            await asked


class RefusalsTest(ConnectCase):
    """One clear error for each, that names what to do, within the time-out."""

    async def test_files(self) -> None:
        text = await self.refused(str(self.directory / "nowhere.furl"), NoController)
        self.assertIn("nowhere.furl", text)
        text = await self.refused("another-cluster", NoController)
        self.assertIn("ipcluster -n 4 --cluster-id=another-cluster", text)
        self.file.unlink()
        text = await self.refused("", NoController)
        self.assertIn("ipcluster -n 4", text)
        text = await self.refused(("127.0.0.1", self.port), NoController)
        for content in (b"", b"garbage", b"pb://short@tcp:1.2.3.4:5/x", b"\xff\xfe"):
            self.file.write_bytes(content)
            self.file.chmod(0o600)
            text = await self.refused("", SecurityError)
            self.assertIn(str(self.file), text)

    async def test_things_that_name_no_controller(self) -> None:
        for where in (5, None, b"bytes", ["127.0.0.1", 1], ("127.0.0.1",), ("a", 1, 2)):
            await self.refused(where, TypeError)
        for where in (
            "pb://",
            "pb://what@ever",
            ("127.0.0.1", 0),
            ("127.0.0.1", "10105"),
            ("", 10105),
            (5, 10105),
            "id with spaces",
        ):
            await self.refused(where, SecurityError, ClientError)
        for where in ("../escape/..", "a/../../b"):
            await self.refused(where, NoController)

    async def test_nobody_listens(self) -> None:
        tub = tubs.make_tub(make_certificate())
        port = await tubs.listen(tub, "127.0.0.1", 0)
        await tubs.close(tub)
        text = await self.refused(("127.0.0.1", port), ConnectionError)
        self.assertIn(f"127.0.0.1:{port}", text)

    async def test_a_wrong_capability(self) -> None:
        furl = self.furls[messages.MULTIENGINE]
        wrong = furl[: furl.rindex("/") + 1] + "a" * 32
        text = await self.refused(wrong, SecurityError)
        self.assertNotIn("a" * 32, text)

    async def test_another_certificate(self) -> None:
        await self.listen(make_certificate())
        await self.refused(("127.0.0.1", self.port), SecurityError)

    async def test_the_furl_of_the_engines(self) -> None:
        text = await self.refused(self.furls[messages.ENGINE], SecurityError)
        self.assertIn("this FURL is for engines, but it was used for MultiEngine clients", text)
        self.assertEqual(sorted(self.cluster.controller.engines), [0, 1])

    async def test_a_controller_that_takes_the_connection_and_does_not_answer(self) -> None:
        text = await self.refused(self.furls["silent"], ConnectionError, timeout=0.5)
        self.assertIn("did not answer within", text)

    async def test_what_is_no_gate(self) -> None:
        furl = tubs.register(self.controller_tub, Referenceable())
        await self.refused(furl, KernelError)
        self.flushLoggedErrors()
