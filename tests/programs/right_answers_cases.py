"""What functions bring along belongs to their call alone: one small case for each way in which that can go wrong.

Run on a cluster of two engines; arguments are those of ``python -m unittest``.
"""

# ruff: noqa: C400, E731, F821, SIM118 (functions as users write them; some names are defined only on engines)

from __future__ import annotations

import decimal
import functools
import importlib
import re
import sys
import threading
import unittest
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import cloudpickle
from right_answers_world import (
    FOLDER,
    WAYS,
    Clients,
    recipes,
    run_program,
    same,
    tools,
    write_recipes,
)

from ipython1.kernel import client

users = [Clients(0), Clients(1)]
mec, tc = users[0].mec, users[0].tc

# -- a user's program

rate = 1
factor = 100
limits = {"low": 1}
seen: list[int] = []


def scaled(x: int) -> int:
    return x * rate


def also(x: int) -> Any:
    return x + rate, scaled(x)


def low(x: int) -> int:
    return x + limits["low"]


def grown(x: int) -> list[int]:
    seen.append(x)
    return list(seen)


def by_generator(x: int) -> Any:
    return list(y * rate for y in range(x)), [scaled(y) for y in range(x)]


def by_class_body(x: int) -> Any:
    class Local:
        doubled = rate * 2
        scaled = scaled(x)

    return Local.doubled, Local.scaled


def by_eval(x: int) -> Any:
    return rate, scaled(x), eval("rate * x"), eval("scaled(x)", globals(), {"x": x})


def by_lambda(x: int) -> Any:
    late = lambda y: (y * rate, scaled(y))
    return late(x)


def by_thread(x: int) -> Any:
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(also(x))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def by_tools(x: int) -> Any:
    return factor, tools.scaled(x), (lambda: factor)()


def call(function: Callable[[int], Any], x: int) -> Any:
    return function(x)


def calls_helper(x: int) -> Any:
    return helper(x)


def helper(x: int) -> Any:
    return "first", x * rate


def start_waiting() -> None:
    def wait() -> None:
        gate.wait(20)
        told.append(also(10))

    global waiter
    waiter = threading.Thread(target=wait)
    waiter.start()


def make_late() -> None:
    global late

    def late(x: int) -> Any:
        return also(x), by_class_body(x), low(x)


class Model:
    def run(self, x: int) -> Any:
        return scaled(x), rate


def by_class(x: int) -> Any:
    return Model().run(x)


def is_model() -> bool:
    return isinstance(held, Model)


def write_found(x: int) -> None:
    global found
    found = x


def write_found_inside(x: int) -> None:
    def inner() -> None:
        global found
        found = x

    inner()


def write_and_fail(x: int) -> None:
    write_found(x)
    raise ValueError("after that")


def remove_found() -> None:
    global found
    del found


counter = 0


def count() -> int:
    global counter
    counter += 1
    return counter


def note(x: int) -> None:
    log.append(x)


def there(x: int) -> Any:
    return x + only_there


class Level:
    """A class without functions, so that nothing but its attributes travels."""

    height = 1
    notes: ClassVar[list[int]] = []


class High(Level):
    height = 7


def height_of(level: Level) -> int:
    return level.height


def make_level(x: int) -> Level:
    return Level()


def class_height(x: int) -> int:
    return Level.height * x


def height_of_high(x: int) -> int:
    return High.height * x


@functools.lru_cache
def cached(x: int) -> int:
    return x * rate


@functools.singledispatch
def dispatched(x: int) -> int:
    return x * rate


def applied(function: Callable[[int], int]) -> int:
    return function(10)


context = decimal.Context(prec=3)


def third(x: int) -> str:
    return str(context.divide(x, 3))


def more_precise(x: int) -> int:
    context.prec += 1
    return context.prec


class Teller:
    def tell(self) -> None:
        seen.append(1)

    def count(self) -> None:
        count()


