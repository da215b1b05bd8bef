"""Calls from the client's side: targets, order, and what a call comes to when things go wrong."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy
from twisted.trial.unittest import SynchronousTestCase

from ipython1.core.failures import ExceptionRecord, record_exception
from ipython1.kernel.basics.error import (
    CompositeError,
    ConnectionError,
    EngineDied,
    InvalidEngineID,
    MessageSizeError,
    NoEnginesRegistered,
    QueueCleared,
    SerializationError,
    UnpickleableException,
)
from ipython1.kernel.calls.calls import Request, normalize_targets
from ipython1.kernel.calls.clientlink import ClientEnd
from ipython1.kernel.calls.runningcall import Call
from ipython1.kernel.clients.asyncclient import CallDeferreds
from ipython1.kernel.objects.serialize import dumps, loads
from ipython1.kernel.tests.wiresupport import main_function
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.messages import Outcome
from ipython1.testing import InMemoryCluster


class ObservedCall(Call):
    """A call with Deferreds of its acceptance and its end."""

    def __init__(self, request: Request, end: ClientEnd) -> None:
        observer = CallDeferreds()
        super().__init__(request, end, observer)
        self.accepted, self.done = observer.accepting, observer.over


class TargetsTest(SynchronousTestCase):
    def test_what_names_engines(self):
        for targets, ids in (
            ("all", None),
            (0, (0,)),
            ([0, 2], (0, 2)),
            ((2, 0), (2, 0)),
            (range(3), (0, 1, 2)),
            (iter([1, 3]), (1, 3)),
            ({3, 1, 2}, (1, 2, 3)),
            (numpy.int64(2), (2,)),
            (numpy.arange(2), (0, 1)),
            ([numpy.int32(1), 2], (1, 2)),
            (slice(None), (0, 2, 3)),
            (slice(1, None), (2, 3)),
            (slice(None, None, -1), (3, 2, 0)),
        ):
            self.assertEqual(normalize_targets(targets, known=[3, 0, 2]), ids)

    def test_what_names_none(self):
        for targets in ([], (), range(0), slice(5, 9), numpy.array([], dtype=int), set()):
            error = self.assertRaises(InvalidEngineID, normalize_targets, targets, [0, 1])
            self.assertIn("empty", str(error))
        for targets in (-1, [0, -1], 2**32, [2**70]):
            error = self.assertRaises(InvalidEngineID, normalize_targets, targets)
            self.assertNotIn("engine 0", str(error))
        error = self.assertRaises(InvalidEngineID, normalize_targets, range(20_000))
        self.assertIn("'all'", str(error))
        for targets in ([1, 1], (0, 2, 0), numpy.array([1, 1])):
            error = self.assertRaises(InvalidEngineID, normalize_targets, targets)
            self.assertIn("twice", str(error))

    def test_what_is_of_the_wrong_type(self):
        for targets in (
            None,
            True,
            [True],
            1.0,
            [1.5],
            "0",
            "ALL",
            "",
            ["0"],
            ["all"],
            {0: 1},
            b"\x00",
            object(),
            [None],
            [[0]],
            numpy.float64(1),
            numpy.array([True]),
            numpy.array([[0]]),
        ):
            error = self.assertRaises(TypeError, normalize_targets, targets)
            self.assertIn("targets", str(error))


def outcome(engine_id: int, value: Any) -> Outcome:
    return Outcome(engine_id, messages.OK, dumps(value).buffers)


def failure(engine_id: int, exception: BaseException) -> Outcome:
    record = record_exception(exception)
    return Outcome(engine_id, messages.FAILED, dumps((record, {"id": engine_id})).buffers)


class FinishTest(SynchronousTestCase):
    """What the answers of engines come to."""

    request = Request("execute", "execute", read=lambda buffers: loads(buffers), combine=tuple)

    def fail_with(self, *outcomes: Outcome) -> CompositeError:
        return self.assertRaises(CompositeError, self.request.finish, outcomes)

    def test_values_in_the_order_of_the_targets(self):
        self.assertEqual(
            self.request.finish([outcome(2, "two"), outcome(0, "zero")]), ("two", "zero")
        )

    def test_failures_beside_results(self):
        error = self.fail_with(
            outcome(0, "ok"), failure(1, ZeroDivisionError("z")), outcome(2, "ok2")
        )
        self.assertEqual(error.results, ["ok", "ok2"])
        self.assertEqual(error.engine_ids, [1])
        kind, value, text = error.elist[0]
        self.assertEqual((kind, str(value)), (ZeroDivisionError, "z"))
        self.assertIn("ZeroDivisionError: z", text)
        self.assertEqual(
            value._ipython_engine_info, {"engineid": 1, "method": "execute", "result": {"id": 1}}
        )

    def test_errors_of_the_kernel(self):
        error = self.fail_with(Outcome(3, messages.REFUSED, (), QueueCleared("cleared")))
        self.assertEqual(str(error).splitlines()[1], "[3:execute]: QueueCleared: cleared")

    def test_exceptions_that_do_not_survive_the_journey(self):
        record = ExceptionRecord("Odd", "it was odd", "Traceback\nOdd: it was odd", None)
        answer = Outcome(0, messages.FAILED, dumps((record, None)).buffers)
        error = self.fail_with(answer)
        self.assertIsInstance(error.exceptions[0], UnpickleableException)
        self.assertEqual(str(error.exceptions[0]), "Odd: it was odd")
        self.assertEqual(error.exceptions[0].__notes__, ["Traceback\nOdd: it was odd"])
        self.assertEqual(error.elist[0][2], "Traceback\nOdd: it was odd")

    def test_exceptions_that_take_no_attributes(self):
        odd = main_function(
            "class f(Exception):\n    def __setattr__(self, name, value): raise RuntimeError(name)"
        )
        error = self.fail_with(failure(0, odd("x")))
        self.assertEqual(type(error.exceptions[0]).__name__, "f")

    def test_a_result_that_cannot_be_rebuilt_fails_alone(self):
        error = self.fail_with(
            outcome(0, 5),
            Outcome(1, messages.OK, (b"garbage",)),
            Outcome(2, messages.FAILED, (b"",)),
        )
        self.assertEqual(error.results, [5])
        self.assertEqual([type(each) for each in error.exceptions], [SerializationError] * 2)

    def test_no_engine_took_part(self):
        self.assertEqual(self.request.finish([]), ())

    def test_what_an_engine_raised_can_be_asked_for_alone(self):
        self.assertIsNone(self.request.problem_of(outcome(0, 1), {}))
        self.assertIsInstance(self.request.problem_of(failure(0, KeyError("k")), {}), KeyError)


class CallTest(SynchronousTestCase):
    def setUp(self):
        self.cluster = InMemoryCluster(3)
        self.end = self.cluster.connect(self.cluster.multiengine_face)[1]
        self.given: list[list[int]] = []

    def parts(self, ids):
        self.given.append(list(ids))
        return [
            (engine_id, [messages.pack_json({"source": f"x = {engine_id}"})]) for engine_id in ids
        ]

    def start(self, targets=None, announce=True, **changes) -> ObservedCall:
        request = Request("scatter", "execute", for_targets=self.parts, **changes)
        call = ObservedCall(request, self.end)
        call.start(targets, announce)
        return call

    def finish(self, call: ObservedCall) -> list[Outcome]:
        self.cluster.pump.run()
        return self.successResultOf(call.done)

    def problems(self, call: ObservedCall) -> list[Any]:
        return [outcome.error for outcome in self.finish(call)]

    def test_each_engine_gets_its_part(self):
        for announce in (True, False):
            call = self.start([2, 0], announce)
            self.assertEqual([each.engine_id for each in self.finish(call)], [2, 0])
            self.assertEqual(self.successResultOf(call.accepted), [2, 0])
        values = [engine.interpreter.user_ns.get("x") for engine in self.cluster.engines]
        self.assertEqual(values, [0, None, 2])

    def test_calls_keep_their_order(self):
        """One that gives each engine its own part is not overtaken by one that is sent after it."""
        call = self.start()
        later = ObservedCall(
            Request("execute", "execute", [messages.pack_json({"source": "y = x"})]), self.end
        )
        later.start(None)
        self.finish(call)
        self.finish(later)
        values = [engine.interpreter.user_ns.get("y") for engine in self.cluster.engines]
        self.assertEqual(values, [0, 1, 2])

    def test_a_client_that_knows_less_than_the_controller_asks_it(self):
        self.end.ids = frozenset()
        self.finish(self.start())
        self.end.ids = frozenset({0})
        self.finish(self.start([0, 2]))
        self.assertEqual(self.given, [[0, 1, 2], [0, 2]])

    def test_unknown_targets_are_refused_before_anything_is_sent(self):
        for targets in ([0, 9], [9]):
            call = self.start(targets)
            self.cluster.pump.run()
            self.failureResultOf(call.accepted, InvalidEngineID)
            self.failureResultOf(call.done, InvalidEngineID)
        self.assertEqual(self.given, [])
        for engine in list(self.cluster.engines):
            engine.kill()
        self.cluster.pump.run()
        call = self.start()
        self.cluster.pump.run()
        self.failureResultOf(call.accepted, NoEnginesRegistered)
        self.failureResultOf(call.done, NoEnginesRegistered)

    def test_an_engine_that_dies_before_it_gets_its_part_fails_alone(self):
        for gone in ([0], [0, 1, 2]):
            cluster = self.cluster = InMemoryCluster(3)
            self.end = cluster.connect(cluster.multiengine_face)[1]
            for engine_id in gone:
                cluster.controller.unregister_engine(engine_id)
            problems = self.problems(self.start())
            self.assertEqual(
                [isinstance(each, EngineDied) for each in problems], [i in gone for i in range(3)]
            )

    def test_parts_that_cannot_be_made_fail_the_call(self):
        def fail(ids):
            raise SerializationError("no")

        for known in (self.end.ids, frozenset()):
            self.end.ids = known
            call = ObservedCall(Request("scatter", "push", for_targets=fail), self.end)
            call.start(None)
            self.cluster.pump.run()
            self.failureResultOf(call.accepted, SerializationError)
            self.failureResultOf(call.done, SerializationError)

    def test_a_part_that_is_too_large_keeps_all_others_back(self):
        self.end.max_message = 1000

        def parts(ids):
            return [(ids[0], [b"small"]), (ids[1], [bytes(2000)])]

        for known in (self.end.ids, frozenset()):
            self.end.ids = known
            call = ObservedCall(Request("scatter", "push", for_targets=parts), self.end)
            call.start(None)
            self.cluster.pump.run()
            self.failureResultOf(call.accepted, MessageSizeError)
            self.failureResultOf(call.done, MessageSizeError)
            self.assertEqual(call.numbers, {})

    def test_a_request_that_cannot_be_packed_fails_the_call(self):
        call = ObservedCall(Request("x" * 300, "x" * 300), self.end)
        call.start(None)
        self.failureResultOf(call.done)
        self.failureResultOf(call.accepted)

    def test_the_controller_is_lost_while_targets_are_asked_for(self):
        self.end.ids = frozenset()
        call = self.start()
        self.end.link.abort("gone")
        self.failureResultOf(call.accepted, ConnectionError)
        self.failureResultOf(call.done, ConnectionError)

    def test_aborting_before_the_targets_are_known(self):
        self.end.ids = frozenset()
        call = self.start()
        call.abort()
        self.cluster.pump.run()
        self.failureResultOf(call.done, QueueCleared)
        self.failureResultOf(call.accepted, QueueCleared)
        self.assertEqual(self.given, [])

    def test_aborting_one_call_leaves_the_others(self):
        for engine in self.cluster.engines:
            engine.worker.held = True
        first, second, third = self.start(), self.start([0, 1]), self.start()
        self.cluster.pump.run()
        second.abort()
        second.abort()
        self.assertEqual([type(each) for each in self.problems(second)], [QueueCleared] * 2)
        second.abort()
        for engine in self.cluster.engines:
            engine.worker.release()
        self.assertEqual(self.problems(first) + self.problems(third), [None] * 6)

    def test_a_finished_call_lets_go_of_its_data(self):
        class Data(bytearray):
            pass

        data = Data(10**6)
        reference = weakref.ref(data)
        call = ObservedCall(Request("push", "execute", [b"{}", data]), self.end)
        call.start(None)
        del data
        self.finish(call)
        gc.collect()
        self.assertIsNone(reference())
