"""The engine's main thread: its loop, its properties, and running commands by name."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from contextlib import contextmanager
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ipython1.core.failures import ExceptionRecord
from ipython1.core.userhandlers import UserHandlers
from ipython1.kernel.basics.engineinterfaces import IEngineBase
from ipython1.kernel.basics.error import ConnectionError, InvalidProperty, NotDefined, ProtocolError
from ipython1.kernel.engine import service as engineservice
from ipython1.kernel.engine.service import EngineService, Properties
from ipython1.kernel.engine.worker import (
    Command,
    CommandRunner,
    Worker,
)
from ipython1.kernel.objects.commands import COMMANDS
from ipython1.kernel.objects.serialize import dumps, loads
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.messages import Outcome
from ipython1.kernel.wire.named import pack_named
from ipython1.testing.cluster import PlainInterpreter

SOON = 10.0


class Gate:
    """An ``InterruptGate`` without signals; raises ``late`` when a command is over, as a late Ctrl-C may."""

    def __init__(self) -> None:
        self.late: BaseException | None = None

    @contextmanager
    def running(self, run_id: Hashable) -> Any:
        yield
        if self.late:
            late, self.late = self.late, None
            raise late


class Handlers(UserHandlers):
    """One of them may strike while they are put aside."""

    def __init__(self) -> None:
        super().__init__()
        self.strikes: list[BaseException] = []

    def put_aside(self) -> None:
        if self.strikes:
            raise self.strikes.pop()


def command(number: int, method: str = "execute", buffers: Any = None, **changes: Any) -> Command:
    if buffers is None:
        buffers = [messages.pack_json({"source": f"x = {number}"})]
    return Command(b"c" * 16, number, method, buffers, **changes)


class WorkerTest(SynchronousTestCase):
    """The loop, in a thread that plays the main thread."""

    def setUp(self):
        self.service = EngineService(PlainInterpreter())
        self.gate = Gate()
        self.outcomes: list[tuple[int, Outcome]] = []
        self.ended = threading.Semaphore(0)
        self.handlers = Handlers()
        self.worker = Worker(CommandRunner(self.service), self.gate, self.done, self.handlers)
        self.thread = threading.Thread(target=self.worker.loop)
        self.addCleanup(self.thread.join, SOON)
        self.addCleanup(self.worker.stop)

    def done(self, command: Command, outcome: Outcome) -> None:
        self.outcomes.append((command.number, outcome))
        self.ended.release()

    def wait(self, count: int) -> None:
        for _ in range(count):
            self.assertTrue(self.ended.acquire(timeout=SOON))

    def test_commands_run_in_order_whoever_brings_them_and_whenever(self):
        self.thread.start()
        counts = 4
        each = 500

        def bring(first: int) -> None:
            for number in range(first, first + each):
                self.worker.put(command(number))

        threads = [threading.Thread(target=bring, args=(n * 10_000,)) for n in range(counts)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.wait(counts * each)
        numbers = [number for number, _ in self.outcomes]
        for n in range(counts):
            of_one = [number for number in numbers if number // 10_000 == n]
            self.assertEqual(of_one, list(range(n * 10_000, n * 10_000 + each)))

    def test_it_wakes_for_each_command_that_comes_alone(self):
        self.thread.start()
        for number in range(300):
            self.worker.put(command(number))
            self.wait(1)
        self.assertEqual(len(self.outcomes), 300)

    def test_what_user_code_left_behind_does_not_end_it(self):
        """A signal handler or a trace function that raises in the loop's own lines."""

        class Source:
            def __init__(self) -> None:
                self.raised = 0
                self.went_idle = threading.Event()
                self.troubles: list[BaseException] = []

            def run_one(self) -> bool:
                if self.raised < 3:
                    self.raised += 1
                    raise TimeoutError("an alarm of the command before")
                return False

            def idle(self) -> None:
                self.went_idle.set()

            def broken_off(self, trouble: BaseException) -> None:
                self.troubles.append(trouble)

        source = self.worker.source = Source()
        self.gate.late = TimeoutError("an alarm")
        self.thread.start()
        self.worker.put(command(1))
        self.worker.put(command(2))
        self.wait(2)
        self.assertEqual([each.status for _, each in self.outcomes], [messages.FAILED, messages.OK])
        self.assertTrue(source.went_idle.wait(SOON))
        self.worker.stop()
        self.thread.join(SOON)
        self.assertEqual(source.raised, 3)
        self.assertEqual([type(each) for each in source.troubles], [TimeoutError] * 3)
        self.assertFalse(self.worker.busy)

    def test_it_is_busy_only_while_something_runs(self):
        begun, go_on = threading.Event(), threading.Event()
        self.service.interpreter.user_ns.update(begun=begun, go_on=go_on)
        self.assertFalse(self.worker.busy)
        self.thread.start()
        self.worker.put(command(1, buffers=[b'{"source": "begun.set(); go_on.wait()"}']))
        self.assertTrue(begun.wait(SOON))
        self.assertTrue(self.worker.busy)
        self.assertEqual(self.worker.running.number, 1)
        self.worker.stop()
        go_on.set()
        self.thread.join(SOON)
        self.assertFalse(self.worker.busy)
        self.assertIsNone(self.worker.running)

    def test_a_command_is_answered_if_something_strikes_while_it_is_given_up(self):
        self.handlers.strikes.append(TimeoutError("another alarm"))
        self.gate.late = TimeoutError("an alarm")
        self.thread.start()
        self.worker.put(command(1))
        self.worker.put(command(2))
        self.wait(2)
        self.assertEqual([number for number, _ in self.outcomes], [1, 2])
        record, _ = loads(self.outcomes[0][1].buffers)
        self.assertEqual((record.ename, record.evalue), ("TimeoutError", "another alarm"))
        self.assertEqual(self.outcomes[1][1].status, messages.OK)

    def test_what_was_taken_out_does_not_run(self):
        for number in (1, 2, 3):
            self.worker.put(command(number))
        taken = self.worker.take_out((b"c" * 16, 2))
        self.assertEqual(taken and taken.number, 2)
        self.assertIsNone(self.worker.take_out((b"c" * 16, 2)))
        self.thread.start()
        self.wait(2)
        self.assertEqual([number for number, _ in self.outcomes], [1, 3])

    def test_each_command_either_runs_or_is_taken_out(self):
        self.thread.start()
        taken = 0
        for number in range(500):
            self.worker.put(command(number))
            taken += self.worker.take_out((b"c" * 16, number)) is not None
        self.wait(500 - taken)
        self.assertEqual(len(self.outcomes), 500 - taken)

    def test_stopping_leaves_what_has_not_begun(self):
        self.worker.put(command(1))
        self.worker.stop()
        self.thread.start()
        self.thread.join(SOON)
        self.assertEqual(self.outcomes, [])

    def test_an_interrupt_that_comes_when_the_command_is_over_is_its_answer(self):
        self.gate.late = KeyboardInterrupt()
        self.thread.start()
        self.worker.put(command(1))
        self.worker.put(command(2))
        self.wait(2)
        statuses = [outcome.status for _, outcome in self.outcomes]
        self.assertEqual(statuses, [messages.FAILED, messages.OK])
        record, _ = loads(self.outcomes[0][1].buffers)
        self.assertEqual(record.ename, "KeyboardInterrupt")

    def test_other_work_is_done_between_commands_and_told_when_there_is_none(self):
        log: list[str] = []
        told = threading.Event()
        case = self

        class Source:
            left = 3

            def run_one(self) -> bool:
                if not self.left:
                    return False
                self.left -= 1
                log.append("task")
                if self.left == 1:
                    case.worker.put(command(1))
                return True

            def idle(self) -> None:
                log.append("idle")
                if log[-2:] == ["task", "idle"]:
                    told.set()

        source = Source()
        self.worker.source = source
        self.thread.start()
        self.wait(1)
        self.assertTrue(told.wait(SOON))
        self.assertEqual(log[:4], ["task", "task", "task", "idle"])
        self.assertEqual([number for number, _ in self.outcomes], [1])
        told.clear()
        source.left = 1
        self.worker.wake()
        self.assertTrue(told.wait(SOON))
        self.assertEqual([each for each in log[4:] if each == "task"], ["task"])
        self.assertEqual(log[-1], "idle")

    def test_wakings_do_not_pile_up(self):
        """Many wake-ups of a busy loop are one when it looks again."""
        looks = []

        class Source:
            def run_one(self) -> bool:
                looks.append(1)
                return False

            def idle(self) -> None:
                pass

        self.worker.source = Source()
        for _ in range(10_000):
            self.worker.wake()
        self.thread.start()
        self.worker.put(command(1))
        self.wait(1)
        self.worker.stop()
        self.thread.join(SOON)
        self.assertLess(len(looks), 10)


