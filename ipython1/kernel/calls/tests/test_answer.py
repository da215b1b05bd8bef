"""Waiting for another thread, whatever a signal handler raises meanwhile."""

from __future__ import annotations

import queue
import signal
import sys
import threading
import time

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.calls.answer import Answer, Signal
from ipython1.kernel.calls.pendingresult import PendingResult


class AnswerTests(SynchronousTestCase):
    def test_a_value_and_an_error(self) -> None:
        for early in (True, False):
            answer: Answer[int] = Answer()
            setter = threading.Thread(target=answer.set_result, args=(5,))
            setter.start()
            if early:
                setter.join()
            self.assertEqual(answer.result(10), 5)
            setter.join()
        answer = Answer()
        answer.set_exception(ValueError("why"))
        with self.assertRaisesRegex(ValueError, "why"):
            answer.result()

    def test_a_time_limit(self) -> None:
        with self.assertRaises(TimeoutError):
            Answer[int]().result(0.001)
        happened = Signal()
        for _ in range(3):
            self.assertFalse(happened.wait(-1.0))
        self.assertEqual(happened._waiting, [])

    def test_all_who_wait_go_on(self) -> None:
        happened = Signal()
        seen: list[bool] = []
        threads = [
            threading.Thread(target=lambda: seen.append(happened.wait(10))) for _ in range(5)
        ]
        for each in threads:
            each.start()
        happened.set()
        for each in threads:
            each.join()
        self.assertEqual(seen, [True] * 5)


class Late(Exception):
    pass


class InterruptedTests(SynchronousTestCase):
    def test_exceptions_at_any_moment_block_nobody(self) -> None:
        """As an alarm raises them, hundreds of times a second."""

        def raise_late(*args: object) -> None:
            raise Late

        given: queue.SimpleQueue[PendingResult | None] = queue.SimpleQueue()
        reported: queue.SimpleQueue[int] = queue.SimpleQueue()

        def report() -> None:
            while (pending := given.get()) is not None:
                pending.set_result(1)
                reported.put(1)

        # A function, because in some versions of Python the end of a loop is outside of the "try" around it.
        def use(pending: PendingResult, seconds: float) -> None:
            try:
                signal.setitimer(signal.ITIMER_REAL, seconds)
                until = time.monotonic() + 1.0  # where Python loses the exception
                while time.monotonic() < until:
                    pending.done()
                    pending.wait_done(5)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)

        reactor = threading.Thread(target=report, daemon=True)
        reactor.start()
        before = signal.signal(signal.SIGALRM, raise_late)
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            for number in range(5000):
                pending = PendingResult(lambda raw: raw, "call")
                given.put(pending)
                try:
                    use(pending, 1e-6 * (1 + number % 200))
                except Late:
                    pass
                self.assertEqual(reported.get(timeout=10), 1)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            sys.setswitchinterval(interval)
            given.put(None)
        reactor.join(10)
