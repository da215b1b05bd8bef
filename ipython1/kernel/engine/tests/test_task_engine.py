"""The tasks of an engine: their order, and what is told when."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ipython1.core.userhandlers import UserHandlers
from ipython1.kernel.engine import tasks as taskengine
from ipython1.kernel.engine.tasks import EngineTasks
from ipython1.kernel.engine.tests.taskengine import EngineTasksCase, Gate
from ipython1.kernel.wire import frames, taskwire
from ipython1.kernel.wire.link import FrameLink, ThreadOutbox, TurnFlusher
from ipython1.kernel.wire.taskwire import Status


class EngineTasksTests(EngineTasksCase):
    """One engine, driven step by step."""

    def test_order_and_batches(self) -> None:
        self.patch(taskengine, "FLUSH_AFTER", 3600.0)
        self.tasks._told_at = taskengine.perf_counter()
        self.woken = 0
        self.receive((1, 0, b"a"), (2, 0, b"b"))
        self.assertEqual(self.woken, 1)
        self.run_all()
        self.assertEqual(
            self.told.log,
            [("run", b"a"), ("run", b"b"), ("result", 1, Status.OK), ("result", 2, Status.OK)],
        )

    def test_results_are_told_when_the_last_ones_are_some_time_ago(self) -> None:
        self.patch(taskengine, "FLUSH_AFTER", 0.0)
        self.receive((1, 0, b"a"), (2, 0, b"b"))
        self.run_all()
        self.assertEqual([entry[0] for entry in self.told.log], ["run", "result", "run", "result"])

    def test_what_user_code_left_behind_fails_a_run_and_not_the_engine(self) -> None:
        """A signal handler that raises between two lines of ours."""

        def late() -> None:
            raise TimeoutError

        self.runner.during[b"a"] = late
        self.receive((1, 0, b"a"), (2, 0, b"b"))
        self.run_all()
        ended = [entry for entry in self.told.log if entry[0] == "result"]
        self.assertEqual(ended, [("result", 1, Status.FAILED), ("result", 2, Status.OK)])

    def test_what_strikes_when_a_run_or_a_question_is_over_loses_neither(self) -> None:
        class Handlers(UserHandlers):
            def ended(self) -> None:
                raise TimeoutError

            task_ended = ended

        self.tasks = EngineTasks(
            self.runner, Gate(), self.outbox, self.clock, self.wake, Handlers()
        )
        self.tasks.registered(False, 7)
        self.receive((1, 0, b"a"), (2, 0, b"b"))
        self.deliver(taskwire.ASK_DEPEND, 0, 0, b"yes" + bytes(13), b"")
        for _ in range(3):
            with self.assertRaises(TimeoutError) as raised:
                self.tasks.run_one()
            self.tasks.broken_off(raised.exception)
            self.assertIsNone(self.tasks.running_key)
        self.assertFalse(self.tasks.run_one())
        self.tasks.broken_off(TimeoutError())
        ended = [entry for entry in self.told.log if entry[0] in ("result", "depends")]
        self.assertEqual(
            ended,
            [
                ("depends", 0, b"yes" + bytes(13), False, "TimeoutError"),
                ("result", 1, Status.FAILED),
                ("result", 2, Status.FAILED),
            ],
        )

    def test_around_a_guarded_run_everything_is_told(self) -> None:
        self.patch(taskengine, "FLUSH_AFTER", 3600.0)
        self.tasks._told_at = taskengine.perf_counter()
        self.receive((1, 0, b"a"), (2, taskwire.GUARDED, b"b"), (3, 0, b"c"))
        self.run_all()
        self.assertEqual(
            self.told.log,
            [
                ("run", b"a"),
                ("result", 1, Status.OK),
                ("begun", 2, 1),
                ("run", b"b"),
                ("result", 2, Status.OK),
                ("run", b"c"),
                ("result", 3, Status.OK),
            ],
        )

    def test_a_long_run_is_told_of_and_holds_up_no_results(self) -> None:
        self.patch(taskengine, "FLUSH_AFTER", 3600.0)
        self.tasks._told_at = taskengine.perf_counter()

        def long() -> None:
            self.clock.pump([taskengine.LOOK_EVERY] * 8)

        self.runner.during[b"long"] = long
        self.receive((1, 0, b"a"), (2, 0, b"long"))
        self.run_all()
        self.assertEqual(
            self.told.log,
            [
                ("run", b"a"),
                ("run", b"long"),
                ("result", 1, Status.OK),
                ("begun", 2, 1),
                ("result", 2, Status.OK),
            ],
        )
        self.clock.advance(taskengine.LOOK_EVERY)
        self.assertEqual(
            self.clock.getDelayedCalls(), [], "nobody looks when there is nothing to see"
        )

    def test_giving_back(self) -> None:
        self.receive((1, 0, b"a"), (2, 0, b"b"), (3, 0, b"c"))

        def asked_while_it_runs() -> None:
            keys = taskwire.pack_keys([(1, 1), (2, 7), (3, 1), (4, 1)])
            self.deliver(taskwire.RETRACT, 0, 0, b"", keys)

        self.runner.during[b"a"] = asked_while_it_runs
        self.run_all()
        self.assertIn(("given back", [(3, 1)]), self.told.log)
        self.assertEqual(
            [e for e in self.told.log if e[0] == "run"], [("run", b"a"), ("run", b"b")]
        )

    def test_stopping(self) -> None:
        self.receive((1, 0, b"a"), (2, 0, b"b"), (3, 0, b"c"))

        def stop_both() -> None:
            self.deliver(taskwire.STOP, 0, 2, taskwire.pack_attempt(1), b"")
            self.deliver(taskwire.STOP, 0, 1, taskwire.pack_attempt(9), b"")
            self.deliver(taskwire.STOP, 0, 1, taskwire.pack_attempt(1), b"")

        self.runner.during[b"a"] = stop_both
        self.run_all()
        results = [entry for entry in self.told.log if entry[0] == "result"]
        self.assertEqual(
            results,
            [
                ("result", 2, Status.STOPPED),
                ("result", 1, Status.STOPPED),
                ("result", 3, Status.OK),
            ],
        )

    def test_stopping_what_is_about_to_begin(self) -> None:
        """Between its taking and its beginning the main thread waits for the network."""

        def stop_as_it_begins() -> None:
            if ("begun", 1, 1) in self.told.log:
                self.deliver(taskwire.STOP, 0, 1, taskwire.pack_attempt(1), b"")

        self.receive((1, taskwire.GUARDED, b"a"), (2, 0, b"b"))
        self.clock.callFromThread = lambda function, *args: (function(*args), stop_as_it_begins())  # type: ignore[method-assign]
        self.patch(taskengine, "SYNC_LIMIT", 0.0)
        self.run_all()
        self.assertEqual(
            self.told.log[:3],
            [("begun", 1, 1), ("result", 1, Status.STOPPED), ("run", b"b")],
        )

    def test_questions_come_first_and_are_about_present_properties(self) -> None:
        self.receive((1, 0, b"a"))
        self.deliver(taskwire.ASK_DEPEND, 0, 0, b"yes" + bytes(13), b"")
        self.deliver(taskwire.ASK_DEPEND, 0, 0, b"no" + bytes(14), b"")
        self.tasks.properties_changed()
        self.run_all()
        self.assertEqual(
            self.told.log[:4],
            [
                ("properties", 1),
                ("depends", 1, b"yes" + bytes(13), True, ""),
                ("depends", 1, b"no" + bytes(14), False, ""),
                ("run", b"a"),
            ],
        )

    def test_a_question_takes_no_longer_than_it_may(self) -> None:
        self.runner.during[b"yes, in time"] = lambda: self.clock.advance(
            taskengine.DEPEND_LIMIT - 0.1
        )
        self.runner.during[b"yes, at last"] = lambda: self.clock.advance(
            taskengine.DEPEND_LIMIT + 0.1
        )
        self.runner.during[b"yes, perhaps"] = lambda: [self.tasks.interrupt()]  # type: ignore[assignment, return-value]
        for question in (b"yes, in time", b"yes, at last", b"yes, in time", b"yes, perhaps"):
            self.deliver(taskwire.ASK_DEPEND, 0, 0, question + bytes(4), b"")
        self.run_all()
        self.assertEqual([entry[3] for entry in self.told.log], [True, False, True, False])
        self.clock.advance(2 * taskengine.DEPEND_LIMIT)
        self.assertEqual(self.clock.getDelayedCalls(), [], "nobody is interrupted later")

    def test_two_threads(self) -> None:
        """With a reactor that really is in another thread, nothing is lost and the order is kept."""
        ready = threading.Condition()
        calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        over = threading.Event()

        class Reactor:
            def callFromThread(self, function: Callable[..., Any], *args: Any) -> None:
                with ready:
                    calls.append((function, args))
                    ready.notify()

            def callLater(self, delay: float, function: Callable[..., Any], *args: Any) -> None:
                if not delay:
                    self.callFromThread(function, *args)

        def reactor_thread() -> None:
            while not over.is_set():
                with ready:
                    ready.wait_for(lambda: calls or over.is_set(), 5)
                    now, calls[:] = list(calls), []
                for function, args in now:
                    function(*args)

        reactor = Reactor()
        self.outbox = ThreadOutbox(reactor.callFromThread)
        tasks = EngineTasks(self.runner, Gate(), self.outbox, reactor, lambda: None)
        link = FrameLink(TurnFlusher(lambda flush: reactor.callFromThread(flush)), self.receiver)
        link.connected(self.told)
        self.outbox.link = link
        tasks.registered(False, 0)
        thread = threading.Thread(target=reactor_thread)
        thread.start()
        try:
            rows = [(n, 1, taskwire.GUARDED if n % 50 == 0 else 0, b"%d" % n) for n in range(2000)]
            for parts, _ in taskwire.pack_runs(rows):
                data = b"".join(parts)
                reactor.callFromThread(
                    frames.dispatch,
                    data,
                    lambda kind, flags, ident, meta, payload: tasks.handlers[kind](
                        flags, ident, meta, payload
                    ),
                )
            done = 0
            while done < 2000:
                done += tasks.run_one()
            tasks.idle()
            tasks._sync()
        finally:
            over.set()
            with ready:
                ready.notify()
            thread.join()
        told = [entry[1] for entry in self.told.log if entry[0] == "result"]
        self.assertEqual(told, list(range(2000)))
