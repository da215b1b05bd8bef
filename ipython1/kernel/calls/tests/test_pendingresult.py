"""Pending results, and the blocking client around them."""

from __future__ import annotations

import threading
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import ConnectionError, InvalidDeferredID, SerializationError
from ipython1.kernel.calls.pendingresult import PendingResult
from ipython1.kernel.tests.wiresupport import run_program


def in_thread(function: Any) -> Any:
    """Call ``function`` where waiting is allowed, and give what it returns or raises."""
    ended: list[Any] = []

    def run() -> None:
        try:
            ended.append(function())
        except BaseException as problem:
            ended.append(problem)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    if not ended:
        raise AssertionError("it waits")
    if isinstance(ended[0], BaseException):
        raise ended[0]
    return ended[0]


class BlockingClientTest(SynchronousTestCase):
    def test_the_blocking_client(self):
        """The cases of ``blocking_cases``, in a process of their own."""
        run_program(
            """
            import sys, unittest
            from ipython1.kernel.clients.tests import blocking_cases
            sys.argv = ["cases"]
            unittest.main(blocking_cases, verbosity=2)
            """
        )


class ReadingTest(SynchronousTestCase):
    """A result is read once, by whoever asks first."""

    def pending(self, finish=lambda raw: raw):
        pending = PendingResult(finish, "execute")
        source: Deferred[Any] = Deferred()
        pending.follow_deferred(source)
        return pending, source

    def test_it_is_read_when_it_is_asked_for_and_only_once(self):
        read = []
        pending, source = self.pending(lambda raw: read.append(raw) or [raw])
        source.callback("raw")
        self.assertEqual(read, [])
        self.assertIs(pending.r, pending.r)
        self.assertIsNone(pending.exception())
        self.assertEqual(read, ["raw"])

    def test_threads_that_ask_at_once_read_once(self):
        gate = threading.Barrier(8)
        read = []
        pending, source = self.pending(lambda raw: read.append(raw) or object())
        source.callback("raw")
        got = []

        def ask():
            gate.wait(5)
            got.append(pending.r)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        self.assertEqual((len(got), len(set(map(id, got))), len(read)), (8, 1, 1))

    def test_what_cannot_be_read_is_raised_each_time(self):
        def finish(raw):
            raise SerializationError("no")

        pending, source = self.pending(finish)
        source.callback("raw")
        self.assertRaises(SerializationError, lambda: pending.r)
        self.assertRaises(SerializationError, pending.result)
        self.assertIsInstance(pending.exception(), SerializationError)

    def test_ctrl_c_while_it_is_read_leaves_it_to_be_read_again(self):
        attempts = []

        def finish(raw):
            attempts.append(raw)
            if len(attempts) == 1:
                raise KeyboardInterrupt
            return raw

        pending, source = self.pending(finish)
        source.callback("raw")
        self.assertRaises(KeyboardInterrupt, lambda: pending.r)
        self.assertEqual(pending.r, "raw")

    def test_failures_of_the_kernel(self):
        pending, source = self.pending()
        source.errback(ConnectionError("gone"))
        self.assertRaises(ConnectionError, pending.get_result)
        self.assertEqual(pending.progress, (0, 0))
        self.assertEqual(pending.failures(), {})

    def test_dropping(self):
        pending, source = self.pending()
        pending.drop()
        self.assertRaises(InvalidDeferredID, lambda: in_thread(pending.get_result))
        source.callback("late")
        self.assertRaises(InvalidDeferredID, pending.get_result)
        read, source = self.pending()
        source.callback("raw")
        self.assertEqual(read.r, "raw")
        read.drop()
        self.assertEqual(read.r, "raw")

    def test_aborting_what_cannot_be_aborted_does_nothing(self):
        pending, source = self.pending()
        pending.abort()
        self.assertFalse(pending.cancel())
        self.assertFalse(pending.cancelled())
        source.callback(1)
        pending.abort()
        self.assertEqual(pending.r, 1)
