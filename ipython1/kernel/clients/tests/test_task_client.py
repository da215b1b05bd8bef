"""The task client and service over a cluster in memory."""

from __future__ import annotations

import collections
import contextlib
import io
import itertools
import random
import sys
import threading
import types
from typing import Any

import numpy
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import (
    CompositeError,
    ConnectionError,
    EngineDied,
    MessageSizeError,
    ResultNotCompleted,
    SerializationError,
    TaskAborted,
)
from ipython1.kernel.controller.scheduling.seams import TaskSettings
from ipython1.kernel.objects.taskobjects import (
    BaseTask,
    MapTask,
    StringTask,
    Task,
    TaskResult,
    TaskValue,
)
from ipython1.kernel.tasks import outbox, sentfunctions
from ipython1.kernel.tasks.maps import MapPlan
from ipython1.kernel.wire import bulk, frames
from ipython1.testing import InMemoryCluster


class Unreadable:
    """Can be pickled, and not unpickled."""

    def __reduce__(self) -> Any:
        return int, ("x",)


def hold(cluster: InMemoryCluster) -> None:
    for engine in cluster.engines:
        engine.worker.held = True


def release(cluster: InMemoryCluster) -> None:
    for engine in cluster.engines:
        engine.worker.release()
    cluster.pump.run()


