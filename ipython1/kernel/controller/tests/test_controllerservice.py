"""The controller's registry of engines, and its gates."""

from __future__ import annotations

import dataclasses
import uuid
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass, verifyObject

from ipython1.kernel.basics.error import (
    ClientError,
    IdInUse,
    ProtocolError,
    SecurityError,
    VersionMismatch,
)
from ipython1.kernel.controller import controllerservice, parties
from ipython1.kernel.controller.config import Graces
from ipython1.kernel.controller.controllerservice import (
    ControllerService,
    IControllerBase,
    IControllerCore,
)
from ipython1.kernel.controller.enginefc import FCEngines
from ipython1.kernel.controller.multiengine import IEngineMultiplexer, IMultiEngine, MultiEngine
from ipython1.kernel.controller.multienginefc import FCMultiEngine, IFCMultiEngine
from ipython1.kernel.host.openfiles import CLIENT_PLACES, OTHER_FILES, Places
from ipython1.kernel.tests.wiresupport import Recorder
from ipython1.kernel.tub.gate import Gate, register
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.link import FrameLink
from ipython1.testing import InMemoryCluster
from ipython1.testing.memory import Pump, connect_in_memory


def hello(wanted_id: int | None = None, **changes: Any) -> messages.Hello:
    greeting = messages.Hello(
        uuid=uuid.uuid4().hex, pid=99, host="there", role=messages.ENGINE, wanted_id=wanted_id
    )
    return dataclasses.replace(greeting, **changes)


class RegistryTest(SynchronousTestCase):
    def setUp(self):
        self.pump = Pump()
        self.controller = ControllerService(self.pump)

    def register(self, greeting: messages.Hello | None = None) -> Any:
        engine = self.controller.register_engine(greeting or hello())
        self.controller.announce(engine)
        return engine

    def test_interfaces(self):
        self.assertTrue(verifyClass(IControllerBase, ControllerService))
        self.assertTrue(verifyObject(IControllerCore, self.controller))
        self.assertTrue(verifyObject(IControllerBase, self.controller))
        multiengine = IMultiEngine(self.controller)
        self.assertIsInstance(multiengine, MultiEngine)
        self.assertTrue(verifyObject(IEngineMultiplexer, multiengine))
        self.assertTrue(verifyObject(IMultiEngine, multiengine))
        face = IFCMultiEngine(multiengine)
        self.assertIsInstance(face, FCMultiEngine)
        self.assertTrue(verifyObject(IFCMultiEngine, face))

    def test_where_there_is_no_place_engines_are_refused_and_clients_are_told(self):
        places = Places(OTHER_FILES + CLIENT_PLACES + 2)
        cluster = InMemoryCluster(2, self.pump, ControllerService(self.pump, places=places))
        told: list[list[str]] = []
        cluster.async_multiengine().on_warnings(told.append)
        with self.assertRaises(ClientError) as refused:
            cluster.add_engine()
        self.assertIn("ulimit -Hn", str(refused.exception))
        self.pump.run()
        self.assertEqual(told, [[], [str(refused.exception)]])
        cluster.engines[0].kill()
        self.pump.run()
        self.assertEqual(told[-1], [])
        cluster.add_engine()
        self.assertEqual(sorted(cluster.controller.engines), [1, 2])

    def test_ids_are_numbered_and_not_used_again(self):
        self.assertEqual([self.register().id for _ in range(3)], [0, 1, 2])
        self.controller.unregister_engine(1)
        self.assertEqual(sorted(self.controller.engines), [0, 2])
        self.assertEqual(self.register().id, 3)

    def test_an_engine_gets_the_id_it_asks_for_if_that_is_free(self):
        self.assertEqual(self.register(hello(5)).id, 5)
        self.assertEqual(self.register().id, 6)
        self.assertEqual(self.register(hello(5)).id, 7)
        self.assertEqual(self.register(hello(2)).id, 2)
        self.assertEqual(self.register(hello(0)).id, 0)
        for wanted in (-1, 2**31, 2**64):
            self.assertRaises(IdInUse, self.register, hello(wanted))

    def test_an_engine_that_comes_back_gets_its_id_again(self):
        first, second = self.register(), self.register()
        self.controller.unregister_engine(0)
        again = self.register(first.hello)
        self.assertEqual(again.id, 0)
        self.assertIsNot(again, first)
        self.assertEqual(sorted(self.controller.engines), [0, 1])
        self.assertIs(self.controller.engines[1], second)

    def test_an_engine_that_comes_back_while_its_old_connection_lingers(self):
        face = FCEngines(self.controller)
        greeting = hello()
        first = face.accept(greeting)
        link, _ = connect_in_memory(self.pump, first, Recorder())
        first.attach(link)
        first.opened()
        gone: list[int] = []
        self.controller.on_unregister_engine_do(gone.append, True)
        again = face.accept(greeting)
        self.assertEqual(
            (again.engine.id, first.engine.alive, link.lost, gone), (0, False, True, [0])
        )
        self.assertIs(self.controller.engines[0], again.engine)
        first.link_lost("told late")
        self.assertIs(self.controller.engines[0], again.engine)

    def test_engines_that_will_not_come_back_are_forgotten_in_the_end(self):
        self.patch(controllerservice, "MOST_REMEMBERED", 3)
        self.patch(parties, "MOST_REMEMBERED", 3)
        engines = [self.register() for _ in range(6)]
        for engine in engines:
            self.controller.unregister_engine(engine.id)
        self.assertEqual(self.register(engines[-1].hello).id, 5)
        self.assertEqual(self.register(engines[0].hello).id, 6)
        self.assertLessEqual(len(self.controller._ids), 3)

    def test_who_does_not_fit_is_refused(self):
        self.assertRaises(VersionMismatch, self.register, hello(python=(3, 1)))
        self.assertRaises(VersionMismatch, self.register, hello(protocol=0))
        self.assertRaises(SecurityError, self.register, hello(role=messages.MULTIENGINE))
        self.assertEqual(self.controller.engines, {})

    def test_notices(self):
        seen: list[Any] = []
        self.controller.on_register_engine_do(
            lambda *args, **kw: seen.append((args, kw)), True, "x", y=1
        )
        self.controller.on_register_engine_do(lambda *args: 1 / 0)
        came = seen.append
        self.controller.on_register_engine_do(came, False, "came")
        self.controller.on_unregister_engine_do(came, True)
        self.register()
        self.controller.unregister_engine(0)
        self.assertEqual(seen, [((0, "x"), {"y": 1}), "came", 0])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.controller.on_register_engine_do_not(came)
        self.controller.on_unregister_engine_do_not(came)
        self.controller.on_unregister_engine_do_not(came)
        self.register()
        self.controller.unregister_engine(1)
        self.flushLoggedErrors(ZeroDivisionError)
        self.assertEqual(len(seen), 4)

    def test_notice_of_a_number_of_engines_comes_once(self):
        seen: list[int] = []
        self.controller.on_n_engines_registered_do(2, seen.append, 2)
        self.controller.on_n_engines_registered_do(0, seen.append, 0)
        self.assertEqual(seen, [0])
        self.register()
        self.assertEqual(seen, [0])
        self.register()
        self.register()
        self.assertEqual(seen, [0, 2])
        self.controller.on_n_engines_registered_do(3, seen.append, 3)
        self.assertEqual(seen, [0, 2, 3])

    def test_unregistering_nobody(self):
        self.controller.unregister_engine(5)