def told(teller: Teller) -> int:
    teller.tell()
    return len(seen)


def counted(teller: Teller) -> int:
    teller.count()
    return counter


def count_if_there(x: int) -> int:
    global counter
    if "counter" not in globals():
        counter = 100
    counter += x
    return counter


class OwnTask(client.MapTask):
    def submit_task(self, engine: Any) -> Any:
        return super().submit_task(engine), rate


def set_rate(value: int) -> None:
    global rate
    rate = value


def in_user_namespace(name: str) -> list[bool]:
    """Whether a name is in the engines' namespaces."""
    mec.execute(f"is_there = {name!r} in globals()")
    found: list[bool] = mec.pull("is_there")
    return found


OF_OBJECTS = [way for way in WAYS if "execute" not in way]
"""Ways that take any object as an argument."""


class Case(unittest.TestCase):
    def setUp(self) -> None:
        mec.reset()
        set_rate(1)
        limits["low"] = 1

    def through(self, way: str, function: Any, xs: list[int], user: int = 0) -> Any:
        return WAYS[way](users[user], function, list(xs))()


class ValuesOfTheCall(Case):
    """A call computes with the values at its time."""

    def changing(self, function: Callable[[int], Any], rates: Sequence[int] = (1, 2, 1)) -> None:
        for way in WAYS:
            with self.subTest(way):
                wanted, got = [], []
                for value in rates:
                    set_rate(value)
                    wanted.append([function(x) for x in (1, 3)])
                    got.append(self.through(way, function, [1, 3]))
                self.assertEqual(got, wanted)

    def test_global(self) -> None:
        self.changing(scaled, (1, 2, 1, 2))

    def test_helpers_global(self) -> None:
        self.changing(also, (1, 2, 1, 2))

    def test_generator_expression(self) -> None:
        self.changing(by_generator)

    def test_class_body(self) -> None:
        self.changing(by_class_body)

    def test_class_of_main(self) -> None:
        self.changing(by_class)

    def test_bound_method(self) -> None:
        self.changing(Model().run)

    def test_eval(self) -> None:
        self.changing(by_eval)

    def test_lambda_made_at_run_time(self) -> None:
        self.changing(by_lambda)

    def test_threads(self) -> None:
        self.changing(by_thread)

    def test_lambda(self) -> None:
        self.changing(lambda x: (x, rate))

    def test_helper_in_a_module_reads_its_own_values(self) -> None:
        for way in WAYS:
            with self.subTest(way):
                wanted, got = [], []
                for value in (1, 2, 1, 2):
                    tools.factor = value  # type: ignore[attr-defined]
                    wanted.append([by_tools(3)])
                    got.append(self.through(way, by_tools, [3]))
                self.assertEqual(got, wanted)

    def test_pending_calls(self) -> None:
        for way in WAYS:
            with self.subTest(way):
                reads, wanted = [], []
                for value in (1, 2, 1, 2):
                    set_rate(value)
                    wanted.append([scaled(1), scaled(3)])
                    reads.append(WAYS[way](users[0], scaled, [1, 3]))
                self.assertEqual([read() for read in reads], wanted)

    def test_contents_of_a_dict(self) -> None:
        for way in WAYS:
            with self.subTest(way):
                got = []
                for value in (1, 2, 1, 2):
                    limits["low"] = value
                    got.append(self.through(way, low, [0]))
                self.assertEqual(got, [[1], [2], [1], [2]])

    def test_functions_among_arguments(self) -> None:
        got = []
        for value in (1, 2, 1, 2):
            set_rate(value)
            got.append(
                (
                    same(mec.apply(call, scaled, 3)),
                    mec.map(call, [scaled, by_lambda], [3, 3]),
                    tc.map(call, [scaled, by_lambda], [3, 3]),
                    users[0].tc_executor.submit(call, scaled, 3).result(20),
                    users[0].tc_executor.submit(call, function=scaled, x=3).result(20),
                    tc.run(client.MapTask(call, [by_class_body, 3]), block=True)["result"],
                )
            )
        one = (3, [3, (3, 3)], [3, (3, 3)], 3, 3, (2, 3))
        two = (6, [6, (6, 6)], [6, (6, 6)], 6, 6, (4, 6))
        self.assertEqual(got, [one, two, one, two])

    def test_task_of_ones_own_class(self) -> None:
        got = []
        for value in (1, 2, 1, 2):
            set_rate(value)
            got.append(tc.run(OwnTask(scaled, [3]), block=True)["result"])
        self.assertEqual(got, [(3, 1), (6, 2), (3, 1), (6, 2)])

    def test_parts_of_a_function(self) -> None:
        """Defaults, keyword-only defaults, code, closures and attributes that were changed."""

        def first(x: int, a: int = 1, *, b: int = 1) -> Any:
            return "first", x, a, b, held, first.mark

        def second(x: int, a: int = 1, *, b: int = 1) -> Any:
            return "second", x, a, b, held, first.mark

        def change(value: int) -> None:
            nonlocal held
            first.__defaults__ = (value,)
            first.__kwdefaults__ = {"b": value}
            first.__code__ = (one, second.__code__)[value - 1]
            first.mark = held = value  # type: ignore[attr-defined]

        held, one = 1, first.__code__
        for way in WAYS:
            with self.subTest(way):
                wanted, got = [], []
                for value in (1, 2, 1):
                    change(value)
                    wanted.append([first(0)])
                    got.append(self.through(way, first, [0]))
                self.assertEqual(got, wanted)

    def test_contents_are_fresh_for_each_call(self) -> None:
        for _ in range(2):
            self.assertEqual(mec.apply(grown, 1), [[1], [1]])
            self.assertEqual(tc.run(client.MapTask(grown, [3]), block=True)["result"], [3])
            self.assertEqual(
                [users[0].tc_executor.submit(grown, n).result(20) for n in range(3)],
                [[0], [1], [2]],
            )
        self.assertEqual(seen, [])


