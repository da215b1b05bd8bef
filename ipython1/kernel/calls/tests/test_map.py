"""Distributions, and maps over engines: the same as the built-in ``map``, whatever is given."""

from __future__ import annotations

import itertools
import pickle
import sys
import threading
from typing import Any

import numpy
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ipython1.kernel.basics.error import ClientError, CompositeError, EngineDied, SerializationError
from ipython1.kernel.calls import map as map_module
from ipython1.kernel.calls.map import Block, RoundRobin, get_distribution, register_distribution
from ipython1.kernel.calls.mapper import IMapper
from ipython1.kernel.calls.parallelfunction import IParallelFunction
from ipython1.kernel.tests.wiresupport import main_function, quick
from ipython1.testing import InMemoryCluster


class DistributionTest(SynchronousTestCase):
    @quick
    @given(st.integers(0, 40), st.integers(1, 7), st.sampled_from("br"))
    def test_parts_differ_in_length_by_one_at_most(self, length, n, dist):
        parts = get_distribution(dist).partition(range(length), n)
        lengths = [len(part) for part in parts]
        self.assertEqual((len(parts), sum(lengths)), (n, length))
        self.assertLessEqual(max(lengths) - min(lengths), 1)
        self.assertEqual(lengths, sorted(lengths, reverse=True))

    def test_blocks_are_contiguous(self):
        self.assertEqual(Block().partition(range(10), 4), [[0, 1, 2], [3, 4, 5], [6, 7], [8, 9]])
        self.assertEqual(Block().partition("abcde", 2), ["abc", "de"])

    def test_round_robin_deals_out_one_by_one(self):
        parts = RoundRobin().partition(range(10), 4)
        self.assertEqual(parts, [[0, 4, 8], [1, 5, 9], [2, 6], [3, 7]])

    def test_parts_that_were_changed_on_the_engines_are_still_joined(self):
        self.assertEqual(Block().join([[1], [], [2, 3]]), [1, 2, 3])
        self.assertEqual(RoundRobin().join([[1, 2, 3], [], [4]]), [1, 4, 2, 3])
        joined = RoundRobin().join([numpy.array([1, 2, 3]), numpy.array([4])])
        self.assertEqual(joined.tolist(), [1, 4, 2, 3])

    def test_single_objects_become_a_list(self):
        for dist in "br":
            self.assertEqual(get_distribution(dist).join([1, "two", None]), [1, "two", None])
            self.assertEqual(get_distribution(dist).join([]), [])
            self.assertEqual(get_distribution(dist).join([5.0]), [5.0])

    def test_iterables_are_taken_in_their_order(self):
        self.assertEqual(Block().partition(iter("abc"), 2), [["a", "b"], ["c"]])

    def test_what_has_no_order_is_refused(self):
        for value in ({"a": 1}, 5, None):
            self.assertRaises(TypeError, Block().partition, value, 2)
            self.assertRaises(TypeError, RoundRobin().partition, value, 2)

    def test_an_unknown_distribution_is_named_with_those_that_there_are(self):
        for name in ("x", "", None, ["b"]):
            error = self.assertRaises(ClientError, get_distribution, name)
            self.assertIn("'b', 'r'", str(error))


def failures_of(pending: Any) -> list[BaseException | None]:
    """What each engine's outcome says about failures."""
    call = pending.asynchronous._call
    return [call.request.problem_of(call.outcomes[engine_id], {}) for engine_id in call.ids]


