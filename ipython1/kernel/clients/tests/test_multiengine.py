"""The MultiEngine interface from the user's side: every method, and what bad input gets."""

from __future__ import annotations

import threading
from typing import Any

import numpy
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import (
    ClientError,
    CompositeError,
    InvalidDeferredID,
    InvalidEngineID,
    InvalidProperty,
    MessageSizeError,
    NoEnginesRegistered,
    NotDefined,
    QueueCleared,
    SerializationError,
    UnpickleableException,
)
from ipython1.kernel.calls.resultlist import QueueStatusList, ResultList
from ipython1.kernel.clients.daskmethods import DaskMethods
from ipython1.kernel.objects.serialize import UnSerialized, dumps
from ipython1.kernel.tests.wiresupport import main_function, quick
from ipython1.kernel.wire.payload import Serialized
from ipython1.testing import InMemoryCluster


class MultiEngineCase(SynchronousTestCase):
    engines = 4

    def setUp(self):
        self.cluster = InMemoryCluster(self.engines)
        self.mec = self.cluster.multiengine()

    def fails(self, call: Any, *args: Any, **kwargs: Any) -> CompositeError:
        error: CompositeError = self.assertRaises(CompositeError, call, *args, **kwargs)
        return error

    def hold(self, *ids: int) -> None:
        for engine_id in ids or range(self.engines):
            self.cluster.engines[engine_id].worker.held = True

    def release(self) -> None:
        for engine in self.cluster.engines:
            engine.worker.release()
        self.cluster.pump.run()


class ExecuteTest(MultiEngineCase):
    def test_results(self):
        results = self.mec.execute("print('out'); x = 1")
        self.assertIsInstance(results, ResultList)
        self.assertEqual([each["id"] for each in results], [0, 1, 2, 3])
        for each in results:
            self.assertEqual(each["number"], 1)
            self.assertEqual(each["input"]["raw"], "print('out'); x = 1")
            self.assertEqual(each["stdout"], "out\n")
            self.assertNotIn("stderr", each)
            self.assertLessEqual({"started", "completed", "duration"}, set(each))

    def test_results_come_in_the_order_of_the_targets(self):
        self.assertEqual([each["id"] for each in self.mec.execute("x = 1", targets=[2, 0])], [2, 0])
        self.assertEqual([each["id"] for each in self.mec.execute("x = 1", targets=3)], [3])
        self.assertEqual(len(self.mec.execute("x = 1", targets=slice(1, 3))), 2)

    def test_a_command_that_was_run_can_be_asked_for(self):
        self.mec.execute("x = 1")
        self.mec.execute("x = 2", targets=0)
        self.assertEqual([each["number"] for each in self.mec.get_result()], [2, 1, 1, 1])
        self.assertEqual([each["input"]["raw"] for each in self.mec.get_result(1)], ["x = 1"] * 4)
        error = self.fails(self.mec.get_result, 2)
        self.assertEqual((error.engine_ids, len(error.results)), ([1, 2, 3], 1))
        self.assertEqual({type(each) for each in error.exceptions}, {IndexError})
        for wrong in ("1", 1.0, True):
            self.assertRaises(TypeError, self.mec.get_result, wrong)

    def test_names_and_reset(self):
        self.mec.push({"b": 1, "a": 2})
        self.mec.execute("c = 3", targets=0)
        self.assertEqual(self.mec.keys(targets=[0, 1]), [["a", "b", "c"], ["a", "b"]])
        self.assertEqual(self.mec.reset(targets=0), [None])
        self.assertEqual(self.mec.keys(targets=[0, 1]), [[], ["a", "b"]])

    def test_code_must_be_text(self):
        for wrong in (None, 5, b"x = 1", ["x = 1"]):
            self.assertRaises(TypeError, self.mec.execute, wrong)

    def test_long_code(self):
        lines = "x = 1\n" + "# a comment\n" * 40_000
        self.assertEqual(len(self.mec.execute(lines)), 4)
        self.assertEqual(self.mec.pull("x"), [1] * 4)


