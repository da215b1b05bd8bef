"""The blocking client and its pending results on a cluster in memory whose reactor runs in a thread.

``test_pendingresult`` runs these in a process of their own, as a test runner has the reactor for itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import signal
import sys
import tempfile
import threading
import time
import unittest
import unittest.mock
import weakref
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy
from twisted.internet import reactor

from ipython1.core.terminaltext import rendered
from ipython1.kernel import client
from ipython1.kernel.basics.error import (
    ClientError,
    CompositeError,
    ConnectionError,
    EngineDied,
    InvalidDeferredID,
    InvalidEngineID,
    NotAPendingResult,
    QueueCleared,
    ResultNotCompleted,
    SerializationError,
    WaitInterrupted,
)
from ipython1.kernel.calls import attendance, liveview
from ipython1.kernel.calls.connect import Connection
from ipython1.kernel.calls.pendingresult import PendingResult
from ipython1.kernel.calls.resultlist import ResultList
from ipython1.kernel.calls.twistedutil import blockingCallFromThread
from ipython1.kernel.clients.multiengineclient import MultiEngineClient
from ipython1.kernel.clients.taskclient import TaskClient
from ipython1.kernel.objects.taskobjects import MapTask
from ipython1.kernel.wire import messages
from ipython1.testing import InMemoryCluster, ReactorPump

SOON = 10.0
"""Seconds within which what must happen has happened, also on a loaded machine."""


def happens(event: threading.Event) -> bool:
    """Whether something happens when all that is not used has been collected; the reactor may use it for a moment."""
    limit = time.monotonic() + SOON
    while not event.wait(0.01) and time.monotonic() < limit:
        gc.collect()
    return event.is_set()


class BlockingCase(unittest.TestCase):
    engines = 3

    def setUp(self) -> None:
        self.cluster: InMemoryCluster = blockingCallFromThread(
            lambda: InMemoryCluster(self.engines, ReactorPump())
        )
        self.mec = self.new_client()

    def new_client(self) -> MultiEngineClient:
        connection, end = blockingCallFromThread(
            self.cluster.connect, self.cluster.multiengine_face
        )
        connection = Connection(reactor, None, end, "memory")
        mec = MultiEngineClient(connection)
        self.addCleanup(mec.close)
        return mec

    def in_reactor(self, function: Any) -> Any:
        return blockingCallFromThread(function)

    def hold(self) -> None:
        for engine in self.cluster.engines:
            engine.worker.held = True
        self.addCleanup(self.release)

    def release(self) -> None:
        for engine in self.cluster.engines:
            self.in_reactor(engine.worker.release)


class UnusedClientTest(BlockingCase):
    def test_its_connection_ends_after_its_last_call(self) -> None:
        connection, end = blockingCallFromThread(
            self.cluster.connect, self.cluster.multiengine_face
        )
        connection = Connection(reactor, None, end, "memory")
        connection.close_when_unused()
        lost = threading.Event()
        end.on_lost.append(lambda reason: lost.set())
        mec = MultiEngineClient(connection)
        self.hold()
        mec.execute("mark = 1", block=False)
        del connection, mec
        gc.collect()
        # The call keeps its client alive, so another one's answer comes over the same connection.
        self.assertEqual(self.in_reactor(lambda: end.ask("get_ids")), [0, 1, 2])
        self.release()
        self.assertTrue(happens(lost))
        self.assertEqual(self.mec.pull("mark"), [1] * 3)

    def open_task_client(self) -> tuple[TaskClient, threading.Event]:
        """A client that closes its connection when unused, and whether that has happened."""
        connection, end = blockingCallFromThread(
            self.cluster.connect, self.cluster.task_face, messages.TASK
        )
        connection = Connection(reactor, None, end, "memory")
        lost = threading.Event()
        end.on_lost.append(lambda reason: lost.set())
        tc = TaskClient(connection)
        connection.close_when_unused(tc._tasks.flushed)
        return tc, lost

    def test_a_task_client_sends_its_tasks_first(self) -> None:
        tc, lost = self.open_task_client()
        ids = [tc.run(MapTask(abs, [-number])) for number in range(300)]
        del tc
        self.assertTrue(happens(lost))
        other, _ = self.open_task_client()
        other.barrier(ids, SOON)
        self.assertEqual(other.get_task_result(ids[-1]).result, 299)

    def test_a_map_keeps_its_task_client(self) -> None:
        tc, lost = self.open_task_client()
        pending = tc.mapper(block=False).map(abs, range(-300, 0))
        del tc
        gc.collect()
        self.assertEqual(sum(pending.result(SOON)), 45150)
        self.assertFalse(lost.is_set())
        del pending
        self.assertTrue(happens(lost))

    def test_a_task_client_whose_connection_is_lost(self) -> None:
        tc, lost = self.open_task_client()
        self.in_reactor(tc._connection.end.close)
        self.assertTrue(lost.is_set())
        del tc
        gc.collect()
        self.in_reactor(lambda: None)

    def test_an_executor_keeps_it(self) -> None:
        connection, end = blockingCallFromThread(
            self.cluster.connect, self.cluster.multiengine_face
        )
        connection = Connection(reactor, None, end, "memory")
        connection.close_when_unused()
        executor = MultiEngineClient(connection).executor()
        self.addCleanup(executor.shutdown)
        del connection
        gc.collect()
        self.assertEqual(executor.submit(abs, -3).result(SOON), 3)


class CallsTest(BlockingCase):
    def test_the_whole_table(self) -> None:
        """Every method, blocking and not, gives the same."""
        mec = self.mec
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "script.py")
            path.write_text("# -*- coding: latin-1 -*-\nword = 'caf\xe9'\n", encoding="latin-1")
            mec.run(str(path))
            self.assertEqual(mec.pull("word"), ["caf\xe9"] * 3)
            path.write_text("word = 'na\xefve'\n", encoding="utf-8")
            mec.run(path)
            self.assertEqual(mec.pull("word"), ["na\xefve"] * 3)
            self.assertRaises(OSError, mec.run, str(path) + "x")
        mec.push({"a": 1, "b": [2]})
        mec.push_function({"f": lambda x: x + 1})
        mec.set_properties({"fast": True})
        (serialized, *_) = mec.pull_serialized("b")
        calls = [
            ("execute", ("print(a)",), lambda r: [each["stdout"] for each in r] == ["1\n"] * 3),
            ("push", ({"c": 3},), [None] * 3),
            ("pull", ("c",), [3] * 3),
            ("pull", (["a", "c"],), [[1, 3]] * 3),
            ("zip_pull", (("a", "c"),), [(1,) * 3, (3,) * 3]),
            ("push_function", ({"g": lambda x: x * 2},), [None] * 3),
            ("pull_function", ("g",), lambda r: [g(2) for g in r] == [4] * 3),
            (
                "pull_function",
                (("f", "g"),),
                lambda r: [[h(2) for h in each] for each in r] == [[3, 4]] * 3,
            ),
            ("push_serialized", ({"d": serialized},), [None] * 3),
            ("pull", ("d",), [[2]] * 3),
            ("pull_serialized", ("d",), lambda r: len(r) == 3),
            ("scatter", ("s", range(7)), [None] * 3),
            ("gather", ("s",), list(range(7))),
            ("raw_map", (abs, [[-1, 2, -3]]), [1, 2, 3]),
            ("get_result", (), lambda r: len({each["number"] for each in r}) == 1),
            ("get_result", (1,), lambda r: [each["number"] for each in r] == [1] * 3),
            ("keys", (), lambda r: all("a" in each for each in r)),
            ("get_properties", (), [{"fast": True}] * 3),
            ("get_properties", ("fast",), [{"fast": True}] * 3),
            ("has_properties", (["fast", "slow"],), [[True, False]] * 3),
            ("queue_status", (), [(n, {"pending": None, "queue": []}) for n in range(3)]),
            ("clear_queue", (), None),
            ("del_properties", (["fast"],), [None] * 3),
            ("clear_properties", (), [None] * 3),
            ("reset", (), [None] * 3),
        ]
        for name, arguments, expected in calls:
            if name == "del_properties":
                mec.set_properties({"fast": True})
            for block in (True, False):
                if name == "del_properties" and not block:
                    mec.set_properties({"fast": True})
                with self.subTest(name, block=block):
                    answer = getattr(mec, name)(*arguments, block=block)
                    if not block:
                        self.assertIsInstance(answer, PendingResult)
                        answer = answer.get_result(timeout=SOON)
                    if callable(expected):
                        self.assertTrue(expected(answer), answer)
                    else:
                        self.assertEqual(answer, expected)

    def test_attributes_and_arguments(self) -> None:
        mec = self.mec
        self.assertEqual((mec.targets, mec.block), ("all", True))
        mec.targets = [0, 2]
        self.assertEqual(len(mec.push({"a": 1})), 2)
        self.assertEqual(len(mec.push({"a": 1}, targets="all")), 3)
        mec.block = False
        self.assertIsInstance(mec.map(abs, [1]), PendingResult)
        self.assertIsInstance(mec.execute("a", block=True), ResultList)
        mec["x"] = 7
        self.assertEqual(mec["x"], [7, 7])
        mec.block = True
        self.assertEqual(mec.pull("x", targets=slice(0, 1)), [7])
        self.assertIn("targets=[0, 2]", repr(mec))

    def test_bad_arguments_raise_at_once(self) -> None:
        self.assertRaises(InvalidEngineID, self.mec.execute, "a", targets=[0, 9])
        self.assertRaises(InvalidEngineID, self.mec.execute, "a", targets=9, block=False)
        self.assertRaises(InvalidEngineID, self.mec.scatter, "a", [1], targets=[0, 9])
        self.assertRaises(TypeError, self.mec.execute, "a", targets=True)
        self.assertRaises(TypeError, self.mec.execute, "a", block="no")
        self.assertRaises(TypeError, self.mec.execute, None)
        self.assertRaises(SerializationError, self.mec.push, {"a": threading.Lock()})
        self.assertRaises(SerializationError, self.mec.scatter, "a", [threading.Lock()])
        self.assertEqual(self.mec.keys(), [[]] * 3)

    def test_non_blocking_pushes_copy_what_they_send(self) -> None:
        array = numpy.zeros(300_000)
        self.hold()
        pending = [
            self.mec.push({"a": array}, block=False),
            self.mec.scatter("s", array, block=False),
            self.mec.raw_map(float, [array[:3000]], block=False),
        ]
        array[:] = 1
        self.release()
        self.assertEqual(sum(pending[2].get_result(timeout=SOON)), 0)
        self.assertEqual([float(each.sum()) for each in self.mec.pull("a")], [0.0] * 3)
        self.assertEqual(float(self.mec.gather("s").sum()), 0.0)

    def test_calls_from_several_threads(self) -> None:
        def work(number: int) -> list[Any]:
            return [self.mec.pull("a", block=bool(i % 2)) for i in range(30)] and self.mec.map(
                lambda x: x * number, range(10)
            )

        self.mec.push({"a": 1})
        with futures.ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(work, range(6)))
        self.assertEqual(answers, [[x * n for x in range(10)] for n in range(6)])

    def test_it_is_refused_in_the_reactors_thread(self) -> None:
        for call in (
            lambda: self.mec.execute("a"),
            lambda: self.mec.execute("a", block=False),
            self.mec.get_ids,
            lambda: self.mec.barrier([]),
            self.mec.close,
        ):
            self.assertRaises(ClientError, self.in_reactor, call)

    def test_kill(self) -> None:
        self.assertIsNone(self.mec.kill(targets=1))
        self.assertEqual(self.mec.get_ids(), [0, 2])
        self.assertIsNone(self.mec.kill(targets=0, block=False).get_result(timeout=SOON))
        self.assertEqual(self.mec.get_ids(), [2])
        self.assertRaises(InvalidEngineID, self.mec.kill, targets=0)
        self.assertRaises(TypeError, self.mec.kill, [2])


class PendingResultTest(BlockingCase):
    def test_while_it_runs_and_afterwards(self) -> None:
        self.hold()
        pending = self.mec.execute("a = 1", block=False)
        self.assertEqual((pending.ready, pending.progress), (False, (0, 3)))
        self.assertEqual((pending.engine_ids, pending.unfinished), ([0, 1, 2], [0, 1, 2]))
        self.assertIsNone(pending.get_result(block=False))
        self.assertEqual(pending.get_result("none yet", block=False), "none yet")
        begun = time.monotonic()
        with self.assertRaises(ResultNotCompleted):
            pending.get_result(timeout=0.05)
        with self.assertRaises(TimeoutError):
            pending.result(0.05)
        self.assertLess(time.monotonic() - begun, SOON)
        self.assertIn("0 of 3 engines", repr(pending))
        self.in_reactor(self.cluster.engines[1].worker.release)
        deadline = time.monotonic() + SOON
        while pending.progress != (1, 3) and time.monotonic() < deadline:
            self.mec.get_ids()
        self.assertEqual((pending.progress, pending.unfinished), ((1, 3), [0, 2]))
        self.release()
        self.assertEqual([each["id"] for each in pending.r], [0, 1, 2])
        self.assertIs(pending.r, pending.get_result())
        self.assertTrue(pending.ready)
        self.assertIn("finished", repr(pending))

    def test_a_time_out_of_the_users_own_code_is_not_mistaken(self) -> None:
        pending = self.mec.execute("raise TimeoutError('mine')", block=False)
        self.assertRaises(CompositeError, pending.get_result, timeout=SOON)

    def test_it_is_a_future_of_concurrent_futures(self) -> None:
        self.hold()
        pending = [self.mec.execute(f"x{n} = 1", targets=n, block=False) for n in range(3)]
        done, running = futures.wait(pending, timeout=0.05)
        self.assertEqual((len(done), len(running)), (0, 3))
        with self.assertRaises(TimeoutError):
            next(futures.as_completed(pending, timeout=0.05))
        self.in_reactor(self.cluster.engines[2].worker.release)
        done, running = futures.wait(pending, SOON, return_when=futures.FIRST_COMPLETED)
        self.assertEqual((done, running), ({pending[2]}, set(pending[:2])))
        self.release()
        self.assertEqual(set(futures.as_completed(pending, timeout=SOON)), set(pending))
        self.assertIsNone(pending[0].exception())
        self.assertFalse(pending[0].cancelled())
        failing = self.mec.execute("1/0", block=False)
        self.assertIsInstance(failing.exception(SOON), CompositeError)
        heard: futures.Future[Any] = futures.Future()
        failing.add_done_callback(heard.set_result)
        self.assertIs(heard.result(SOON), failing)

    def test_callbacks(self) -> None:
        heard: list[Any] = []
        told = threading.Event()

        def callback(value: Any, *args: Any, **kwargs: Any) -> None:
            heard.append((value, args, kwargs))
            told.set()

        self.mec.push({"a": 1}, block=False).add_callback(callback, "x", y=2)
        self.assertTrue(told.wait(SOON))
        self.assertEqual(heard, [([None] * 3, ("x",), {"y": 2})])
        told.clear()
        self.mec.execute("1/0", block=False).add_callback(callback)
        self.assertTrue(told.wait(SOON))
        self.assertIsInstance(heard[1][0], CompositeError)

    def test_a_callback_that_ends_the_program_does_not_end_the_connection(self) -> None:
        self.hold()
        heard = threading.Event()
        pending = self.mec.push({"a": 1}, block=False)
        pending.add_done_callback(lambda future: sys.exit(3))
        pending.add_done_callback(lambda future: heard.set())
        self.release()
        self.assertTrue(heard.wait(SOON))
        self.assertEqual(self.mec.pull("a"), [1, 1, 1])

    def test_it_can_be_awaited(self) -> None:
        async def main() -> Any:
            self.hold()
            first = self.mec.pull("a", block=False)
            second = self.mec.execute("1/0", block=False)
            loop = asyncio.get_running_loop()
            loop.call_later(0.02, lambda: threading.Thread(target=self.release).start())
            try:
                await second
            except CompositeError:
                pass
            else:
                raise AssertionError("no error")
            both = await asyncio.gather(first, asyncio.sleep(0, "other"))
            aborted = self.mec.execute("b = 1", block=False)
            async with asyncio.timeout(SOON):
                return both, await aborted

        self.mec.push({"a": 5})
        both, last = asyncio.run(main())
        self.assertEqual(both, [[5, 5, 5], "other"])
        self.assertEqual(len(last), 3)

    def test_a_task_that_is_cancelled_aborts_the_call(self) -> None:
        self.hold()
        self.mec.execute("first = 1", block=False)

        async def main() -> PendingResult:
            pending = self.mec.execute("second = 1", block=False)
            with self.assertRaises(asyncio.TimeoutError):
                await asyncio.wait_for(pending, 0.05)
            return pending

        pending = asyncio.run(main())
        error = pending.exception(SOON)
        self.assertEqual({type(each) for each in error.exceptions}, {QueueCleared})

    def test_abort(self) -> None:
        self.hold()
        running, waiting = (self.mec.execute("a = 1", block=False) for _ in range(2))
        waiting.abort()
        self.assertFalse(running.cancel())
        self.assertIsInstance(waiting.exception(SOON).exceptions[0], QueueCleared)
        self.assertIsInstance(running.exception(SOON).exceptions[0], KeyboardInterrupt)
        running.abort()

    def test_flush(self) -> None:
        self.hold()
        unfinished = self.mec.execute("a = 1", block=False)
        status = self.mec.queue_status(block=False)
        futures.wait([status], SOON)
        blocked = threading.Event()
        outcome: list[BaseException] = []

        def wait() -> None:
            blocked.set()
            try:
                unfinished.get_result(timeout=SOON)
            except Exception as problem:
                outcome.append(problem)

        thread = threading.Thread(target=wait)
        thread.start()
        blocked.wait()
        self.mec.flush()
        # What is not finished says so at once, and does not wait first.
        self.assertRaises(InvalidDeferredID, unfinished.get_result)
        self.assertRaises(InvalidDeferredID, unfinished.exception)
        self.assertRaises(InvalidDeferredID, status.get_result)
        self.release()
        thread.join(SOON)
        self.assertIsInstance(outcome[0], InvalidDeferredID)
        self.assertRaises(InvalidDeferredID, lambda: unfinished.r)
        later = self.mec.push({"b": 1}, block=False)
        later.get_result(timeout=SOON)
        self.mec.flush()
        self.assertEqual(later.r, [None] * 3)

    def test_flush_ends_the_waiting_of_asyncio(self) -> None:
        """A future of asyncio that follows a call hears that the result was dropped, too."""
        self.hold()
        pending = self.mec.execute("a = 1", block=False)

        async def wait() -> None:
            following = asyncio.wrap_future(pending)
            self.mec.flush()
            self.release()
            await asyncio.wait_for(following, SOON)

        self.assertRaises(InvalidDeferredID, asyncio.run, wait())
        self.assertIsInstance(pending.exception(), InvalidDeferredID)

    def test_barrier(self) -> None:
        self.mec.barrier([])
        pending = [self.mec.execute("a = 1", block=False), self.mec.execute("1/0", block=False)]
        self.mec.barrier(pending)
        self.mec.barrier(pending[0])
        self.assertTrue(all(each.ready for each in pending))
        self.hold()
        unfinished = self.mec.execute("a = 1", block=False)
        self.assertRaises(
            ResultNotCompleted, self.mec.barrier, [*pending, unfinished], timeout=0.05
        )
        for wrong in (5, None, [5], [pending[0], None]):
            self.assertRaises(NotAPendingResult, self.mec.barrier, wrong)
        pending = self.mec.execute("x = 1", block=False)
        for wait in (
            lambda timeout: self.mec.barrier(pending, timeout=timeout),
            lambda timeout: pending.get_result(timeout=timeout),
            pending.result,
            pending.exception,
            pending.wait_interactive,
            lambda timeout: self.mec.stacks(timeout=timeout),
        ):
            with self.assertRaisesRegex(TypeError, "timeout must be a number of seconds"):
                wait("x")
        with self.assertRaisesRegex(TypeError, "interval must be a number"):
            pending.wait_interactive(interval="x")

    def test_errors_do_not_grow_when_they_are_raised_again(self) -> None:
        import traceback

        pending = self.mec.execute("1/0", block=False)
        depths = set()
        for _ in range(3):
            try:
                pending.get_result(timeout=SOON)
            except CompositeError as error:
                depths.add(len(traceback.extract_tb(error.__traceback__)))
        self.assertEqual(len(depths), 1)

    def test_a_listener_that_fails_disturbs_nobody(self) -> None:
        self.hold()
        pending = self.mec.execute("a = 1", block=False)
        heard: list[Any] = []
        pending.on_output(lambda *output: 1 / 0)
        pending.on_output(lambda *output: heard.append(output))

        def write() -> None:
            engine = self.cluster.controller.engines[1]
            self.assertIsNotNone(engine)
            pending._output(1, "stdout", "text")

        self.in_reactor(write)
        self.assertEqual(heard, [(1, "stdout", "text")])
        self.assertEqual(pending.stdout, {1: "text"})
        self.assertEqual(self.mec.get_ids(), [0, 1, 2])

    def test_data_that_was_sent_is_let_go_of(self) -> None:
        class Array(numpy.ndarray):
            pass

        array = numpy.zeros(300_000).view(Array)
        reference = weakref.ref(array)
        pending = self.mec.raw_map(float, [array[:3]], block=False)
        scattered = self.mec.scatter("s", array, block=False)
        pending.get_result(timeout=SOON)
        scattered.get_result(timeout=SOON)
        del array
        deadline = time.monotonic() + SOON
        while reference() is not None and time.monotonic() < deadline:
            self.mec.get_ids()
            gc.collect()
        self.assertIsNone(reference())


class LossTest(BlockingCase):
    def test_all_calls_fail_when_the_controller_is_lost_and_none_waits(self) -> None:
        self.hold()
        pending = [
            self.mec.execute("a = 1", block=False),
            self.mec.push({"big": numpy.zeros(10**6)}, block=False),
            self.mec.raw_map(abs, [range(9)], block=False),
        ]
        blocked = threading.Thread(target=lambda: pending.append(self.failing_call()))
        blocked.start()
        deadline = time.monotonic() + SOON
        while len(self.mec.pending) < 4 and time.monotonic() < deadline:
            time.sleep(0.001)
        self.in_reactor(lambda: self.mec._connection.end.link.abort("the cable was cut"))
        blocked.join(SOON)
        self.assertFalse(blocked.is_alive())
        for each in pending[:3]:
            error = each.exception(SOON)
            self.assertIsInstance(error, ConnectionError)
            self.assertIn("the cable was cut", str(error))
        self.assertIsInstance(pending[3], ConnectionError)
        self.assertEqual(self.mec.pending, [])
        for call in (
            self.mec.get_ids,
            lambda: self.mec.execute("a"),
            lambda: self.mec.execute("a", block=False),
            lambda: self.mec.scatter("a", [1]),
            lambda: self.mec.kill(targets=0),
        ):
            self.assertRaises(ConnectionError, call)

    def failing_call(self) -> BaseException | None:
        try:
            self.mec.execute("b = 1")
        except Exception as problem:
            return problem
        return None

    def test_engines_that_die_fail_alone(self) -> None:
        self.hold()
        pending = self.mec.execute("a = 1", block=False)
        self.in_reactor(self.cluster.engines[1].kill)
        self.release()
        error = pending.exception(SOON)
        self.assertEqual(error.engine_ids, [1])
        self.assertIsInstance(error.exceptions[0], EngineDied)
        self.assertEqual(len(error.results), 2)
        self.assertEqual(self.mec.get_ids(), [0, 2])

    def test_a_closed_client(self) -> None:
        self.hold()
        pending = self.mec.execute("a = 1", block=False)
        other = self.new_client()
        self.mec.close()
        self.assertIsInstance(pending.exception(SOON), ConnectionError)
        self.assertRaises(ConnectionError, self.mec.get_ids)
        self.assertEqual(other.get_ids(), [0, 1, 2])
        self.mec.close()


class BlockingTaskCase(BlockingCase):
    """Three tasks that wait on three engines."""

    def setUp(self) -> None:
        super().setUp()
        self.hold()
        _, end = blockingCallFromThread(self.cluster.connect, self.cluster.task_face, messages.TASK)
        self.tc = client.TaskClient(Connection(reactor, None, end, "memory"))
        self.addCleanup(self.tc.close)
        self.ids = self.tc.run_many([client.Task("a = 1", pull="a")] * self.engines)
        self.tc.flush()


class TaskWaitTest(BlockingTaskCase):
    """Results that come while a wait is being set up are each noticed, once."""

    def let_come(self, number: int) -> None:
        """Have results come in the moment after the waiter is added."""
        tasks = self.tc._tasks
        add_waiter = tasks.add_waiter

        def add_and_lose_the_processor(waiter: Any, task_ids: Any) -> Any:
            missing = add_waiter(waiter, task_ids)
            for engine in self.cluster.engines[:number]:
                self.in_reactor(engine.worker.release)
            deadline = time.monotonic() + SOON
            while len(tasks.results) < number and time.monotonic() < deadline:
                self.in_reactor(lambda: None)
            return missing

        tasks.add_waiter = add_and_lose_the_processor  # type: ignore[method-assign]

    def test_as_completed(self) -> None:
        self.let_come(1)
        results = self.tc.as_completed(self.ids, timeout=SOON)
        first = next(results).taskid
        self.release()
        self.assertEqual(sorted([first, *(result.taskid for result in results)]), self.ids)

    def test_barrier(self) -> None:
        self.let_come(1)
        with self.assertRaisesRegex(ResultNotCompleted, "2 of 3 tasks"):
            self.tc.barrier(self.ids, timeout=0.1)

    def test_barrier_of_maps_and_ids(self) -> None:
        pending = self.tc.mapper(block=False).map(abs, [-1, -2])
        with self.assertRaisesRegex(ResultNotCompleted, "1 of 1 maps"):
            self.tc.barrier(pending, timeout=0.05)
        self.release()
        self.tc.barrier([pending, *self.ids], timeout=SOON)
        self.tc.barrier(pending, timeout=SOON)
        self.assertEqual(pending.r, [1, 2])

    def test_wrong_attributes_are_refused(self) -> None:
        tc: Any = self.tc
        for name, kind in (("progress", TypeError), ("progres", AttributeError)):
            with self.assertRaisesRegex(kind, "progress"):
                setattr(tc, name, "yes")
        self.assertIsNone(tc.progress)


class TaskMapTest(BlockingTaskCase):
    """Maps of tasks by the client whose reactor is another thread."""

    def test_maps_that_do_not_wait_take_values_at_the_time_of_the_call(self) -> None:
        later = self.tc.mapper(block=False)
        array, items = numpy.zeros(100), [[n] for n in range(100)]
        pending = [later.map(lambda x: x + n, [0]) for n in range(4)]
        pending += [later.map(float, array), later.map(lambda item: item[0], items)]
        array += 1
        items[50][0] = -1
        items.clear()
        self.release()
        values = [each.get_result(timeout=SOON) for each in pending]
        self.assertEqual(values, [[0], [1], [2], [3], [0.0] * 100, list(range(100))])
        lock = threading.Lock()
        self.assertRaises(SerializationError, later.map, lambda x: lock, [0])

    def test_what_is_printed(self) -> None:
        """A pending result has it in the order of the items; a waiting user sees it once, with engines."""
        self.release()
        pending = self.tc.mapper(block=False).map(lambda x: print("item", x), range(50))
        pending.get_result(timeout=SOON)
        self.assertEqual(pending.stdout, "".join(f"item {n}\n" for n in range(50)))
        self.assertEqual(pending.stderr, "")
        shown = io.StringIO()
        with (
            unittest.mock.patch.object(attendance, "person_waits", lambda: True),
            unittest.mock.patch.object(liveview, "person_waits", lambda: True),
            contextlib.redirect_stdout(shown),
        ):
            self.tc.map(lambda x: print("item", x, end=""), range(3))
            lines = sorted(line.partition("] ")[2] for line in shown.getvalue().splitlines())
            self.assertEqual(lines, ["item 0", "item 1", "item 2"])
            shown.truncate(0)
            pending.get_result()
            self.assertEqual(shown.getvalue().count("item 49\n"), 1)
            shown.truncate(0)
            pending.get_result()
            self.assertEqual(shown.getvalue(), "")


class TaskInterruptTest(BlockingTaskCase):
    """Ctrl-C ends a wait with one line that says what goes on."""

    def interrupt(self, wait: Any, ready: Any = lambda: True) -> str:
        """Press Ctrl-C once ``wait`` waits, and ``ready()``.

        Python misses a signal in the microsecond in which a wait begins, so it is pressed again if nothing happens.
        """
        main = threading.main_thread().ident
        assert main is not None
        over = False

        def press() -> None:
            waits = sys._current_frames()[main].f_code.co_name in ("wait", "_as_completed")
            pressed = waits and self.tc._tasks._waiters and ready()
            if pressed and not over:
                signal.pthread_kill(main, signal.SIGINT)
            if not over:
                reactor.callLater(1.0 if pressed else 0.0, press)  # type: ignore[attr-defined]

        reactor.callFromThread(press)  # type: ignore[attr-defined]
        with self.assertRaises(WaitInterrupted) as caught:
            wait()
        over = True
        return str(caught.exception)

    def test_waits(self) -> None:
        one, ids = self.ids[0], self.ids
        alone = f"KeyboardInterrupt: task {one} is not done and continues; "
        self.assertIn(alone, self.interrupt(lambda: self.tc.barrier(one)))
        self.assertIn(alone, self.interrupt(lambda: self.tc.get_task_result(one, block=True)))
        several = "KeyboardInterrupt: 3 of 3 tasks are not done and continue; "
        self.assertIn(several, self.interrupt(lambda: self.tc.barrier(ids)))
        self.assertIn(several, self.interrupt(lambda: list(self.tc.as_completed(ids))))
        self.release()
        self.tc.barrier(ids, timeout=SOON)

    def test_a_map(self) -> None:
        self.tc.progress = True
        shown = io.StringIO()
        with (
            unittest.mock.patch.object(liveview.keep_watching, "__defaults__", (0.0, 0.05, False)),
            contextlib.redirect_stderr(shown),
        ):
            said = self.interrupt(lambda: self.tc.map(abs, range(20)), shown.getvalue)
        self.assertIn("0/20 items", shown.getvalue())
        self.assertEqual(rendered(shown.getvalue()).strip(), "")
        self.assertEqual(
            said, "KeyboardInterrupt: the map was aborted when 0 of 20 items were done"
        )


class ClientModuleTest(unittest.TestCase):
    def test_everything_that_is_promised_can_be_imported(self) -> None:
        for name in client.__all__:
            if not name.startswith("default_"):
                self.assertIsNotNone(getattr(client, name))
        self.assertIs(client.PendingResult, PendingResult)
        self.assertIs(client.MultiEngineClient, MultiEngineClient)
        with self.assertRaises(AttributeError):
            client.no_such_name
        self.assertLessEqual(set(client.__all__), set(dir(client)))


if __name__ == "__main__":
    unittest.main()
