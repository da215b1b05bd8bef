"""What an engine tells of the waits of its code."""

from __future__ import annotations

import threading
from concurrent.futures import Future, wait
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import WaitsForever, to_wire
from ipython1.kernel.engine.waits import LOOK_AFTER, LOOK_EVERY, MainThreadWaits
from ipython1.kernel.objects import enginewaits
from ipython1.kernel.objects.enginewaits import waiters_of, waiting
from ipython1.kernel.wire import frames, messages
from ipython1.kernel.wire.link import FrameLink, ThreadOutbox
from ipython1.kernel.wire.waits import Needs, Run, unpack_wait
from ipython1.testing.memory import Pump


class Something(Future[Any]):
    """Something to wait for."""

    def __init__(self, *tasks: int, every: bool = True) -> None:
        super().__init__()
        self._waiters = waiters_of(self)
        self.tasks = tasks
        self.every = every

    def needs(self) -> Needs | None:
        return None if self.done() else Needs("", self.every, self.tasks)

    def give_up(self, problem: Exception) -> None:
        self.set_exception(problem)


class MainThreadWaitsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.pump = Pump()
        self.log: list[Any] = []
        self.run: Run | None = ("", 7)
        outbox = ThreadOutbox(self.pump.callFromThread)
        outbox.link = FrameLink(self.pump.flusher, self)
        outbox.link.connected(self)
        self.waits = MainThreadWaits(
            lambda: self.run, lambda: self.log.append("results"), outbox, self.pump
        )
        enginewaits.install(self.waits)
        self.addCleanup(enginewaits.install, None)

    # what the engine sends

    has_room = True

    def send_batch(self, parts: list[Any]) -> None:
        frames.dispatch(b"".join(parts), self.frame_received)

    def abort(self) -> None:
        pass

    def link_lost(self, reason: str) -> None:
        pass

    def frame_received(self, kind: int, flags: int, ident: int, meta: Any, payload: Any) -> None:
        if kind == frames.WAITING:
            run, needs = unpack_wait(payload)
            self.log.append((ident, run, needs.tasks))
        elif kind == frames.WAITED:
            self.log.append((ident, "over"))

    def after(self, seconds: float) -> list[Any]:
        """Return what has been told when some time has passed."""
        self.pump.run()
        self.pump.advance(seconds)
        self.pump.run()
        log, self.log = self.log, []
        return log

    def test_a_wait_is_told_after_the_results_of_what_ran_before(self) -> None:
        with waiting(Something(3)):
            self.assertEqual(self.after(LOOK_AFTER), ["results", (1, ("", 7), (3,))])
            self.assertEqual(self.after(LOOK_EVERY), [])
        self.assertEqual(self.after(LOOK_EVERY), [(1, "over")])

    def test_a_short_wait_is_not_told(self) -> None:
        with waiting(Something(3)):
            pass
        self.assertEqual(self.after(LOOK_AFTER), [])
        self.assertEqual(self.pump.getDelayedCalls(), [])

    def test_only_what_the_controller_cannot_know_is_told_again(self) -> None:
        every, one = Something(1, 2), Something(1, 2, every=False)
        with waiting(every), waiting(one):
            self.after(LOOK_AFTER)
            every.tasks = one.tasks = (2, 3)
            self.assertEqual(self.after(LOOK_EVERY), [(2, ("", 7), (2, 3))])
            every.tasks = (3,)
            self.assertEqual(self.after(LOOK_EVERY), [(1, ("", 7), (3,))])

    def test_a_wait_that_never_ends_ends(self) -> None:
        something = Something(3)
        with waiting(something):
            self.after(LOOK_AFTER)
            problem = messages.pack_json(to_wire(WaitsForever("it never ends")))
            self.waits.handlers[frames.WAITS_FOREVER](0, 1, b"", problem)
        self.assertIsInstance(something.exception(), WaitsForever)
        self.assertEqual(self.after(LOOK_EVERY), [])

    def test_waits_of_other_threads_and_outside_of_the_users_code(self) -> None:
        begun: list[int] = []
        thread = threading.Thread(target=lambda: begun.append(self.waits.begin(Something(3))))
        thread.start()
        thread.join()
        self.run = None
        begun.append(self.waits.begin(Something(3)))
        self.assertEqual(begun, [0, 0])

    def test_a_wait_whose_end_was_missed(self) -> None:
        """An interrupt may come between any two lines."""
        self.waits.begin(Something(3))
        self.after(LOOK_AFTER)
        self.run = ("", 8)
        self.assertEqual(self.after(LOOK_EVERY), [(1, "over")])

    def test_functions_of_concurrent_futures(self) -> None:
        first, second = Something(1), Something(2)
        self.assertEqual(wait([first, second], timeout=0).done, set())
        waiters = [future._waiters for future in (first, second)]
        for number, each in enumerate(waiters):
            each.append(number)
        told = [each for each in self.after(LOOK_AFTER) if each != "results"]
        self.assertEqual(told, [(3, ("", 7), (1,)), (4, ("", 7), (2,))])
        for number, each in enumerate(waiters):
            each.remove(number)
        self.assertEqual(self.after(0), [(3, "over"), (4, "over")])

    def test_a_controller_that_knows_nothing_is_told_again(self) -> None:
        with waiting(Something(3)):
            self.after(LOOK_AFTER)
            self.waits.registered()
            self.assertEqual(self.after(LOOK_EVERY), ["results", (1, ("", 7), (3,))])
