"""Engines, clients and links that go away at any moment: one clear error, and everything else goes on.

Each scenario is played again and again, with the fault one step of the cluster later each time, until it comes after
the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import (
    CompositeError,
    ConnectionError,
    EngineDied,
    KernelError,
    ProtocolError,
)
from ipython1.kernel.calls.clientlink import ClientEnd
from ipython1.kernel.tests.wiresupport import quick
from ipython1.kernel.wire import bulk, bulkrelay, frames, messages, payload
from ipython1.kernel.wire.bulk import pack_reference
from ipython1.kernel.wire.payload import join_inline
from ipython1.testing import InMemoryCluster, InMemoryEngine

ARRAY = numpy.arange(400.0)
"""Large, as pieces are small here."""


class FaultsCase(SynchronousTestCase):
    def setUp(self):
        for module in (bulk, bulkrelay):
            self.patch(module, "PIECE_SIZE", 256)
        for module in (frames, payload):
            self.patch(module, "MAX_PAYLOAD", 256)
        self.patch(frames, "BATCH_SIZE", 256)

    def begin(self, engines: int = 2) -> None:
        self.cluster = InMemoryCluster(engines)
        self.mec = self.cluster.async_multiengine()
        self.other = self.cluster.multiengine()
        self.end: ClientEnd = self.mec._connection.end

    def steps(self, count: int) -> bool:
        """Let some steps happen; False when there were fewer."""
        return all(self.cluster.pump.step() for _ in range(count))

    def each_moment(
        self,
        call: Callable[[], Deferred[Any]],
        fault: Callable[[], None],
        check: Callable[[Any], None],
    ) -> None:
        """``fault`` after every number of steps that ``call`` takes; ``check`` gets the result or the exception."""
        moment = 0
        before_the_end = True
        while before_the_end:
            self.begin()
            ended: list[Any] = []
            call().addBoth(lambda value, ended=ended: ended.append(getattr(value, "value", value)))
            before_the_end = self.steps(moment)
            fault()
            self.cluster.pump.run()
            self.assertEqual(len(ended), 1, f"after {moment} steps the call waits")
            check(ended[0])
            self.check_the_rest()
            moment += 1
        self.assertGreater(moment, 5)

    def check_the_rest(self) -> None:
        """The other client is served, and nothing is left of what went wrong."""
        ids = self.other.get_ids()
        if ids:
            self.assertEqual(len(self.other.execute("still = 'here'")), len(ids))
        self.check_nothing_left()

    def check_nothing_left(self) -> None:
        ends = [self.end, self.other._connection.end]
        links = [end._link for end in ends if end._link is not None]
        for engine in self.cluster.engines:
            links += [link for link in (engine.link, engine.controller_link) if not link.lost]
        for link in links:
            self.assertEqual(link.bulk.active, 0)
        for end in ends:
            self.assertEqual((len(end._commands), end._questions), (0, {}))
        for engine in self.cluster.controller.engines.values():
            self.assertEqual(engine.queue_status(), {"pending": None, "queue": []})
            self.assertEqual((engine._reports, engine.commands._waiting_for_end), ({}, {}))

    def namespace(self, engine: int) -> dict[str, Any]:
        return self.cluster.engines[engine].interpreter.user_ns

    def whole(self, engine: int, name: str = "a") -> bool:
        """Whether the engine has all of the array, and not a part of it."""
        value = self.namespace(engine).get(name)
        if value is None:
            return False
        numpy.testing.assert_array_equal(value, ARRAY)
        return True


class EngineDiesTest(FaultsCase):
    def kill(self) -> None:
        self.cluster.engines[0].kill()

    def check_died(self, outcome: Any) -> None:
        if isinstance(outcome, BaseException):
            self.assertIsInstance(outcome, CompositeError)
            self.assertEqual(outcome.engine_ids, [0])
            self.assertIsInstance(outcome.exceptions[0], EngineDied)
            self.assertIn("engine 0", str(outcome))
            if outcome.method == "map":
                self.assertEqual(outcome.results[200:], list(ARRAY[200:]))
                self.assertEqual(outcome.results[:200], [outcome.exceptions[0]] * 200)
            else:
                self.assertEqual(len(outcome.results), 1)

    def test_while_data_is_on_its_way_to_it(self):
        def check(outcome):
            self.check_died(outcome)
            self.assertTrue(self.whole(1))

        self.each_moment(lambda: self.mec.push({"a": ARRAY}), self.kill, check)

    def test_while_its_result_is_on_its_way(self):
        def pull():
            for engine in self.cluster.engines:
                engine.interpreter.push({"a": ARRAY.copy()})
            return self.mec.pull("a")

        def check(outcome):
            self.check_died(outcome)
            for array in outcome.results if isinstance(outcome, CompositeError) else outcome:
                numpy.testing.assert_array_equal(array, ARRAY)

        self.each_moment(pull, self.kill, check)

    def test_while_parts_are_given_out(self):
        def check(outcome):
            self.check_died(outcome)
            self.assertEqual(len(self.namespace(1)["a"]), 200)

        self.each_moment(lambda: self.mec.scatter("a", ARRAY), self.kill, check)

    def test_while_it_computes(self):
        self.each_moment(lambda: self.mec.map(float, ARRAY), self.kill, self.check_died)

    def test_while_commands_wait_for_it(self):
        self.begin()
        self.cluster.engines[0].worker.held = True
        calls = [
            self.mec.execute("x = 1"),
            self.mec.push({"a": ARRAY}),
            self.mec.pull("x", targets=0),
        ]
        unharmed = self.mec.execute("y = 1", targets=1)
        self.cluster.pump.run()
        self.kill()
        self.cluster.pump.run()
        for call in calls[:2]:
            self.check_died(self.failureResultOf(call, CompositeError).value)
        self.check_died_alone(self.failureResultOf(calls[2], CompositeError).value)
        self.successResultOf(unharmed)
        self.assertTrue(self.whole(1))
        self.check_the_rest()

    def test_the_last_engine(self):
        self.begin(1)
        self.cluster.engines[0].worker.held = True
        call = self.mec.execute("x = 1")
        self.cluster.pump.run()
        self.kill()
        self.cluster.pump.run()
        self.check_died_alone(self.failureResultOf(call, CompositeError).value)
        self.check_the_rest()

    def check_died_alone(self, error: CompositeError) -> None:
        self.assertEqual((error.engine_ids, error.results), ([0], []))

    def test_an_engine_that_only_lost_its_connection_comes_back(self):
        """What it was running when the connection was lost is reported as lost; its late answer changes nothing."""
        self.begin()
        engine = self.cluster.engines[0]
        engine.interpreter.push({"kept": 1})
        engine.worker.held = True
        lost = self.mec.execute("late = 1", targets=0)
        self.cluster.pump.run()
        engine.link.abort("a cable was pulled")
        self.cluster.pump.run()
        self.failureResultOf(lost, CompositeError)
        engine.register()
        engine.worker.release()
        self.cluster.pump.run()
        self.assertEqual(self.other.pull("kept", targets=0), [1])
        self.check_the_rest()


class ClientVanishesTest(FaultsCase):
    def vanish(self) -> None:
        self.end.link.abort("its process was killed")

    def check(self, outcome: Any) -> None:
        if isinstance(outcome, BaseException):
            self.assertIsInstance(outcome, ConnectionError)
            self.assertIn("its process was killed", str(outcome))

    def test_while_it_pushes(self):
        """Nothing is half written: an engine has all that was pushed, or none of it."""
        states = set()

        def check(outcome):
            self.check(outcome)
            for engine in (0, 1):
                names = {name for name in ("a", "b") if name in self.namespace(engine)}
                self.assertIn(names, (set(), {"a", "b"}))
                states.add((engine, self.whole(engine)))

        self.each_moment(lambda: self.mec.push({"a": ARRAY, "b": 1}), self.vanish, check)
        self.assertEqual(states, {(0, False), (0, True), (1, False), (1, True)})

    def test_while_it_pulls(self):
        def pull():
            for engine in self.cluster.engines:
                engine.interpreter.push({"a": ARRAY})
            return self.mec.pull("a")

        self.each_moment(pull, self.vanish, self.check)

    def test_while_it_scatters_and_maps(self):
        self.each_moment(lambda: self.mec.scatter("a", ARRAY), self.vanish, self.check)
        self.each_moment(lambda: self.mec.map(float, ARRAY), self.vanish, self.check)

    def vanish_with_calls(self, block: bool) -> None:
        self.begin()
        for engine in self.cluster.engines:
            engine.worker.held = True
        calls = [
            self.mec.execute("x = 1", block=block),
            self.mec.push({"a": ARRAY}, block=block),
            self.mec.pull("x", block=block),
        ]
        self.cluster.pump.run()
        self.vanish()
        for call in calls:
            if block:
                self.failureResultOf(call, ConnectionError)
            else:
                pending = self.successResultOf(call)
                self.failureResultOf(pending.r, ConnectionError)
        for engine in self.cluster.engines:
            engine.worker.release()
        self.cluster.pump.run()
        self.assertEqual(self.other.pull("x"), [1, 1])

    def test_what_it_had_queued_without_waiting_still_runs(self):
        self.vanish_with_calls(block=False)
        self.assertTrue(self.whole(0) and self.whole(1))
        self.check_the_rest()

    def test_what_it_waited_for_does_not_begin_any_more(self):
        self.vanish_with_calls(block=True)
        self.assertNotIn("a", self.namespace(0))
        self.check_the_rest()


class QueueTest(FaultsCase):
    def test_clearing_frees_the_data_that_waits_on_the_engine(self):
        self.begin()
        engine = self.cluster.engines[0]
        engine.worker.held = True
        running = self.mec.execute("x = 1", targets=0)
        waiting = [self.mec.push({"a": ARRAY}, targets=0) for _ in range(3)]
        self.cluster.pump.run()
        self.assertEqual(engine.link.bulk.active, 3)
        self.mec.clear_queue(targets=0)
        self.cluster.pump.run()
        self.assertEqual(engine.link.bulk.active, 0)
        for call in waiting:
            self.failureResultOf(call, CompositeError)
        engine.worker.release()
        self.cluster.pump.run()
        self.successResultOf(running)
        self.assertFalse(self.whole(0))
        self.check_the_rest()

    def test_clearing_at_any_moment(self):
        def push():
            self.cluster.engines[0].worker.held = True
            self.mec.execute("x = 1", targets=0)
            return self.mec.push({"a": ARRAY})

        def clear():
            self.mec.clear_queue(targets=0)
            self.cluster.pump.run()
            self.cluster.engines[0].worker.release()

        def check(outcome):
            self.assertTrue(self.whole(1))
            if isinstance(outcome, BaseException):
                self.assertEqual(outcome.engine_ids, [0])
                self.assertIn("QueueCleared", str(outcome))
                self.assertFalse(self.whole(0))
            else:
                self.assertTrue(self.whole(0))

        self.each_moment(push, clear, check)


class RepeatedTest(FaultsCase):
    """Messages that come twice, out of the blue, or are no messages at all."""

    def submit(self, number: int, code: str = "count = globals().get('count', 0) + 1") -> None:
        meta = messages.SubmitMeta("execute", None).pack()
        data = join_inline([messages.pack_json({"source": code})])
        self.end.link.send(frames.SUBMIT, number, meta, data)

    def test_a_submission_that_is_delivered_again_is_dropped(self):
        self.begin()
        for number in (50, 50, 51, 50, 51, 49):
            self.submit(number)
        self.cluster.pump.run()
        self.assertEqual(self.other.pull("count"), [2, 2])

    def test_a_large_submission_that_is_delivered_again_is_refused(self):
        self.begin()
        link = self.end.link
        refused: list[str | None] = []
        for _ in range(2):
            data = [messages.pack_json({"source": "count = 1" + " " * 2000})]
            meta = messages.SubmitMeta("execute", None).pack()
            link.send_large(frames.SUBMIT, 50, meta, data, refused.append)
        self.cluster.pump.run()
        self.assertEqual(sorted(refused, key=str), [None, "it was received before"])
        self.check_the_rest()

    def test_a_submission_that_is_refused_frees_its_data(self):
        self.begin()
        call = self.mec.push({"a": ARRAY}, targets=9)
        self.cluster.pump.run()
        self.failureResultOf(call, KernelError)
        self.check_the_rest()

    def test_outcomes_that_come_twice_count_once(self):
        self.begin()
        call = self.mec.pull("x", block=False)
        self.cluster.engines[0].worker.held = True
        self.cluster.pump.run()
        ((number, _, _),) = self.end._commands.to_resync()
        meta = messages.OutcomeMeta(1, messages.OK).pack()
        self.end.frame_received(frames.OUTCOME, 0, number, meta, b"")
        self.cluster.engines[0].worker.release()
        self.cluster.pump.run()
        pending = self.successResultOf(call)
        self.assertEqual(pending.progress, (2, 2))
        self.check_the_rest()

    def test_a_client_that_sends_garbage_loses_its_connection_and_no_more(self):
        for batch in (
            b"garbage",
            frames.pack_frame(99, 1),
            frames.pack_frame(frames.ASK, 1, b"", b"not JSON"),
            frames.pack_frame(frames.SUBMIT, 1, b"", b""),
            frames.pack_frame(
                frames.SUBMIT,
                1,
                messages.SubmitMeta("x", None).pack(),
                pack_reference(9),
                frames.BULK,
            ),
            frames.pack_frame(frames.BULK_OPEN, 1, b"", b"\xff" * 4),
            frames.pack_frame(frames.BULK_ACK, 1, b"?"),
        ):
            self.begin()
            waiting = self.mec.execute("x = 1")
            self.end.link._transport.send_batch([batch])
            self.cluster.pump.run()
            self.flushLoggedErrors()
            self.assertFalse(self.end.connected)
            self.assertNotEqual(self.resultOf(waiting), None)
            self.check_the_rest()

    def resultOf(self, call: Deferred[Any]) -> Any:
        ended: list[Any] = []
        call.addBoth(ended.append)
        return ended[0] if ended else None

    def test_control_calls_that_cannot_be_understood_are_answered(self):
        self.begin()
        for name, args in (
            ("no such call", {}),
            ("get_ids", {"x": 1}),
            ("__init__", {}),
            ("report", {}),
        ):
            call = self.end.ask(name, **args)
            self.cluster.pump.run()
            self.failureResultOf(call, ProtocolError)
        self.check_the_rest()

    def test_a_controller_that_sends_garbage_is_left(self):
        self.begin()
        waiting = self.mec.execute("x = 1")
        self.end.link.deliver(b"garbage")
        self.failureResultOf(waiting, ConnectionError)
        self.cluster.pump.run()
        self.flushLoggedErrors()
        self.check_the_rest()


class KillTest(FaultsCase):
    def test_killing_idle_and_busy_engines(self):
        self.begin(3)
        self.cluster.engines[1].worker.held = True
        lost = self.mec.execute("x = 1", targets=1)
        killed = self.mec.kill(targets=[0, 1])
        self.cluster.pump.run()
        self.assertNoResult(killed)
        self.cluster.pump.advance(0.1)
        self.cluster.pump.run()
        self.assertIsNone(self.successResultOf(killed))
        self.failureResultOf(lost, CompositeError)
        self.assertEqual(self.other.get_ids(), [2])
        self.check_the_rest()

    def test_an_engine_that_does_not_listen_is_ended_by_force(self):
        self.begin()
        self.cluster.engines[0].controller_link._transport.cut_off = True
        killed = self.mec.kill(targets=0)
        self.cluster.pump.run()
        self.assertNoResult(killed)
        self.cluster.pump.advance(1.0)
        self.cluster.pump.run()
        self.assertIsNone(self.successResultOf(killed))
        self.check_the_rest()

    def test_killing_everything(self):
        self.begin()
        stopped: list[str] = []
        self.cluster.controller.request_stop = lambda: stopped.append("stopped")
        killed = self.mec.kill(controller=True)
        self.cluster.pump.run()
        self.assertEqual((stopped, self.cluster.controller.engines), (["stopped"], {}))
        self.assertNoResult(killed)
        self.end.link.abort("the controller ended")
        self.assertIsNone(self.successResultOf(killed))

    def test_killing_the_controller_without_engines(self):
        self.begin(0)
        stopped: list[str] = []
        self.cluster.controller.request_stop = lambda: stopped.append("stopped")
        self.mec.kill(controller=True)
        self.cluster.pump.run()
        self.assertEqual(stopped, ["stopped"])


class StormTest(FaultsCase):
    """Many calls of two clients, with engines and clients that come and go, in any order."""

    @settings(quick, max_examples=150)
    @given(
        st.lists(st.tuples(st.sampled_from("epPsmcakKrnvhl......"), st.integers(0, 5)), max_size=60)
    )
    def test_every_call_ends_and_nothing_is_left(self, events):
        self.begin(3)
        clients = [self.mec, self.cluster.async_multiengine()]
        calls: list[Deferred[Any]] = []
        ended: list[Any] = []
        alive: list[InMemoryEngine] = list(self.cluster.engines)

        def call(made: Deferred[Any]) -> None:
            calls.append(made)
            made.addBoth(lambda value: ended.append(getattr(value, "value", value)))

        for event, which in events:
            mec = clients[which % 2]
            engine = alive[which % len(alive)] if alive else None
            if event == "e":
                call(mec.execute("x = 1"))
            elif event == "p":
                call(mec.push({"a": ARRAY, "b": ARRAY}))
            elif event == "P":
                call(mec.pull("a"))
            elif event == "s":
                call(mec.scatter("s", ARRAY, dist="br"[which % 2]))
            elif event == "m":
                call(mec.map(float, ARRAY))
            elif event == "c":
                call(mec.clear_queue())
            elif event == "a":
                call(mec.queue_status())
            elif event == "k" and engine is not None:
                engine.kill()
                alive.remove(engine)
            elif event == "K":
                call(mec.kill(targets=which))
            elif event == "r" and engine is not None and not engine.worker.stopped:
                engine.link.abort("a cable was pulled")
                self.cluster.pump.run()
                if engine.link.lost and not engine.worker.stopped:
                    engine.register()
            elif event == "n":
                alive.append(self.cluster.add_engine())
                self.cluster.engines.append(alive[-1])
            elif event == "v":
                if mec._connection.end.connected:
                    mec._connection.end.link.abort("its process was killed")
            elif event == "h" and engine is not None:
                engine.worker.held = True
            elif event == "l" and engine is not None:
                engine.worker.release()
            for _ in range(which * 3):
                self.cluster.pump.step()
        for engine in alive:
            if not engine.worker.stopped:
                engine.worker.release()
        self.cluster.pump.run()
        self.cluster.pump.advance(2)
        self.cluster.pump.run()
        self.assertEqual(len(ended), len(calls))
        for outcome in ended:
            if isinstance(outcome, BaseException):
                self.assertIsInstance(outcome, KernelError)
        for engine in self.cluster.engines:
            names = engine.interpreter.user_ns
            if "a" in names:
                numpy.testing.assert_array_equal(names["a"], ARRAY)
                numpy.testing.assert_array_equal(names["b"], ARRAY)
        self.end = clients[1]._connection.end
        self.check_nothing_left()