class TaskTests(SynchronousTestCase):
    """Tasks from the client to the engine and back."""

    def setUp(self) -> None:
        self.cluster = InMemoryCluster(2)
        self.tc = self.cluster.task()

    def test_results(self) -> None:
        result = self.tc.run(Task("a = 1; b = 2", pull=["a", "b"]), block=True)
        self.assertEqual(repr(result), "TaskResult[ID:0]:{'a': 1, 'b': 2}")
        self.assertEqual((result.ns.a, result["b"], result.keys), (1, 2, ["a", "b"]))
        self.assertIn(result.engineid, (0, 1))
        self.assertEqual(self.tc.run(Task("a = 1"), block=True).results, {})
        none = self.tc.run(MapTask(print), block=True)
        self.assertEqual((none.result, none.results), (None, {"result": None}))
        mapping = self.tc.run(MapTask(dict, (), {"a": 1}), block=True)
        self.assertEqual((mapping.result, mapping.results), ({"a": 1}, {"result": {"a": 1}}))

    def test_a_result_that_the_controller_has_no_memory_for(self) -> None:
        def refuse(*_: object) -> bytearray:
            raise MemoryError("there is no memory")

        self.patch(bulk, "allocate", refuse)
        result = self.tc.run(MapTask(bytes, [frames.MAX_PAYLOAD * 3]), block=True)
        self.assertIsInstance(result.failure, MessageSizeError)
        self.assertIn("did not arrive", str(result.failure))
        self.assertEqual(self.tc.run(Task("a = 1", pull="a"), block=True)["a"], 1)

    def test_names_that_python_needs_are_not_pushed(self) -> None:
        with self.assertRaisesRegex(ValueError, "__builtins__"):
            self.tc.run(Task("a = 1", push={"__builtins__": 1}))

    def test_failures(self) -> None:
        result = self.tc.run(Task("1/0", pull="a"), block=True)
        self.assertEqual(repr(result), "TaskResult[ID:0]:ZeroDivisionError: division by zero")
        self.assertIsInstance(result.failure, ZeroDivisionError)
        self.assertRaises(ZeroDivisionError, result.raise_exception)
        self.assertRaises(ZeroDivisionError, lambda: result.ns)
        self.assertRaises(ZeroDivisionError, lambda: result["a"])
        self.assertRaises(ZeroDivisionError, lambda: result.results)
        self.assertRaises(ZeroDivisionError, lambda: result.keys)
        self.assertRaises(ZeroDivisionError, lambda: result.result)

    def test_a_result_that_cannot_be_read_is_a_failure(self) -> None:
        def read(*args: Any) -> TaskValue:
            return TaskValue(failure=ValueError("x"))

        result = TaskResult(3, None, 0.0, 1.5, 0.1, read)
        self.assertEqual(repr(result), "TaskResult[ID:3]:ValueError: x")
        self.assertEqual(result.duration, 1.5)

    def test_process_result(self) -> None:
        class Counting(StringTask):
            def process_result(self, result: Any, engineid: int) -> Any:
                return {**result, "engine": engineid}

        result = self.tc.run(Counting("a = 1", pull="a"), block=True)
        self.assertEqual(result.results, {"a": 1, "engine": result.engineid})

        class Broken(BaseTask):
            def submit_task(self, engine: Any) -> Any:
                return 1

            def process_result(self, result: Any, engineid: int) -> Any:
                raise ValueError("cannot process it")

        result = self.tc.run(Broken(), block=True)
        self.assertRaisesRegex(ValueError, "cannot process it", result.raise_exception)

    def test_what_is_wrong_with_the_controller_is_shown(self) -> None:
        self.assertEqual(self.tc.queue_status().warnings, [])
        self.cluster.controller.journal.trouble = "disk full (in /there)"
        self.cluster.controller.journal.lost = "30 tasks are lost"
        status = self.tc.queue_status()
        self.assertEqual(len(status.warnings), 2)
        counts, full, lost = repr(status).splitlines()
        self.assertEqual(counts, repr(dict(status)))
        self.assertIn("journal cannot be written: disk full (in /there)", full)
        self.assertEqual(lost, "30 tasks are lost")

    def test_states(self) -> None:
        hold(self.cluster)
        ids = [self.tc.run(Task("a = 1", pull="a")) for _ in range(5)]
        self.tc.flush()
        status = self.tc.queue_status()
        self.assertEqual(status, {"scheduled": 3, "pending": 2, "succeeded": 0, "failed": 0})
        self.assertIsNone(self.tc.get_task_result(ids[0]))
        self.assertRaises(TimeoutError, self.tc.barrier, ids)
        release(self.cluster)
        self.tc.barrier(ids)
        self.assertEqual(self.tc.queue_status(verbose=True)["succeeded"], ids)
        self.tc.clear(ids[:2])
        self.assertRaises(IndexError, self.tc.clear, ids[:1])
        self.assertEqual(self.tc.queue_status(True)["succeeded"], ids[2:])
        self.tc.clear()
        self.assertEqual(self.tc.queue_status()["succeeded"], 0)

    def test_clear_of_what_is_not_done(self) -> None:
        hold(self.cluster)
        task_id = self.tc.run(Task("a"))
        self.tc.flush()
        self.assertRaises(ResultNotCompleted, self.tc.clear, [task_id])

    def test_what_was_cleared_is_unknown(self) -> None:
        old = self.tc.run(Task("a = 1", pull="a"))
        self.assertEqual(self.tc.get_task_result(old)["a"], 1)
        hold(self.cluster)
        running = self.tc.run(Task("a = 2", pull="a"))
        self.tc.flush()
        for cleared in (None, [old]):
            if cleared:
                release(self.cluster)
                old = self.tc.run(Task("a = 1", pull="a"))
                self.tc.barrier(old)
                hold(self.cluster)
                running = self.tc.run(Task("a = 2", pull="a"))
            self.tc.clear(None if cleared is None else [old])
            for block in (False, True):
                self.assertRaises(IndexError, self.tc.get_task_result, old, block)
            self.assertRaises(IndexError, self.tc.barrier, [running, old])
            self.assertIsNone(self.tc.get_task_result(running))
        waiting = self.tc.asynchronous.barrier(running)
        release(self.cluster)
        self.successResultOf(waiting)
        self.assertEqual(self.tc.get_task_result(running)["a"], 2)

    def test_what_was_cleared_is_told_from_what_was_not_sent(self) -> None:
        self.cluster.task_face.tasks.machine.settings = TaskSettings(window_tasks=10)
        tc = self.cluster.task()
        first = tc.run(Task("a = 1"))
        tc.barrier(first)
        hold(self.cluster)
        ids = tc.run_many([Task("a = 2", pull="a")] * 20)
        tc.clear()
        self.assertEqual([tc.get_task_result(each) for each in ids], [None] * 20)
        self.assertRaises(IndexError, tc.get_task_result, first)
        waiting = tc.asynchronous.barrier(ids)
        release(self.cluster)
        self.successResultOf(waiting)
        self.assertEqual([tc.get_task_result(each)["a"] for each in ids], [2] * 20)

    def test_abort_of_a_queued_task(self) -> None:
        hold(self.cluster)
        ids = [self.tc.run(Task("a = 1")) for _ in range(6)]
        self.tc.flush()
        last = self.tc.queue_status(verbose=True)["scheduled"][-1]
        self.tc.abort(last)
        self.assertIsInstance(self.tc.get_task_result(last).failure, TaskAborted)
        release(self.cluster)
        self.tc.barrier(ids)
        self.assertRaises(IndexError, self.tc.abort, last)

    def test_engines_come_and_go(self) -> None:
        for engine in self.cluster.engines:
            engine.kill()
        self.cluster.pump.run()
        ids = [self.tc.run(Task("a = 1", pull="a")) for _ in range(10)]
        self.assertIsNone(self.tc.get_task_result(ids[0]))
        self.cluster.add_engine()
        self.cluster.pump.run()
        self.assertEqual([self.tc.get_task_result(each)["a"] for each in ids], [1] * 10)

    def test_an_engine_that_dies(self) -> None:
        hold(self.cluster)
        ids = [self.tc.run(Task("a = 1")) for _ in range(2)]
        self.tc.flush()
        # Each engine has one; that it has begun is not known of a held one, but it is all it has.
        self.cluster.task_face.tasks.machine.workers[0].guarded.clear()
        self.cluster.engines[0].kill()
        self.cluster.pump.run()
        release(self.cluster)
        results = [self.tc.get_task_result(each) for each in ids]
        failures = [result.failure for result in results if result.failure is not None]
        self.assertEqual(len(failures), 1)
        self.assertIsInstance(failures[0], EngineDied)
        self.assertIn("engine 0", str(failures[0]))

    def test_an_engine_that_dies_while_a_result_is_on_its_way(self) -> None:
        waiting = self.tc.asynchronous.run(MapTask(bytes, [frames.PIECE_SIZE * 20]), block=True)
        workers = self.cluster.task_face.tasks.machine.workers
        while not any(worker.arriving for worker in workers.values()):
            self.assertTrue(self.cluster.pump.step(), "it arrived unseen")
        [engine] = [worker.id for worker in workers.values() if worker.arriving]
        self.assertFalse(waiting.called)
        self.cluster.engines[engine].kill()
        self.cluster.pump.run()
        result = self.successResultOf(waiting)
        self.assertIsNone(result.failure)
        self.assertEqual(result.engineid, 1 - engine)

    def test_two_clients(self) -> None:
        other = self.cluster.task()
        mine, theirs = self.tc.run(Task("a = 1", pull="a")), other.run(Task("a = 2", pull="a"))
        self.assertNotEqual(mine, theirs)
        self.assertEqual(self.tc.get_task_result(theirs, block=True)["a"], 2)
        self.assertEqual(other.get_task_result(mine)["a"], 1)
        hold(self.cluster)
        mine = self.tc.run(Task("a = 3", pull="a"))
        self.tc.flush()
        self.assertIsNone(other.get_task_result(mine))
        waiting = other.asynchronous.barrier([mine])
        release(self.cluster)
        self.assertTrue(waiting.called)
        self.assertEqual(other.get_task_result(mine)["a"], 3)
        self.assertRaises(IndexError, other.barrier, [10**6])

    def test_many_ids(self) -> None:
        """More than one block of ids is used up."""
        ids = self.tc.run_many([Task("a = 1")] * 3000)
        self.assertEqual(ids, list(range(3000)))
        self.tc.barrier(ids)
        self.assertEqual(self.tc.queue_status()["succeeded"], 3000)

    def test_back_pressure(self) -> None:
        """What the controller does not take waits with the client, and whoever submits more waits too."""
        self.patch(outbox, "OUTBOX_TASKS", 50)
        machine = self.cluster.task_face.tasks.machine
        machine.settings = TaskSettings(window_tasks=100)
        tc = self.cluster.task()
        hold(self.cluster)
        submitting = tc.asynchronous.run_many([Task("a = 1")] * 500)
        self.cluster.pump.run()
        self.assertFalse(submitting.called)
        self.assertLessEqual(len(machine.tasks), 100)
        status = tc.queue_status()
        self.assertEqual(status["scheduled"] + status["pending"], 150)
        release(self.cluster)
        self.assertEqual(len(self.successResultOf(submitting)), 500)
        self.assertEqual(tc.queue_status()["succeeded"], 500)

    def test_what_was_sent_takes_no_room(self) -> None:
        """The room in the outbox is given back in full, also that of tasks with large functions."""
        table = list(range(3000))

        def look_up(index: int) -> int:
            return table[index]

        tasks = self.tc.asynchronous._tasks
        for n in range(20):
            self.assertEqual(self.tc.run(MapTask(look_up, (n,)), block=True).result, n)
        self.assertEqual((tasks._outbox._tasks, tasks._outbox._size), (0, 0))

    def test_functions_go_with_their_clients(self) -> None:
        """Neither the controller nor an engine keeps the functions of clients that are gone."""
        other = self.cluster.task()

        def function(x: int) -> int:
            return -x

        self.assertEqual(other.map(function, range(5)), [0, -1, -2, -3, -4])
        tasks = self.cluster.task_face.tasks
        runners = [engine.tasks._runner for engine in self.cluster.engines]
        self.assertEqual(len(tasks.functions), 1)
        self.assertTrue(any(runner._packed for runner in runners))
        other.asynchronous._connection.end.link.abort("it is gone")
        self.cluster.pump.run()
        self.assertEqual(len(tasks.functions), 0)
        self.assertFalse(any(runner._packed or runner._functions for runner in runners))

    def test_functions_of_maps_go_with_time(self) -> None:
        """A closure made for one map is not kept for ever; one that is used on and on is not sent on and on."""

        def add(n: int) -> Any:
            return lambda x: x + n

        def steady(x: int) -> int:
            return -x

        cluster, tc = self.cluster, self.tc
        self.assertEqual(tc.run(MapTask(steady, (1,)), block=True).result, -1)
        self.assertEqual(tc.run(MapTask(steady, (2,)), block=True).result, -2)
        tasks = cluster.task_face.tasks
        runners = [engine.tasks._runner for engine in cluster.engines]
        most = sentfunctions.MOST_IDLE + 2
        for n in range(2 * most):
            self.assertEqual(tc.map(add(n), range(5)), list(range(n, n + 5)))
        cluster.pump.run()
        self.assertLessEqual(len(tasks.functions), most)
        for runner in runners:
            self.assertLessEqual(len(runner._packed), most)
            self.assertLessEqual(len(runner._functions), most)
        self.assertEqual(
            tc.map(add(0), range(5)), list(range(5)), "what was forgotten is sent again"
        )
        self.assertEqual(tc.run(MapTask(steady, (3,)), block=True).result, -3)

    def test_very_many_ids_in_one_call(self) -> None:
        ids = self.tc.run_many([Task("a = 1")] * 30_000)
        self.tc.barrier(ids)
        other = self.cluster.task()
        end = other.asynchronous._connection.end
        asked: list[str] = []
        ask = end.ask
        self.patch(end, "ask", lambda name, **args: asked.append(name) or ask(name, **args))
        other.barrier(ids)
        self.assertEqual(asked, ["fetch"] * 3, "they are not asked for one by one")
        self.assertEqual(self.tc.queue_status(verbose=True)["succeeded"], ids)
        self.tc.clear(ids)
        self.assertEqual(self.tc.queue_status()["succeeded"], 0)

    def test_arguments_that_can_be_read_once(self) -> None:
        for _ in range(3):
            task = MapTask(max, iter([1, 5, 2]))
            self.assertEqual(self.tc.run(task, block=True).result, 5)

    def test_what_was_changed_after_it_was_made(self) -> None:
        task: Any = MapTask(abs, (1,))
        for name, wrong in (("function", "text"), ("args", 10), ("kwargs", 3)):
            right = getattr(task, name)
            setattr(task, name, wrong)
            self.assertRaisesRegex(TypeError, f"^{name} must be", self.tc.run, task)
            setattr(task, name, right)
        self.assertEqual(self.tc.run(task, block=True).result, 1)

    def test_ids_that_are_none_are_named(self) -> None:
        for call in (self.tc.abort, self.tc.barrier, self.tc.clear):
            for wrong in ("12", b"12", 1.5):
                self.assertRaisesRegex(TypeError, f"list of task ids, not {wrong!r}", call, wrong)
            self.assertRaisesRegex(TypeError, "not '1'", call, ["1"])

    def test_barrier_of_maps_and_ids(self) -> None:
        asynchronous = self.tc.asynchronous
        hold(self.cluster)
        ids = [self.tc.run(Task("a = 1"))]
        pending = self.successResultOf(asynchronous.mapper(block=False).map(abs, [-1, -2]))
        waits = [asynchronous.barrier(each) for each in (pending, [pending, *ids], (pending,))]
        late = asynchronous.barrier([pending], timeout=5)
        self.cluster.pump.run()
        self.cluster.pump.advance(6)
        self.cluster.pump.run()
        problem = self.failureResultOf(late, ResultNotCompleted).value
        self.assertEqual(str(problem), "1 of 1 maps were not done after 5 s; they continue")
        self.assertFalse(any(wait.called for wait in waits))
        release(self.cluster)
        self.cluster.pump.run()
        for wait in waits:
            self.assertIsNone(self.successResultOf(wait))
        self.assertEqual(self.successResultOf(pending.r), [1, 2])

    def test_abort_of_what_was_not_sent(self) -> None:
        machine = self.cluster.task_face.tasks.machine
        machine.settings = TaskSettings(window_tasks=10)
        tc = self.cluster.task()
        hold(self.cluster)
        ids = tc.run_many([Task("a = 1")] * 20)
        self.assertNotIn(ids[-1], machine.tasks)
        tc.abort(ids[-1])
        self.assertIsInstance(tc.get_task_result(ids[-1]).failure, TaskAborted)
        release(self.cluster)
        tc.barrier(ids)
        tc.flush()
        self.assertEqual(tc.queue_status()["succeeded"], 19)

    def test_abort_of_several(self) -> None:
        machine = self.cluster.task_face.tasks.machine
        machine.settings = TaskSettings(window_tasks=10)
        tc = self.cluster.task()
        done = tc.run(Task("a = 1"))
        tc.barrier(done)
        hold(self.cluster)
        ids = tc.run_many([Task("a = 1")] * 20)
        waiting = tc.asynchronous.barrier(ids)
        tc.abort([done, *ids, 10**9])
        release(self.cluster)
        self.successResultOf(waiting)
        for each in ids:
            self.assertIsInstance(tc.get_task_result(each).failure, TaskAborted)
        self.assertIsNone(tc.get_task_result(done).failure)
        self.assertEqual(tc.abort(ids), None, "they are done")
        self.assertRaises(TypeError, tc.abort, ["a"])
        self.assertRaises(IndexError, tc.abort, ids[0])

    def test_the_connection_is_lost(self) -> None:
        hold(self.cluster)
        task_id = self.tc.run(Task("a = 1"))
        waiting = self.tc.asynchronous.barrier(task_id)
        self.cluster.pump.run()
        self.tc.asynchronous._connection.end.link.abort("the network is gone")
        self.cluster.pump.run()
        self.failureResultOf(waiting, ConnectionError)
        self.assertRaises(ConnectionError, self.tc.run, Task("a = 1"))
        self.assertRaises(ConnectionError, self.tc.get_task_result, task_id)
        release(self.cluster)
        other = self.cluster.task()
        self.assertEqual(other.get_task_result(task_id).results, {})

    def test_a_client_that_does_not_keep_to_the_protocol_is_cut_off(self) -> None:
        from ipython1.kernel.wire import taskwire

        link = self.tc.asynchronous._connection.end.link
        link.send(taskwire.SUBMIT, 0, b"", b"nonsense")
        self.cluster.pump.run()
        self.assertRaises(ConnectionError, self.tc.run, Task("a = 1"))
        self.flushLoggedErrors()
        self.assertEqual(self.cluster.task().run(Task("a = 1"), block=True).results, {})

    def test_large_tasks_keep_their_place(self) -> None:
        data = bytes(1_000_000)
        ids = self.tc.run_many(
            [Task("b = len(a)", push={"a": data[:n]}, pull="b") for n in (10, 900_000, 20, 500_000)]
        )
        self.assertEqual(
            [self.tc.get_task_result(each)["b"] for each in ids], [10, 900_000, 20, 500_000]
        )
        big = self.tc.run(Task("c = bytes(3_000_000)", pull="c"), block=True)
        self.assertEqual(len(big["c"]), 3_000_000)