class TwoUsers(Case):
    """Nobody gets the values of somebody else."""

    def test_same_names(self) -> None:
        programs = [run_program(tools, recipes) for _ in users]
        for number, program in enumerate(programs):
            for what in ("rate", "table", "helper", "class", "pair", "settings"):
                program["change"](what, number + 1, True)
        shapes = ("plain", "by_helper", "class_body", "by_class", "reads_pair", "reads_settings")
        for number, way in enumerate(WAYS):
            for shape in shapes[number % 3 :: 3]:
                with self.subTest(f"{shape} through {way}"):
                    wanted, got = [], []
                    for user in (0, 1, 0, 1):
                        function = programs[user]["get"](shape)
                        wanted.append([function(x) for x in (1, 3)])
                        got.append(self.through(way, function, [1, 3], user))
                    self.assertEqual(got, wanted)

    def test_calls_at_the_same_time(self) -> None:
        programs = [run_program(tools, recipes) for _ in users]
        programs[1]["change"]("rate", 2, False)
        reads = [
            (user, users[user].tc.mapper(block=False).map(programs[user]["by_helper"], range(20)))
            for _ in range(5)
            for user in (0, 1)
        ]
        wanted = [[program["by_helper"](x) for x in range(20)] for program in programs]
        for user, pending in reads:
            self.assertEqual(pending.get_result(timeout=30), wanted[user])


