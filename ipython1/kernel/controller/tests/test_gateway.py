"""Gateways, in memory: a controller, one that is its gateway, and engines that a script speaks for."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from typing import Any

from twisted.trial import unittest

from ipython1.kernel.basics.error import ClientError, ConnectionError, KernelError, SecurityError
from ipython1.kernel.controller.command import Command, Outcome
from ipython1.kernel.controller.commanddata import CommandData
from ipython1.kernel.controller.config import Graces
from ipython1.kernel.controller.controllerservice import ControllerService
from ipython1.kernel.controller.enginefc import FCEngines
from ipython1.kernel.controller.gateway import ASK_AGAIN, REFUSED_PAUSE, Gateway
from ipython1.kernel.host.openfiles import CLIENT_PLACES, OTHER_FILES, Places
from ipython1.kernel.wire import frames, messages
from ipython1.kernel.wire.baselink import FrameReceiver, Link
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.lanes import Lanes
from ipython1.kernel.wire.link import FrameLink
from ipython1.testing.memory import Pump, connect_in_memory

CLIENT = bytes(range(16))
GRACE = 10.0


def greeting(role: str, number: int = 0) -> messages.Hello:
    name = uuid.uuid5(uuid.NAMESPACE_DNS, f"{role}{number}").hex
    return messages.Hello(name, os.getpid(), "host|x", role, secret="secret")


class Side:
    """What an engine has for one controller."""

    def __init__(self) -> None:
        self.welcomes: list[messages.Welcome] = []
        self.commands: list[int] = []
        self.link: Link | None = None
        self.answers = True

    def frame_received(
        self, kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer
    ) -> None:
        if kind == frames.WELCOMED and not ident:
            self.welcomes.append(messages.unpack_welcome(payload))
        elif kind == frames.COMMAND:
            self.commands.append(ident)
            if self.answers:
                self.answer(ident)

    def answer(self, ident: int) -> None:
        assert self.link is not None
        self.link.send(frames.OUTCOME, ident, CLIENT + bytes((messages.OK,)), b"")

    def link_lost(self, reason: str) -> None:
        self.link = None


class Engine:
    """An engine of the gateway."""

    def __init__(self, case: GatewayCase, number: int) -> None:
        self._case = case
        self._number = number
        self.own, self.other = Side(), Side()
        self.greetings = 0
        self.connect()

    def connect(self) -> None:
        """Register with the gateway, perhaps again."""
        session = FCEngines(self._case.lower).accept(greeting(messages.ENGINE, self._number))
        self.link, there = connect_in_memory(self._case.pump, self.own, session)
        self.own.link = self.link
        self._lanes = Lanes(self.link, self._asked)
        session.attach(there)
        session.opened()
        self._case.pump.run()

    def _asked(self, number: int, kind: int, payload: Buffer) -> None:
        if kind == frames.GREET:
            self.greetings += 1
            hello = greeting(messages.ENGINE, self._number)
            lane = self.other.link = self._lanes.add(number, self.other)
            lane.open(frames.pack_frame(frames.GREET, 0, b"", hello.pack()))


class GatewayCase(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        self.pump = Pump()
        graces = Graces(GRACE, 60.0, GRACE)
        self.upper = ControllerService(self.pump, graces=graces)
        self.lower = ControllerService(self.pump, graces=graces)
        self.problem: KernelError | None = None
        self.refusals: list[KernelError] = []
        self.attempts = 0
        self.gateway = Gateway(self.lower, self.open_link, self.refusals.append)
        self.addCleanup(self.end)

    def end(self) -> None:
        self.gateway.stop()
        self.pump.run()
        for each in (self.lower, self.upper):
            each.stop_waiting()

    async def open_link(self, receiver: FrameReceiver) -> FrameLink:
        self.attempts += 1
        if self.problem is not None:
            raise self.problem
        session: Any = FCEngines(self.upper).accept(greeting(messages.GATEWAY))
        self.link, self.upper_link = connect_in_memory(self.pump, receiver, session)
        session.attach(self.upper_link)
        session.opened()
        return self.link

    def start(self, engines: int = 2) -> list[Engine]:
        """The gateway connects, and engines come; return them."""
        self.gateway.start()
        self.pump.run()
        return [Engine(self, number) for number in range(engines)]

    def pass_time(self, seconds: float) -> None:
        self.pump.run()
        self.pump.advance(seconds)
        self.pump.run()

    def submit(self, engine_id: int, number: int) -> list[Outcome]:
        """Queue a command of the upstream; return where its outcome will be."""
        outcomes: list[Outcome] = []
        command = Command(CLIENT, number, "execute", CommandData(2, b"{}"))
        self.upper.engines[engine_id].submit(command).addCallback(outcomes.append)
        self.pump.run()
        return outcomes


class ComingTests(GatewayCase):
    def test_engines_appear_at_both_controllers(self) -> None:
        engines = self.start()
        self.assertEqual((list(self.lower.engines), list(self.upper.engines)), ([0, 1], [0, 1]))
        self.assertEqual([each.other.welcomes[0].engine_id for each in engines], [0, 1])

    def test_those_that_are_there_already_appear_when_the_gateway_connects(self) -> None:
        engines = [Engine(self, number) for number in range(3)]
        self.gateway.start()
        self.pump.run()
        self.assertEqual(list(self.upper.engines), [0, 1, 2])
        self.assertEqual([each.greetings for each in engines], [1, 1, 1])

    def test_ids_are_each_controllers_own(self) -> None:
        (engine,) = self.start(1)
        before = Engine(self, 7)
        engine.link.send(frames.GOODBYE, 0, b"", b"it ended")
        self.pump.run()
        self.assertEqual((list(self.lower.engines), list(self.upper.engines)), ([1], [1]))
        self.assertEqual(before.other.welcomes[0].engine_id, 1)

    def test_commands_and_their_outcomes_pass(self) -> None:
        first, second = self.start()
        outcomes = self.submit(1, 5)
        self.assertEqual((first.other.commands, second.other.commands), ([], [5]))
        self.assertEqual([(each.engine_id, each.status) for each in outcomes], [(1, messages.OK)])
        self.assertEqual(second.own.commands, [])

    def test_they_take_no_connections_of_the_upstream(self) -> None:
        places = Places(CLIENT_PLACES + OTHER_FILES + 2)
        self.upper = ControllerService(self.pump, places=places)
        self.start(4)
        self.assertEqual(len(self.upper.engines), 4)
        face = FCEngines(self.upper)
        for number in (10, 11):
            face.accept(greeting(messages.ENGINE, number))
        problem = self.assertRaises(ClientError, face.accept, greeting(messages.ENGINE, 12))
        self.assertIn("no place for more than these 2 engines", str(problem))


class LossTests(GatewayCase):
    def test_a_lost_gateway_is_the_loss_of_its_engines_and_told_as_such(self) -> None:
        _, second = self.start()
        second.other.answers = False
        outcomes = self.submit(1, 1)
        self.problem = ConnectionError("nobody is there")
        self.link.abort("a broken network")
        self.pump.run()
        self.assertEqual([each.away for each in self.upper.engines.values()], [True, True])
        self.pass_time(GRACE + 1)
        self.assertEqual(list(self.upper.engines), [])
        self.assertIn("its gateway (process", str(outcomes[0].error))
        self.assertIn("is out of reach", str(outcomes[0].error))
        self.assertEqual(list(self.lower.engines), [0, 1])

    def test_engines_come_back_with_their_gateway_and_under_their_ids(self) -> None:
        engines = self.start()
        engines[1].other.answers = False
        outcomes = self.submit(1, 1)
        self.upper_link.abort("a broken network")
        self.pass_time(1.0)
        self.assertEqual([each.away for each in self.upper.engines.values()], [False, False])
        self.assertEqual([each.other.welcomes[1].known for each in engines], [True, True])
        # It did not say that it holds the command, so that is sent again.
        self.assertEqual(engines[1].other.commands, [1, 1])
        engines[1].other.answer(1)
        self.pump.run()
        self.assertEqual([each.status for each in outcomes], [messages.OK])

    def test_an_engine_that_is_gone_for_its_gateway_is_gone(self) -> None:
        engines = self.start()
        engines[0].link.send(frames.GOODBYE, 0, b"", b"its job was over")
        self.pump.run()
        self.assertEqual(list(self.upper.engines), [1])

    def test_an_engine_whose_link_to_the_gateway_is_lost_is_away_and_comes_back(self) -> None:
        engines = self.start()
        engines[0].link.abort("a broken network")
        self.pump.run()
        self.assertEqual([each.away for each in self.upper.engines.values()], [True, False])
        engines[0].connect()
        self.assertEqual([each.away for each in self.upper.engines.values()], [False, False])
        self.assertEqual(len(self.submit(0, 1)), 1)

    def test_garbage_of_an_engine_costs_no_other_one(self) -> None:
        engines = self.start()
        lane = engines[0].other.link
        assert lane is not None
        lane.send(frames.OUTCOME, 1, b"short")
        self.pump.run()
        self.assertFalse(self.link.lost)
        self.assertEqual([each.away for each in self.upper.engines.values()], [True, False])
        self.pass_time(ASK_AGAIN)
        self.assertEqual(engines[0].greetings, 2)
        self.assertEqual([each.away for each in self.upper.engines.values()], [False, False])

    def test_an_engine_that_was_killed_and_could_not_be_ended_is_told_when_it_greets(self) -> None:
        engines = self.start()
        self.upper.engines[0].kill()
        self.pass_time(1.0)
        self.assertEqual(list(self.upper.engines), [1])
        self.pass_time(ASK_AGAIN)
        self.assertEqual(engines[0].greetings, 2)
        self.assertEqual(list(self.upper.engines), [1])


class RefusalTests(GatewayCase):
    def refused(self, attempt: Callable[[], object]) -> str:
        return str(self.assertRaises(ClientError, attempt))

    def test_a_gateway_has_no_gateways(self) -> None:
        face = FCEngines(self.lower)
        why = self.refused(lambda: face.accept(greeting(messages.GATEWAY)))
        self.assertIn("two levels", why)

    def test_a_gateway_that_is_refused_at_first_ends(self) -> None:
        self.problem = SecurityError("this FURL is for others")
        self.start(0)
        self.assertEqual(self.refusals, [self.problem])
        self.pass_time(1000.0)
        self.assertEqual(self.attempts, 1)

    def test_later_it_tries_again_and_serves_its_own_clients(self) -> None:
        engines = self.start()
        self.problem = SecurityError("this FURL is not known any more")
        self.link.abort("a broken network")
        self.pass_time(1.0)
        self.assertIn("not known any more", self.lower.warnings[0])
        self.assertEqual(self.refusals, [])
        self.problem = None
        for _ in range(2):
            self.pass_time(REFUSED_PAUSE)
        self.assertEqual(self.lower.warnings, [])
        self.assertEqual(len(engines[0].other.welcomes), 2)

    def test_while_nobody_is_there_it_tries_again_and_says_so(self) -> None:
        self.problem = ConnectionError("nobody is there")
        (engine,) = self.start(1)
        (warning,) = self.lower.warnings
        self.assertIn("cannot be reached: nobody is there; the engines serve only", warning)
        self.assertEqual(engine.greetings, 0)
        for _ in range(20):
            self.pass_time(1.0)
        self.assertGreater(self.attempts, 3)
        self.problem = None
        self.pass_time(20.0)
        self.assertEqual((self.lower.warnings, list(self.upper.engines)), ([], [0]))

    def test_frames_that_no_gateway_sends_end_the_connection(self) -> None:
        self.start()
        self.link.send(frames.SUBMIT, 1)
        self.pump.run()
        self.assertTrue(self.link.lost)
