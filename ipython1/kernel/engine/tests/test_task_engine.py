"""The tasks of an engine: their order, and what is told when."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ipython1.core.interrupt import InterruptGate
from ipython1.kernel.engine import tasks as taskengine
from ipython1.kernel.engine.tasks import EngineTasks
from ipython1.kernel.wire import frames, taskwire
from ipython1.kernel.wire.link import FrameLink, ThreadOutbox, TurnFlusher
from ipython1.kernel.wire.taskwire import Status


class Told:
    """Receives what the engine sends."""

    has_room = True

    def __init__(self) -> None:
        self.log: list[Any] = []

    def send_batch(self, parts: list[Any]) -> None:
        frames.dispatch(b"".join(parts), self.received)

    def abort(self) -> None:
        pass

    def received(self, kind: int, flags: int, ident: int, meta: Any, payload: Any) -> None:
        if kind == taskwire.RESULTS:
            self.log += [
                ("result", entry[0], Status(entry[2])) for entry in taskwire.unpack_results(payload)
            ]
        elif kind == taskwire.BEGUN:
            self.log.append(("begun", ident, taskwire.unpack_attempt(meta)))
        elif kind == taskwire.GIVEN_BACK:
            self.log.append(("given back", taskwire.unpack_keys(payload)))
        elif kind == taskwire.DEPENDS:
            self.log.append(("depends", ident, *taskwire.unpack_depends(meta)))
        elif kind == frames.PROPERTIES:
            self.log.append(("properties", ident))


class Runner:
    """Notes what it runs."""

    def __init__(self, told: Told) -> None:
        self.told = told
        self.during: dict[bytes, Callable[[], None]] = {}
        self.functions: dict[bytes, bytes] = {}

    def run(self, payload: bytes, stopping: Callable[[], bool]) -> tuple[Status, bytes, float]:
        self.told.log.append(("run", payload))
        try:
            self.during.get(payload, lambda: None)()
        except KeyboardInterrupt:
            return (Status.STOPPED if stopping() else Status.FAILED), b"", 0.0
        return Status.OK, payload, 0.001

    def failed(self, problem: BaseException) -> bytes:
        return repr(problem).encode()

    def depends(self, digest: bytes) -> bool:
        try:
            self.during.get(digest.rstrip(bytes(1)), lambda: None)()
        except KeyboardInterrupt:
            return False
        return digest.startswith(b"y")

    def add_function(self, digest: bytes, data: bytes) -> None:
        self.functions[digest] = data

    def forget_function(self, digest: bytes) -> None:
        del self.functions[digest]


class OneThread(Clock):
    """A reactor in the only thread there is."""

    def callFromThread(self, function: Callable[..., Any], *args: Any) -> None:
        function(*args)
        self.advance(0)
        self.advance(0)


class Gate(InterruptGate):
    """Interrupts by raising in the caller, which here is the running task itself."""

    __slots__ = ()

    def request(self, run_id: Any) -> bool:
        if self.current != run_id:
            return False
        raise KeyboardInterrupt


class EngineTasksTests(SynchronousTestCase):
    """One engine, driven step by step."""

    def setUp(self) -> None:
        self.told = Told()
        self.runner = Runner(self.told)
        self.clock = OneThread()
        self.outbox = ThreadOutbox(self.clock.callFromThread)
        self.woken = 0
        self.tasks = EngineTasks(self.runner, Gate(), self.outbox, self.clock, self.wake)
        link = FrameLink(TurnFlusher(lambda flush: self.clock.callLater(0, flush)), None)  # type: ignore[arg-type]
        link.connected(self.told)
        self.outbox.link = link

    def wake(self) -> None:
        self.woken += 1

    def receive(self, *runs: tuple[int, int, bytes]) -> None:
        rows = [(task_id, 1, flags, payload) for task_id, flags, payload in runs]
        for parts, _ in taskwire.pack_runs(rows):
            frames.dispatch(b"".join(parts), self.deliver)

    def deliver(self, kind: int, flags: int, ident: int, meta: Any, payload: Any) -> None:
        self.tasks.handlers[kind](flags, ident, meta, payload)

    def run_all(self) -> None:
        while self.tasks.run_one():
            pass
        self.tasks.idle()

    def test_order_and_batches(self) -> None:
        self.patch(taskengine, "FLUSH_AFTER", 3600.0)
        self.tasks._told_at = taskengine.perf_counter()
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
                ("depends", 1, b"yes" + bytes(13), True),
                ("depends", 1, b"no" + bytes(14), False),
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

    def test_nothing_is_begun_while_the_controller_is_out_of_reach(self) -> None:
        """It may have given to others what waits here."""
        link = self.outbox.link
        self.receive((1, 0, b"a"), (2, 0, b"b"))
        self.assertTrue(self.tasks.run_one())
        self.outbox.link = None
        self.run_all()
        self.assertEqual([entry for entry in self.told.log if entry[0] == "run"], [("run", b"a")])
        self.outbox.link = link
        self.tasks.registered()
        self.receive((3, 0, b"c"))
        self.run_all()
        self.assertEqual([entry[1] for entry in self.told.log if entry[0] == "run"], [b"a", b"c"])

    def test_coming_to_a_controller_that_has_given_its_runs_to_others(self) -> None:
        self.receive((1, 0, b"a"), (2, 0, b"b"))
        self.tasks.registered()
        self.run_all()
        self.assertEqual(self.told.log, [])

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
        link = FrameLink(TurnFlusher(lambda flush: reactor.callFromThread(flush)), None)  # type: ignore[arg-type]
        link.connected(self.told)
        self.outbox.link = link
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
