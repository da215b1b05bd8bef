"""An engine that serves the controller behind its gateway, too: two sides, one main thread."""

from __future__ import annotations

import uuid
from contextlib import nullcontext
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ipython1.core.livedisplays import LiveDisplays
from ipython1.core.userhandlers import UserHandlers
from ipython1.kernel.engine.service import EngineService
from ipython1.kernel.engine.side import Session, Side, SourcesInTurn
from ipython1.kernel.engine.tests.test_engineend import Output
from ipython1.kernel.engine.upstream import Upstream
from ipython1.kernel.engine.worker import Command, CommandRunner, Worker
from ipython1.kernel.tests.wiresupport import Recorder
from ipython1.kernel.wire import frames, messages, taskwire
from ipython1.kernel.wire.lanes import Lanes
from ipython1.kernel.wire.messages import Outcome
from ipython1.kernel.wire.payload import join_inline
from ipython1.testing.cluster import InlineWorker
from ipython1.testing.memory import Pump, connect_in_memory
from ipython1.testing.plaininterpreter import PlainInterpreter

CLIENT = b"c" * 16
OTHER = b"d" * 16
LANE = 1


class SideWorker(InlineWorker):
    """Runs commands in this thread."""

    def _done(self, command: Command, outcome: Outcome) -> None:
        assert command.owner is not None
        command.owner.ended(command, outcome)


class SideCase(SynchronousTestCase):
    """An engine that has registered with its gateway as engine 3."""

    def setUp(self) -> None:
        self.pump = Pump()
        service: Any = EngineService(PlainInterpreter())  # type: ignore[arg-type]
        self.worker: Any = SideWorker(CommandRunner(service), self.pump)
        self.exits: list[float] = []
        self.session = Session(
            service,
            self.worker,
            self.worker,
            Output(),
            LiveDisplays(),
            UserHandlers(),
            self.pump,
            lambda: self.exits.append(self.pump.seconds()),
        )
        self.own = Side(self.session)
        hello = messages.Hello(uuid.uuid4().hex, 1, "host", messages.ENGINE, secret="secret")
        self.upstream = Upstream(hello, self.make_other)
        self.gateway = Recorder()
        self.connect()

    def make_other(self) -> Side:
        self.other = Side(self.session)
        self.own.end.beside, self.other.end.beside = self.other.end, self.own.end
        return self.other

    def connect(self) -> None:
        self.link, self.there = connect_in_memory(self.pump, self.own.end, self.gateway)
        self.upstream.offer(self.link)
        self.lanes = Lanes(self.there)
        self.own.attach(self.link, messages.Welcome(engine_id=3), "")
        self.pump.run()

    def ask(self) -> messages.Hello:
        """Have it greet the upstream; return the greeting."""
        self.far = Recorder()
        self.lane = self.lanes.add(LANE, self.far)
        self.lane.open(frames.pack_frame(frames.GREET, 0))
        self.pump.run()
        return messages.Hello.unpack(self.far.frames[-1][4])

    def welcome(self, known: bool = False) -> None:
        answer = messages.Welcome(engine_id=40, instance="upper", known=known)
        self.lane.send(frames.WELCOMED, 0, b"", answer.pack())
        self.pump.run()

    def command(self, link: Any, origin: bytes, number: int) -> None:
        meta = messages.CommandMeta(origin, "keys").pack()
        link.send(frames.COMMAND, number, meta, join_inline([b"{}"]))
        self.pump.run()

    def outcomes(self, recorder: Recorder) -> list[int]:
        return [frame[2] for frame in recorder.frames if frame[0] == frames.OUTCOME]

    def kinds(self, recorder: Recorder) -> list[int]:
        return [frame[0] for frame in recorder.frames]


