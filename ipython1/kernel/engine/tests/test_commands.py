"""The table of commands: what a client packs by it an engine runs by it, and what comes of that the client reads."""

from __future__ import annotations

import inspect
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.engine import worker
from ipython1.kernel.engine.service import EngineService
from ipython1.kernel.engine.worker import Command, CommandRunner
from ipython1.kernel.objects import commands
from ipython1.kernel.objects.commands import COMMANDS, CommandKind, ReturnValue, read_failure
from ipython1.kernel.objects.mapparts import MapPart
from ipython1.kernel.objects.serialize import dumps, loads
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.payload import join_inline, split_inline
from ipython1.testing import InMemoryCluster
from ipython1.testing.cluster import PlainInterpreter


def double(x: int) -> int:
    return 2 * x


EXAMPLES: dict[CommandKind[..., Any], tuple[tuple[Any, ...], Any]] = {
    commands.PUSH: (({"a": dumps([1]), "b": dumps("two")},), None),
    commands.SCATTER: (({"c": dumps([3])}, commands.Part("c", "9f", 0, [[0, 1]])), None),
    commands.PULL: ((["a", "b"],), {"a": [1], "b": "two"}),
    commands.PUSH_FUNCTION: (({"f": dumps(double)},), None),
    commands.PULL_FUNCTION: ((["f"],), {"f": double}),
    commands.KEYS: ((), ["a", "b", "c", "f"]),
    commands.EXECUTE: (("c = a * 2; print(c)",), "[1, 1]\n"),
    commands.GET_RESULT: ((None,), "[1, 1]\n"),
    commands.APPLY: ((double, (4,), {}), ReturnValue(8, {})),
    commands.MAP: (
        (dumps(double), dumps([[1, 2]]), "double"),
        ReturnValue(MapPart([2, 4], {}), {}),
    ),
    commands.SET_PROPERTIES: (({"ram": 4, "gpu": None},), None),
    commands.GET_PROPERTIES: ((["ram"],), {"ram": 4}),
    commands.HAS_PROPERTIES: ((["ram", "disk"],), [True, False]),
    commands.DEL_PROPERTIES: ((["ram"],), None),
    commands.CLEAR_PROPERTIES: ((), None),
    commands.DEBUG: ((), None),
    commands.RESET: ((), None),
}
"""What to give each command, one after the other on one engine, and what to get."""


def plain(kind: CommandKind[..., Any], value: Any) -> Any:
    """A value that was read, as the examples have it."""
    if kind in (commands.EXECUTE, commands.GET_RESULT):
        return value["stdout"]
    if kind in (commands.PULL, commands.PULL_FUNCTION):
        return {name: loads(each) for name, each in value.items()}
    if isinstance(value, commands.ReturnValue):
        assert value.output.pop("duration") >= 0
    return value