class LaterOnTheEngine(Case):
    """What a call leaves on the engines keeps the values of that call."""

    def others_call(self) -> None:
        """Calls of the same program and of another one, with other values."""
        set_rate(7)
        limits["low"] = 7
        other = run_program(tools, recipes)
        other["change"]("rate", 8, False)
        for function in (also, low, by_class, other["by_helper"], other["by_class"]):
            mec.apply(function, 1)
            tc.map(function, range(4))

    def test_late_callback(self) -> None:
        mec.apply(make_late)
        self.others_call()
        mec.execute("answer = late(3)")
        self.assertEqual(mec.pull("answer"), [((4, 3), (2, 3), 4)] * 2)

    def test_class_is_one_class(self) -> None:
        """A call that brings a class again renews it, for objects that are there as well."""
        mec.push({"held": Model()})
        self.others_call()
        self.assertEqual(mec.apply(is_model), [True] * 2)
        mec.execute("answer = held.run(3)")
        self.assertEqual(mec.pull("answer"), [(21, 7)] * 2)

    def test_pushed_function(self) -> None:
        mec.push_function({"f": also, "g": low})
        self.others_call()
        mec.execute("answer = f(3), g(3)")
        self.assertEqual(mec.pull("answer"), [((4, 3), 4)] * 2)

    def test_pushed_object(self) -> None:
        mec.push({"held": {"f": also}})
        self.others_call()
        mec.execute("answer = held['f'](3)")
        self.assertEqual(mec.pull("answer"), [(4, 3)] * 2)

    def test_thread_that_goes_on(self) -> None:
        mec.execute("import threading; gate = threading.Event(); told = []")
        mec.apply(start_waiting)
        self.others_call()
        mec.execute("gate.set(); waiter.join()")
        self.assertEqual(mec.pull("told"), [[(11, 10)]] * 2)


class NamesOnTheEngine(Case):
    """Names that the user has defined on the engines win."""

    def test_pushed_before(self) -> None:
        mec.push({"rate": 5, "limits": {"low": 5}})
        for way in WAYS:
            with self.subTest(way):
                self.assertEqual(self.through(way, scaled, [1, 3]), [5, 15])
                self.assertEqual(self.through(way, also, [1]), [(6, 5)])
                self.assertEqual(self.through(way, by_class_body, [1]), [(10, 5)])
                self.assertEqual(self.through(way, low, [1]), [6])
        self.assertEqual(mec.pull("rate"), [5, 5])

    def test_pushed_later_and_deleted(self) -> None:
        mec.push_function({"g": also})
        for way in WAYS:
            with self.subTest(way):
                self.assertEqual(self.through(way, also, [1]), [(2, 1)])
                mec.execute("before = g(1)")
                mec.push({"rate": 5})
                self.assertEqual(self.through(way, also, [1]), [(6, 5)])
                mec.execute("after = g(1)\ndel rate\nlast = g(1)")
                self.assertEqual(self.through(way, also, [1]), [(2, 1)])
                self.assertEqual(
                    mec.pull(("before", "after", "last"), targets=0)[0], [(2, 1), (6, 5), (2, 1)]
                )

    def test_in_the_same_cell(self) -> None:
        mec.push_function({"g": scaled, "h": by_lambda})
        mec.execute(
            "rate = 5; one = g(1), h(1)\nrate = 6; two = g(1), h(1)\ndel rate; three = g(1)"
        )
        self.assertEqual(mec.pull("one"), [(5, (5, 5))] * 2)
        self.assertEqual(mec.pull("two"), [(6, (6, 6))] * 2)
        self.assertEqual(mec.pull("three"), [1, 1])

    def test_in_a_task(self) -> None:
        task = client.Task(
            "rate = 5\none = g(1)\ndel rate\ntwo = g(1)", pull=["one", "two"], push={"g": also}
        )
        result = tc.run(task, block=True)
        self.assertEqual((result["one"], result["two"]), ((6, 5), (2, 1)))
        task = client.Task("one = g(1)", pull=["one"], push={"g": also, "rate": 6})
        self.assertEqual(tc.run(task, block=True)["one"], (7, 6))

    def test_pushed_helper(self) -> None:
        mec.execute("def helper(x): return 'of the engine', x")
        self.assertEqual(mec.apply(calls_helper, 3), [("of the engine", 3)] * 2)
        self.assertEqual(tc.map(calls_helper, [3]), [("of the engine", 3)])
        mec.execute("del helper")
        self.assertEqual(mec.apply(calls_helper, 3), [("first", 3)] * 2)
        self.assertEqual(tc.map(calls_helper, [3]), [("first", 3)])

    def test_only_on_the_engine(self) -> None:
        mec.push_function({"g": there})
        mec.push({"only_there": 5})
        for way in WAYS:
            with self.subTest(way):
                self.assertEqual(self.through(way, there, [1]), [6])
        mec.execute("answer = g(1); only_there = 6; again = g(1)")
        self.assertEqual(mec.pull(("answer", "again"), targets=1)[0], [6, 7])

    def test_objects_of_the_engine_are_not_copied(self) -> None:
        mec.execute("log = []")
        mec.push_function({"g": note})
        mec.apply(note, 1)
        mec.execute("g(2)")
        mec.map(note, [3, 3])
        self.assertEqual(mec.pull("log"), [[1, 2, 3]] * 2)

    def test_module_keeps_its_own_names(self) -> None:
        tools.factor = 2  # type: ignore[attr-defined]
        mec.push({"factor": 5})
        for way in WAYS:
            with self.subTest(way):
                self.assertEqual(self.through(way, tools.scaled, [3]), [tools.scaled(3)])

    def test_reset(self) -> None:
        mec.push({"rate": 5})
        for way in WAYS:
            with self.subTest(way):
                mec.push({"rate": 5})
                self.assertEqual(self.through(way, also, [1]), [(6, 5)])
                mec.reset()
                self.assertEqual(self.through(way, also, [1]), [(2, 1)])

    def test_reset_in_between(self) -> None:
        mec.apply(make_late)
        mec.push_function({"g": also})
        mec.execute("import builtins; builtins.held = [late, g]")
        self.addCleanup(mec.execute, "import builtins; del builtins.held")
        mec.reset()
        mec.execute("answer = [f(3) for f in held]")
        self.assertEqual(mec.pull("answer"), [[((4, 3), (2, 3), 4), (4, 3)]] * 2)


