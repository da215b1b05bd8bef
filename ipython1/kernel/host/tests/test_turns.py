"""Turns of the reactor that other threads take."""

from __future__ import annotations

import os

from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from ipython1.kernel.host.turns import SWITCH, PlainTurns, take_turns, turns_of
from ipython1.kernel.tests.wiresupport import run_program

BEGIN = """
    import signal, threading
    from threading import Event, get_ident
    from twisted.internet import reactor
    from twisted.python.threadable import isInIOThread
    from ipython1.kernel.host.turns import ReactorTurns, take_turns, turns_of

    take_turns(reactor)
    turns = turns_of(reactor)
    assert isinstance(turns, ReactorTurns), turns
    thread = threading.Thread(target=reactor.run, args=(False,))

    def until_it_waits():
        while turns._lock.locked() or reactor.threadCallQueue:
            pass

    def from_thread(function):
        done = Event()
        reactor.callFromThread(lambda: (function(), done.set()))
        assert done.wait(20)

    thread.start()
    from_thread(lambda: None)
    until_it_waits()
"""
END = """
    reactor.callFromThread(reactor.stop)
    thread.join(20)
    assert not thread.is_alive()
"""


class TurnTests(SynchronousTestCase):
    """Each in a process of its own, as a test runner has the reactor for itself."""

    def setUp(self) -> None:
        try:
            from select import epoll  # noqa: F401
        except ImportError:
            raise SkipTest("this system has no epoll") from None

    def run_program(self, text: str) -> None:
        run_program(BEGIN + text + END)

    def test_a_thread_takes_the_turn_of_a_reactor_that_waits(self) -> None:
        self.run_program(
            """
    seen = []
    def call():
        seen.append((get_ident(), isInIOThread()))
        turns.call_soon(lambda: seen.append((get_ident(), isInIOThread())))
    assert not isInIOThread()
    turns.call(call)
    assert seen == [(get_ident(), True)] * 2, seen
    assert not isInIOThread()
    from_thread(lambda: seen.append((get_ident(), isInIOThread())))
    assert seen[2] == (thread.ident, True), seen
    """
        )

    def test_calls_are_made_in_order_one_at_a_time_and_by_the_reactor_if_it_is_busy(self) -> None:
        self.run_program(
            """
    busy, go_on, seen, under_way = Event(), Event(), [], []
    def hold():
        busy.set()
        go_on.wait(20)
    reactor.callFromThread(hold)
    busy.wait(20)
    turns.call(lambda: seen.append(get_ident()))
    assert not seen
    go_on.set()
    from_thread(lambda: None)
    assert seen == [thread.ident]

    def count(origin, number):
        assert not under_way and isInIOThread()
        under_way.append(number)
        order[origin].append(number)
        turns.call_soon(under_way.pop)
    order = {n: [] for n in range(4)}
    def many(origin):
        for number in range(500):
            turns.call(lambda: count(origin, number))
    threads = [threading.Thread(target=many, args=(n,)) for n in order]
    for each in threads: each.start()
    for each in threads: each.join()
    from_thread(lambda: None)
    assert all(numbers == list(range(500)) for numbers in order.values()), order
    """
        )

    def test_timers_of_a_turn_and_the_end_of_the_reactor_are_seen(self) -> None:
        run_program(
            BEGIN
            + """
    fired = Event()
    turns.call(lambda: reactor.callLater(0, fired.set))
    assert fired.wait(20)
    fired.clear()
    until_it_waits()
    turns.call(lambda: turns.call_soon(lambda: turns.call_soon(fired.set)))
    assert fired.wait(20)
    until_it_waits()
    turns.call(reactor.stop)
    thread.join(20)
    assert not thread.is_alive()
    """
        )

    def test_what_fails_does_not_stop_the_rest(self) -> None:
        self.run_program(
            """
    seen = []
    def fails():
        turns.call_soon(lambda: 1 / 0)
        turns.call_soon(lambda: seen.append(1))
        raise ValueError
    try:
        turns.call(fails)
    except ValueError:
        seen.append("raised")
    assert seen == [1, "raised"], seen
    until_it_waits()
    turns.call(lambda: seen.append(2))
    assert seen[2:] == [2] and not isInIOThread()
    """
        )

    def test_ctrl_c_comes_after_the_turn(self) -> None:
        self.run_program(
            """
    seen = []
    def call():
        signal.raise_signal(signal.SIGINT)
        seen.append("whole")
    try:
        turns.call(call)
    except KeyboardInterrupt:
        seen.append("interrupted")
    assert seen == ["whole", "interrupted"], seen
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    turns.call(lambda: seen.append("again"))
    from_thread(lambda: seen.append("still there"))
    assert seen[2:] == ["again", "still there"], seen
    """
        )

    def test_no_signal_handler_of_the_users_can_break_off_a_turn(self) -> None:
        self.run_program(
            """
    seen = []
    def call():
        signal.raise_signal(signal.SIGALRM)
        seen.append(get_ident())
    def handler(number, frame):
        raise TimeoutError
    signal.signal(signal.SIGALRM, handler)
    try:
        turns.call(call)
        from_thread(lambda: None)
    except TimeoutError:
        seen.append("raised")
    from_thread(lambda: None)
    assert sorted(seen, key=str) == [thread.ident, "raised"], seen

    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    until_it_waits()
    turns.call(lambda: seen.append(get_ident()))
    assert seen[2:] == [get_ident()], seen
    """
        )


class OtherReactorTests(SynchronousTestCase):
    def test_it_can_be_turned_off(self) -> None:
        from twisted.internet.epollreactor import EPollReactor

        self.patch(os, "environ", {**os.environ, SWITCH: "0"})
        reactor = EPollReactor()
        for each in reactor.removeAll():
            self.addCleanup(each.connectionLost, None)
        self.addCleanup(reactor._poller.close)
        take_turns(reactor)
        self.assertIsInstance(turns_of(reactor), PlainTurns)

    def test_others_are_woken(self) -> None:
        reactor = SelectReactor()
        for each in reactor.removeAll():
            self.addCleanup(each.connectionLost, None)
        take_turns(reactor)
        turns = turns_of(reactor)
        self.assertIsInstance(turns, PlainTurns)
        seen: list[int] = []
        turns.call(lambda: seen.append(1))
        self.assertEqual(seen, [])
        reactor.runUntilCurrent()
        self.assertEqual(seen, [1])

    def test_a_call_at_the_end_of_the_turn(self) -> None:
        clock = Clock()
        clock.callFromThread = clock.callLater  # type: ignore[attr-defined]
        seen: list[int] = []
        turns_of(clock).call_soon(lambda: seen.append(1))
        self.assertEqual(seen, [])
        clock.advance(0)
        self.assertEqual(seen, [1])
