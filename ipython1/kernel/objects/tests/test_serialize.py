"""Objects to bytes and back: what travels, where functions run, and what cannot be sent."""

from __future__ import annotations

import gc
import io
import logging
import math
import pickle
import threading
import types
import weakref
from concurrent.futures import Future
from typing import Any

import numpy
from cloudpickle import cloudpickle as _cp
from hypothesis import given
from hypothesis import strategies as st
from twisted.python.components import registerAdapter
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ipython1.core.failures import record_exception
from ipython1.kernel.basics.error import SerializationError
from ipython1.kernel.host import clientconfig
from ipython1.kernel.objects import serialize
from ipython1.kernel.objects.homes import Home
from ipython1.kernel.objects.serialize import IUnSerialized, UnSerialized, dumps, loads
from ipython1.kernel.tests.wiresupport import main_function, quick
from ipython1.kernel.wire.payload import ISerialized, Serialized, join_inline, split_inline

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.complex_numbers(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner, max_size=4)
        | st.frozensets(st.integers(), max_size=4)
    ),
    max_leaves=80,
)


def over_the_wire(value: Any, namespace: dict[str, Any] | None = None) -> Any:
    """``value`` as it arrives on the other side."""
    home = None if namespace is None else Home(namespace)
    return loads(split_inline(join_inline(dumps(value).buffers)), home)


class Whole:
    """A class with a class method, for ``pickle`` itself."""

    @classmethod
    def name(cls) -> str:
        return cls.__name__


class ValuesTest(SynchronousTestCase):
    def test_other_picklers_handle_methods_as_python_does(self):
        """Twisted makes them lose class methods."""
        self.assertEqual(pickle.loads(pickle.dumps(Whole.name))(), "Whole")
        self.assertEqual(pickle.loads(pickle.dumps("a,b".split))(","), ["a", "b"])

    @quick
    @given(plain)
    def test_plain_data(self, value):
        arrived = over_the_wire(value, {})
        self.assertEqual(arrived, value)
        self.assertEqual(type(arrived), type(value))

    def test_one_object_twice_is_one_object_on_the_other_side(self):
        shared = [1]
        first, second = over_the_wire([shared, shared])
        self.assertIs(first, second)
        loop: list[Any] = []
        loop.append(loop)
        arrived = over_the_wire(loop)
        self.assertIs(arrived[0], arrived)

    def test_arrays_are_writable_and_their_own(self):
        for array in (
            numpy.arange(3.0),
            numpy.arange(10_000.0),
            numpy.asfortranarray(numpy.arange(10_000.0).reshape(100, 100)),
            numpy.arange(20_000.0)[::2],
            numpy.zeros(0),
            numpy.array(["a", None], dtype=object),
        ):
            arrived = over_the_wire({"array": array})["array"]
            numpy.testing.assert_array_equal(arrived, array)
            self.assertEqual(arrived.dtype, array.dtype)
            if arrived.size:
                arrived[...] = arrived
                arrived[0] = arrived[0]

    def test_large_arrays_are_not_copied(self):
        array = numpy.arange(100_000.0)
        stream, data = dumps([array]).buffers
        self.assertLess(len(stream), 1000)
        self.assertTrue(numpy.shares_memory(numpy.frombuffer(data), array))

    def test_a_snapshot_does_not_change_with_the_object(self):
        array = numpy.zeros(10_000)
        packed = dumps(array, snapshot=True)
        array[:] = 1
        self.assertEqual(loads(packed).sum(), 0)

    def test_futures_are_no_arguments(self):
        """As they are in dask and Ray: the error says what to give instead."""
        for value in (Future(), [1, Future()], {"call": (Future(),)}):
            error = self.assertRaises(SerializationError, dumps, value)
            self.assertIn("Future (give its result() instead) cannot be sent", str(error))

    def test_what_cannot_be_sent_is_said_by_its_type(self):
        for value in (threading.Lock(), [1, threading.Lock()], io.FileIO(0, closefd=False)):
            error = self.assertRaises(SerializationError, dumps, value)
            self.assertIn("cannot be sent: TypeError: cannot pickle", str(error))
        self.assertIn(
            "type _thread.lock", str(self.assertRaises(SerializationError, dumps, threading.Lock()))
        )

    def test_objects_that_misbehave_while_they_are_pickled(self):
        for problem in (ValueError("no"), SystemExit(3), RecursionError("deep"), GeneratorExit()):
            value = main_function(
                "class f:\n    def __reduce__(self): raise problem", problem=problem
            )()
            self.assertRaises(SerializationError, dumps, value)

    def test_objects_that_misbehave_while_they_are_rebuilt(self):
        for raised in ("ValueError('no')", "SystemExit(3)", "GeneratorExit()"):
            value = main_function(
                f"class f:\n    def __setstate__(self, state): raise {raised}\n"
                "    def __getstate__(self): return 1"
            )()
            error = self.assertRaises(SerializationError, over_the_wire, value, {})
            self.assertIn("cannot be rebuilt on the engine", str(error))

    def test_ctrl_c_while_an_object_is_pickled_or_rebuilt_gets_through(self):
        for method in ("__getstate__(self)", "__setstate__(self, state)"):
            value = main_function(
                f"class f:\n    def {method}: raise KeyboardInterrupt\n    x = 1"
            )()
            value.y = 1
            self.assertRaises(KeyboardInterrupt, over_the_wire, value, {})

    def test_an_exception_whose_str_raises(self):
        error_type = main_function("class f(Exception):\n    def __str__(self): 1/0")
        value = main_function(
            "class f:\n    def __reduce__(self): raise problem", problem=error_type()
        )()
        self.assertIn(
            "could not be shown", str(self.assertRaises(SerializationError, dumps, value))
        )

    def test_garbage(self):
        for stream in (b"", b"garbage", pickle.dumps(1)[:-1], b"cos\nnosuch\n."):
            self.assertRaises(SerializationError, loads, [stream])

    def test_a_class_of_a_module_that_is_missing_here(self):
        module = types.ModuleType("module_of_the_client")
        exec("class C: pass", vars(module))
        with self.assertRaises(SerializationError) as caught:
            loads([b"cmodule_of_the_client\nC\n."])
        self.assertIn("module_of_the_client", str(caught.exception))