class GlobalStatement(Case):
    """``global`` defines a name on the engine."""

    def test_visible_afterwards(self) -> None:
        for way in WAYS:
            with self.subTest(way):
                mec.reset()
                mec.execute("found = None")
                for function, x in ((write_found, 3), (write_found_inside, 4)):
                    self.through(way, function, [x, x])
                    self.assertIn(x, mec.pull("found"))
                    mec.execute("found = None")
        mec.reset()
        mec.apply(write_found, 3)
        self.assertEqual(mec.pull("found"), [3, 3])
        self.assertIn("found", mec.keys()[0])

    def test_visible_in_the_same_cell(self) -> None:
        mec.push_function({"g": write_found})
        mec.execute("g(5); one = found; g(6); two = found")
        self.assertEqual(mec.pull(("one", "two"), targets=0)[0], [5, 6])

    def test_in_a_function_that_fails(self) -> None:
        with self.assertRaises(client.CompositeError):
            mec.apply(write_and_fail, 3)
        self.assertEqual(mec.pull("found"), [3, 3])

    def test_wins_from_then_on(self) -> None:
        mec.apply(set_rate, 5)
        self.assertEqual(mec.apply(also, 1), [(6, 5)] * 2)
        self.assertEqual(tc.map(also, [1]), [(6, 5)])
        self.assertEqual(rate, 1)

    def test_value_that_it_has_already(self) -> None:
        """What is brought along does not count as defined; ``global`` does, whatever the value."""
        mec.apply(set_rate, rate)
        self.assertEqual(mec.pull("rate"), [rate, rate])
        set_rate(2)
        self.assertEqual(mec.apply(also, 1), [(2, 1)] * 2)

    def test_counts_on(self) -> None:
        """The first call begins with the value that it brought."""
        self.assertEqual(mec.apply(count), [1, 1])
        self.assertEqual(mec.apply(count), [2, 2])
        mec.push_function({"g": count})
        mec.execute("g(); answer = g(), counter")
        self.assertEqual(mec.pull("answer"), [(4, 4)] * 2)
        self.assertEqual(counter, 0)

    def test_delete(self) -> None:
        mec.push({"found": 3})
        mec.apply(remove_found)
        self.assertEqual(in_user_namespace("found"), [False, False])