class FailuresTest(MultiEngineCase):
    def test_all_engines_finish_and_the_good_ones_results_are_kept(self):
        self.mec.scatter("x", [0, 1, 0, 2], flatten=True)
        error = self.fails(self.mec.execute, "y = 1 // x")
        self.assertEqual(error.engine_ids, [0, 2])
        self.assertEqual([each["id"] for each in error.results], [1, 3])
        self.assertEqual(self.mec.pull("y", targets=[1, 3]), [1, 0])
        self.assertEqual(
            str(error).splitlines(),
            [
                "one or more exceptions from call to method: execute",
                "[0:execute]: ZeroDivisionError: integer division or modulo by zero",
                "[2:execute]: ZeroDivisionError: integer division or modulo by zero",
            ],
        )
        self.assertIn("ZeroDivisionError", error.elist[0][2])
        self.assertEqual(error.exceptions[0]._ipython_engine_info["engineid"], 0)

    def test_one_engine_that_fails_is_enough(self):
        error = self.fails(self.mec.execute, "1/0", targets=2)
        self.assertEqual(error.engine_ids, [2])
        self.assertRaises(ZeroDivisionError, error.raise_exception)

    def test_exceptions_of_every_kind(self):
        """Each call fails with something that says what happened, and the engine goes on."""
        for code, kind, text in (
            ("raise KeyError('k')", KeyError, "'k'"),
            ("raise OSError(2, 'gone', 'file')", FileNotFoundError, "gone"),
            ("raise SystemExit(3)", SystemExit, "3"),
            ("raise KeyboardInterrupt", KeyboardInterrupt, ""),
            ("x = ", SyntaxError, "invalid syntax"),
            ("def f(): f()\nf()", RecursionError, "recursion"),
            (
                "class E(Exception):\n    def __init__(self, a, b): super().__init__(a + b)\nraise E('x', 'y')",
                None,
                "xy",
            ),
            ("class E(Exception):\n    def __str__(self): raise ValueError\nraise E", None, ""),
            (
                "class E(Exception):\n    def __reduce__(self): raise ValueError\nraise E('v')",
                None,
                "v",
            ),
            ("class E(Exception):\n    def __reduce__(self): return 5\nraise E('v')", None, "v"),
            (
                "import threading\nraise ValueError(threading.Lock())",
                UnpickleableException,
                "ValueError",
            ),
            ("raise ExceptionGroup('g', [ValueError(1)])", ExceptionGroup, "g"),
            ("raise ValueError('x' * 10**6)", Exception, "xxx"),
        ):
            error = self.fails(self.mec.execute, code, targets=0)
            self.assertIsInstance(error.exceptions[0], kind or Exception, code)
            self.assertIn(text, str(error), code)
        self.assertEqual(len(self.mec.execute("still = 'here'", targets=0)), 1)

    def test_causes_are_kept(self):
        code = "try:\n    1/0\nexcept ZeroDivisionError as e:\n    raise KeyError('k') from e"
        exception = self.fails(self.mec.execute, code, targets=0).exceptions[0]
        self.assertIsInstance(exception.__cause__, ZeroDivisionError)

    def test_many_engines_are_merged_in_the_display_and_not_in_the_data(self):
        cluster = InMemoryCluster(12)
        error = self.fails(cluster.multiengine().execute, "undefined_name")
        self.assertEqual(
            error.summary_lines(),
            ["[0-11:execute]: NameError: name 'undefined_name' is not defined"],
        )
        self.assertEqual(len(error.elist), 12)


class ClientWithDask(DaskMethods):
    """What clients have for dask, on a client of an in-memory cluster."""

    def __init__(self, mec):
        self.get_ids = mec.get_ids
        self._options = mec._options