class AdaptersTest(SynchronousTestCase):
    """Objects and their bytes, as interfaces that are adapted to each other."""

    def test_both_ways(self):
        wrapped = UnSerialized({"a": 1})
        packed = ISerialized(wrapped)
        self.assertIsInstance(packed, Serialized)
        self.assertEqual(IUnSerialized(packed).get_object(), {"a": 1})
        for interface, value in ((ISerialized, packed), (IUnSerialized, wrapped)):
            self.assertTrue(verifyObject(interface, value))
            self.assertIs(interface(value), value)

    def test_engines_say_that_it_is_they_who_lack_something(self):
        stream = b"cno_such_module\nname\n."
        error = self.assertRaises(SerializationError, loads, (stream,), Home({}))
        self.assertEqual(
            str(error),
            "an object cannot be rebuilt on the engine: ModuleNotFoundError: No module named 'no_such_module'; "
            "install it there, or send it with push_module()",
        )
        error = self.assertRaises(SerializationError, loads, (stream,))
        self.assertIn("cannot be rebuilt here: ModuleNotFoundError", str(error))
        self.assertNotIn("push_module", str(error))

    def test_types_of_the_users_own(self):
        class Text:
            def __init__(self, text):
                self.text = text

        registerAdapter(lambda value: dumps(value.text), Text, ISerialized)
        self.assertEqual(loads(ISerialized(Text("words")).buffers), "words")