class Decorated(Case):
    """Functions of functools."""

    def test_values_of_the_call(self) -> None:
        for way in WAYS:
            for function in (cached, dispatched):
                with self.subTest(f"{way}, {function.__name__}"):
                    for value in (1, 2, 1):
                        set_rate(value)
                        cached.cache_clear()
                        self.assertEqual(self.through(way, function, [3]), [3 * value])

    def test_names_of_the_engine(self) -> None:
        mec["rate"] = 5
        for way in OF_OBJECTS:
            for function in (cached, dispatched):
                with self.subTest(f"{way}, {function.__name__}"):
                    self.assertEqual(self.through(way, function, [3]), [15])
                    self.assertEqual(self.through(way, applied, [function]), [50])


class Classes(Case):
    """A class of the program, which is one class on an engine."""

    def tearDown(self) -> None:
        Level.height = 1
        Level.notes.clear()
        if "height" not in vars(High):
            High.height = 7

    def test_attributes(self) -> None:
        for way in OF_OBJECTS:
            with self.subTest(way):
                for value in (1, 2, 3):
                    Level.height = value
                    self.assertEqual(self.through(way, height_of, [Level()]), [value])
                    self.assertEqual(self.through(way, class_height, [2]), [2 * value])

    def test_attribute_that_is_deleted(self) -> None:
        for way in WAYS:
            with self.subTest(way):
                High.height = 7
                self.assertEqual(self.through(way, height_of_high, [1]), [7])
                del High.height
                self.assertEqual(self.through(way, height_of_high, [1]), [1])

    def test_results_leave_the_users_own_class_alone(self) -> None:
        for way in OF_OBJECTS:
            if "apply" in way:
                continue  # each engine gives an object of its own
            with self.subTest(way):
                read = WAYS[way](users[0], make_level, [1])
                Level.height = 8
                notes = Level.notes
                self.assertEqual([type(each) for each in read()], [Level])
                self.assertEqual(Level.height, 8)
                self.assertIs(Level.notes, notes)


class OneCall(Case):
    """A function and its arguments, which are pickled alone."""

    def test_they_share_what_they_bring(self) -> None:
        for way in OF_OBJECTS:
            with self.subTest(way):
                mec.reset()
                self.assertEqual(self.through(way, told, [Teller()]), [1])
                self.assertEqual(self.through(way, counted, [Teller()]), [1])

    def test_names_by_their_text(self) -> None:
        self.assertEqual(mec.apply(count_if_there, 1), [1, 1])

    def test_a_context_of_decimals_can_change(self) -> None:
        for way in WAYS:
            with self.subTest(way):
                for digits in (3, 6, 3):
                    context.prec = digits
                    self.assertEqual(self.through(way, third, [1]), ["0." + "3" * digits])
        results = [tc.run(client.MapTask(more_precise, [1]), block=True).result for _ in range(3)]
        self.assertEqual(results, [4, 4, 4])


