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
    thread = threading.Thread(target=reactor.run, args=(False,), daemon=True)

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


class TurnTestCase(SynchronousTestCase):
    """Each test in a process of its own, as a test runner has the reactor for itself."""

    def setUp(self) -> None:
        try:
            from select import epoll  # noqa: F401
        except ImportError:
            raise SkipTest("this system has no epoll") from None

    def run_program(self, text: str) -> None:
        run_program(BEGIN + text + END)


class TurnTests(TurnTestCase):
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
        Event().wait(0)  # lets other threads run
        under_way.pop()
    order = {n: [] for n in range(4)}
    def many(origin):
        for number in range(500):
            turns.call(lambda number=number: count(origin, number))
    threads = [threading.Thread(target=many, args=(n,)) for n in order]
    for each in threads: each.start()
    for each in threads: each.join()
    from_thread(lambda: None)
    assert all(numbers == list(range(500)) for numbers in order.values())
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

    def test_nor_can_that_of_pythons_own_for_other_signals_than_ctrl_c(self) -> None:
        self.run_program(
            """
    seen = []
    def call():
        signal.raise_signal(signal.SIGTERM)
        seen.append(get_ident())
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        turns.call(call)
        from_thread(lambda: None)
    except KeyboardInterrupt:
        seen.append("raised")
    from_thread(lambda: None)
    assert sorted(seen, key=str) == [thread.ident, "raised"], seen
    """
        )

    def test_nor_can_the_limit_of_recursion(self) -> None:
        self.run_program(
            """
    import sys
    seen = []
    def deep(levels):
        if levels:
            deep(levels - 1)
        else:
            turns.call(lambda: seen.append(get_ident()))
    deep(sys.getrecursionlimit() - 100)
    from_thread(lambda: None)
    assert seen == [thread.ident]
    """
        )

    def test_what_may_take_long_is_left_to_the_reactor_in_order(self) -> None:
        self.run_program(
            """
    seen = []
    def note(what):
        seen.append((what, get_ident()))
    def call():
        turns.call_own(lambda: note("first"))
        turns.call_own(lambda: 1 / 0)
        turns.call_own(lambda: note("second"))
        note("taken")
    until_it_waits()
    turns.call(call)
    from_thread(lambda: turns.call_own(lambda: note("third")))
    turns.call_own(lambda: note("here"))
    own, here = thread.ident, get_ident()
    assert seen == [
        ("taken", here), ("first", own), ("second", own), ("third", own), ("here", here)
    ], seen
    """
        )


READER = """
    import socket, time

    class Connection:
        def __init__(self):
            self.ours, self.theirs = socket.socketpair()
            self.ours.setblocking(False)
            self.seen, self.threads, self.lost = [], [], Event()
            self.each_time = lambda: None
            from_thread(lambda: reactor.addReader(self))
        def fileno(self):
            return self.ours.fileno()
        def logPrefix(self):
            return "connection"
        def doRead(self):
            self.each_time()
            try:
                data = self.ours.recv(100)
            except BlockingIOError:
                return
            if not data:
                return main.CONNECTION_DONE
            assert isInIOThread()
            self.seen.append(data)
            self.threads.append(get_ident())
        def connectionLost(self, reason):
            self.ours.close()
            self.lost.set()
        def has(self, count):
            return lambda: len(self.seen) >= count
        def read_by_the_reactor(self, data):
            before = len(self.seen)
            self.theirs.send(data)
            give_up = time.monotonic() + 20
            while len(self.seen) == before:
                assert time.monotonic() < give_up
                time.sleep(0)
            assert self.seen[-1] == data and self.threads[-1] == thread.ident

    from twisted.internet import main
    connection = Connection()
    reader = turns.reader(connection)
    until_it_waits()
    reads = Event()

    def until(over):
        # What is asked only while the thread reads.
        return lambda: reads.set() or over()
"""