class MapTests(SynchronousTestCase):
    """Maps."""

    def test_values_and_errors(self) -> None:
        tc = InMemoryCluster(2).task()
        self.assertEqual(tc.map(lambda x: x * x, range(300)), [x * x for x in range(300)])
        self.assertEqual(tc.map(lambda x, y: x + y, [1, 2, 3], iter([4, 5])), [5, 7])
        self.assertEqual(tc.map(len, []), [])
        with self.assertRaises(CompositeError) as caught:
            tc.map(lambda x: 1 / x, [1, 0, 2, 0])
        results = caught.exception.results
        self.assertEqual((results[0], results[2]), (1.0, 0.5))
        self.assertIsInstance(results[1], ZeroDivisionError)
        self.assertEqual(len(caught.exception.elist), 2)

    def test_errors_name_their_items_and_lines(self) -> None:
        tc = InMemoryCluster(2).task()

        def invert(x: int) -> int:
            return 6 // x

        line = invert.__code__.co_firstlineno + 1
        for options in ({}, {"retries": 1}):
            for values, number in (([1, 0, 2], 1), ([*range(1, 200), 0], 199)):
                with self.assertRaises(CompositeError) as caught:
                    tc.mapper(**options).map(invert, values)
                head, text = str(caught.exception).splitlines()
                self.assertEqual(head, "one or more exceptions from call to method: map")
                self.assertRegex(
                    text,
                    r"^\[[01]:map\]: ZeroDivisionError: integer division or modulo by zero "
                    rf"\(item {number}: 0; test_task_client.py, line {line}: return 6 // x\)$",
                )
        with self.assertRaises(CompositeError) as caught:
            tc.map(lambda lock: 1, [threading.Lock()])
        self.assertRegex(
            str(caught.exception), r"\[map\]: SerializationError: .*\(item 0: <unlocked"
        )

    def test_stop_iteration_is_an_error_like_others(self) -> None:
        tc = InMemoryCluster(2).task()
        for options in ({}, {"retries": 1}):
            with self.assertRaises(CompositeError) as caught:
                tc.mapper(**options).map(next, [iter([n] * (n % 50)) for n in range(100)])
            results = caught.exception.results
            for number in (0, 50):
                self.assertIsInstance(results[number], StopIteration)
                results[number] = number
            self.assertEqual(results, list(range(100)))

    def test_what_is_printed(self) -> None:
        def say(x: int) -> int:
            print("item", x)
            print("error", x, file=sys.stderr)
            return 6 // (x - 50)

        cluster = InMemoryCluster(2)
        for options in ({}, {"retries": 1}):
            pending = cluster.task().mapper(block=False, **options).map(say, range(100))
            cluster.pump.run()
            self.assertEqual(pending.stdout, "".join(f"item {n}\n" for n in range(100)))
            self.assertEqual(pending.stderr, "".join(f"error {n}\n" for n in range(100)))

    def test_whatever_can_be_iterated_over(self) -> None:
        tc = InMemoryCluster(2).task()
        self.assertEqual(tc.map(max, [1, 2, 3], itertools.count()), [1, 2, 3])
        self.assertEqual(tc.map(max, itertools.count(), range(4, 6)), [4, 5])
        for sequence in (
            types.MappingProxyType({"a": 1, "b": 2}),
            collections.ChainMap({"a": 1}, {"b": 2}),
            collections.deque("ab"),
            {"a": 1, "b": 2},
            numpy.array(["a", "b"]),
        ):
            self.assertEqual(tc.map(str, sequence), list(map(str, sequence)))
        taken = iter(range(10))
        self.assertEqual(tc.map(max, [5, 6], taken), [5, 6])
        self.assertEqual(next(taken), 2, "no more is taken than is needed")

    def test_items_that_cannot_be_sent_fail_alone(self) -> None:
        tc = InMemoryCluster(2).task()
        items: list[Any] = list(range(200))
        items[3] = items[150] = threading.Lock()
        for options in ({}, {"retries": 1}):
            with self.assertRaises(CompositeError) as caught:
                tc.mapper(**options).map(lambda x: x, items)
            results = caught.exception.results
            for index, value in enumerate(results):
                if index in (3, 150):
                    self.assertIsInstance(value, SerializationError)
                    self.assertIn("lock", str(value))
                else:
                    self.assertEqual(value, index)
            self.assertEqual(caught.exception.engine_ids, [None, None])
        with self.assertRaises(CompositeError) as caught:
            tc.map(len, [threading.Lock()])
        lock = threading.Lock()
        self.assertRaises(SerializationError, tc.map, lambda x: lock, [1])
        self.assertRaises(
            SerializationError, tc.mapper(retries=1, depend=lambda properties: lock).map, abs, [1]
        )

    def test_a_group_that_cannot_be_read_is_a_failure_of_all_its_items(self) -> None:
        tc = InMemoryCluster(2).task()
        with self.assertRaises(CompositeError) as caught:
            tc.map(lambda x: Unreadable() if x == 150 else x, range(200))
        results = caught.exception.results
        self.assertIsInstance(results[150], SerializationError)
        for index, value in enumerate(results):
            self.assertTrue(value == index or value is results[150], (index, value))

    def test_options(self) -> None:
        cluster = InMemoryCluster(2)
        tc = cluster.task()
        cluster.multiengine().set_properties({"ok": True}, targets=[1])
        values = tc.mapper(depend=lambda properties: properties["ok"]).map(abs, range(-20, 0))
        self.assertEqual(values, list(range(20, 0, -1)))
        saved = tc.mapper(retries=1, recovery_task=MapTask(lambda: "saved")).map(
            lambda x: 1 // x, [1, 0]
        )
        self.assertEqual(saved, [1, "saved"])

    def test_a_dependency_that_raises_is_told(self) -> None:
        cluster = InMemoryCluster(2)
        tc = cluster.task()
        task_id = tc.run(MapTask(abs, (-1,), depend=lambda properties: properties["ok"]))
        cluster.pump.run()
        told = "its depend function raised KeyError: 'ok' on engines 0, 1"
        self.assertIn(told, tc.queue_status(verbose=True).reasons[task_id])
        with contextlib.redirect_stderr(io.StringIO()) as shown:
            cluster.pump.advance(2)
            cluster.pump.run()
        self.assertTrue(shown.getvalue().startswith(f"task {task_id} waits: {told}, which counts"))
        cluster.multiengine().set_properties({"ok": True}, targets=1)
        result = tc.get_task_result(task_id, block=True)
        self.assertEqual((result.result, result.engineid), (1, 1))

    def test_engines_that_come_get_their_share_of_a_map(self) -> None:
        cluster = InMemoryCluster(0)
        tc = cluster.task()
        pending = tc.map(abs, range(-100, 0), block=False)
        cluster.pump.run()
        self.assertEqual(tc.queue_status()["scheduled"], 4)
        engines = [cluster.add_engine() for _ in range(3)]
        for engine in engines:
            engine.worker.held = True
        cluster.pump.run()
        status = tc.queue_status()
        self.assertEqual(status["scheduled"] + status["pending"], 12)
        for engine in engines:
            engine.worker.release()
        cluster.pump.run()
        self.assertEqual(self.successResultOf(pending.r), [*range(100, 0, -1)])

    def test_options_that_concern_each_item_keep_items_apart(self) -> None:
        tc = InMemoryCluster(2).task()
        for options, apart in (({"priority": 3}, False), ({"timeout": 60.0}, True)):
            self.assertEqual(tc.mapper(**options).map(abs, range(-200, 0)), [*range(200, 0, -1)])
            succeeded = tc.queue_status()["succeeded"]
            self.assertEqual(succeeded == 200, apart, (options, succeeded))
            tc.clear()

    def test_wrong_options(self) -> None:
        tc = InMemoryCluster(2).task()
        self.assertRaises(ValueError, tc.mapper, retries=-1)
        self.assertRaises(ValueError, tc.parallel, retries=-1)
        self.assertRaisesRegex(TypeError, "^block must be", tc.mapper, block="no")
        mapper: Any = tc.mapper()
        for name, value, kind in (
            ("block", "no", TypeError),
            ("options", {"retries": 1}, TypeError),
            ("retries", 1, AttributeError),
        ):
            self.assertRaisesRegex(kind, name, setattr, mapper, name, value)
        self.assertRaises(TypeError, tc.mapper, timeouts=1)

    def test_the_plan_covers_everything_once(self) -> None:
        rng = random.Random(5)
        for total in (0, 1, 7, 5000):
            plan = MapPlan(total, 4, True)
            seen: list[int] = []
            under_way: list[tuple[int, int]] = []
            while True:
                while (group := plan.next_group()) is not None:
                    under_way.append(group)
                if not under_way:
                    break
                group = under_way.pop(rng.randrange(len(under_way)))
                if rng.random() < 0.1:
                    plan.lost(*group)
                else:
                    seen += range(*group)
                    plan.done(*group, 0.0001 * (group[1] - group[0]))
            self.assertEqual(sorted(seen), list(range(total)))

    def test_the_plan_groups_short_items_and_not_long_ones(self) -> None:
        def groups(seconds: float) -> list[int]:
            plan = MapPlan(1000, 4, True)
            sizes = []
            under_way = []
            while True:
                while (group := plan.next_group()) is not None:
                    under_way.append(group)
                if not under_way:
                    return sizes
                start, stop = under_way.pop(0)
                sizes.append(stop - start)
                plan.done(start, stop, seconds * (stop - start))

        self.assertLess(len(groups(0.00001)), 100)
        self.assertEqual(set(groups(0.02)), {1})
        self.assertLessEqual(max(groups(0.002)), 5)