class TableTest(SynchronousTestCase):
    def setUp(self):
        self.service = EngineService(PlainInterpreter())
        self.runner = CommandRunner(self.service)

    def run_one(self, kind: CommandKind[..., Any], *args: Any) -> messages.Outcome:
        # As on the wire: joined, and split where it arrives.
        buffers = split_inline(join_inline(kind.pack(*args)))
        return self.runner.run(Command(b"c" * 16, 1, kind.name, buffers))

    def test_what_clients_pack_engines_run_and_clients_read(self):
        self.assertEqual({kind.name for kind in EXAMPLES}, set(COMMANDS), "each has an example")
        for kind, (args, expected) in EXAMPLES.items():
            outcome = self.run_one(kind, *args)
            self.assertEqual(outcome.status, messages.OK, kind.name)
            self.assertEqual(plain(kind, kind.value.read(outcome.buffers)), expected, kind.name)

    def test_what_user_code_raises_comes_with_what_was_there_before(self):
        outcome = self.run_one(commands.EXECUTE, "print('so far'); 1/0")
        record, result = read_failure(outcome.buffers)
        self.assertEqual((outcome.status, record.ename), (messages.FAILED, "ZeroDivisionError"))
        self.assertEqual(result["stdout"], "so far\n")
        record, result = read_failure(self.run_one(commands.APPLY, double, (), {}).buffers)
        self.assertEqual((record.ename, list(result)), ("TypeError", ["duration"]))

    def test_what_a_function_wrote_before_it_raised(self):
        def write(x):
            print("so far")
            return 1 // x

        record, output = read_failure(self.run_one(commands.APPLY, write, (0,), {}).buffers)
        self.assertEqual((record.ename, output["stdout"]), ("ZeroDivisionError", "so far\n"))
        self.assertGreaterEqual(output["duration"], 0)

    def test_what_an_engine_knows_of_parts_comes_with_what_is_pulled(self):
        def told(name: str) -> commands.PartsTold:
            return commands.PULLED.read_told(self.run_one(commands.PULL, [name]).buffers)

        self.run_one(commands.EXECUTE, "z = 5")
        self.assertEqual(told("z"), ([], []))
        a, b = (commands.Part(name, f"9{name}", 1, [[0, 1], [4, 1]]) for name in "ab")
        for part in (a, b):
            self.run_one(commands.SCATTER, {part.name: dumps([3])}, part)
        self.run_one(commands.EXECUTE, "y = a + b")
        self.run_one(commands.PUSH, {"b": dumps([4])})
        self.assertEqual(told("a"), ([a], ["a", "b"]))
        self.assertEqual(told("b"), ([], ["a", "b"]))
        self.assertEqual(told("y").parts, [a, b])
        self.run_one(commands.RESET)
        self.run_one(commands.EXECUTE, "y = 1")
        self.assertEqual(told("y").parts, [])

    def test_values_that_cannot_be_sent_are_named(self):
        outcome = self.run_one(commands.APPLY, lambda: (i for i in "abc"), (), {})
        record, _ = read_failure(outcome.buffers)
        self.assertEqual(record.ename, "SerializationError")
        self.assertIn("type generator cannot be sent", record.evalue)

    def test_a_new_row_needs_its_method_and_nothing_else(self):
        class Service(EngineService):
            def count(self, key: str) -> int:
                return len(self.pull(key))

        row = CommandKind("count", commands.Plain("key"), commands.Object())
        self.patch(worker, "COMMANDS", {**COMMANDS, "count": row})
        self.assertRaises(AttributeError, CommandRunner, self.service)
        self.runner = CommandRunner(Service(PlainInterpreter()))
        self.run_one(commands.PUSH, {"a": dumps("abc")})
        self.assertEqual(row.value.read(self.run_one(row, "a").buffers), 3)

    def test_every_row_has_a_method_that_takes_its_arguments(self):
        for kind, (args, _) in EXAMPLES.items():
            method = getattr(self.service, kind.run or kind.name)
            inspect.signature(method).bind(*kind.arguments.unpack(kind.pack(*args), self.service))


class ControllersOwnTest(SynchronousTestCase):
    """The controller has commands of its own, and does not know the table."""

    def test_engines_understand_them(self):
        cluster = InMemoryCluster(1)
        engine = cluster.controller.engines[0]
        outcomes = [
            engine.execute("a = 1"),
            engine.push_serialized({"b": dumps(2)}),
            engine.keys(),
            engine.pull_serialized(["a", "b"]),
            engine.reset(),
        ]
        cluster.pump.run()
        ended = [self.successResultOf(outcome) for outcome in outcomes]
        self.assertEqual([outcome.status for outcome in ended], [messages.OK] * 5)
        keys, pulled = (split_inline(outcome.payload) for outcome in ended[2:4])
        self.assertEqual(commands.KEYS.value.read(keys), ["a", "b"])
        self.assertEqual(
            {name: loads(value) for name, value in commands.PULL.value.read(pulled).items()},
            {"a": 1, "b": 2},
        )