class KilledTest(SynchronousTestCase):
    """Engines that are killed, and cannot be reached or do not end."""

    def setUp(self):
        self.cluster = InMemoryCluster(2)
        self.cluster.controller.graces = Graces(engine=10.0)
        self.mec = self.cluster.multiengine()

    def settle(self, seconds: float) -> None:
        self.cluster.pump.advance(seconds)
        self.cluster.pump.run()

    def test_one_that_does_not_end_is_gone_at_once(self):
        self.cluster.engines[0].worker.on_stop = lambda: None
        self.cluster.multiengine_face.multiengine.kill([0])
        self.settle(1.0)
        self.assertEqual(self.mec.get_ids(), [1])

    def test_one_that_is_away_is_gone_and_told_to_end_when_it_comes_back(self):
        engine = self.cluster.engines[0]
        engine.link.abort("a broken network")
        self.settle(0.1)
        self.assertEqual(self.mec.get_ids(), [0, 1])
        self.cluster.multiengine_face.multiengine.kill([0])
        self.settle(1.0)
        self.assertEqual(self.mec.get_ids(), [1])
        stopped: list[bool] = []
        engine.worker.on_stop = lambda: stopped.append(True)
        engine.register()
        self.settle(0.0)
        self.assertEqual((self.mec.get_ids(), stopped), ([1], [True]))
        engine.link.abort("the end")
        self.settle(20.0)


class FakeRemote:
    """A Foolscap reference to the other party's end."""

    def __init__(self) -> None:
        self.watchers: list[Any] = []

    def notifyOnDisconnect(self, callback: Any, *args: Any) -> None:
        self.watchers.append((callback, args))

    def lose(self) -> None:
        for callback, args in self.watchers:
            callback(*args)


class GateTest(SynchronousTestCase):
    """The gate by itself, with references that are played."""

    def setUp(self):
        self.pump = Pump()
        self.controller = ControllerService(self.pump)
        self.gate = Gate(FCEngines(self.controller).accept, self.pump.flusher)

    def test_registering(self):
        remote = FakeRemote()
        answer, face = self.gate.remote_register(hello(4).pack(), remote)
        welcome = messages.unpack_welcome(answer)
        self.assertEqual(welcome.engine_id, 4)
        self.assertEqual(welcome.max_message, self.controller.max_message)
        self.assertIsNotNone(face)
        self.assertEqual(list(self.controller.engines), [4])
        remote.lose()
        self.assertEqual(self.controller.engines, {})

    def test_a_refusal_says_why(self):
        for greeting, kind in (
            (hello(python=(2, 5)).pack(), VersionMismatch),
            (hello(-3).pack(), IdInUse),
            (b"garbage", ProtocolError),
            (10**12, ProtocolError),
            (hello(2**31 - 1).pack(), IdInUse),
            (hello(pid=-1).pack(), ProtocolError),
        ):
            answer, face = self.gate.remote_register(greeting, FakeRemote())
            self.assertIsNone(face)
            self.assertRaises(kind, messages.unpack_welcome, answer)
        self.assertEqual(self.controller.engines, {})

    def test_a_registration_that_fails_half_way_leaves_nothing(self):
        self.assertRaises(AttributeError, self.gate.remote_register, hello().pack(), "no reference")
        self.assertEqual(self.controller.engines, {})

    def test_a_party_that_registers_at_what_is_no_gate(self):
        class NoGate:
            def callRemote(self, name: str, *args: Any) -> Any:
                return fail(AttributeError(name))

        link = FrameLink(self.pump.flusher, Recorder())
        error = self.failureResultOf(
            Deferred.fromCoroutine(register(NoGate(), hello(), link)), ClientError
        ).value
        self.assertIn("another interface", str(error))