class MapTest(SynchronousTestCase):
    def setUp(self):
        self.cluster = InMemoryCluster(4)
        self.mec = self.cluster.multiengine()

    def check(self, function, *sequences, **options):
        """The same as the built-in, in both distributions, in whatever pieces."""
        for dist, chunks in itertools.product("br", (1, 2, 100)):
            result = self.mec.raw_map(function, sequences, dist, chunks=chunks)
            self.assertEqual(result, list(map(function, *sequences)))
            self.assertEqual(type(result), list)

    def test_it_equals_the_built_in_map(self):
        self.check(lambda x: x**10, range(32))
        self.check(lambda x, y: (x, y), range(9), "abcdefghi")
        self.check(str, [1, "a", None, [2], {"b": 3}])
        self.check(len, ["a", "bc", "def"])
        self.check(lambda x: x + 1, (1, 2, 3))
        self.check(lambda c: c * 2, "hello world")
        self.check(lambda b: b + 1, b"hello")
        self.check(lambda row: float(row.sum()), numpy.arange(21.0).reshape(7, 3))
        self.check(lambda x: [x] * x, range(5))
        self.check(lambda x: (x, [x]), range(5))

    def test_unequal_lengths_end_with_the_shortest(self):
        self.check(lambda x, y: x + y, range(10), range(7))
        self.check(lambda x, y, z: (x, y, z), "abcdef", range(3), numpy.arange(5))
        self.check(lambda x, y: (x, y), [1, 2], [])

    def test_fewer_items_than_engines_and_none_at_all(self):
        for n in range(6):
            self.check(lambda x: -x, range(n))
        self.check(lambda x: x, [])
        self.check(lambda x: x, "")

    def test_iterables_of_every_kind(self):
        for dist in "br":
            for make in (
                lambda: iter(range(7)),
                lambda: {3: "a", 1: "b"},
                lambda: {5},
                lambda: {"a": 1}.items(),
                lambda: (x * x for x in range(5)),
            ):
                self.assertEqual(self.mec.raw_map(str, [make()], dist), list(map(str, make())))

    def test_an_endless_sequence_beside_a_finite_one(self):
        result = self.mec.map(lambda x, i: (x, i), "abc", itertools.count())
        self.assertEqual(result, [("a", 0), ("b", 1), ("c", 2)])

    @quick
    @given(
        st.lists(st.lists(st.integers(), max_size=9), min_size=1, max_size=3), st.sampled_from("br")
    )
    def test_any_lists(self, lists, dist):
        self.assertEqual(
            self.mec.raw_map(lambda *items: items, lists, dist),
            list(map(lambda *items: items, *lists)),
        )

    def test_it_runs_in_the_engines_namespaces(self):
        self.mec.scatter("offset", [10, 20, 30, 40], flatten=True)
        self.assertEqual(
            self.mec.map(main_function("def f(x): return x + offset"), range(4)), [10, 21, 32, 43]
        )

    def test_targets_and_mappers(self):
        self.mec.execute("calls = []")
        f = main_function("def f(x):\n    calls.append(x)\n    return x")
        targets = [1, 3]
        mapper = self.mec.mapper(dist="r", targets=targets)
        targets.clear()
        self.assertTrue(verifyObject(IMapper, mapper))
        self.assertEqual(self.mec._settle(mapper.map(f, range(5))), list(range(5)))
        self.assertEqual(self.mec.pull("calls"), [[], [0, 2, 4], [], [1, 3]])
        self.mec.targets = [0]
        self.assertEqual(self.mec.map(f, "ab"), ["a", "b"])
        self.assertEqual(self.mec.pull("calls", targets=0), [["a", "b"]])

    def test_targets_and_block_of_one_map(self):
        self.mec.execute("calls = []")
        f = main_function("def f(x):\n    calls.append(x)\n    return x")
        self.assertEqual(self.mec.map(f, "ab", targets=2), ["a", "b"])
        self.assertEqual(self.mec.pull("calls"), [[], [], ["a", "b"], []])
        self.mec.block = False
        self.assertEqual(self.mec.map(f, "ab", block=True), ["a", "b"])
        self.mec.block = True
        self.assertEqual(self.mec.map(f, "ab", block=False).r, ["a", "b"])

    def test_parallel_functions(self):
        @self.mec.parallel(dist="r", targets=[0, 2])
        def double(x):
            "Twice as much."
            return 2 * x

        self.assertTrue(verifyObject(IParallelFunction, double))
        self.assertEqual(self.mec._settle(double(range(5))), [0, 2, 4, 6, 8])
        self.assertEqual((double.__name__, double.__doc__), ("double", "Twice as much."))
        self.assertEqual(double.__wrapped__(4), 8)

    def failed(self, function, *sequences, dist="b") -> CompositeError:
        return self.assertRaises(CompositeError, self.mec.raw_map, function, sequences, dist)

    def test_errors_name_their_engines_items_and_lines(self):
        invert = main_function("def f(x):\n    return 6 // x")
        error = self.failed(invert, [1, 2, 0, 3])
        self.assertEqual(error.engine_ids, [2])
        self.assertEqual(
            str(error).splitlines(),
            [
                "one or more exceptions from call to method: map",
                "[2:map]: ZeroDivisionError: integer division or modulo by zero "
                "(item 2: 0; <string>, line 2)",
            ],
        )
        self.assertRaises(ZeroDivisionError, error.raise_exception)
        self.assertEqual(error.exceptions[0]._ipython_engine_info["engineid"], 2)

        def look_up(table, key):
            return table[key]

        error = self.failed(look_up, [{"a": 1}, {}], ["a", "b\n"])
        self.assertEqual(
            str(error).splitlines()[1],
            r"[1:map]: KeyError: 'b\n' (item 1: {}, 'b\n'; test_map.py, line "
            f"{look_up.__code__.co_firstlineno + 1}: return table[key])",
        )

    def test_one_failed_item_costs_no_other(self):
        for dist in "br":
            error = self.failed(lambda x: 6 // x, [1, 0, 3, 2, 0, 6, 0], dist=dist)
            results = error.results
            self.assertEqual([results[i] for i in (0, 2, 3, 5)], [6, 2, 3, 1])
            for number in (1, 4, 6):
                self.assertIsInstance(results[number], ZeroDivisionError)
            self.assertEqual([list(items.numbers) for items in error.items], [[1], [4], [6]])
            self.assertEqual(list(error.exceptions), [results[1], results[4], results[6]])
            again = pickle.loads(pickle.dumps(error))
            self.assertEqual(str(again), str(error))

    def test_in_pieces_one_failed_item_costs_no_other(self):
        for dist, chunks in itertools.product("br", (2, 3)):
            error = self.assertRaises(
                CompositeError,
                self.mec.raw_map,
                lambda x: 6 // x,
                [[1, 0, 3, 2, 0, 6, 0, 1, 1]],
                dist,
                chunks=chunks,
            )
            results = error.results
            self.assertEqual([results[i] for i in (0, 2, 3, 5, 7, 8)], [6, 2, 3, 1, 6, 6])
            self.assertEqual([list(items.numbers) for items in error.items], [[1], [4], [6]])
            self.assertEqual(list(error.exceptions), [results[1], results[4], results[6]])

    def test_pieces_stay_on_the_engine_of_their_items_and_what_they_print_is_kept(self):
        def noisy(x):
            print(x, end=" ")
            return x

        pending = self.mec.raw_map(noisy, [range(10)], block=False, chunks=2)
        self.assertEqual(pending.r, list(range(10)))
        self.assertEqual(pending.stdout, {0: "0 1 2 ", 1: "3 4 5 ", 2: "6 7 ", 3: "8 9 "})
        self.assertEqual(pending.progress, (4, 4))

    def test_a_number_of_pieces_is_checked(self):
        for wrong, error in ((0, ValueError), (-1, ValueError), (1.5, TypeError), ("2", TypeError)):
            self.assertRaises(error, self.mec.map, abs, [1], chunks=wrong)

    def test_a_mistake_that_hits_every_item_is_told_in_one_line(self):
        error = self.failed(main_function("def f(x):\n    return y"), range(1000))
        self.assertEqual(
            str(error).splitlines()[1:],
            ["[0-3:map]: NameError: name 'y' is not defined (items 0-999; <string>, line 2)"],
        )
        self.assertEqual((len(error.elist), len(error.results)), (1000, 1000))

    def test_very_many_different_errors_are_not_all_told(self):
        error = self.failed({}.__getitem__, range(100))
        lines = str(error).splitlines()
        self.assertEqual(len(lines), 22)
        self.assertEqual(lines[1], "[0:map]: KeyError: 0 (item 0: 0)")
        self.assertEqual(lines[-1], "... and 80 more; elist holds all failures")
        self.assertEqual([problem.args for problem in error.exceptions], [(n,) for n in range(100)])

    def test_stop_iteration_is_an_error_like_others(self):
        def first_even(numbers):
            return next(n for n in numbers if n % 2 == 0)

        for dist in "br":
            error = self.failed(first_even, [[1, 2], [3], [5, 4], [6]], dist=dist)
            results = error.results
            self.assertIsInstance(results.pop(1), StopIteration)
            self.assertEqual(results, [2, 4, 6])

    def test_an_interrupt_ends_a_part(self):
        def stop(x):
            if x == 5:
                raise KeyboardInterrupt
            return x

        error = self.failed(stop, range(20))
        self.assertEqual([list(items.numbers) for items in error.items], [[*range(5, 10)]])
        self.assertEqual(error.results[:5] + error.results[10:], [*range(5), *range(10, 20)])
        self.assertEqual({type(each) for each in error.results[5:10]}, {KeyboardInterrupt})

    def test_a_part_that_is_lost_is_named(self):
        self.cluster.engines[1].worker.held = True
        pending = self.mec.raw_map(abs, [range(8)], block=False)
        self.cluster.engines[1].kill()
        error = self.assertRaises(CompositeError, lambda: pending.r)
        self.assertIsInstance(error.results[2], EngineDied)
        self.assertIs(error.results[2], error.results[3])
        self.assertEqual(error.results[:2] + error.results[4:], [0, 1, 4, 5, 6, 7])
        self.assertIn("(items 2-3)", str(error))

    def test_a_value_that_cannot_be_sent_fails_alone(self):
        error = self.failed(lambda x: threading.Lock() if x == 1 else x, range(3))
        self.assertIsInstance(error.results[1], SerializationError)
        self.assertEqual((error.results[0], error.results[2]), (0, 2))

    def test_what_is_printed(self):
        def say(x):
            print("item", x)
            print("look out", x, file=sys.stderr)
            return 1 // x

        pending = self.mec.raw_map(say, [[1, 2, 0]], block=False)
        self.assertRaises(CompositeError, lambda: pending.r)
        self.assertEqual(
            [type(each) for each in failures_of(pending)], [type(None)] * 2 + [ZeroDivisionError]
        )
        self.assertEqual(pending.stdout, {0: "item 1\n", 1: "item 2\n", 2: "item 0\n"})
        self.assertEqual(pending.stderr[2], "look out 0\n")

    def test_what_cannot_be_mapped_is_said_at_once(self):
        for arguments in ((5, [1]), (None, [1]), (str,), (str, 5), (str, [1], None)):
            self.assertRaises(TypeError, self.mec.map, *arguments)
        self.assertRaises(ClientError, self.mec.raw_map, str, [[1]], "x")
        self.assertRaises(SerializationError, self.mec.map, threading.Lock().acquire, [1])
        self.assertRaises(SerializationError, self.mec.map, str, [threading.Lock()])
        self.assertRaises(CompositeError, self.mec.map, lambda x: threading.Lock(), [1])
        self.assertEqual(self.mec.map(str, [1]), ["1"])

    def test_functions_that_hold_large_arrays(self):
        import functools

        table = numpy.arange(100_000.0)
        f = functools.partial(lambda table, i: float(table[i]), table)
        self.check(f, range(5))

    def test_large_items(self):
        items = [numpy.full(50_000, n) for n in range(6)]
        self.assertEqual(
            self.mec.map(lambda a: int(a.sum()), items), [50_000 * n for n in range(6)]
        )
        result = self.mec.map(lambda a: a + 1, items)
        self.assertEqual([int(a[0]) for a in result], [1, 2, 3, 4, 5, 6])
        result[0][0] = 99

    def test_a_distribution_of_the_users_own(self):
        class Ends:
            """The first engine gets all but the last item, the last engine that one."""

            def partition(self, sequence, n):
                return [sequence[:-1], *[sequence[:0]] * (n - 2), sequence[-1:]]

            def join(self, parts):
                assert len(parts) == 4, parts
                return [*parts[0], *parts[-1]]

        register_distribution("ends", Ends())
        self.addCleanup(map_module._distributions.pop, "ends")
        self.assertEqual(self.mec.raw_map(lambda x: x * x, [[1, 2, 3]], "ends"), [1, 4, 9])
        self.mec.scatter("a", [1, 2, 3], dist="ends")
        self.assertEqual(self.mec.pull("a"), [[1, 2], [], [], [3]])
        self.assertEqual(self.mec.gather("a", dist="ends"), [1, 2, 3])

    def test_a_distribution_that_loses_items(self):
        class Half:
            def partition(self, sequence, n):
                return [sequence[:1], *[sequence[:0]] * (n - 1)]

            def join(self, parts):
                return [*parts[0]]

        register_distribution("half", Half())
        self.addCleanup(map_module._distributions.pop, "half")
        error = self.assertRaises(ClientError, self.mec.raw_map, abs, [[1, 2, 3]], "half")
        self.assertIn("'half' makes 4 parts with 1 items of 3 items for 4 engines", str(error))
