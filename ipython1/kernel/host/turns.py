"""Turns of the reactor: calls in the next one, and turns that another thread takes.

To have the reactor's thread call something, another thread wakes it: two switches of threads, and a turn that reads a
pipe.  While the reactor only waits for its sockets, the other thread can as well do what has to be done itself, under
a lock that says whose turn it is.  :class:`ReactorTurns` sits where Twisted's epoll reactor waits; other reactors get
:class:`PlainTurns`, which do the same by waking the reactor.

A thread that waits for what comes on a connection can also read it itself (:class:`ConnectionReader`).  Meanwhile the
reactor does not look at that connection, so that the answer wakes one thread and not two, one after the other.
"""

from __future__ import annotations

import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic  # user code may replace the one in the module
from typing import Any, Final, Protocol

from twisted.logger import Logger
from twisted.python import threadable

from ipython1 import system
from ipython1.core.interrupt import has_other_handlers, interrupts_deferred

log: Logger = Logger()

SWITCH: Final = "IPYTHON1_TAKE_TURNS"
"""The environment variable that has the reactor's thread take all turns itself, if it is ``0``."""

ROUNDS: Final = 3
"""How often what is called at the end of a turn may ask for something else to be called then, before the next turn."""

PATIENCE: Final = 0.01
"""Seconds for which a thread that waits reads by itself; Ctrl-C, and all that happens elsewhere, waits as long."""

DEPTH: Final = 200
"""Calls within each other for which a turn has room, at least."""

_EPOLL: Final = getattr(select, "epoll", ()) if system.LINUX else ()
_READABLE: Final = getattr(select, "EPOLLIN", 1)
_WRITABLE: Final = getattr(select, "EPOLLOUT", 4)
_USED: Final = (
    *("_newTimedCalls", "_justStopped", "_selectables", "_reads", "_writes"),
    *("_doReadOrWrite", "_disconnectSelectable", "threadCallQueue", "timeout"),
)
"""What is used of Twisted's reactor and not documented; another version may have other names."""


class Turns(Protocol):
    """How to have something called in the reactor's thread, or as if it were there."""

    def call(self, function: Callable[[], object]) -> None:
        """Call ``function`` from another thread, before this returns or later, in the order of such calls.

        It must not block or raise.  The caller holds no lock that is also taken in the reactor's thread.
        """

    def call_soon(self, function: Callable[[], object]) -> None:
        """Call ``function`` at the end of this turn; in the reactor's thread or a turn that was taken."""

    def call_own(self, function: Callable[[], object]) -> None:
        """Call what may take long: now; or in the reactor's next turn of its own, if this is one that was taken.

        So it runs in the order of such calls, and holds up no thread that waits for something else.
        """

    def reader(self, connection: Any) -> ConnectionReader | None:
        """Return what reads a connection, a selectable of Twisted's, in other threads; None if only the reactor can."""


class PlainTurns:
    """Turns of any reactor; all of them are the reactor's own."""

    def __init__(self, reactor: Any) -> None:
        self.call: Callable[[Callable[[], object]], None] = reactor.callFromThread
        self._call_later = reactor.callLater

    def call_soon(self, function: Callable[[], object]) -> None:
        """See :class:`Turns`."""
        self._call_later(0, function)

    def call_own(self, function: Callable[[], object]) -> None:
        """See :class:`Turns`."""
        function()

    def reader(self, connection: Any) -> ConnectionReader | None:
        """See :class:`Turns`."""
        return None


