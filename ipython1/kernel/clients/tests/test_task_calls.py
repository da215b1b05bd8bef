"""The calls of task clients over a cluster in memory: ``submit``, maps item by item, and lazy maps."""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import threading
from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import (
    ClientError,
    CompositeError,
    ConnectionError,
    SerializationError,
    TaskAborted,
)
from ipython1.kernel.tasks.lazyrun import MOST_HELD, LazyPlan
from ipython1.kernel.tasks.mapvalues import MapItems
from ipython1.testing import InMemoryCluster
from ipython1.testing.cluster import settle


def check_even(number: int) -> int:
    """An item that may fail."""
    if number % 7 == 3:
        raise KeyError(number)
    return number * 10


def no_module(number: int) -> None:
    raise ImportError(f"no module for {number}")


class Unbuildable:
    """A value that can be sent, and not be rebuilt."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __reduce__(self) -> Any:
        return no_module, (self._number,)


def mishap(number: int) -> Any:
    """Fail for 1, and return what cannot be rebuilt for 2."""
    if number == 1:
        raise KeyError(number)
    return Unbuildable(number) if number == 2 else number


class Counted(Iterator[Any]):
    """An input that counts what was read of it."""

    def __init__(self, items: Any) -> None:
        self.read = 0
        self._items = iter(items)

    def __next__(self) -> Any:
        item = next(self._items)
        self.read += 1
        return item


def all_of(values: Iterator[Any]) -> list[Any]:
    """Return all values of a lazy map, with exceptions in place of those that failed."""
    found: list[Any] = []
    while True:
        try:
            found.append(next(values))
        except StopIteration:
            return found
        except Exception as problem:
            found.append(problem)


class LazyPlanTests(SynchronousTestCase):
    def test_short_items_are_grouped_and_long_ones_are_not(self) -> None:
        plan = LazyPlan(None, True)
        self.assertEqual(plan.next_size(4), 1)
        plan.done(1, 1.0)
        self.assertEqual(plan.next_size(4), 1)
        short = LazyPlan(None, True)
        sizes = []
        for _ in range(6):
            short.done(short.next_size(4), short.next_size(4) / 8192)
            sizes.append(short.next_size(4))
        self.assertEqual(sizes, [4, 16, 64, 81, 81, 81])
        apart = LazyPlan(None, False)
        apart.done(1, 0.0)
        self.assertEqual(apart.next_size(4), 1)

    def test_no_more_is_held_than_allowed(self) -> None:
        for outstanding, engines in itertools.product((1, 2, 5, 64, 1000, None), (0, 1, 4, 300)):
            plan = LazyPlan(outstanding, True)
            for _ in range(1100):
                size = plan.next_size(engines)
                plan.held += size
                plan.done(max(size, 1), 1e-6)
                self.assertLessEqual(plan.held, outstanding or MOST_HELD)
            self.assertGreater(plan.held, (outstanding or MOST_HELD) // 2)

    def test_groups_become_small_again_when_items_become_long(self) -> None:
        plan = LazyPlan(None, True)
        for _ in range(100):
            plan.done(1000, 0.001)
        self.assertEqual(plan.next_size(1), 4000)
        for _ in range(10):
            plan.done(10, 10.0)
        self.assertEqual(plan.next_size(1), 1)


class LazyMapTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.cluster = InMemoryCluster(3)
        self.tc = self.cluster.task()

    def nothing_is_left(self) -> None:
        self.cluster.pump.run()
        status = self.tc.queue_status()
        self.assertEqual((status["scheduled"], status["pending"]), (0, 0))
        self.assertEqual(self.tc.asynchronous._tasks._waiters, set())

    def test_endless_input_is_read_only_as_far_as_allowed(self) -> None:
        source = Counted(itertools.count())
        values = self.tc.imap(lambda x: x * x, source, outstanding=6)
        self.assertEqual(source.read, 0)
        for number in range(100):
            self.assertEqual(next(values), number * number)
            self.assertLessEqual(source.read - number - 1, 6)
        del values
        gc.collect()
        self.nothing_is_left()

    def test_it_gives_what_map_gives(self) -> None:
        """With any bound and number of items, with items that fail, and with engines that die."""
        for seed in range(40):
            chance = random.Random(seed)
            cluster = InMemoryCluster(chance.randint(1, 3))
            tc = cluster.task()
            total, bound = chance.randint(0, 300), chance.choice([None, 1, 2, 7, 50])
            ordered = chance.random() < 0.6
            source = Counted(range(total))
            options = {"retries": 3} if chance.random() < 0.2 else {}
            values = tc.with_options(**options).imap(
                check_even, source, ordered=ordered, outstanding=bound
            )
            found = []
            while True:
                try:
                    found.append(next(values))
                except StopIteration:
                    break
                except KeyError as problem:
                    found.append(problem.args[0])
                self.assertLessEqual(source.read - len(found), bound or MOST_HELD)
                if chance.random() < 0.01 and len(cluster.engines) < 6:
                    cluster.add_engine()
                    cluster.engines[0].kill()
            wanted = [n if n % 7 == 3 else n * 10 for n in range(total)]
            self.assertEqual(
                found if ordered else sorted(found), wanted if ordered else sorted(wanted)
            )

    def test_what_fails_is_raised_in_its_place(self) -> None:
        found = all_of(self.tc.imap(check_even, range(5)))
        self.assertEqual([found[0], repr(found[3]), found[4]], [0, "KeyError(3)", 40])
        self.assertIn("(item 3 of the input: 3)", found[3].__notes__)

        def broken() -> Iterator[int]:
            yield 1
            yield 2
            raise OSError("no more")

        found = all_of(self.tc.imap(abs, broken()))
        self.assertEqual([*found[:2], repr(found[2]), len(found)], [1, 2, "OSError('no more')", 3])
        found = all_of(self.tc.imap(len, [[1], threading.Lock(), [1, 2]]))
        self.assertEqual((found[0], found[2]), (1, 2))
        self.assertIsInstance(found[1], SerializationError)
        self.nothing_is_left()

    def test_what_would_end_a_loop_does_not(self) -> None:
        def stop(number: int) -> int:
            raise (StopIteration, SystemExit)[number]

        found = all_of(self.tc.imap(stop, range(2)))
        self.assertEqual([type(each) for each in found], [CompositeError, CompositeError])
        self.assertIn("StopIteration", str(found[0]))
        self.assertEqual(
            [each.__notes__ for each in found],
            [["(item 0 of the input: 0)"], ["(item 1 of the input: 1)"]],
        )

    def test_a_value_that_cannot_be_rebuilt_fails_alone_beside_another_failure(self) -> None:
        """Of items that travel together, too."""
        values = self.tc.imap(mishap, range(4))
        plan = values.asynchronous._run._plan
        self.patch(plan, "next_size", lambda engines: 0 if plan.held else 4)
        good, failed, unbuildable, last = all_of(values)
        self.assertEqual((good, repr(failed), last), (0, "KeyError(1)", 3))
        self.assertIn("ImportError: no module for 2", str(unbuildable))
        notes = [each.__notes__[-1] for each in (failed, unbuildable)]
        self.assertEqual(notes, [f"(item {number} of the input: {number})" for number in (1, 2)])
        self.nothing_is_left()

    def test_an_input_that_gives_the_same_object_again(self) -> None:
        def same() -> Iterator[list[int]]:
            row = [0]
            for number in range(500):
                row[0] = number
                yield row

        self.assertEqual(list(self.tc.imap(lambda row: row[0], same())), list(range(500)))
        nested = ([row] for row in same())
        self.assertEqual(list(self.tc.imap(lambda row: row[0][0], nested)), list(range(500)))

    def test_an_exception_of_a_signal_handler_ends_no_loop_as_if_all_were_well(self) -> None:
        """It may come at any moment, between two steps of the map."""
        values = self.tc.imap(abs, itertools.count())
        self.assertEqual(next(values), 0)

        def interrupted(*_: object) -> None:
            raise TimeoutError("the handler's")

        run = values.asynchronous._run
        run._current.clear()
        self.patch(run, "_submit", interrupted)
        found = []
        with self.assertRaisesRegex(TimeoutError, "the handler's"):
            while True:
                found.append(next(values))
        self.assertRaisesRegex(ClientError, "was aborted when TimeoutError", next, values)
        self.nothing_is_left()

    def test_closing_aborts_what_has_not_begun(self) -> None:
        for engine in self.cluster.engines:
            engine.worker.held = True
        values = self.tc.imap(abs, itertools.count()).asynchronous
        waiting = Deferred.fromCoroutine(values.__anext__())
        self.cluster.pump.run()
        status = self.tc.queue_status()
        self.assertGreater(status["scheduled"], 10)
        self.successResultOf(values.aclose())
        self.assertIsInstance(self.failureResultOf(waiting).value, StopAsyncIteration)
        for engine in self.cluster.engines:
            engine.worker.release()
        self.nothing_is_left()
        self.assertEqual(self.tc.queue_status()["succeeded"], 0)

    def test_a_value_that_nobody_waits_for_any_more_is_not_lost(self) -> None:
        for engine in self.cluster.engines:
            engine.worker.held = True
        values = self.tc.imap(abs, range(5)).asynchronous
        first, second = [Deferred.fromCoroutine(values.__anext__()) for _ in range(2)]
        self.cluster.pump.run()
        first.cancel()
        self.failureResultOf(first)
        for engine in self.cluster.engines:
            engine.worker.release()
        self.cluster.pump.run()
        self.assertEqual(self.successResultOf(second), 0)
        rest = [
            settle(self.cluster.pump, Deferred.fromCoroutine(values.__anext__())) for _ in "1234"
        ]
        self.assertEqual(rest, [1, 2, 3, 4])

    def test_coroutines_that_are_cancelled_leave_the_order_and_the_last_value(self) -> None:
        """Between the arrival of values and the moment at which asyncio runs the coroutines that wait for them."""

        async def session() -> list[Any]:
            values = self.tc.imap(check_even, range(5)).asynchronous
            found: list[Any] = []

            async def take() -> None:
                try:
                    found.append(await values.__anext__())
                except KeyError as problem:
                    found.append(problem.__notes__[-1])

            for cancelled in (2, 1, 4, 1, 1):
                tasks = [asyncio.ensure_future(take()) for _ in range(cancelled + 1)]
                await asyncio.sleep(0)
                self.cluster.pump.run()
                for task in tasks[:cancelled]:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            return found

        self.assertEqual(asyncio.run(session()), [0, 10, 20, "(item 3 of the input: 3)", 40])

    def test_the_controller_goes(self) -> None:
        values = self.tc.imap(abs, itertools.count())
        self.assertEqual([next(values) for _ in range(3)], [0, 1, 2])
        self.tc.asynchronous._connection.end.give_up("it was stopped")
        found = []
        with self.assertRaises(ConnectionError):
            while True:
                found.append(next(values))
        self.assertEqual(found, list(range(3, 3 + len(found))))
        self.assertRaises(ConnectionError, next, values)

    def test_bad_arguments(self) -> None:
        for sequences, options, wanted in (
            ([], {}, TypeError),
            ([3], {}, TypeError),
            ([[1]], {"outstanding": 0}, ValueError),
            ([[1]], {"outstanding": "all"}, TypeError),
            ([[1]], {"ordered": "no"}, TypeError),
        ):
            with self.assertRaises(wanted):
                self.tc.imap(abs, *sequences, **options)
        self.assertRaises(TypeError, self.tc.imap, 3, [1])
        self.assertRaises(SerializationError, self.tc.imap, threading.Lock().acquire, [1])


class ItemTests(SynchronousTestCase):
    """Maps, item by item."""

    def setUp(self) -> None:
        self.cluster = InMemoryCluster(2)
        self.tc = self.cluster.task()

    def test_values_are_read_one_by_one_or_all_at_once(self) -> None:
        """Whatever is read first, the rest is the same."""
        for seed in range(20):
            chance = random.Random(seed)
            total = chance.randint(1, 200)
            pending = self.tc.mapper(block=False).map(check_even, range(total))
            self.cluster.pump.run()
            values = pending._run.values
            for index in chance.sample(range(total), total // 2):
                value, problem = values.read(index)
                self.assertEqual(problem is not None, index % 7 == 3)
                if problem is None:
                    self.assertEqual(value, index * 10)
            failed = [n for n in range(total) if n % 7 == 3]
            self.assertEqual(values.has_failures(), bool(failed))
            try:
                collected = values.collect()
            except CompositeError as error:
                collected = error.results
                self.assertEqual([each.numbers[0] for each in error.items], failed)
                self.assertIn(f"item {failed[0]}: {failed[0]};", str(error))
            wanted = [repr(KeyError(n)) if n in failed else str(n * 10) for n in range(total)]
            self.assertEqual([repr(each) for each in collected], wanted)

    def test_iteration_goes_on_after_a_failure(self) -> None:
        pending = self.tc.mapper(block=False).map(check_even, range(5))
        self.cluster.pump.run()
        for completed in (False, True):
            items = MapItems(pending._run.values, lambda there, index: None, completed, False)
            found = [repr(each) for each in all_of(items)]
            self.assertEqual(sorted(found), ["0", "10", "20", "40", "KeyError(3)"])


class SubmitTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.cluster = InMemoryCluster(2)
        self.tc = self.cluster.task()

    def test_results_and_errors(self) -> None:
        self.assertEqual(self.tc.submit(pow, 2, 10), 1024)
        self.assertEqual(self.tc.submit(dict, retries=3), {"retries": 3})
        self.assertEqual(self.tc.with_options(retries=3).submit(abs, -1), 1)
        self.assertRaises(ZeroDivisionError, self.tc.submit, divmod, 1, 0)
        self.assertRaises(TypeError, self.tc.submit, 3)
        self.assertRaises(TypeError, self.tc.with_options, retires=3)
        self.assertEqual(repr(self.tc.with_options(priority=2)), "<calls with priority=2>")

    def test_cancelling_aborts(self) -> None:
        for engine in self.cluster.engines:
            engine.worker.held = True
        calls = [self.tc.asynchronous.submit(abs, n) for n in range(8)]
        self.cluster.pump.run()
        calls[-1].cancel()
        self.failureResultOf(calls[-1])
        for engine in self.cluster.engines:
            engine.worker.release()
        self.cluster.pump.run()
        self.assertEqual([self.successResultOf(each) for each in calls[:-1]], list(range(7)))
        status = self.tc.queue_status(verbose=True)
        self.assertEqual(status["failed"], [7])
        self.assertIsInstance(self.tc.get_task_result(7, block=True).failure, TaskAborted)