class TargetsTest(MultiEngineCase):
    CALLS = (
        ("execute", ("a = 1",)),
        ("push", ({"a": 1},)),
        ("pull", ("a",)),
        ("zip_pull", (("a", "b"),)),
        ("push_function", ({"f": len},)),
        ("pull_function", ("f",)),
        ("push_serialized", ({"a": dumps(1)},)),
        ("pull_serialized", ("a",)),
        ("scatter", ("a", [1, 2])),
        ("gather", ("a",)),
        ("raw_map", (abs, [[1]], "b")),
        ("get_result", ()),
        ("keys", ()),
        ("reset", ()),
        ("queue_status", ()),
        ("clear_queue", ()),
        ("interrupt", ()),
        ("kill", (False,)),
        ("set_properties", ({"a": 1},)),
        ("get_properties", ()),
        ("has_properties", (["a"],)),
        ("del_properties", (["a"],)),
        ("clear_properties", ()),
    )

    def test_bad_targets_are_refused_by_every_method_before_anything_happens(self):
        for name, arguments in self.CALLS:
            for targets, kind in (
                (9, InvalidEngineID),
                ([0, 9], InvalidEngineID),
                ([], InvalidEngineID),
                (-1, InvalidEngineID),
                ([0, 0], InvalidEngineID),
                (slice(7, 9), InvalidEngineID),
                (True, TypeError),
                ("x", TypeError),
                (1.5, TypeError),
                ([None], TypeError),
                ({0: 1}, TypeError),
            ):
                call = getattr(self.mec, name)
                self.assertRaises(kind, call, *arguments, targets=targets)
        self.assertEqual(self.mec.get_ids(), [0, 1, 2, 3])
        self.assertEqual(self.mec.keys(), [[]] * 4)
        self.assertEqual(self.mec.get_properties(), [{}] * 4)

    def test_the_error_names_what_is_missing_and_what_there_is(self):
        error = self.assertRaises(InvalidEngineID, self.mec.execute, "a", targets=[0, 5, 6, 9])
        self.assertEqual(str(error), "there is no engine 5-6,9; the engines are 0-3")

    def test_wrong_attributes_are_refused_when_they_are_set(self):
        for client in (self.mec, self.mec.asynchronous, self.mec.mapper()):
            for wrong, kind in (
                ("foo", TypeError),
                ([], InvalidEngineID),
                (-1, InvalidEngineID),
                ([1, 1], InvalidEngineID),
                (1.5, TypeError),
                ({0: 1}, TypeError),
                (slice("a"), TypeError),
            ):
                self.assertRaises(kind, setattr, client, "targets", wrong)
            self.assertRaises(TypeError, setattr, client, "block", "no")
            error = self.assertRaises(AttributeError, setattr, client, "blok", 1)
            self.assertIn("did you mean 'block'?", str(error))
            self.assertEqual(client.targets, "all")
            for right in (0, [1, 2], range(2), slice(1, None), {3}, "all"):
                client.targets = right
                self.assertEqual(client.targets, right)
        self.assertRaises(TypeError, setattr, self.mec, "targets", None)
        self.mec.targets = (number for number in (3, 1))
        self.assertEqual(self.mec.apply(int), [0, 0])
        self.assertEqual(self.mec.apply(int), [0, 0], "the targets of an iterator stay")

    def test_mappers_check_their_options_when_they_are_made(self):
        self.assertRaises(ClientError, self.mec.mapper, dist="x")
        self.assertRaises(TypeError, self.mec.mapper, targets="foo")
        self.assertRaises(TypeError, self.mec.parallel, block="no")
        self.assertRaises(ClientError, setattr, self.mec.mapper(), "dist", "x")

    def test_it_is_the_collection_of_its_engines(self):
        for client in (self.mec, self.mec.asynchronous):
            self.assertEqual((client.ids, len(client), [*client]), ([0, 1, 2, 3], 4, [0, 1, 2, 3]))
            self.assertTrue(3 in client and numpy.int64(0) in client)
            self.assertFalse(4 in client or True in client or "0" in client or None in client)
        self.mec.kill(targets=[0, 1, 2])
        self.assertEqual((self.mec.ids, len(self.mec), 0 in self.mec), ([3], 1, False))
        self.mec.kill()
        self.assertEqual(len(self.mec), 0)
        self.assertTrue(self.mec, "a client is true, also without engines")

    def test_what_else_collections_do_is_refused_with_what_to_use(self):
        for client in (self.mec, self.mec[:2]):
            with self.assertRaisesRegex(TypeError, "use execute\\('del a'\\)"):
                del client["a"]
            with self.assertRaisesRegex(TypeError, "use kill"):
                del client[0]

    def test_dask_needs_engines(self):
        mec = ClientWithDask(InMemoryCluster(0).multiengine())
        self.assertRaises(NoEnginesRegistered, mec.become_dask)

    def test_without_engines(self):
        mec = InMemoryCluster(0).multiengine()
        self.assertEqual(mec.get_ids(), [])
        for name, arguments in self.CALLS:
            error = self.assertRaises(NoEnginesRegistered, getattr(mec, name), *arguments)
            self.assertIn("ipengine", str(error))
            self.assertRaises(NoEnginesRegistered, getattr(mec, name), *arguments, targets=0)

    def test_block_must_be_a_truth_value(self):
        for wrong in ("yes", [], 1.0):
            self.assertRaises(TypeError, self.mec.execute, "a = 1", block=wrong)

    def test_every_method_can_be_called_without_blocking(self):
        self.mec.push({"a": 1, "b": 2})
        self.mec.push_function({"f": lambda x: x})
        for name, arguments in self.CALLS:
            if name not in ("kill", "interrupt", "queue_status", "clear_queue"):
                self.mec.push({"a": [1], "b": 2})
                self.mec.set_properties({"a": 1})
                self.mec.push_function({"f": len})
                pending = getattr(self.mec, name)(*arguments, block=False)
                self.assertTrue(hasattr(pending, "get_result"), name)
                if name != "get_result":
                    pending.get_result()