class ReactorTurns:
    """Turns of an epoll reactor, some of which other threads take.

    ========  ================================================  ========================================
    state     event                                             becomes
    ========  ================================================  ========================================
    turning   the reactor has nothing more to do                waiting
    waiting   a socket is ready, a timer is due                 turning
    waiting   :meth:`call`                                      taken, until the function has returned;
                                                                then waiting
    taken     a socket is ready, a timer is due                 taken; turning after that
    ========  ================================================  ========================================

    The lock is held in all states but *waiting*.  :meth:`call` wakes the reactor if it is turning, if earlier calls
    wait for it, or if its next timer may have changed; and always if a signal handler of the user's may raise in this
    thread, as half a turn is something that nobody is prepared for.

    :param reactor: not running yet.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._poll = reactor._poller.poll
        self._soon: list[Callable[[], object]] = []
        self._left: deque[Callable[[], object]] = deque()
        self._taken_by: int | None = None
        self._lock = threading.Lock()
        self._lock.acquire()
        reactor._poller = _Poller(reactor._poller, self)

    def call(self, function: Callable[[], object]) -> None:
        """See :class:`Turns`."""
        if self._lock.locked() or _may_be_broken_off():
            try:
                self._reactor.callFromThread(function)
            except IndexError as problem:
                # Twisted looks for a number in each OSError, also in a time-out of the user's that strikes there.
                raise problem.__context__ or problem from None
        else:
            with interrupts_deferred():  # Ctrl-C must not end a turn half-way
                self._take(function)

    def call_soon(self, function: Callable[[], object]) -> None:
        """See :class:`Turns`."""
        self._soon.append(function)

    def call_own(self, function: Callable[[], object]) -> None:
        """See :class:`Turns`."""
        if threading.get_ident() == self._taken_by:
            self._left.append(function)
            self._reactor.callFromThread(self._call_left)
            return
        if threading.get_ident() == threadable.ioThread:
            self._call_left()
        function()

    def _call_left(self) -> None:
        while self._left:
            _guarded(self._left.popleft())

    def reader(self, connection: Any) -> ConnectionReader | None:
        """See :class:`Turns`."""
        return ConnectionReader(self, connection)

    def _take(self, function: Callable[[], object]) -> None:
        with self._lock:
            if self._reactor.threadCallQueue:
                self._reactor.callFromThread(function)
            else:
                self._turn(function)

    def _turn(self, function: Callable[[], object]) -> None:
        """Have one turn in this thread, which has the lock."""
        reactor = self._reactor
        its_thread = threadable.ioThread
        threadable.ioThread = self._taken_by = threading.get_ident()  # type: ignore[assignment]
        try:
            function()
        finally:
            self._make_calls()
            self._taken_by = None
            threadable.ioThread = its_thread
            if self._has_more:
                reactor.wakeUp()

    # -- for a ConnectionReader

    def _leave(self, connection: Any, descriptor: int) -> bool:
        """Have the reactor no longer look at what can be read; False if it has other things to do."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if not self._is_read(connection, descriptor):
                return False
            self._look_for(descriptor, 0)
        finally:
            self._lock.release()
        return True

    def _take_back(self, connection: Any, descriptor: int) -> None:
        if not self._lock.acquire(timeout=PATIENCE):
            self._reactor.callFromThread(self._look_again, connection, descriptor)
            return
        try:
            self._look_again(connection, descriptor)
        finally:
            self._lock.release()

    def _look_again(self, connection: Any, descriptor: int) -> None:
        if self._is_read(connection, descriptor):
            self._look_for(descriptor, _READABLE)

    def _look_for(self, descriptor: int, event: int) -> None:
        """Have the reactor wait for ``event`` on a connection, beside what it waits for to write there."""
        reactor = self._reactor
        writable = _WRITABLE if descriptor in reactor._writes else 0
        reactor._poller.modify(descriptor, event | writable)

    def _is_read(self, connection: Any, descriptor: int) -> bool:
        """Whether the connection is open, and not paused."""
        reactor = self._reactor
        return (
            reactor._selectables.get(descriptor) is connection
            and descriptor in reactor._reads
            and not reactor._justStopped
        )

    def _read(self, connection: Any, descriptor: int) -> bool:
        """Read from a connection; False if it is not to be read any more, or another turn lasts for long."""
        if not self._lock.acquire(timeout=PATIENCE):
            return False
        try:
            if not self._is_read(connection, descriptor):
                return False
            self._turn(partial(self._handle, ((descriptor, _READABLE),)))
        finally:
            self._lock.release()
        return True

    def _make_calls(self) -> None:
        calls, self._soon = self._soon, []
        for each in calls:
            _guarded(each)

    @property
    def _has_more(self) -> bool:
        """Whether the reactor must not go on waiting: it has other timers now, or is to stop."""
        reactor = self._reactor
        return bool(self._soon or reactor._newTimedCalls or reactor._justStopped)

    def wait(self, timeout: float, most: int) -> Sequence[tuple[int, int]]:
        """End a turn, wait for events, and begin the next one with them; in place of ``epoll.poll``.

        As long as there is nothing else for the reactor to do, turns follow each other here, without its steps.

        :returns: nothing, as the events have been handled: without Twisted's context for each, which takes as long as
            to read a small message.  (It says in messages of Twisted's older log from which connection they are.)
        """
        reactor = self._reactor
        while True:
            for _ in range(ROUNDS):
                if not self._soon:
                    break
                self._make_calls()
            if self._has_more:
                timeout = 0
            self._lock.release()
            try:
                events = self._poll(timeout, most)
            finally:
                self._lock.acquire()
            self._handle(events)
            if not events or reactor.threadCallQueue or reactor._justStopped or not reactor.running:
                return ()
            left = reactor.timeout()
            if left is None:
                timeout = -1
            elif left > 0:
                timeout = left
            else:
                return ()

    def _handle(self, events: Sequence[tuple[int, int]]) -> None:
        reactor = self._reactor
        for descriptor, event in events:
            selectable = reactor._selectables.get(descriptor)
            if selectable is None:
                continue  # it was closed in this turn
            try:
                if event == _READABLE:
                    reason = selectable.doRead()
                    if reason:
                        reactor._disconnectSelectable(selectable, reason, True)
                else:
                    if event & ~_WRITABLE:  # it is closed: what came before can still be read
                        event |= _READABLE
                    reactor._doReadOrWrite(selectable, descriptor, event)
            except BaseException as problem:
                _lost_by(reactor, selectable, problem)


