"""A task's function on its way from a client to an engine: it computes with what it had when it was submitted."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import cloudpickle
from twisted.trial import unittest

from ipython1.kernel.engine.service import EngineService
from ipython1.kernel.engine.taskrunner import TaskRunner
from ipython1.kernel.objects.taskcodec import unpack_result
from ipython1.kernel.objects.taskobjects import MapTask
from ipython1.kernel.objects.taskoptions import DEFAULTS
from ipython1.kernel.tasks.encoder import TaskEncoder
from ipython1.kernel.tests.wiresupport import main_function
from ipython1.testing.cluster import PlainInterpreter


class FunctionTests(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        self.encoder = TaskEncoder()
        self.interpreter = PlainInterpreter()
        self.runner = TaskRunner(EngineService(self.interpreter))  # type: ignore[arg-type]

    def run_task(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run it three times, so that what is cached anywhere is used."""
        values = []
        for _ in range(3):
            encoded = self.encoder.encode(MapTask(function, args))
            for packed in encoded.functions:
                self.runner.add_function(packed.digest, packed.data)
            _, data, _ = self.runner.run(encoded.payload, lambda: False)
            value = unpack_result(data)
            if value.failure is not None:
                raise value.failure
            values.append(value.result)
        self.assertEqual(values[1:], values[:-1])
        return values[0]

    def module(self, source: str) -> types.ModuleType:
        module = types.ModuleType("recipes_of_test")
        exec(source, vars(module))
        sys.modules[module.__name__] = module
        self.addCleanup(sys.modules.pop, module.__name__, None)
        return module

    def test_a_function_that_does_not_change_is_packed_and_rebuilt_once(self) -> None:
        f = main_function(
            "import math\nk = (1, 'a')\ndef g(x=2): return k\ndef f(): return math.pi, g()"
        )
        first, _ = self.encoder.functions.pack(f)
        self.run_task(f)
        self.assertIs(self.encoder.functions.pack(f)[0], first)
        known = self.runner._functions[first.digest]
        self.run_task(f)
        self.assertIs(self.runner._functions[first.digest], known)

    def test_what_changes_in_the_client_is_noticed(self) -> None:
        source = (
            "def make():\n"
            "    def set_n(value):\n"
            "        nonlocal n\n"
            "        n = value\n"
            "    n = 1\n"
            "    return (lambda: n), set_n\n"
            "inner, set_n = make()\n"
            "rate, table = 1, {'a': [1]}\n"
            "class Model:\n"
            "    level = 1\n"
            "def helper(x=1, *, y=1): return x, y, rate\n"
            "def f(): return helper(), inner(), table['a'], Model.level, getattr(helper, 'note', None)\n"
        )
        f = main_function(source)
        names = f.__globals__
        helper = names["helper"]

        def change(what: Callable[[], object]) -> None:
            before = self.run_task(f)
            what()
            self.assertEqual(self.run_task(f), f())
            self.assertNotEqual(self.run_task(f), before)

        change(lambda: names.update(rate=2))
        change(lambda: names.update(rate=1))
        change(lambda: setattr(helper, "__defaults__", (2,)))
        change(lambda: helper.__kwdefaults__.update(y=2))
        change(lambda: setattr(helper, "__kwdefaults__", {"y": 3}))
        change(lambda: names["set_n"](2))
        change(lambda: names["table"]["a"].append(2))
        change(lambda: setattr(names["Model"], "level", 2))
        change(lambda: setattr(helper, "note", "new"))
        change(lambda: helper.__dict__.clear())
        other = main_function("def helper(x, *, y): return rate, y, x", "helper")
        change(lambda: setattr(helper, "__code__", other.__code__))
        change(lambda: names.update(helper=lambda: "another"))
        change(lambda: names.update(getattr=lambda *args: "mine"))

    def test_modules_that_go_by_value(self) -> None:
        module = self.module("K = 1\ndef value(): return K")
        f = main_function(
            "def f(): return module.value(), value()", module=module, value=module.value
        )
        self.assertEqual(self.run_task(f), (1, 1))
        # By name: what the engine has counts.  Here that is the same module.
        vars(module)["K"] = 2
        self.assertEqual(self.run_task(f), (2, 2))
        before = self.encoder.functions.pack(f)[0].digest
        cloudpickle.register_pickle_by_value(module)
        self.addCleanup(cloudpickle.unregister_pickle_by_value, module)
        self.assertNotEqual(self.encoder.functions.pack(f)[0].digest, before)
        for k in (3, 4, 3):
            vars(module)["K"] = k
            self.assertEqual(self.run_task(f), (k, k))
            self.assertEqual(self.run_task(module.value), k)

    def test_code_of_modules_that_is_replaced_on_the_engine(self) -> None:
        module = self.module("def value(): return 'old'")
        value = module.value
        exec("def value(): return 'new'", vars(module))
        new = module.value
        f = main_function("def f(): return value()", value=new)
        self.assertEqual((self.run_task(f), self.run_task(new)), ("new", "new"))
        packed = [self.encoder.functions.pack(each)[0] for each in (f, new)]
        for each in packed:
            self.runner.add_function(each.digest, each.data)
        vars(module)["value"] = value
        self.assertEqual([self.runner._function(each.digest)() for each in packed], ["old", "old"])

    def test_nothing_that_a_function_changes_of_its_own_is_there_the_next_time(self) -> None:
        for source in (
            "seen = []\ndef f():\n    seen.append(1)\n    return len(seen)",
            "def f(seen=[]):\n    seen.append(1)\n    return len(seen)",
            "def f(*, seen={}):\n    seen[len(seen)] = 1\n    return len(seen)",
            "def f():\n    f.calls = getattr(f, 'calls', 0) + 1\n    return f.calls",
            "def g(): pass\ndef f():\n    g.calls = getattr(g, 'calls', 0) + 1\n    return g.calls",
            "def make():\n    n = 0\n    def f():\n        nonlocal n\n        n += 1\n        return n\n"
            "    return f\nf = make()",
            "import functools\n@functools.cache\ndef f(): return len(seen)\nseen = []",
        ):
            self.assertEqual(self.run_task(main_function(source)), main_function(source)(), source)

    def test_modules_that_go_by_value_keep_what_they_write_to_the_call(self) -> None:
        module = self.module("n = 0\ndef count():\n    global n\n    n += 1\n    return n")
        cloudpickle.register_pickle_by_value(module)
        self.addCleanup(cloudpickle.unregister_pickle_by_value, module)
        self.assertEqual(self.run_task(module.count), 1)
        self.assertNotIn("n", self.interpreter.user_ns)

    def test_the_calls_of_one_map_share_and_those_of_another_do_not(self) -> None:
        f = main_function("seen = []\ndef f(x):\n    seen.append(x)\n    return len(seen)")
        lengths = []
        for _ in range(2):
            prepared = self.encoder.prepare(f, DEFAULTS)
            self.runner.add_function(prepared.function.digest, prepared.function.data)
            for encoded in (
                self.encoder.encode_items(prepared, [(1,), (2,)]),
                self.encoder.encode_item(prepared, (3,)),
            ):
                _, data, _ = self.runner.run(encoded.payload, lambda: False)
                lengths.append(unpack_result(data).result)
        self.assertEqual(lengths, [[1, 2], 3] * 2)
        self.assertEqual(self.run_task(f, 4), 1)

    def test_results_and_names_of_the_engine(self) -> None:
        f = main_function("k = 1\ndef f():\n    global seen\n    seen = k\n    return lambda: k")
        self.run_task(lambda: 0)
        encoded = self.encoder.encode(MapTask(f))
        _, data, _ = self.runner.run(encoded.payload, lambda: False)
        self.assertEqual(unpack_result(data).result(), 1)
        self.assertEqual(self.interpreter.keys(), ["seen"])