class MovingObjectsTest(MultiEngineCase):
    def test_push_and_pull(self):
        self.assertEqual(self.mec.push({"a": 1.03234, "b": 3453}), [None] * 4)
        self.assertEqual(self.mec.pull("a"), [1.03234] * 4)
        self.assertEqual(self.mec.pull("b", targets=0), [3453])
        self.assertEqual(self.mec.pull(("a", "b")), [[1.03234, 3453]] * 4)
        self.assertEqual(self.mec.pull(["a"]), [[1.03234]] * 4)
        self.assertEqual(self.mec.zip_pull(("a", "b")), [(1.03234,) * 4, (3453,) * 4])
        self.assertEqual(self.mec.push({}), [None] * 4)
        self.mec["c"] = ["foo", "bar"]
        self.assertEqual(self.mec["c"], [["foo", "bar"]] * 4)

    def test_engines_do_not_share_what_they_got(self):
        self.mec.push({"a": []})
        self.mec.execute("a.append(1)", targets=0)
        self.assertEqual(self.mec.pull("a"), [[1], [], [], []])

    def test_names_that_are_not_there(self):
        self.mec.push({"a": 1}, targets=[0, 1])
        error = self.fails(self.mec.pull, "a")
        self.assertEqual(error.engine_ids, [2, 3])
        self.assertEqual(error.results, [1, 1])
        self.assertIsInstance(error.exceptions[0], NotDefined)
        self.assertIsInstance(error.exceptions[0], NameError)
        self.assertIn("'a' is not defined", str(error))
        for call in (self.mec.pull_function, self.mec.pull_serialized, self.mec.gather):
            self.assertIsInstance(self.fails(call, "nothing").exceptions[0], NotDefined)
        self.fails(self.mec.zip_pull, ("a", "nothing"))

    def test_names_that_cannot_be(self):
        for name in ("", "a b", "1a", "a.b", "class", "a-b"):
            self.assertRaises(ValueError, self.mec.push, {name: 1})
            self.assertRaises(ValueError, self.mec.pull, name)
            self.assertRaises(ValueError, self.mec.scatter, name, [1])
        for name in (5, None, b"a"):
            self.assertRaises(TypeError, self.mec.push, {name: 1})
            self.assertRaises(TypeError, self.mec.pull, [name])
        for wrong in (5, None, [], b"ab"):
            self.assertRaises(TypeError, self.mec.pull, wrong)
        for wrong in (5, None, [("a", 1)], "a"):
            self.assertRaises(TypeError, self.mec.push, wrong)

    def test_what_cannot_be_sent_is_said_before_anything_is(self):
        error = self.assertRaises(
            SerializationError, self.mec.push, {"good": 1, "bad": threading.Lock()}
        )
        self.assertIn("lock", str(error))
        self.assertEqual(self.mec.keys(), [[]] * 4)

    def test_what_an_engine_cannot_send(self):
        self.mec.execute("import threading; bad = threading.Lock(); good = 1")
        error = self.fails(self.mec.pull, ("good", "bad"))
        self.assertIsInstance(error.exceptions[0], SerializationError)
        self.assertEqual(self.mec.pull("good"), [1] * 4)

    def test_what_an_engine_cannot_rebuild_changes_nothing_there(self):
        odd = main_function("class f:\n    def __setstate__(self, state): raise ValueError('no')")()
        odd.x = 1
        error = self.fails(self.mec.push, {"a": 1, "b": odd}, targets=0)
        self.assertIsInstance(error.exceptions[0], SerializationError)
        self.assertEqual(self.mec.keys(targets=0), [[]])

    def test_what_the_client_cannot_rebuild_fails_for_its_engine_alone(self):
        self.mec.push({"a": 5})
        self.mec.push_serialized({"a": Serialized((dumps(5).buffers[0],))}, targets=0)
        self.mec.execute(
            "class Odd:\n    def __reduce__(self): return (int, ('no number',))\na = Odd()",
            targets=2,
        )
        error = self.fails(self.mec.pull, "a")
        self.assertEqual((error.engine_ids, error.results), ([2], [5, 5, 5]))
        self.assertIsInstance(error.exceptions[0], SerializationError)

    def test_large_arrays(self):
        """Through the bulk path in both directions: whole, writable, and each engine's own."""
        array = numpy.arange(300_000.0).reshape(600, 500)
        self.mec.push({"a": array})
        self.mec.execute("a[0, 0] = 99; assert a.flags.writeable", targets=0)
        self.assertEqual(array[0, 0], 0)
        pulled = self.mec.pull("a")
        self.assertEqual([each[0, 0] for each in pulled], [99, 0, 0, 0])
        for each in pulled:
            each[0, 1] = 7
        numpy.testing.assert_array_equal(pulled[3][1:], array[1:])
        several = self.mec.pull(("a", "a"), targets=0)[0]
        self.assertEqual([each.shape for each in several], [(600, 500)] * 2)

    @quick
    @given(st.lists(st.integers(0, 600_000), min_size=1, max_size=4))
    def test_objects_of_any_size(self, sizes):
        namespace = {f"a{n}": numpy.arange(size, dtype="u1") for n, size in enumerate(sizes)}
        cluster = InMemoryCluster(2)
        mec = cluster.multiengine()
        mec.push(namespace)
        for pulled in mec.pull(tuple(namespace)):
            for array, sent in zip(pulled, namespace.values(), strict=True):
                numpy.testing.assert_array_equal(array, sent)
        for engine in cluster.engines:
            self.assertEqual(engine.link.bulk.active, 0)

    def test_what_is_too_large_is_refused_and_the_rest_goes_on(self):
        self.mec._connection.end.max_message = 10_000
        error = self.assertRaises(MessageSizeError, self.mec.push, {"a": bytes(20_000)})
        self.assertIn("max_message_size", str(error))
        self.assertRaises(MessageSizeError, self.mec.scatter, "a", [bytes(20_000)] * 4)
        self.assertEqual(self.mec.push({"a": 1}), [None] * 4)

    def test_serialized(self):
        packed = dumps({"x": numpy.arange(5000)})
        self.assertEqual(self.mec.push_serialized({"a": packed}), [None] * 4)
        self.mec.execute("a['x'][0] = 5")
        pulled = self.mec.pull_serialized("a", targets=1)
        self.assertIsInstance(pulled[0], Serialized)
        self.mec.push_serialized({"b": pulled[0]}, targets=0)
        self.assertEqual(self.mec.pull("b", targets=0)[0]["x"][0], 5)
        both = self.mec.pull_serialized(("a", "a"), targets=1)
        self.assertEqual([len(each) for each in both], [2])
        self.assertRaises(TypeError, self.mec.push_serialized, {"a": 5})
        self.mec.push_serialized({"c": UnSerialized([1, 2])})
        self.assertEqual(self.mec.pull("c"), [[1, 2]] * 4)