class NothingIsLeft(Case):
    """What is brought along is not in the engines' namespaces."""

    def test_keys(self) -> None:
        own = {"pushed_0", "pushed_answer", "pushed_xs", "task_function_0", "task_x", "task_answer"}
        program = run_program(tools, recipes)
        mec.push_module(recipes)
        before = {name for names in mec.keys() for name in names}
        shapes = [shape for shape in program["SHAPES"] if not shape.startswith("reads_")]
        for number, way in enumerate(WAYS):
            with self.subTest(way):
                for shape in shapes[number % 4 :: 4]:
                    self.through(way, program["get"](shape), [1, 2])
                after = {name for names in mec.keys() for name in names}
                self.assertEqual(after - before - own, set())

    def test_brought_names(self) -> None:
        for way in WAYS:
            with self.subTest(way):
                self.through(way, also, [1, 2])
                for name in ("rate", "scaled", "also"):
                    self.assertEqual(in_user_namespace(name), [False, False], name)

    def test_engine_cannot_use_them(self) -> None:
        mec.apply(also, 1)
        with self.assertRaises(client.CompositeError) as caught:
            mec.execute("scaled(1)")
        self.assertIn("NameError", str(caught.exception))


class Modules(Case):
    """Functions of modules are those of now."""

    def test_pushed_again(self) -> None:
        for value in (1, 2, 1):
            write_recipes(value)
            mec.push_module(recipes)
            wanted = recipes.value(0)
            for way in WAYS:
                with self.subTest(f"version {value} through {way}"):
                    self.assertEqual(self.through(way, recipes.value, [0]), [wanted])

    def test_patched_on_the_engines(self) -> None:
        write_recipes(1)
        mec.push_module(recipes)
        name = recipes.__name__
        mec.execute(f"import {name}; kept = {name}.value")
        for way in WAYS:
            with self.subTest(way):
                self.assertEqual(self.through(way, recipes.value, [0]), [("version 1", 1)])
                mec.execute(f"{name}.value = abs")
                self.assertEqual(self.through(way, recipes.value, [-3]), [3])
            mec.execute(f"{name}.value = kept")

    def test_value_of_a_module_by_value(self) -> None:
        for way in WAYS:
            with self.subTest(way):
                wanted, got = [], []
                for value in (1, 2, 1, 2):
                    tools.factor = value  # type: ignore[attr-defined]
                    wanted.append([tools.scaled(3)])
                    got.append(self.through(way, tools.scaled, [3]))
                self.assertEqual(got, wanted)

    def test_registered_after_the_first_use(self) -> None:
        (FOLDER / "right_late.py").write_text("STEP = 1\n\ndef value(x):\n    return x + STEP\n")
        importlib.invalidate_caches()
        module = importlib.import_module("right_late")
        mec.push_module(module)
        for way in WAYS:
            self.assertEqual(self.through(way, module.value, [0]), [1])
        module.STEP = 2  # type: ignore[attr-defined]
        cloudpickle.register_pickle_by_value(module)
        self.addCleanup(cloudpickle.unregister_pickle_by_value, module)
        for way in WAYS:
            with self.subTest(way):
                self.assertEqual(self.through(way, module.value, [0]), [2])


# -- one line for each case


def main() -> int:
    """Run all cases, or with all details those that are named."""
    if len(sys.argv) > 1:
        unittest.main()
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"])
    count = suite.countTestCases()
    result = unittest.TestResult()
    suite.run(result)
    wrong: dict[str, list[str]] = {}
    for case, text in [*result.failures, *result.errors]:
        name = case.id().removeprefix("__main__.")
        name, _, how = name.partition(" ")
        wrong.setdefault(name, []).append(f"{how} {_reason(text)}")
    for name, problems in sorted(wrong.items()):
        print(f"wrong: {name}, {len(problems)} times")
        for problem in problems[:3]:
            print(f"       {problem}")
    if wrong:
        print(f"{len(wrong)} of {count} cases are wrong; name one for details")
        return 1
    print(f"all {count} cases are right")
    return 0


def _reason(text: str) -> str:
    """The lines of a traceback that say what happened."""
    lines = [
        line for line in text.splitlines() if re.match(r"[\w.]*(Error|Exception)\b|\[0:", line)
    ]
    return " ".join(lines[-2:] if lines[-1:] and lines[-1][0] == "[" else lines[-1:])[:200]


if __name__ == "__main__":
    sys.exit(main())
