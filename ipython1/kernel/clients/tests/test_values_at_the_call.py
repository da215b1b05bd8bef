"""Whatever a call was given is as it was when the call returned, in every client that does not wait for the result."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import numpy
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import CompositeError, SerializationError
from ipython1.kernel.objects.frozen import Freezer
from ipython1.kernel.objects.serialize import dumps
from ipython1.kernel.objects.taskobjects import MapTask
from ipython1.kernel.tests.wiresupport import main_function
from ipython1.testing import InMemoryCluster

LARGE = 300_000
"""Items of arrays that are sent on their own, not with what is around them."""


class Point:
    """An object that can change."""

    def __init__(self, x: Any) -> None:
        self.x = x


class MultiEngineTests(SynchronousTestCase):
    """The asynchronous client, whose calls all return at once."""

    def setUp(self) -> None:
        self.cluster = InMemoryCluster(2)
        self.mec = self.cluster.async_multiengine()

    def result_of(self, deferred: Any) -> Any:
        self.cluster.pump.run()
        return self.successResultOf(deferred)

    def values(self, name: str) -> list[Any]:
        return [engine.interpreter.user_ns[name] for engine in self.cluster.engines]

    def test_every_call(self) -> None:
        for ids in (self.mec._connection.end.ids, frozenset()):
            # With unknown engines, a call is sent only after the controller has named them.
            self.mec._connection.end.ids = ids
            array, items, cell = numpy.zeros(LARGE), [Point(1), Point(2)], [0]
            weights = numpy.ones(LARGE)

            def weighted(x: Any, weights: Any = weights) -> float:
                return float(weights[0]) * x

            calls = {
                "push": self.mec.push({"a": array}),
                "push_function": self.mec.push_function({"f": weighted}),
                "push_serialized": self.mec.push_serialized({"s": dumps(array)}),
                "scatter": self.mec.scatter("part", array),
                "scatter_items": self.mec.scatter("points", items),
                "apply": self.mec.apply(lambda a: float(a[0]), array),
                "map": self.mec.map(lambda point: point.x + cell[0], items),
                "raw_map": self.mec.raw_map(lambda x: float(x), [array[:4]], "r"),
                "mapper": self.mec.mapper().map(weighted, [1, 2]),
                "properties": self.mec.set_properties({"p": items}),
            }
            array[:] = weights[:] = cell[0] = 9
            items[1].x = 9
            items.clear()
            results = {name: self.result_of(call) for name, call in calls.items()}
            self.assertEqual(results["apply"], [0.0, 0.0])
            self.assertEqual(results["map"], [1, 2])
            self.assertEqual(results["raw_map"], [0.0] * 4)
            self.assertEqual(results["mapper"], [1.0, 2.0])
            for name in ("a", "s", "part"):
                self.assertEqual([float(each.sum()) for each in self.values(name)], [0.0, 0.0])
            self.assertEqual([[p.x for p in each] for each in self.values("points")], [[1], [2]])
            self.assertEqual([f(1) for f in self.values("f")], [1.0, 1.0])
            [properties, _] = self.result_of(self.mec.get_properties("p"))
            self.assertEqual([point.x for point in properties["p"]], [1, 2])


class TaskTests(SynchronousTestCase):
    """The asynchronous client's tasks, and maps that do not wait."""

    def setUp(self) -> None:
        self.cluster = InMemoryCluster(2)
        self.tc = self.cluster.async_task()
        Deferred.fromCoroutine(self.tc.begin())
        self.cluster.pump.run()

    def result_of(self, deferred: Any) -> Any:
        self.cluster.pump.run()
        return self.successResultOf(deferred)

    def start(self, function: Any, *sequences: Any, **options: Any) -> Any:
        """A map of which nothing was sent yet."""
        return self.successResultOf(
            self.tc.mapper(block=False, **options).map(function, *sequences)
        )

    def test_functions(self) -> None:
        for options in ({}, {"retries": 1}):
            pending = [self.start(lambda x: x + n, [0], **options) for n in range(4)]
            self.assertEqual([self.result_of(each.r) for each in pending], [[0], [1], [2], [3]])
        held = [1]
        function = main_function("def f(x, held): return x + len(held)")
        function.__defaults__ = (held,)
        first = self.start(function, range(300))
        held.append(2)
        function.__defaults__ = ([],)
        self.assertEqual(self.result_of(first.r), [n + 1 for n in range(300)])

    def test_options(self) -> None:
        allowed = [0]
        pending = self.start(
            lambda x: 1 // x,
            [0, 1],
            retries=1,
            recovery_task=MapTask(lambda: list(allowed)),
            depend=lambda properties: len(allowed) == 1,
        )
        allowed.append(1)
        self.assertEqual(self.result_of(pending.r), [[0], 1])

    def test_sequences(self) -> None:
        array, objects = numpy.zeros(300), numpy.array([Point(n) for n in range(300)])
        for options in ({}, {"retries": 1}):
            for sequence, change, seen in (
                (list(range(300)), list.clear, int),
                (array, lambda a: a.fill(7), float),
                (bytearray(300), lambda b: b.extend(b"x" * 9), int),
                (objects, lambda a: a.fill(None), lambda point: point.x),
                ([Point(n) for n in range(300)], lambda p: setattr(p[250], "x", -1), lambda p: p.x),
                ([[n] for n in range(300)], lambda rows: rows[250].append(1), len),
                ([{n: n} for n in range(300)], lambda rows: rows[250].clear(), len),
                (
                    [numpy.zeros(2000) for n in range(40)],
                    lambda a: a[30].fill(1),
                    lambda a: a.sum(),
                ),
            ):
                expected = list(map(seen, sequence))
                pending = self.start(seen, sequence, **options)
                change(sequence)
                self.assertEqual(self.result_of(pending.r), expected)
                if sequence is array:
                    array.fill(0)
                if sequence is objects:
                    objects[:] = [Point(n) for n in range(300)]

    def test_items_arrive_as_they_would_from_a_map_that_waits(self) -> None:
        """Arrays are writable, one object given twice is one, and functions see the engine's names."""
        rows = [numpy.zeros(2000)] * 3

        def count(row: Any) -> float:
            row += 1
            return float(row[0])

        values = self.result_of(self.start(count, rows).r)
        self.assertEqual(values, [1.0, 1.0, 1.0], "single items first")
        shared = Point([])

        def grow(point: Any) -> int:
            point.x.append(1)
            return len(point.x)

        values = self.result_of(self.start(grow, [shared] * 100).r)
        self.assertIn(2, values, "in a group it is the same object")
        for engine in self.cluster.engines:
            engine.interpreter.user_ns["scale"] = 10
        functions = [main_function("def f(x): return scale * x"), abs] * 100
        values = self.result_of(self.start(lambda f: f(-2), functions).r)
        self.assertEqual(values, [-20, 2] * 100)

    def test_classes_of_the_session(self) -> None:
        """A class is sent once for many objects, which are still objects of one class where they arrive."""
        made = main_function("class f:\n    def get(self): return self.x")
        items = [made() for _ in range(300)]
        for number, item in enumerate(items):
            item.x = number
        self.assertEqual(
            self.result_of(self.start(lambda each: each.get(), items).r), [*range(300)]
        )
        pairs = [(made(), made)] * 100
        kinds = self.result_of(self.start(lambda pair: type(pair[0]) is pair[1], pairs).r)
        self.assertEqual(kinds, [True] * 100)
        frozen = Freezer().column(items)
        one, all_of_them = (len(pickle.dumps(frozen[:number])) for number in (1, 300))
        self.assertLess(all_of_them, one + 299 * 300)

    def test_items_that_cannot_be_sent_fail_alone(self) -> None:
        items: list[Any] = [Point(n) for n in range(100)]
        items[3] = items[80] = threading.Lock()
        pending = self.start(lambda point: point.x, items)
        self.cluster.pump.run()
        error = self.failureResultOf(pending.r, CompositeError).value
        for number in (3, 80):
            self.assertIsInstance(error.results[number], SerializationError)
            self.assertIn("lock cannot be sent", str(error.results[number]))
            self.assertNotIn("list", str(error.results[number]))
        self.assertEqual(error.results[4:80], list(range(4, 80)))

    def test_data_that_never_changes_is_not_copied(self) -> None:
        for column in (range(10**9), "text", b"bytes", (1, "a", None)):
            self.assertIs(Freezer().column(column), column)
        rows = [(1, 2), (3, 4)]
        self.assertIs(Freezer().column(rows)[0], rows[0])

    def test_tasks(self) -> None:
        array = numpy.zeros(LARGE)
        ids = [
            self.tc.run(MapTask(lambda a: float(a[0]), (array,))),
            self.tc.run_many([MapTask(lambda a: float(a[0]), (array,))]),
        ]
        array[0] = 1
        first, [second] = map(self.result_of, ids)
        for each in (first, second):
            result = self.result_of(self.tc.get_task_result(each, block=True))
            self.assertEqual(result.result, 0.0)