def _lost_by(reactor: Any, selectable: Any, problem: BaseException) -> None:
    log.failure("reading from a connection failed, or what follows from its loss")
    try:
        reactor._disconnectSelectable(selectable, problem, False)
    except BaseException:
        log.failure("what follows from the loss of a connection failed")


class ConnectionReader:
    """Reads one connection in a thread that waits for something that comes on it.

    =========  ============================================  =========================================
    state      event                                         becomes
    =========  ============================================  =========================================
    idle       :meth:`read_until`                            reading: the reactor does not look at it
    reading    what is waited for has come; nothing has for  idle: the reactor reads again
               some time; the connection is closed
    reading    :meth:`read_until` in another thread          reading; that thread waits otherwise
    =========  ============================================  =========================================
    """

    def __init__(self, turns: ReactorTurns, connection: Any) -> None:
        self._turns = turns
        self._connection = connection
        self._descriptor = connection.fileno()
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)
        self._idle = threading.Lock()

    def read_until(self, over: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Read, in this thread, until ``over`` or for ``patience`` seconds; perhaps not at all.

        The caller holds no lock that is also taken in the reactor's thread.
        """
        if _may_be_broken_off():
            return
        with interrupts_deferred():  # Ctrl-C must not end a turn half-way
            if not self._idle.acquire(blocking=False):
                return
            try:
                if self._turns._leave(self._connection, self._descriptor):
                    try:
                        self._read_until(over, monotonic() + patience)
                    finally:
                        self._turns._take_back(self._connection, self._descriptor)
            finally:
                self._idle.release()

    def _read_until(self, over: Callable[[], bool], deadline: float) -> None:
        while not over():
            left = deadline - monotonic()
            if left <= 0 or not self._poll.poll(left * 1000):
                break
            if not self._turns._read(self._connection, self._descriptor):
                break


def _may_be_broken_off() -> bool:
    """Whether what this thread does may end anywhere: by a signal handler, a debugger, or the limit of recursion."""
    if sys.gettrace() is not None or sys.getprofile() is not None or _is_deep():
        return True
    return threading.get_ident() == threading.main_thread().ident and has_other_handlers()


def _is_deep() -> bool:
    """Whether a turn could exceed the limit of recursion."""
    try:
        sys._getframe(max(sys.getrecursionlimit() - DEPTH, 0))
    except ValueError:
        return False
    return True


class _Poller:
    """A reactor's epoll object that waits with :meth:`ReactorTurns.wait`."""

    def __init__(self, epoll: Any, turns: ReactorTurns) -> None:
        self.turns = turns
        self.poll = turns.wait
        self.register = epoll.register
        self.modify = epoll.modify
        self.unregister = epoll.unregister
        self.close = epoll.close
        self.fileno = epoll.fileno


def _guarded(function: Callable[[], object]) -> None:
    try:
        function()
    except BaseException:
        log.failure("a call in the reactor's turn failed")


def take_turns(reactor: Any) -> None:
    """Let other threads take turns of ``reactor``; call this in our own processes, before the reactor runs."""
    if os.environ.get(SWITCH, "1") == "0":
        return
    poller = getattr(reactor, "_poller", None)
    usable = isinstance(poller, _EPOLL) and all(hasattr(reactor, name) for name in _USED)
    if usable and not reactor.running:
        ReactorTurns(reactor)


def turns_of(reactor: Any) -> Turns:
    """Return the turns of ``reactor``."""
    poller = getattr(reactor, "_poller", None)
    return poller.turns if isinstance(poller, _Poller) else PlainTurns(reactor)
