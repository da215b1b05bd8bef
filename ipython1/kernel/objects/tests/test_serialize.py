"""Objects to bytes and back: what travels, where functions run, and what cannot be sent."""

from __future__ import annotations

import gc
import io
import math
import pickle
import threading
import types
import weakref
from typing import Any

import numpy
from cloudpickle import cloudpickle as _cp
from hypothesis import given
from hypothesis import strategies as st
from twisted.python.components import registerAdapter
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ipython1.kernel.basics.error import SerializationError
from ipython1.kernel.objects import serialize
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
    return loads(split_inline(join_inline(dumps(value).buffers)), namespace)


class ValuesTest(SynchronousTestCase):
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
        error = self.assertRaises(SerializationError, loads, (stream,), {})
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

    def send(self, function):
        return over_the_wire(function, self.engine)

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

    def test_it_brings_only_what_it_refers_to(self):
        self.send(main_function("used = 1\nunused = 2\ndef f(): return used"))
        self.assertIn("used", self.engine)
        self.assertNotIn("unused", self.engine)

    def test_it_does_not_bring_data(self):
        for value in (
            [1, 2],
            {"a": 1},
            "x" * 5000,
            b"x" * 5000,
            ("x" * 3000, "y" * 3000),
            tuple(range(5000)),
            numpy.zeros(3),
            object(),
        ):
            f = self.send(main_function("def f(): return value", value=value))
            self.assertRaises(NameError, f)
            self.assertNotIn("value", self.engine)

    def test_what_it_brought_is_renewed_when_it_was_redefined(self):
        self.send(main_function("n = 1\ndef g(): return n\ndef f(): return g()"))
        f = self.send(main_function("n = 2\ndef g(): return n * 10\ndef f(): return g()"))
        self.assertEqual(f(), 20)

    def test_what_the_user_changed_since_is_left_alone(self):
        source = "n = 1\ndef f(): return n"
        self.send(main_function(source))
        self.engine["n"] = 99
        self.assertEqual(self.send(main_function(source))(), 99)
        del self.engine["n"]
        self.assertEqual(self.send(main_function(source))(), 1)

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
        self.assertLess(dumps(f).size, 2000)

    def test_without_a_namespace_it_runs_in_main(self):
        import __main__

        f = over_the_wire(main_function("def f(): return __name__"))
        self.assertIs(f.__globals__, vars(__main__))
        self.addCleanup(vars(__main__).pop, serialize.BROUGHT_KEY, None)


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
        value, bound = loads(sent, {"offset": 100})
        self.assertEqual((value.total(), value.twice, type(value).make().x), (101, 202, 5))
        self.assertEqual(bound(), 102)

    source = "class f:\n    level = 1\n    def speak(self): return f'{self.level} {word}'"

    def test_an_object_comes_back_as_one_of_the_users_own_class(self):
        self.elsewhere()
        client = self.here()
        cls = main_function(self.source)
        sent = dumps(cls())
        self.elsewhere()
        on_engine = loads(sent, {"word": "engine"})
        self.assertIsNot(type(on_engine), cls)
        self.assertEqual(on_engine.speak(), "1 engine")
        returned = dumps(on_engine)
        self.back(client)
        cls.level = 2
        speak = cls.speak
        again = loads(returned, {"word": "client"})
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
        namespace = {"word": "engine"}
        one, two = loads(first, namespace), loads(second, namespace)
        self.assertIs(type(one), type(two))
        self.assertEqual(one.speak(), "2 engine")
        self.back(client)

    def test_enums_keep_their_identity(self):
        colour = main_function("import enum\nclass f(enum.Enum):\n    RED = 1\n    BLUE = 2")
        self.assertIs(over_the_wire(colour.RED, {}), colour.RED)

    def test_classes_that_came_are_not_kept_alive(self):
        self.elsewhere()
        sent = dumps(main_function(self.source)())
        self.elsewhere()
        reference = weakref.ref(type(loads(sent, {})))
        gc.collect()
        self.assertIsNone(reference())
