"""Calls of clients that are gone: they are found, and so are their results."""

from __future__ import annotations

from typing import Any

import numpy

from ipython1.kernel.basics.error import (
    CompositeError,
    InvalidDeferredID,
    ResultAlreadyRetrieved,
    ResultNotCompleted,
)
from ipython1.kernel.clients.tests.commandworld import outcome_of
from ipython1.kernel.clients.tests.test_commands_again import ARRAY, WorldCase


class HistoryTests(WorldCase):
    def leave(self, *calls: Any) -> None:
        """Another client makes calls, and is gone before it has their results."""
        for engine in self.world.cluster.engines:
            engine.worker.held = True
        for method, *args in calls:
            getattr(self.mec, method)(*args, block=False)
        self.world.pump.run()
        self.client.die()
        for engine in self.world.cluster.engines:
            engine.worker.release()
        self.world.pass_time(0.5)

    def history(self, **options: Any) -> Any:
        return self.world.settle(self.other.mec.history(**options))

    def result_of(self, call: Any) -> Any:
        result = self.world.settle(self.other.mec.result_of(call))
        if isinstance(result, BaseException):
            raise result
        return result

    def test_what_a_client_left_is_found(self):
        self.leave(("execute", "a = 5"), ("push", {"b": 1}), ("pull", "b"))
        pull, push, execute = self.history()
        self.assertEqual(
            [entry.call for entry in (execute, push, pull)],
            ["execute('a = 5')", "push(b)", "pull(b)"],
        )
        for entry in (execute, push, pull):
            self.assertEqual((entry.state, entry.targets), ("succeeded", (0, 1)))
            self.assertEqual(entry.client, self.client.hello.uuid)
            self.assertGreaterEqual(entry.completed, entry.submitted)
        self.assertGreater(execute.size, push.size)
        self.assertIn(f"[0-1] execute('a = 5'): succeeded  ({execute.id})", repr(self.history()))

    def test_its_results_are_read_by_another_client(self):
        self.leave(
            ("execute", "print(5)"),
            ("push", {"b": ARRAY, "c": 3}),
            ("pull", ["b", "c"]),
            ("map", abs, [-1, -2, -3, -4]),
            ("execute", "1 / 0"),
        )
        error, mapped, _, pull, push, execute = (entry.id for entry in self.history())
        self.assertEqual([each["stdout"] for each in self.result_of(execute)], ["5\n", "5\n"])
        self.assertEqual(self.result_of(push), [None, None])
        for each in self.result_of(pull):
            numpy.testing.assert_array_equal(each["b"], ARRAY)
            self.assertEqual(each["c"], 3)
        self.assertEqual(self.history()[0].state, "failed")
        raised = self.assertRaises(CompositeError, self.result_of, error)
        self.assertIn("ZeroDivisionError", str(raised))
        # A map is a command for each engine.
        self.assertEqual(self.result_of(mapped), [[3, 4]])

    def test_with_items_that_failed(self):
        self.leave(("map", (2).__truediv__, [1, 0]))
        failed, good = self.history()
        self.assertEqual(self.result_of(good), [[2.0]])
        ((problem,),) = self.result_of(failed)
        self.assertIsInstance(problem, ZeroDivisionError)

    def test_results_are_there_more_than_once_and_after_a_restart(self):
        self.leave(("push", {"b": ARRAY}), ("pull", "b"))
        (pull, _) = self.history()
        for _ in range(2):
            numpy.testing.assert_array_equal(self.result_of(pull)[1]["b"], ARRAY)
            self.world.kill_controller()
            self.world.repair()
        pending = self.world.settle(self.other.mec.result_of(pull.id, block=False))
        numpy.testing.assert_array_equal(self.world.settle(pending.r)[0]["b"], ARRAY)

    def test_a_link_that_breaks_while_it_comes(self):
        self.leave(("push", {"b": ARRAY}), ("pull", "b"))
        (pull, _) = self.history()
        for moment in range(0, 60, 3):
            call = self.other.mec.result_of(pull)
            self.world.steps(moment)
            self.other.break_link()
            self.world.pump.run()
            self.world.repair()
            self.world.pump.run()
            numpy.testing.assert_array_equal(outcome_of(call)[1]["b"], ARRAY)

    def test_calls_whose_results_are_not_there(self):
        self.world.settle(self.world.settle(self.mec.execute("a = 1", block=False)).r)
        self.world.pass_time(0.5)
        self.world.cluster.engines[0].worker.held = True
        self.mec.execute("b = 2", block=False)
        self.world.pump.run()
        running, fetched = self.history()
        self.assertEqual((running.state, running.completed), ("pending", None))
        self.assertEqual((fetched.state, fetched.size), ("succeeded", None))
        self.assertRaises(ResultNotCompleted, self.result_of, running)
        self.assertRaises(ResultAlreadyRetrieved, self.result_of, fetched)
        for unknown in ("77@" + self.client.hello.uuid, "5", "x@y", ""):
            self.assertRaises(InvalidDeferredID, self.result_of, unknown)
        self.assertRaises(TypeError, self.other.mec.result_of, 5)

    def test_some_of_it(self):
        self.leave(*(("execute", f"x = {number}") for number in range(5)))
        self.assertEqual(len(self.history(limit=2)), 2)
        self.assertEqual(self.history(limit=0), [])
        self.assertEqual(len(self.history(before=self.history()[2].submitted)), 2)
        for options, error in (
            ({"limit": 1.5}, TypeError),
            ({"limit": -1}, ValueError),
            ({"limit": 10**6}, ValueError),
            ({"before": "noon"}, TypeError),
        ):
            self.assertRaises(error, self.other.mec.history, **options)