class RunnerTest(SynchronousTestCase):
    def setUp(self):
        self.service = EngineService(PlainInterpreter())
        self.runner = CommandRunner(self.service)

    def run_one(self, method: str, buffers: Any = ()) -> Outcome:
        return self.runner.run(command(1, method, buffers))

    def record(self, outcome: Outcome) -> ExceptionRecord:
        self.assertEqual(outcome.status, messages.FAILED)
        record, _ = loads(outcome.buffers)
        return record

    def test_interfaces(self):
        self.assertTrue(verifyObject(IEngineBase, self.service))

    def test_unknown_methods_are_refused(self):
        for method in ("", "__class__", "stop", "push_serialized", "no such"):
            outcome = self.run_one(method)
            self.assertEqual(outcome.status, messages.REFUSED)
            self.assertIsInstance(outcome.error, ProtocolError)

    def test_arguments_that_are_garbage_fail_that_command(self):
        for method in COMMANDS:
            for buffers in ((), [b""], [b"garbage"], [b"5"], [b'{"names": {"a": 7}}']):
                self.assertIn(self.run_one(method, buffers).status, (messages.FAILED, messages.OK))
        self.assertEqual(self.run_one("execute", [b'{"source": "a = 1"}']).status, messages.OK)

    def test_data_that_did_not_arrive(self):
        lost = ConnectionError("lost")
        outcome = self.runner.run(command(1, problem=lost))
        self.assertEqual((outcome.status, outcome.error), (messages.REFUSED, lost))

    def test_a_push_that_cannot_be_rebuilt_sets_nothing(self):
        good, bad = dumps(1), dumps(2)
        named = pack_named({"a": good, "b": type(bad)((b"garbage",))})
        self.assertEqual(self.record(self.run_one("push", named)).ename, "SerializationError")
        self.assertEqual(self.service.keys(), [])

    def test_whatever_user_code_raises_is_an_answer(self):
        for code in ("raise SystemExit", "raise KeyboardInterrupt", "raise GeneratorExit", "1/0"):
            self.record(self.run_one("execute", [messages.pack_json({"source": code})]))

    def test_applied_functions(self):
        buffers = dumps((lambda x, y: x + y, (1,), {"y": 2})).buffers
        self.assertEqual(loads(self.run_one("apply", buffers).buffers)[0], 3)


