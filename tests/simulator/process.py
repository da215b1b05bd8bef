"""Simulated processes: what each of them has to do is dropped when it is killed, and waits while it is frozen."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable
from typing import Any

from ipython1.kernel.wire.link import TurnFlusher
from tests.simulator.time import SimClock, SimTime


class SimProcess(SimTime):
    """A process: the reactor of one party.

    :ivar pid: its number, which is never given again.
    :ivar dead: whether it was killed; nothing of it is done any more.
    :ivar on_death: called when it dies, as its sockets are closed by the kernel.
    """

    def __init__(self, clock: SimClock, name: str, pid: int) -> None:
        super().__init__(clock)
        self.name = name
        self.pid = pid
        self.dead = False
        self.on_death: list[Callable[[], None]] = []
        self.flusher = TurnFlusher(self.soon)

    @property
    def frozen(self) -> bool:
        """Whether it was stopped, as by SIGSTOP."""
        return self.held

    def soon(self, function: Callable[[], None]) -> None:
        """Call ``function`` in the next turn."""
        self.callLater(0, function)

    def callFromThread(self, function: Callable[..., Any], *args: Any) -> None:
        self.callLater(0, function, *args)

    def kill(self) -> None:
        """What ``kill -9`` does."""
        if self.dead:
            return
        self.dead = True
        self.stop()
        for call in self.on_death:
            call()
        self.stop()

    def freeze(self) -> None:
        """What SIGSTOP does."""
        self.held = True

    def thaw(self) -> None:
        """What SIGCONT does: all that came meanwhile is done now, in its order."""
        if self.held and not self.dead:
            self.let_go()


class Killed(BaseException):
    """Raised in the main thread of a process that was killed, so that its thread ends.

    Whoever catches it there must not wait again for ever.
    """


class MainThread:
    """The main thread of a process.  It and the simulator take turns: only one of them runs at any time.

    It is a real thread, so that what it calls may wait in the middle.

    :param main: what it does.
    """

    def __init__(self, process: SimProcess, main: Callable[[], None]) -> None:
        self._process = process
        self._main = main
        self._its_turn = _thread.allocate_lock()
        self._my_turn = _thread.allocate_lock()
        self._its_turn.acquire()
        self._my_turn.acquire()
        self._over = False
        self._resuming = False
        self._interrupted = False
        self.failure: BaseException | None = None
        process.on_death.append(self._end)
        _idle.run(self._run)
        process.soon(self._resume)

    def _run(self) -> None:
        self._its_turn.acquire()
        try:
            if not self._process.dead:
                self._main()
        except Killed:
            pass
        except BaseException as problem:
            self.failure = problem
        self._over = True
        self._my_turn.release()

    def _resume(self) -> None:
        self._resuming = False
        if not self._over:
            self._its_turn.release()
            self._my_turn.acquire()
            if self.failure is not None:
                raise self.failure

    def _end(self) -> None:
        while not self._over:
            self._resume()

    def wake(self, after: float = 0.0) -> None:
        """Let it go on, some time later."""
        if not self._resuming:
            self._resuming = True
            self._process.callLater(after, self._resume)

    def _pause(self) -> None:
        if not self._process.dead:
            self._my_turn.release()
            self._its_turn.acquire()
        if self._process.dead:
            raise Killed

    # -- for what it does

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until somebody has called :meth:`wake` and the condition is true."""
        while not condition():
            self._pause()

    def sleep(self, seconds: float) -> None:
        """Let simulated time pass.

        :raises KeyboardInterrupt: if it is interrupted meanwhile.
        """
        over: list[None] = []

        def awake() -> None:
            over.append(None)
            self.wake()

        call = self._process.callLater(seconds, awake)
        self._interrupted = False
        self.wait(lambda: bool(over) or self._interrupted)
        if self._interrupted:
            self._interrupted = False
            if call.active():
                call.cancel()
            raise KeyboardInterrupt

    def interrupt(self) -> None:
        """Raise ``KeyboardInterrupt`` where it sleeps."""
        self._interrupted = True
        self.wake()


class _IdleThreads:
    """Threads that are used again, because starting one takes longer than many a history."""

    def __init__(self) -> None:
        self._waiting: list[_IdleThread] = []

    def run(self, function: Callable[[], None]) -> None:
        thread = self._waiting.pop() if self._waiting else _IdleThread(self._waiting)
        thread.give(function)


class _IdleThread:
    def __init__(self, waiting: list[_IdleThread]) -> None:
        self._waiting = waiting
        self._function: Callable[[], None] | None = None
        self._work = _thread.allocate_lock()
        self._work.acquire()
        threading.Thread(target=self._loop, daemon=True).start()

    def give(self, function: Callable[[], None]) -> None:
        self._function = function
        self._work.release()

    def _loop(self) -> None:
        while True:
            self._work.acquire()
            function, self._function = self._function, None
            assert function is not None
            function()
            self._waiting.append(self)


_idle = _IdleThreads()