class FunctionsTest(MultiEngineCase):
    def test_functions_run_in_the_engines_namespaces(self):
        self.mec.scatter("n", [1, 2, 3, 4], flatten=True)
        self.assertEqual(
            self.mec.push_function({"f": main_function("def f(x): return x * n")}), [None] * 4
        )
        self.mec.execute("y = f(10)")
        self.assertEqual(self.mec.pull("y"), [10, 20, 30, 40])

    def test_pulled_functions_work_here(self):
        self.mec.execute("def f(x): return 2.0 * x ** 4")
        functions = self.mec.pull_function("f", targets=[0, 1])
        self.assertEqual([f(4.0) for f in functions], [512.0] * 2)
        self.mec.execute("def g(x): return -x")
        self.assertEqual(
            [h(1.0) for h in self.mec.pull_function(["f", "g"], targets=0)[0]], [2.0, -1.0]
        )

    def test_applied_to_arguments_on_every_target(self):
        self.mec.scatter("n", [1, 2, 3, 4], flatten=True)
        times = main_function("def times(x, plus=0): return x * n + plus", "times")
        self.assertEqual(self.mec.apply(times, 10), [10, 20, 30, 40])
        self.mec.targets = [3, 1]
        self.assertEqual(self.mec.apply(times, 10, plus=5), [45, 25])
        self.mec.targets = 2
        self.assertEqual(self.mec.apply(dict), [{}])
        self.assertEqual(self.mec.keys(targets=2), [["n"]], "it leaves no name behind")

    def test_all_arguments_are_those_of_the_applied_function(self):
        self.mec.targets = 0
        named = {"targets": 1, "block": False, "self": 2, "func": 3, "name": 4}
        self.assertEqual(self.mec.apply(dict, **named), [named])

    def test_applied_without_waiting(self):
        self.mec.block = False
        array = numpy.zeros(5000)
        self.hold()
        pending = self.mec.apply(numpy.sum, array)
        array[:] = 1
        status = dict(self.mec.queue_status())
        self.assertEqual(status[0], {"pending": "apply(...)", "queue": []})
        self.release()
        self.assertEqual(pending.r, [0.0] * 4, "it works on a copy")

    def test_applied_functions_that_fail(self):
        self.mec.scatter("n", [1, 0, 2, 0], flatten=True)
        divide = main_function("def divide(x): return x // n", "divide")
        error = self.fails(self.mec.apply, divide, 4)
        self.assertEqual((error.engine_ids, error.results), ([1, 3], [4, 2]))
        self.assertEqual(
            str(error).splitlines()[:2],
            [
                "one or more exceptions from call to method: apply",
                "[1:apply]: ZeroDivisionError: integer division or modulo by zero",
            ],
        )
        self.assertRaises(TypeError, self.mec.apply, "divide", 4)
        self.assertRaises(TypeError, self.mec.apply)
        self.assertRaises(SerializationError, self.mec.apply, len, threading.Lock())
        self.mec.targets = 9
        self.assertRaises(InvalidEngineID, self.mec.apply, len, "x")

    def test_what_is_no_function_is_refused(self):
        for wrong in (5, "text", int, [len]):
            self.assertRaises(TypeError, self.mec.push_function, {"f": wrong})
        self.mec.push({"a": 1})
        self.assertIsInstance(self.fails(self.mec.pull_function, "a").exceptions[0], TypeError)