class FunctionsTest(SynchronousTestCase):
    """Functions of ``__main__`` in the namespace of an engine."""

    def setUp(self):
        self.engine: dict[str, Any] = {"__name__": "__main__"}
        self.home = Home(self.engine)

    def send(self, function):
        return loads(split_inline(join_inline(dumps(function).buffers)), self.home)

    def test_it_runs_in_the_engines_namespace(self):
        self.engine["a"] = 5
        f = self.send(main_function("def f():\n    global b\n    b = a + 1\n    return b"))
        self.assertEqual(f(), 6)
        self.assertEqual(self.engine["b"], 6)
        self.engine["a"] = 10
        self.assertEqual(f(), 11)
        self.assertIs(f.__globals__, self.engine)

    def test_the_engines_names_win(self):
        self.engine["a"] = "the engine's"
        f = self.send(main_function("def f(): return a", a="the client's"))
        self.assertEqual(f(), "the engine's")

    def test_it_brings_what_is_missing(self):
        source = (
            "import math\nfrom os import path as p\nfrom numpy import sin, array_split, linspace\n"
            "import re, pathlib, datetime, decimal, enum\n"
            "LIMIT = 3\nNAMES = ('x', ('y', 2.5))\nPATTERN = re.compile('a+')\n"
            "ROOT = pathlib.PurePosixPath('/r')\nDAY = datetime.date(2008, 3, 8)\n"
            "class Colour(enum.Enum):\n    RED = 1\n"
            "RED = Colour.RED\n"
            "def helper(x): return x * LIMIT\n"
            "class Thing:\n    def double(self): return helper(2)\n"
            "def f():\n"
            "    return (math.floor(1.5), p.basename('/a/b'), float(sin(0.0)), len(linspace(0, 1, 5)),\n"
            "            len(array_split([1, 2], 2)), NAMES, bool(PATTERN.match('aa')), str(ROOT), DAY.year,\n"
            "            RED.name, helper(1), Thing().double())\n"
        )
        f = self.send(main_function(source))
        expected = (1, "b", 0.0, 5, 2, ("x", ("y", 2.5)), True, "/r", 2008, "RED", 3, 6)
        self.assertEqual(f(), expected)

    def test_it_brings_only_what_it_refers_to_and_for_itself(self):
        f = self.send(main_function("used = 1\nunused = 2\ndef f(): return used, globals()"))
        used, names = f()
        self.assertEqual((used, names["used"]), (1, 1))
        self.assertNotIn("unused", names)
        self.assertEqual(self.engine, {"__name__": "__main__"})

    def test_it_brings_data(self):
        for value in (
            [1, 2],
            {"a": 1},
            "x" * 5000,
            ("x" * 3000, "y" * 3000),
            tuple(range(5000)),
            logging.getLogger("app"),
            numpy.dtype("f4"),
            numpy.float64(2.5),
            int | float,
            list[float],
        ):
            f = self.send(main_function("def f(): return value", value=value))
            self.assertEqual(f(), value)
        arrived = self.send(main_function("def f(): return value", value=numpy.arange(3)))()
        numpy.testing.assert_array_equal(arrived, numpy.arange(3))

    def test_a_sentinel_is_one_object(self):
        source = "missing = object()\ndef f(x=missing): return x is missing"
        self.assertTrue(self.send(main_function(source))())

    def test_values_as_they_are_when_it_is_sent(self):
        f = main_function("data = [1]\ndef f(): return data")
        packed = dumps(f)
        f.__globals__["data"].append(2)
        self.assertEqual(loads(packed, self.home)(), [1])

    def test_what_one_brings_is_nothing_to_another(self):
        first = self.send(main_function("n = 1\ndef g(): return n\ndef f(): return g()"))
        second = self.send(main_function("n = 2\ndef g(): return n * 10\ndef f(): return g()"))
        self.assertEqual((first(), second(), first()), (1, 20, 1))

    def test_the_users_names_win_whenever_they_are_defined(self):
        f = self.send(main_function("n = 1\ndef f(): return n"))
        self.engine["n"] = 99
        self.assertEqual(f(), 99)
        del self.engine["n"]
        self.assertEqual(f(), 1)

    def test_names_that_every_session_has_do_not_win(self):
        self.engine.update({"_": "last result", "open": "the session's"})
        self.home.hidden = {"open": self.engine["open"]}
        f = self.send(main_function("def f(): return _('a'), open", _=str.upper, open="mine"))
        self.assertEqual(f(), ("A", "mine"))

    def test_global_writes_to_the_engine(self):
        source = "n = 1\ndef g():\n    global n, m\n    n, m = n + 1, 5\ndef f():\n    g()\n    return n, m"
        f = self.send(main_function(source))
        self.assertEqual(f(), (2, 5))
        self.assertEqual((self.engine["n"], self.engine["m"]), (2, 5))
        self.engine["n"] = 10
        self.assertEqual(f(), (11, 5))
        f = self.send(main_function("k = 1\ndef f():\n    global n, k\n    del n\n    return k"))
        self.assertEqual(f(), 1)
        self.assertNotIn("n", self.engine)

    def test_functions_of_several_senders_see_what_each_other_writes(self):
        self.engine["g"] = self.send(main_function("k = 3\ndef f():\n    global x\n    x = k"))
        f = self.send(main_function("one = 1\ndef f():\n    g()\n    return x + one"))
        self.assertEqual(f(), 4)
        f = self.send(
            main_function("one = 1\ndef f():\n    global k\n    k = one\n    g()\n    return x")
        )
        self.assertEqual(f(), 1)

    def test_shapes_of_functions(self):
        for body in (
            "(lambda: rate)()",
            "sum(rate for _ in range(1))",
            "[rate for _ in range(1)][0]",
            "eval('rate')",
            "type('C', (), {'m': lambda self: rate})().m()",
            "globals()['rate']",
            "helper()",
            "table['k']()",
        ):
            for rate in (1, 2, 1):
                source = f"table = {{'k': lambda: rate}}\ndef helper(): return (lambda: rate)()\ndef f(): return {body}"
                self.assertEqual(self.send(main_function(source, rate=rate))(), rate, body)
        for rate in (1, 2):
            source = "def f():\n    class C:\n        r = rate\n    return C.r"
            self.assertEqual(self.send(main_function(source, rate=rate))(), rate)

    def test_a_large_variable_is_named_with_its_size_and_what_to_do(self):
        self.patch(clientconfig, "_settings", {"bring_size": 1000})
        for value, size in (
            (numpy.zeros(1000), "7.8 KiB"),
            (list(range(1000)), "2.7 KiB"),
            ("x" * 5000, "4.9 KiB"),
            ([b"x" * 10**6], "a list of more than "),
        ):
            f = self.send(main_function("def f(): return value[0]", value=value))
            problem = self.assertRaises(NameError, f)
            told = record_exception(problem)
            for part in ("'value'", size, "mec.push({'value': value})", "1000 bytes", "bring_size"):
                self.assertIn(part, told.evalue)
        self.engine["value"] = [7]
        self.assertEqual(f(), 7)

    def test_what_cannot_be_pickled_stays_and_is_named_when_it_is_used(self):
        source = "import threading\nlock = threading.Lock()\ndef f(use): return lock if use else 1"
        f = self.send(main_function(source))
        self.assertEqual(f(False), 1)
        told = record_exception(self.assertRaises(NameError, f, True))
        self.assertIn("'lock'", told.evalue)
        self.assertIn("cannot pickle '_thread.lock' object", told.evalue)

    def test_decorated_functions(self):
        source = (
            "import functools\n"
            "@functools.lru_cache(maxsize=7)\n"
            "def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)\n"
            "@functools.singledispatch\n"
            "def kind(x): return 'object'\n"
            "@kind.register\n"
            "def _(x: int): return 'int ' + name\n"
            "name = 'n'\n"
            "add = functools.partial(pow, 2)\n"
            "class Model:\n"
            "    @functools.cached_property\n"
            "    def table(self): return [1, 2]\n"
            "    @functools.lru_cache\n"
            "    def cell(self, i): return i * fib(3)\n"
            "    @functools.singledispatchmethod\n"
            "    def of(self, x): return 'o'\n"
            "    @of.register\n"
            "    def _(self, x: str): return 's'\n"
            "def f():\n"
            "    m = Model()\n"
            "    found = fib(10), fib.cache_info().maxsize, kind(1), kind(''), add(3)\n"
            "    return (*found, m.table, m.cell(2), m.of(1), m.of(''))\n"
        )
        expected = (55, 7, "int n", "object", 8, [1, 2], 4, "o", "s")
        self.assertEqual(self.send(main_function(source))(), expected)
        self.assertEqual(self.send(main_function(source, "fib"))(10), 55)
        self.assertEqual(self.send(main_function(source, "kind"))(2), "int n")

    def test_a_function_that_cannot_be_sent_names_the_part(self):
        source = "import threading\nclass f:\n    lock = threading.Lock()"
        error = self.assertRaises(SerializationError, dumps, main_function(source))
        self.assertIn("the attribute 'lock' of class f", str(error))
        source = "import threading\ndef make():\n    door = threading.Lock()\n    return lambda: door\nf = make()"
        error = self.assertRaises(SerializationError, dumps, main_function(source))
        self.assertIn("the variable 'door' of make.<locals>.<lambda>()", str(error))

    def test_the_namespace_keeps_its_builtins(self):
        import builtins

        self.engine["__builtins__"] = builtins
        self.send(main_function("def f(): return len([])"))
        self.assertIs(self.engine["__builtins__"], builtins)

    def test_recursion(self):
        f = self.send(main_function("def f(n): return 1 if n < 2 else n * f(n - 1)"))
        self.assertEqual(f(5), 120)
        even = self.send(
            main_function(
                "def even(n): return n == 0 or odd(n - 1)\ndef odd(n): return n > 0 and even(n - 1)",
                "even",
            )
        )
        self.assertEqual((even(10), even(7)), (True, False))

    def test_closures_lambdas_defaults_and_attributes(self):
        source = (
            "def make(n):\n"
            "    count = [n]\n"
            "    def f(x, k=2, *, y=3):\n"
            "        count[0] += x\n"
            "        return count[0] * k * y * scale\n"
            "    f.note = 'kept'\n"
            "    return f\n"
        )
        f = self.send(main_function(source + "f = make(1)"))
        self.engine["scale"] = 2
        self.assertEqual((f(1), f(1, k=1)), (24, 18))
        self.assertEqual(f.note, "kept")
        self.assertEqual(self.send(main_function("f = lambda x: x + scale"))(1), 3)

    def test_generators_coroutines_and_partials(self):
        f = self.send(main_function("def f(n):\n    for i in range(n): yield i * k"))
        self.engine["k"] = 2
        self.assertEqual(list(f(3)), [0, 2, 4])
        f = self.send(
            main_function(
                "import functools\ndef g(a, b): return a - b - k\nf = functools.partial(g, 10)"
            )
        )
        self.assertEqual(f(1), 7)

    def test_its_code_names_the_file_and_lines_that_tracebacks_show(self):
        source = "\n\ndef f():\n    return lambda: 1 / 0"
        namespace: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(source, "/home/ann/model.py", "exec"), namespace)
        outer = self.send(namespace["f"])
        for code, line in ((outer.__code__, 3), (outer().__code__, 4)):
            self.assertEqual((code.co_filename, code.co_firstlineno), ("/home/ann/model.py", line))

    def test_functions_of_modules_go_by_name(self):
        self.assertIs(self.send(math.sqrt), math.sqrt)
        self.assertIs(self.send(numpy.linspace), numpy.linspace)
        self.assertIs(self.send(join_inline), join_inline)

    def test_a_large_global_does_not_travel_with_a_function(self):
        f = main_function("def f(): return data[0]", data=numpy.zeros(10**6))
        self.assertLess(dumps(f).size, 3000)

    def test_without_a_namespace_it_runs_in_main(self):
        import __main__

        f = over_the_wire(main_function("def f(): return __name__"))
        self.assertIs(f.__globals__, vars(__main__))