class UpstreamTests(SideCase):
    def test_it_greets_as_itself_and_with_another_secret(self) -> None:
        hello = self.ask()
        self.assertEqual(hello.uuid, self.upstream._hello.uuid)
        self.assertNotEqual(hello.secret, "secret")
        self.assertEqual(self.ask_again().secret, hello.secret)

    def ask_again(self) -> messages.Hello:
        self.lane.abort("the upstream is away")
        return self.ask()

    def test_each_controller_gets_the_outcomes_of_its_own_commands(self) -> None:
        self.ask()
        self.welcome()
        self.command(self.there, CLIENT, 1)
        self.command(self.lane, OTHER, 2)
        self.assertEqual((self.outcomes(self.gateway), self.outcomes(self.far)), ([1], [2]))
        self.assertEqual(
            (self.own.end.commands.engine_id, self.other.end.commands.engine_id), (3, 40)
        )

    def test_an_outcome_that_is_not_confirmed_is_kept_for_the_upstream_alone(self) -> None:
        self.ask()
        self.welcome()
        self.command(self.lane, OTHER, 2)
        self.assertEqual(self.ask_again().holds.finished, ((OTHER.hex(), 2),))
        self.assertEqual(self.own.holds().finished, ())
        self.welcome(known=True)
        self.lane.send(frames.RECLAIM, 2, OTHER)
        self.pump.run()
        self.assertEqual(self.outcomes(self.far), [2])

    def test_an_upstream_that_does_not_know_it_any_more_gets_nothing_of_before(self) -> None:
        self.ask()
        self.welcome()
        self.command(self.lane, OTHER, 2)
        self.ask_again()
        self.welcome(known=False)
        self.assertEqual(self.other.holds().finished, ())

    def test_results_of_tasks_are_numbered_for_each_controller(self) -> None:
        self.ask()
        self.welcome()
        for link in (self.there, self.lane):
            for parts, size in taskwire.pack_runs([(7, 1, 0, b"not a task")]):
                link.send_packed(parts, size)
        self.pump.run()
        self.worker.source = SourcesInTurn([self.own.tasks, self.other.tasks])
        self.worker.wake()
        self.pump.run()
        for recorder in (self.gateway, self.far):
            (results,) = [frame for frame in recorder.frames if frame[0] == taskwire.RESULTS]
            self.assertEqual(results[2], 1)
            self.assertEqual(taskwire.unpack_results(results[4])[0][:2], (7, 1))

    def test_with_the_gateway_both_are_lost(self) -> None:
        self.ask()
        self.welcome()
        self.there.abort("the gateway was killed")
        self.pump.run()
        self.assertIsNone(self.other.end.outbox.link)
        self.connect()
        self.ask()
        self.welcome(known=True)
        self.command(self.lane, OTHER, 3)
        self.assertEqual(self.outcomes(self.far), [3])


class LeavingTests(SideCase):
    def test_it_tells_both_and_waits_for_both(self) -> None:
        self.ask()
        self.welcome()
        self.own.end.leave()
        self.pump.run()
        self.assertIn(frames.LEAVING, self.kinds(self.gateway))
        self.assertIn(frames.LEAVING, self.kinds(self.far))
        self.there.send(frames.STOP, 0)
        self.pump.run()
        self.assertFalse(self.worker.stopped)
        self.lane.send(frames.STOP, 0)
        self.pump.run()
        self.assertTrue(self.worker.stopped)

    def test_it_waits_for_nobody_who_is_away(self) -> None:
        self.ask()
        self.welcome()
        self.own.end.leave()
        self.lane.abort("the upstream is away")
        self.there.send(frames.STOP, 0)
        self.pump.run()
        self.assertTrue(self.worker.stopped)

    def test_it_ends_when_the_one_that_it_waits_for_goes_away(self) -> None:
        self.ask()
        self.welcome()
        self.own.end.leave()
        self.there.send(frames.STOP, 0)
        self.pump.run()
        self.assertFalse(self.worker.stopped)
        self.lane.abort("the upstream is away")
        self.pump.run()
        self.assertTrue(self.worker.stopped)

    def test_who_kills_it_does_not_wait(self) -> None:
        self.ask()
        self.welcome()
        self.lane.send(frames.STOP, 0)
        self.pump.run()
        self.assertTrue(self.worker.stopped)


class Owner:
    """Whom commands are from."""

    engine_id = 0

    def ended(self, command: Command, outcome: Outcome) -> None:
        pass


class AwayTests(SynchronousTestCase):
    def test_while_one_controller_is_away_the_commands_of_the_other_begin(self) -> None:
        service: Any = EngineService(PlainInterpreter())  # type: ignore[arg-type]
        ran: list[int] = []

        def done(command: Command, outcome: Outcome) -> None:
            ran.append(command.number)
            if command.number == 3:
                worker.set_away(False, away)
            if command.number == 1:
                worker.stop()

        class Gate:
            def running(self, run_id: object) -> Any:
                return nullcontext()

        gate: Any = Gate()
        worker = Worker(CommandRunner(service), gate, done)
        away, here = Owner(), Owner()
        worker.set_away(True, away)
        for number, owner in ((1, away), (2, here), (3, here)):
            worker.put(Command(CLIENT, number, "keys", (b"{}",), owner=owner))
        worker.loop()
        self.assertEqual(ran, [2, 3, 1])
