"""Signal handlers of user code, which run while user code does."""

from __future__ import annotations

import signal

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from ipython1.core import userhandlers
from ipython1.core.interrupt import users_handlers
from ipython1.core.userhandlers import UserHandlers


class Struck(Exception):
    pass


def raises(number: int, frame: object) -> None:
    raise Struck


raises.__module__ = "__main__"


class UserHandlersTests(SynchronousTestCase):
    def setUp(self) -> None:
        if not hasattr(signal, "SIGUSR2"):
            raise SkipTest("this system has no SIGUSR2")
        # Trial's reactor, if an earlier test has run it, leaves handlers that are not ours.
        for number in {*dict(users_handlers()), signal.SIGUSR1, signal.SIGUSR2}:
            self.addCleanup(signal.signal, number, signal.signal(number, signal.SIG_DFL))
        self.addCleanup(
            signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler)
        )
        self.seen: list[int] = []
        self.handlers = UserHandlers()
        self.handlers.begins()

        def users(number: int, frame: object) -> None:
            self.seen.append(number)
            self.assertIsNotNone(frame)

        users.__module__ = "__main__"
        self.handler = users
        signal.signal(signal.SIGUSR2, users)

    def test_they_wait_until_user_code_runs_again(self) -> None:
        signal.raise_signal(signal.SIGUSR2)
        self.assertEqual(len(self.seen), 1)
        self.handlers.ended()
        self.assertTrue(self.handlers.some_are_aside)
        for _ in range(3):
            signal.raise_signal(signal.SIGUSR2)
        self.assertEqual(len(self.seen), 1)
        self.handlers.begins()
        # Signals of one kind that wait are one.
        self.assertEqual(self.seen, [signal.SIGUSR2] * 2)
        self.assertEqual(signal.getsignal(signal.SIGUSR2), self.handler)
        signal.raise_signal(signal.SIGUSR2)
        self.assertEqual(len(self.seen), 3)

    def test_what_they_raise_comes_when_user_code_begins(self) -> None:
        signal.signal(signal.SIGUSR1, raises)
        self.handlers.ended()
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR2)
        with self.assertRaises(Struck):
            self.handlers.begins()
            self.handlers.begins()
        self.assertIs(signal.getsignal(signal.SIGUSR1), raises)
        self.assertEqual(signal.getsignal(signal.SIGUSR2), self.handler)

    def test_all_are_put_aside_even_if_one_strikes_meanwhile(self) -> None:
        strikes = 3

        class Striking(UserHandlers):
            def ended(self) -> None:
                nonlocal strikes
                if strikes:
                    strikes -= 1
                    signal.raise_signal(signal.SIGUSR1)
                super().ended()

        signal.signal(signal.SIGUSR1, raises)
        handlers = Striking()
        handlers.begins()
        handlers.put_aside()
        self.assertEqual(strikes, 0)
        signal.raise_signal(signal.SIGUSR1)
        with self.assertRaises(Struck):
            handlers.begins()

    def test_those_of_tasks_are_found_a_little_later_if_they_are_new(self) -> None:
        self.patch(userhandlers, "perf_counter", lambda: now)
        now = 100.0
        handlers = UserHandlers()
        handlers.begins()
        signal.signal(signal.SIGUSR2, signal.SIG_DFL)
        handlers.ended()
        handlers.begins()
        signal.signal(signal.SIGUSR2, self.handler)
        handlers.task_ended()
        self.assertFalse(handlers.some_are_aside)
        now += userhandlers.LOOK_EVERY
        handlers.task_ended()
        self.assertTrue(handlers.some_are_aside)
        handlers.begins()
        handlers.task_ended()  # it is known
        self.assertTrue(handlers.some_are_aside)
        handlers.begins()

    def test_the_default_and_those_of_ours_stay(self) -> None:
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        self.handlers.ended()
        self.assertFalse(self.handlers.some_are_aside)
        self.assertEqual(signal.getsignal(signal.SIGUSR2), signal.SIG_IGN)
