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
    SecurityError,
)
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
        self.controller_tub = await self.listen(make_certificate())
        flusher = TurnFlusher(lambda flush: reactor.callLater(0, flush))
        faces = {
            messages.MULTIENGINE: Gate(self.cluster.multiengine_face.accept, flusher),
            messages.ENGINE: Gate(FCEngines(self.cluster.controller).accept, flusher),
            "silent": SilentGate(),
        }
        self.furls = {
            name: tubs.register(self.controller_tub, face) for name, face in faces.items()
        }
        self.file = self.directory / "security" / "ipcontroller-mec.furl"
        write_furl(self.file, self.furls[messages.MULTIENGINE])

    async def listen(self, certificate: bytes) -> Any:
        tub = tubs.make_tub(certificate)
        self.addCleanup(lambda: Deferred.fromCoroutine(tubs.close(tub)))
        self.port = await tubs.listen(tub, "127.0.0.1", 0)
        return tub

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


class RefusalsTest(ConnectCase):
    """One clear error for each, that names what to do, within the time-out."""

    async def test_files(self) -> None:
        text = await self.refused(str(self.directory / "nowhere.furl"), SecurityError)
        self.assertIn("nowhere.furl", text)
        text = await self.refused("another-cluster", SecurityError)
        self.assertIn("ipcluster -n 4 --cluster-id=another-cluster", text)
        self.file.unlink()
        text = await self.refused("", SecurityError)
        self.assertIn("ipcluster -n 4", text)
        text = await self.refused(("127.0.0.1", self.port), SecurityError)
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
            "../escape/..",
            "a/../../b",
            "id with spaces",
        ):
            await self.refused(where, SecurityError, ClientError)

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