class ClassesTest(SynchronousTestCase):
    """Classes of ``__main__`` between two processes, which this one plays one after the other."""

    def elsewhere(self):
        """From here on, this process knows no class that travelled by value."""
        for name in ("_DYNAMIC_CLASS_TRACKER_BY_ID", "_DYNAMIC_CLASS_TRACKER_BY_CLASS"):
            self.patch(_cp, name, type(getattr(_cp, name))())
        self.patch(serialize, "_from_elsewhere", weakref.WeakSet())

    def here(self):
        return tuple(
            getattr(module, name)
            for module, name in (
                (_cp, "_DYNAMIC_CLASS_TRACKER_BY_ID"),
                (_cp, "_DYNAMIC_CLASS_TRACKER_BY_CLASS"),
                (serialize, "_from_elsewhere"),
            )
        )

    def back(self, state):
        _cp._DYNAMIC_CLASS_TRACKER_BY_ID, _cp._DYNAMIC_CLASS_TRACKER_BY_CLASS = state[:2]
        serialize._from_elsewhere = state[2]

    def test_methods_of_the_users_classes_run_there_as_well(self):
        source = (
            "class f:\n"
            "    base = 1\n"
            "    def __init__(self, x): self.x = x\n"
            "    def total(self): return self.x + offset\n"
            "    @classmethod\n"
            "    def make(cls): return cls(5)\n"
            "    @property\n"
            "    def twice(self): return 2 * self.total()\n"
        )
        value, bound = main_function(source)(1), main_function(source)(2).total
        sent = dumps([value, bound])
        self.elsewhere()
        value, bound = loads(sent, Home({"offset": 100}))
        self.assertEqual((value.total(), value.twice, type(value).make().x), (101, 202, 5))
        self.assertEqual(bound(), 102)

    source = "class f:\n    level = 1\n    def speak(self): return f'{self.level} {word}'"

    def test_an_object_comes_back_as_one_of_the_users_own_class(self):
        self.elsewhere()
        client = self.here()
        cls = main_function(self.source)
        sent = dumps(cls())
        self.elsewhere()
        on_engine = loads(sent, Home({"word": "engine"}))
        self.assertIsNot(type(on_engine), cls)
        self.assertEqual(on_engine.speak(), "1 engine")
        returned = dumps(on_engine)
        self.back(client)
        cls.level = 2
        speak = cls.speak
        again = loads(returned, Home({"word": "client"}))
        self.assertIs(type(again), cls)
        self.assertEqual(cls.level, 2)
        self.assertIs(cls.speak, speak)

    def test_a_class_that_its_owner_changed_is_changed_elsewhere_too(self):
        self.elsewhere()
        client = self.here()
        cls = main_function(self.source)
        first = dumps(cls())
        cls.level = 2
        second = dumps(cls())
        self.elsewhere()
        home = Home({"word": "engine"})
        one, two = loads(first, home), loads(second, home)
        self.assertIs(type(one), type(two))
        self.assertEqual(one.speak(), "2 engine")
        self.back(client)

    def test_objects_with_slots_come_back(self):
        self.elsewhere()
        client = self.here()
        cls = main_function(
            "class f:\n    __slots__ = ('a', '__own')\n    def get(self): return self.__own"
        )
        value = cls()
        value.a = 1
        value._f__own = 2
        sent = dumps(value)
        self.elsewhere()
        on_engine = loads(sent, Home({}))
        self.assertFalse(hasattr(on_engine, "__dict__"))
        self.assertEqual((on_engine.a, on_engine.get()), (1, 2))
        returned = dumps(on_engine)
        self.back(client)
        again = loads(returned)
        self.assertIs(type(again), cls)
        self.assertEqual((again.a, again.get()), (1, 2))

    def test_enums_keep_their_identity(self):
        colour = main_function("import enum\nclass f(enum.Enum):\n    RED = 1\n    BLUE = 2")
        self.assertIs(over_the_wire(colour.RED, {}), colour.RED)

    def test_classes_that_came_are_not_kept_alive(self):
        self.elsewhere()
        sent = dumps(main_function(self.source)())
        self.elsewhere()
        reference = weakref.ref(type(loads(sent, Home({}))))
        gc.collect()
        self.assertIsNone(reference())
