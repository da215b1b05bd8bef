"""Executors over a cluster in memory; see ``tests/test_executors_processes.py`` for the whole of it."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from concurrent.futures import (
    FIRST_EXCEPTION,
    CancelledError,
    Executor,
    Future,
    InvalidStateError,
    wait,
)
from typing import Any

import numpy
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import (
    BrokenEnginePool,
    EngineDied,
    InvalidEngineID,
    NoEnginesRegistered,
    SerializationError,
)
from ipython1.kernel.futures.executorfuture import (
    Answer,
    Completions,
    EngineFuture,
    RemoteTraceback,
)
from ipython1.kernel.futures.executors import MultiEngineExecutor, TaskExecutor
from ipython1.testing import InMemoryCluster


def square(x: int) -> int:
    return x * x


def fails(x: int) -> int:
    raise LookupError(f"no {x}")


def say_and_fail() -> None:
    print("so far")
    print("and here", file=sys.stderr)
    raise LookupError


NOTED: list[list[int]] = []


def note(place: int, x: int) -> None:
    NOTED[place].append(x)


class ExecutorCase(SynchronousTestCase):
    """An executor on engines in memory; nothing happens before ``self.run_all()``."""

    engines = 3

    def setUp(self) -> None:
        self.cluster = InMemoryCluster(self.engines)
        self.connection, self.end = self.cluster.connect(self.cluster.multiengine_face)

    def executor(self, **options: Any) -> MultiEngineExecutor:
        executor = MultiEngineExecutor(self.connection, **options)
        self.addCleanup(self.finish, executor)
        self.run_all()
        return executor

    def finish(self, executor: MultiEngineExecutor) -> None:
        executor.shutdown(wait=False)
        for engine in self.cluster.engines:
            engine.worker.release()
        self.connection.end.link_lost("the test is over")
        self.run_all()
        self.assertEqual(executor._completions.outstanding, 0)

    def run_all(self) -> None:
        self.cluster.pump.run()

    def queues(self) -> dict[int, tuple[bool, int]]:
        """For each engine whether it has a command, and how many wait."""
        states = {
            number: engine.queue_status()
            for number, engine in self.cluster.controller.engines.items()
        }
        return {
            number: (state["pending"] is not None, len(state["queue"]))
            for number, state in states.items()
        }

    def hold(self, *numbers: int) -> None:
        """Have engines do nothing until they are released."""
        for number in numbers:
            self.cluster.engines[number].worker.held = True


class CallsTests(ExecutorCase):
    """Calls, and what comes of them."""

    def test_it_is_an_executor(self) -> None:
        executor = self.executor()
        self.assertIsInstance(executor, Executor)
        self.assertEqual(executor.engine_ids, [0, 1, 2])
        futures = [executor.submit(square, n) for n in range(20)]
        self.assertIsInstance(futures[0], Future)
        self.assertFalse(futures[0].done())
        self.run_all()
        self.assertEqual([future.result() for future in futures], [n * n for n in range(20)])

    def test_exceptions_come_with_where_they_were_raised(self) -> None:
        future = self.executor().submit(fails, 3)
        self.run_all()
        problem = future.exception()
        assert isinstance(problem, LookupError)
        self.assertEqual(str(problem), "no 3")
        self.assertIsInstance(problem.__cause__, RemoteTraceback)
        text = "".join(traceback.format_exception(problem))
        self.assertEqual(text.count('raise LookupError(f"no {x}")'), 1)
        self.assertRaises(LookupError, future.result)

    def test_what_cannot_be_pickled_fails_alone(self) -> None:
        executor = self.executor()
        bad = executor.submit(square, threading.Lock())  # type: ignore[arg-type]
        good = executor.submit(square, 2)
        self.run_all()
        self.assertIn("lock", str(bad.exception()))
        self.assertIsInstance(bad.exception(), SerializationError)
        self.assertEqual(good.result(), 4)

    def test_engines_must_be_there(self) -> None:
        self.assertRaises(InvalidEngineID, self.executor, ids=[0, 9])
        empty = InMemoryCluster(0)
        connection, _ = empty.connect(empty.multiengine_face)
        self.assertRaises(NoEnginesRegistered, MultiEngineExecutor, connection)

    def test_what_a_client_passes_is_checked(self) -> None:
        for make in (
            lambda: MultiEngineExecutor(4),  # type: ignore[arg-type]
            lambda: MultiEngineExecutor(self.cluster.multiengine()),  # type: ignore[arg-type]
            lambda: TaskExecutor(self.connection, 2, None, None),  # type: ignore[arg-type]
        ):
            with self.assertRaisesRegex(TypeError, r"use the method executor\(\) of a"):
                make()
        for options, text in (
            ({"ids": 0}, "ids must be a list or a tuple, not 0"),
            ({"ids": ["a"]}, "an engine id must be an int, not 'a'"),
            ({"max_workers": "two"}, "max_workers must be an int, not 'two'"),
            ({"initializer": 3}, "initializer must be callable, not 3"),
            ({"initializer": square, "initargs": 3}, "initargs must be a list or a tuple, not 3"),
        ):
            with self.assertRaisesRegex(TypeError, text):
                MultiEngineExecutor(self.connection, **options)  # type: ignore[arg-type]

    def test_workers_are_counted(self) -> None:
        self.assertEqual(self.executor()._max_workers, 3)
        self.assertEqual(self.executor(ids=[0, 2])._max_workers, 2)
        self.assertEqual(self.executor(max_workers=7)._max_workers, 7)

    def test_chosen_engines_only(self) -> None:
        executor = self.executor(ids=[1])
        futures = [executor.submit(square, n) for n in range(5)]
        self.run_all()
        self.assertEqual({future.engine_id for future in futures}, {1})

    def test_few_are_in_the_controller(self) -> None:
        self.hold(0, 1, 2)
        executor = self.executor()
        futures = [executor.submit(square, n) for n in range(10)]
        self.run_all()
        self.assertEqual(self.queues(), {0: (True, 0), 1: (True, 0), 2: (True, 0)})
        self.assertEqual(sum(future.running() for future in futures), 3)
        # What waits in the client is cancelled there.
        self.assertTrue(futures[9].cancel())
        self.assertTrue(futures[9].cancelled())
        for engine in self.cluster.engines:
            engine.worker.release()
        self.run_all()
        self.assertEqual([future.result() for future in futures[:9]], [n * n for n in range(9)])

    def test_output(self) -> None:
        executor = self.executor()
        future = executor.submit(square, 1)
        self.assertEqual((future.stdout, future.engine_id), ("", None))
        good, bad = executor.submit(print, "said"), executor.submit(say_and_fail)
        self.run_all()
        self.assertEqual((good.stdout, good.stderr), ("said\n", ""))
        self.assertEqual((bad.stdout, bad.stderr), ("so far\n", "and here\n"))
        self.assertIsInstance(bad.exception(), LookupError)

    def test_arguments_can_be_changed_at_once(self) -> None:
        self.hold(0, 1, 2)
        arrays = [numpy.zeros(size) for size in (10, 5_000, 300_000)]
        executor = self.executor()
        futures = [executor.submit(numpy.sum, array) for array in arrays]
        chunks = executor.map(numpy.sum, arrays, chunksize=2)
        for array in arrays:
            array += 1
        for engine in self.cluster.engines:
            engine.worker.release()
        self.run_all()
        self.assertEqual([future.result() for future in futures], [0.0] * 3)
        self.assertEqual(list(chunks), [0.0] * 3)

    def test_stop_iteration_ends_no_map_in_silence(self) -> None:
        for chunksize in (1, 2):
            values = self.executor().map(
                next, [iter([1]), iter([]), iter([3])], chunksize=chunksize
            )
            self.run_all()
            self.assertEqual(next(values), 1)
            problem = self.assertRaises(RuntimeError, next, values)
            self.assertIsInstance(problem.__cause__, StopIteration)


class InitializerTests(ExecutorCase):
    """What each engine runs before the first call there."""

    def test_it_runs_when_there_is_a_call(self) -> None:
        seen: list[int] = []
        NOTED.append(seen)
        self.hold(0, 1, 2)
        executor = self.executor(initializer=note, initargs=(len(NOTED) - 1, 5))
        self.assertEqual(self.queues()[0], (False, 0))
        future = executor.submit(square, 3)
        self.run_all()
        # Calls do not wait in an engine's queue before it is known that they can run there.
        self.assertEqual(self.queues(), {0: (True, 0), 1: (True, 0), 2: (True, 0)})
        self.assertFalse(future.running())
        self.cluster.engines[1].worker.release()
        self.run_all()
        self.assertEqual((future.result(), future.engine_id), (9, 1))
        # The engines are all in this process, where it runs once.
        for engine in self.cluster.engines:
            engine.worker.release()
        self.run_all()
        self.assertEqual(seen, [5])

    def test_a_failure_is_the_end(self) -> None:
        executor = self.executor(initializer=fails, initargs=(5,))
        with self.assertLogs("concurrent.futures", "CRITICAL") as logged:
            futures = [executor.submit(square, n) for n in range(4)]
            self.run_all()
        self.assertEqual(len(logged.records), 1)
        for future in futures:
            problem = future.exception()
            assert isinstance(problem, BrokenEnginePool)
            self.assertIn("initializer failed on engine 0: LookupError: no 5", str(problem))
            self.assertIsInstance(problem.__cause__, LookupError)
        self.assertRaises(BrokenEnginePool, executor.submit, square, 1)
        self.assertEqual(self.queues(), {0: (False, 0), 1: (False, 0), 2: (False, 0)})

    def test_an_engine_that_dies_in_it_is_no_failure(self) -> None:
        self.hold(0, 1)
        executor = self.executor(initializer=square, initargs=(1,))
        futures = [executor.submit(square, n) for n in range(3)]
        self.run_all()
        self.assertEqual({future.engine_id for future in futures}, {2})
        self.cluster.engines[0].kill()
        self.run_all()
        self.cluster.engines[1].worker.release()
        self.run_all()
        self.assertEqual(executor.submit(square, 3).done(), False)
        self.run_all()
        self.assertEqual((executor.engine_ids, executor._broken), ([1, 2], ""))

    def test_engines_that_come_run_it_first(self) -> None:
        executor = self.executor(initializer=square, initargs=(1,))
        self.hold(0, 1, 2)
        futures = [executor.submit(square, n) for n in range(2)]
        self.run_all()
        new = self.cluster.add_engine()
        self.run_all()
        self.assertEqual({future.engine_id for future in futures}, {new.id})


class TroubleTests(ExecutorCase):
    """Engines and controllers that go away, and engines that are busy with something else."""

    def test_an_engine_that_dies_fails_what_it_ran(self) -> None:
        executor = self.executor()
        for future in [executor.submit(square, n) for n in range(3)]:
            self.run_all()
            future.result()
        self.hold(1)
        futures = [executor.submit(square, n) for n in range(12)]
        self.run_all()
        running = [future for future in futures if not future.done()]
        self.assertEqual(self.queues()[1], (True, 1))
        self.assertEqual(len(running), 2)
        self.cluster.engines[1].kill()
        self.run_all()
        self.assertIsInstance(running[0].exception(), EngineDied)
        # It was at hand there, and had not begun.
        self.assertEqual(running[1].result(), futures.index(running[1]) ** 2)
        self.assertEqual(executor.engine_ids, [0, 2])

    def test_without_engines_it_is_broken(self) -> None:
        self.hold(0, 1, 2)
        executor = self.executor()
        futures = [executor.submit(square, n) for n in range(6)]
        self.run_all()
        for engine in self.cluster.engines:
            engine.kill()
        self.run_all()
        self.cluster.pump.advance(0)
        self.run_all()
        problems = [future.exception() for future in futures]
        self.assertEqual([type(each) for each in problems[:3]], [EngineDied] * 3)
        self.assertEqual([type(each) for each in problems[3:]], [BrokenEnginePool] * 3)
        self.assertIn("all engines of this executor are gone", str(problems[5]))
        self.assertIn("died", str(problems[5]))
        self.assertRaises(BrokenEnginePool, executor.submit, square, 1)

    def test_engines_that_come_are_used(self) -> None:
        self.hold(0, 1, 2)
        executor = self.executor()
        futures = [executor.submit(square, n) for n in range(5)]
        self.run_all()
        new = self.cluster.add_engine()
        self.run_all()
        self.assertEqual([future.done() for future in futures], [False] * 3 + [True] * 2)
        self.assertEqual(futures[4].engine_id, new.id)

    def test_a_call_does_not_wait_for_what_another_client_runs(self) -> None:
        self.hold(0)
        self.cluster.async_multiengine().execute("pass", targets=0)
        self.run_all()
        executor = self.executor()
        futures = [executor.submit(square, n) for n in range(3)]
        self.run_all()
        self.assertEqual([future.done() for future in futures], [False, True, True])
        self.cluster.pump.advance(0.1)
        self.run_all()
        self.assertEqual(futures[0].result(), 0)
        self.assertNotEqual(futures[0].engine_id, 0)
        self.assertEqual(self.queues()[0], (True, 0))

    def test_a_running_call_is_not_taken_away(self) -> None:
        self.hold(0)
        executor = self.executor()
        future = executor.submit(square, 3)
        for _ in range(20):
            self.run_all()
            self.cluster.pump.advance(0.5)
        self.assertTrue(future.running())
        self.cluster.engines[0].worker.release()
        self.run_all()
        self.assertEqual(future.engine_id, 0)

    def test_without_a_controller_it_is_broken(self) -> None:
        self.hold(0, 1, 2)
        executor = self.executor()
        futures = [executor.submit(square, n) for n in range(5)]
        self.run_all()
        self.end.link_lost("the cable is cut")
        for future in futures:
            self.assertIsInstance(future.exception(), BrokenEnginePool)
            self.assertIn("the cable is cut", str(future.exception()))
        self.assertRaises(BrokenEnginePool, executor.submit, square, 1)

    def test_it_lets_go_of_the_connection(self) -> None:
        lost, ids = len(self.end.on_lost), len(self.end._on_ids)
        executor = self.executor()
        executor.submit(square, 1)
        executor.shutdown(wait=False)
        self.assertEqual(len(self.end._on_ids), ids + 1)
        self.run_all()
        self.assertEqual((len(self.end.on_lost), len(self.end._on_ids)), (lost, ids))


class Owner:
    """Stands for an executor."""

    def cancel_items(self, items: Any) -> bool:
        return False

    def has_begun(self, item: Any) -> bool:
        return True

    def abort_items(self, items: Any) -> None:
        pass

    def call_back(self, callback: Any, future: Any) -> None:
        callback(future)


class FutureTests(SynchronousTestCase):
    """Futures that read their results when they are asked."""

    def test_it_is_read_once_and_by_who_asks(self) -> None:
        future = EngineFuture(Owner())
        reads: list[int] = []

        def read() -> Answer:
            reads.append(1)
            return Answer(3, [1])

        future.finish(read, True)
        self.assertEqual((reads, future.done()), ([], True))
        self.assertIs(future.result(), future.result())
        self.assertIsNone(future.exception())
        self.assertEqual((reads, future.engine_id), ([1], 3))

    def test_what_cannot_be_read_is_its_exception(self) -> None:
        future = EngineFuture(Owner())

        def read() -> Answer:
            raise SerializationError("not here")

        future.finish(read, True)
        self.assertRaises(SerializationError, future.result)
        self.assertIsInstance(future.exception(), SerializationError)

    def test_who_waits_for_an_exception_is_told(self) -> None:
        good, bad = EngineFuture(Owner()), EngineFuture(Owner())
        bad.finish(lambda: Answer(0, problem=LookupError("x")), False)
        done, not_done = wait([good, bad], timeout=0, return_when=FIRST_EXCEPTION)
        self.assertEqual((done, not_done), ({bad}, {good}))

    def test_signals_of_the_loop_do_not_come_out_of_an_await(self) -> None:
        """asyncio refuses StopIteration and would wait for ever, and takes others for its own."""

        class OwnStop(StopIteration):
            pass

        def finished(problem: BaseException) -> EngineFuture:
            future = EngineFuture(Owner())
            asyncio.get_running_loop().call_soon(
                future.finish, lambda: Answer(0, problem=problem), False
            )
            return future

        async def awaited(problem: BaseException) -> None:
            await finished(problem)

        async def wrapped(problem: BaseException) -> None:
            await asyncio.wrap_future(finished(problem))

        async def check() -> None:
            for way in (awaited, wrapped):
                for signal in (
                    StopIteration(5),
                    OwnStop(),
                    StopAsyncIteration(),
                    GeneratorExit(),
                    asyncio.CancelledError(),
                    CancelledError(),
                    KeyboardInterrupt(),
                    SystemExit(3),
                ):
                    with self.assertRaisesRegex(RuntimeError, type(signal).__name__) as caught:
                        await asyncio.wait_for(way(signal), 30)
                    self.assertIs(caught.exception.__cause__, signal)
                problem = LookupError("x")
                with self.assertRaises(LookupError) as other:
                    await way(problem)
                self.assertIs(other.exception, problem)

        asyncio.run(check())
        future = EngineFuture(Owner())
        future.finish(lambda: Answer(0, problem=StopIteration(5)), False)
        self.assertRaises(StopIteration, future.result)

    def test_others_may_finish_it(self) -> None:
        completions = Completions("test")
        future = EngineFuture(Owner())
        completions.expect()
        future.set_result(5)
        with self.assertLogs("concurrent.futures"):
            completions.put(future, lambda: Answer(0, 6), True)
        self.assertEqual(future.result(), 5)
        self.assertRaises(InvalidStateError, future.set_result, 7)
        completions.wait_idle()