class ScatterTest(MultiEngineCase):
    def test_both_ways_for_every_kind_of_sequence(self):
        for sequence in (
            list(range(16)),
            list(range(7)),
            [1, 2],
            [],
            tuple(range(5)),
            "hello world",
            b"hello world",
            bytearray(b"hello"),
            numpy.arange(21.0).reshape(7, 3),
            numpy.arange(3),
            numpy.arange(400_000),
        ):
            for dist in "br":
                self.assertEqual(self.mec.scatter("a", sequence, dist=dist), [None] * 4)
                gathered = self.mec.gather("a", dist=dist)
                self.assertIs(type(gathered), type(sequence))
                numpy.testing.assert_array_equal(numpy.asarray(gathered), numpy.asarray(sequence))

    def test_the_parts(self):
        self.mec.scatter("a", range(10))
        self.assertEqual(self.mec.pull("a"), [[0, 1, 2], [3, 4, 5], [6, 7], [8, 9]])
        self.mec.scatter("a", range(10), dist="r")
        self.assertEqual(self.mec.pull("a"), [[0, 4, 8], [1, 5, 9], [2, 6], [3, 7]])
        self.mec.scatter("a", range(5), targets=[3, 1])
        self.assertEqual(self.mec.pull("a", targets=[3, 1]), [[0, 1, 2], [3, 4]])
        self.assertEqual(self.mec.gather("a", targets=[3, 1]), [0, 1, 2, 3, 4])

    def test_flatten(self):
        self.mec.scatter("a", range(4), flatten=True)
        self.assertEqual(self.mec.pull("a"), [0, 1, 2, 3])
        self.assertEqual(self.mec.gather("a"), [0, 1, 2, 3])
        self.mec.scatter("a", range(6), flatten=True)
        self.assertEqual(self.mec.pull("a"), [[0, 1], [2, 3], 4, 5])

    def test_iterators_are_not_lost(self):
        self.mec.scatter("a", iter(range(8)))
        self.assertEqual(self.mec.gather("a"), list(range(8)))
        self.mec.scatter("a", (x * x for x in range(4)), dist="r")
        self.assertEqual(self.mec.gather("a", dist="r"), [0, 1, 4, 9])

    def test_bad_input(self):
        for wrong in (5, None, {"a": 1}, numpy.array(3)):
            self.assertRaises(TypeError, self.mec.scatter, "a", wrong)
        self.assertRaises(ClientError, self.mec.scatter, "a", [1], dist="x")
        self.assertRaises(ClientError, self.mec.gather, "a", dist="x")
        self.assertRaises(SerializationError, self.mec.scatter, "a", [threading.Lock()])
        self.assertEqual(self.mec.keys(), [[]] * 4)