class PropertiesTest(SynchronousTestCase):
    def setUp(self):
        self.changes = 0
        self.properties = Properties(self.changed)

    def changed(self):
        self.changes += 1

    def test_every_way_to_change_them_is_told(self):
        p = self.properties
        steps = [
            lambda: p.__setitem__("a", 1),
            lambda: p.update(b=2),
            lambda: p.update({"c": 3}),
            lambda: p.__ior__({"d": 4}),
            lambda: p.setdefault("e", 5),
            lambda: p.pop("a"),
            lambda: p.popitem(),
            lambda: p.__delitem__("b"),
            lambda: p.clear(),
        ]
        for number, step in enumerate(steps, 1):
            step()
            self.assertEqual(self.changes, number)
        self.assertEqual(p, {})

    def test_looking_is_not_changing(self):
        self.properties["a"] = 1
        self.properties.get("a"), "a" in self.properties, list(self.properties.items())
        self.assertRaises(KeyError, self.properties.pop, "x")
        self.assertEqual(self.changes, 1)

    def test_code_on_an_engine_reaches_them(self):
        service = EngineService(PlainInterpreter())
        self.assertIs(engineservice.properties(), service.properties)

    def test_errors_name_what_there_is(self):
        service = EngineService(PlainInterpreter())
        service.id = 4
        error = self.assertRaises(InvalidProperty, service.get_properties, ["x"])
        self.assertEqual(str(error), "engine 4 has no property 'x'; it has: none")
        self.assertRaises(NotDefined, service.pull, "x")
        self.assertRaises(NotDefined, service.pull_function, "x")