class ReaderTests(TurnTestCase):
    """Threads that read from a connection while they wait for what comes."""

    def run_program(self, text: str) -> None:
        super().run_program(READER + text)

    def test_the_thread_that_waits_reads_and_the_reactor_does_before_and_after(self) -> None:
        self.run_program(
            """
    connection.read_by_the_reactor(b"before")
    until_it_waits()
    def answer():
        reads.wait(20)
        connection.theirs.send(b"1")
        while len(connection.seen) < 2:
            pass
        connection.theirs.send(b"2")
    other = threading.Thread(target=answer)
    other.start()
    reader.read_until(until(connection.has(3)), 20)
    other.join()
    assert connection.threads[1:] == [get_ident()] * 2, connection.threads
    assert not isInIOThread()
    connection.read_by_the_reactor(b"after")
    """
        )

    def test_it_does_not_read_for_longer_than_it_should_nor_when_it_has_come_already(self) -> None:
        self.run_program(
            """
    begun = time.monotonic()
    reader.read_until(lambda: False, 0.02)
    assert 0.02 <= time.monotonic() - begun < 10
    reader.read_until(lambda: True, 1000)
    connection.read_by_the_reactor(b"after")
    """
        )

    def test_one_thread_at_a_time_reads(self) -> None:
        self.run_program(
            """
    def read():
        reader.read_until(until(connection.has(1)), 20)
    other = threading.Thread(target=read)
    other.start()
    assert reads.wait(20)
    reader.read_until(lambda: False, 1000)
    connection.theirs.send(b"1")
    other.join(20)
    assert connection.threads == [other.ident]
    """
        )

    def test_what_came_before_the_other_side_closed_is_read_whoever_sees_the_end(self) -> None:
        self.run_program(
            """
    for by_thread in (True, False):
        connection = Connection()
        reader = turns.reader(connection)
        until_it_waits()
        def end():
            connection.theirs.send(b"the last")
            connection.theirs.close()
        if by_thread:
            end_it = threading.Thread(target=lambda: (reads.wait(20), end()))
            end_it.start()
            reader.read_until(until(connection.lost.is_set), 1000)
            end_it.join()
        else:
            assert turns._leave(connection, connection.fileno())
            end()
        assert connection.lost.wait(20)
        assert connection.seen == [b"the last"], connection.seen
        until_it_waits()
        reader.read_until(lambda: False, 1000)  # it is closed
    """
        )

    def test_a_paused_connection_is_not_read(self) -> None:
        self.run_program(
            """
    from_thread(lambda: reactor.removeReader(connection))
    until_it_waits()
    connection.theirs.send(b"1")
    reader.read_until(connection.has(1), 0.05)
    assert not connection.seen
    from_thread(lambda: reactor.addReader(connection))
    give_up = time.monotonic() + 20
    while not connection.seen:
        assert time.monotonic() < give_up
    assert connection.threads == [thread.ident]
    """
        )

    def test_ctrl_c_comes_after_the_turn_and_soon(self) -> None:
        self.run_program(
            """
    for when in ("in a turn", "while nothing comes"):
        seen = len(connection.seen)
        if when == "in a turn":
            connection.each_time = lambda: signal.raise_signal(signal.SIGINT)
            over = lambda: len(connection.seen) or not connection.theirs.send(b"1")
        else:
            connection.each_time = lambda: None
            over = lambda: signal.raise_signal(signal.SIGINT)
        until_it_waits()
        try:
            reader.read_until(over, 0.1)
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError(when)
        connection.each_time = lambda: None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert connection.seen == [b"1"], connection.seen
    connection.read_by_the_reactor(b"2")
    """
        )

    def test_the_reactor_reads_where_a_turn_could_be_broken_off(self) -> None:
        self.run_program(
            """
    signal.signal(signal.SIGALRM, lambda number, frame: 1 / 0)
    reader.read_until(lambda: False, 1000)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    import sys
    sys.settrace(lambda frame, event, argument: None)
    reader.read_until(lambda: False, 1000)
    sys.settrace(None)
    connection.read_by_the_reactor(b"1")
    """
        )

    def test_it_waits_for_no_turn_that_lasts(self) -> None:
        self.run_program(
            """
    for when in ("before it reads", "before it ends"):
        connection = Connection()
        reader = turns.reader(connection)
        begun, end = Event(), Event()
        def last():
            begun.set()
            end.wait(20)
        def over():
            if not begun.is_set():
                reactor.callFromThread(last)
                begun.wait(20)
                if when == "before it reads":
                    connection.theirs.send(b"1")
            return when == "before it ends"
        until_it_waits()
        reader.read_until(over, 20)
        assert not end.is_set()
        assert not connection.seen
        end.set()
        connection.theirs.send(b"2")
        give_up = time.monotonic() + 20
        while not b"".join(connection.seen).endswith(b"2"):
            assert time.monotonic() < give_up
        assert set(connection.threads) == {thread.ident}
    """
        )

    def test_an_error_ends_the_connection_and_not_the_wait(self) -> None:
        self.run_program(
            """
    connection.each_time = lambda: 1 / 0
    reader.read_until(lambda: connection.lost.is_set() or not connection.theirs.send(b"1"), 20)
    assert connection.lost.is_set()
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