class PropertiesTest(MultiEngineCase):
    def test_they_belong_to_each_engine(self):
        self.assertEqual(self.mec.set_properties({"gpu": True, "memory": 4}), [None] * 4)
        self.mec.set_properties({"memory": 8}, targets=1)
        self.assertEqual(
            self.mec.get_properties("memory"),
            [{"memory": 4}, {"memory": 8}, {"memory": 4}, {"memory": 4}],
        )
        self.assertEqual(self.mec.get_properties(targets=0), [{"gpu": True, "memory": 4}])
        self.assertEqual(self.mec.has_properties(["gpu", "disk"], targets=0), [[True, False]])
        self.assertEqual(self.mec.has_properties("gpu", targets=0), [[True]])
        self.assertEqual(self.mec.del_properties("gpu", targets=[0, 1]), [None] * 2)
        self.assertEqual(self.mec.has_properties(["gpu"]), [[False], [False], [True], [True]])
        self.assertEqual(self.mec.clear_properties(), [None] * 4)
        self.assertEqual(self.mec.get_properties(), [{}] * 4)

    def test_missing_ones(self):
        self.mec.set_properties({"a": 1}, targets=0)
        for call in (self.mec.get_properties, self.mec.del_properties):
            error = self.fails(call, ["a", "b"], targets=0)
            self.assertIsInstance(error.exceptions[0], InvalidProperty)
            self.assertIn("engine 0 has no property 'b'; it has: a", str(error))
        self.assertEqual(self.mec.get_properties(targets=0), [{"a": 1}])

    def test_bad_input(self):
        for wrong in (5, None, [("a", 1)], {1: 2}):
            self.assertRaises(TypeError, self.mec.set_properties, wrong)
        for wrong in (5, [1], [("a",)]):
            self.assertRaises(TypeError, self.mec.has_properties, wrong)
            self.assertRaises(TypeError, self.mec.get_properties, wrong)
        self.assertRaises(SerializationError, self.mec.set_properties, {"a": threading.Lock()})


class QueuesTest(MultiEngineCase):
    def test_status(self):
        self.hold(0)
        self.mec.execute("a = 1", block=False)
        self.mec.push({"x": 1, "y": 2}, targets=0, block=False)
        status = self.mec.queue_status()
        self.assertIsInstance(status, QueueStatusList)
        self.assertEqual(status[0], (0, {"pending": "execute('a = 1')", "queue": ["push(x, y)"]}))
        self.assertEqual(status[1], (1, {"pending": None, "queue": []}))
        self.assertEqual(self.mec.queue_status(targets=1), [status[1]])
        self.assertIn("[0] queued:  push(x, y)", repr(status))

    def test_a_long_queue_can_be_looked_at(self):
        """Its listing is far larger than what fits into one message."""
        self.hold(0)
        for n in range(9000):
            self.mec.asynchronous.execute(f"x{n} = '{'y' * 60}'", targets=0, block=False)
        status = self.mec.queue_status(targets=0)
        self.assertEqual(len(status[0][1]["queue"]), 8999)
        self.mec.clear_queue()
        self.assertEqual(self.mec.queue_status(targets=0)[0][1]["queue"], [])

    def test_clearing_fails_what_had_not_begun(self):
        self.hold(0, 1)
        running = self.mec.execute("a = 1", targets=[0, 1], block=False)
        waiting = self.mec.execute("b = 1", targets=[0, 1], block=False)
        self.assertIsNone(self.mec.clear_queue(targets=0))
        self.release()
        error = self.fails(waiting.get_result)
        self.assertEqual((error.engine_ids, len(error.results)), ([0], 1))
        self.assertIsInstance(error.exceptions[0], QueueCleared)
        self.assertEqual(len(running.r), 2)

    def test_commands_of_one_client_run_in_their_order(self):
        self.mec.push({"log": []})
        self.hold()
        for n in range(20):
            self.mec.execute(f"log.append({n})", block=False)
        self.mec.scatter("s", range(4), block=False)
        self.mec.execute("log.append(s)", block=False)
        self.release()
        self.assertEqual(self.mec.pull("log"), [[*range(20), [n]] for n in range(4)])


class ClientsTest(MultiEngineCase):
    def test_several_clients_share_engines_and_nothing_else(self):
        other = self.cluster.multiengine()
        other.targets = 0
        self.mec.push({"a": "from the first"})
        self.assertEqual(other.pull("a"), ["from the first"])
        self.hold(0)
        mine = self.mec.execute("mine = 1", targets=0, block=False)
        theirs = other.execute("theirs = 1", block=False)
        second = self.mec.execute("second = 1", targets=0, block=False)
        other.flush()
        self.assertEqual(len(self.mec.queue_status(targets=0)[0][1]["queue"]), 2)
        second.abort()
        self.release()
        self.assertEqual(len(mine.r), 1)
        self.assertIsInstance(self.fails(second.get_result).exceptions[0], QueueCleared)
        self.assertEqual(other.keys(), [["a", "mine", "theirs"]])
        self.assertRaises(InvalidDeferredID, theirs.get_result)

    def test_all_hear_of_engines(self):
        other = self.cluster.multiengine()
        self.mec.kill(targets=[0, 1])
        self.assertEqual((self.mec.get_ids(), other.get_ids()), ([2, 3], [2, 3]))
        self.cluster.add_engine()
        self.assertEqual(len(other.execute("a = 1")), 3)
