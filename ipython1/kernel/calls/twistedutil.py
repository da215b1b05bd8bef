"""The interface between threads that block and the reactor's thread.

A client's reactor runs in a daemon thread (:class:`ReactorInThread`).  Blocking code waits for asynchronous code only
with :func:`blockingCallFromThread`, which supports a time-out and Ctrl-C, and refuses calls that would block the
reactor itself.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeVar

from ipython1.core.interrupt import raised_by_handler
from ipython1.kernel.basics.error import (
    ClientError,
    KernelError,
    ResultNotCompleted,
    WaitInterrupted,
)
from ipython1.kernel.calls.answer import Answer
from ipython1.kernel.host.sockets import let_go_in_children
from ipython1.kernel.host.steadyclock import keep_steady
from ipython1.kernel.host.turns import take_turns, turns_of
from ipython1.system import after_fork_in_child

T = TypeVar("T")


class LosesLink(Protocol):
    """An end of a connection."""

    def give_up(self, reason: str) -> None: ...


class Asked(Protocol):
    """An end of a connection whose other side answers questions."""

    def ask(self, name: str, **args: Any) -> Any:
        """Return a Deferred of the answer."""

    def read_until(self, over: Callable[[], bool]) -> None:
        """Read what comes, in this thread, perhaps for a moment."""


class ReactorInThread:
    """Runs Twisted's reactor in a daemon thread, once per process.

    =============  ==========================  ====================================
    state          event                       becomes
    =============  ==========================  ====================================
    not started    :meth:`start`               running; or stays, if the program
                                               runs the reactor itself
    running        :meth:`stop` (at exit)      ended: calls are refused
    running        a fork                      in the child: ended
    =============  ==========================  ====================================

    :ivar ended: whether :meth:`check` should be called; for hot paths.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._connections: weakref.WeakSet[LosesLink] = weakref.WeakSet()
        self.ended: bool = False

    def start(self) -> Any:
        """Start the reactor unless it is running.

        :returns: the reactor.
        :raises ClientError: if it has stopped, as it cannot be restarted, and where the caller runs it.
        """
        from twisted.internet import reactor

        self.check()
        _refuse_on_loop_of(reactor)
        with self._lock:
            if self._thread is None and not _is_running(reactor):
                keep_steady(reactor)
                take_turns(reactor)
                started = threading.Event()
                reactor.callWhenRunning(started.set)
                thread = threading.Thread(
                    target=self._run,
                    args=(reactor,),
                    name="ipython1-reactor",
                    daemon=True,
                )
                thread.start()
                self._pid, self._thread = os.getpid(), thread
                let_go_in_children(reactor)
                after_fork_in_child(self._end)
                atexit.register(self.stop)
                while not started.wait(0.05):
                    self.check()
        return reactor

    def _run(self, reactor: Any) -> None:
        try:
            reactor.run(installSignalHandlers=False)
        finally:
            self._end()
        # Foolscap would tell them in the reactor's next turn, which never comes.
        for end in list(self._connections):
            end.give_up("Twisted's reactor has stopped in this process")

    def _end(self) -> None:
        self.ended = True

    def attend(self, end: LosesLink) -> None:
        """Have an end of a connection fail its calls when the reactor has stopped; it is not kept alive."""
        self._connections.add(end)

    def check(self) -> None:
        """Check that the reactor can run calls.

        :raises ClientError: if the reactor's thread has ended, or belongs to the process that this one was forked from.
        """
        trouble = self.trouble()
        if trouble:
            raise ClientError(trouble)

    def trouble(self) -> str:
        """Return why the reactor cannot run calls; empty if it can.

        Takes no lock, as a fork may have left it held.  Does not ask the thread: if Ctrl-C comes while it is asked,
        Python takes it for ended from then on.
        """
        if self._thread is None:
            return ""
        if self._pid != os.getpid():
            return (
                "this process was forked from one that already used an ipython1 client; "
                "spawn the process instead of forking it, or fork before creating clients"
            )
        if self.ended:
            return (
                "Twisted's reactor has stopped in this process and cannot be restarted; clients no longer work in this "
                "process"
            )
        return ""

    def stop(self) -> None:
        """Stop the reactor and wait for its thread at the end of the process, for 2 seconds at most."""
        from twisted.internet import reactor

        thread = self._thread
        if thread is None or self._pid != os.getpid() or not thread.is_alive():
            return
        reactor.callFromThread(reactor.stop)  # type: ignore[attr-defined]
        thread.join(2.0)


def event_loop_of(reactor: Any) -> Any:
    """Return the event loop of asyncio that a reactor uses; None if it uses none."""
    return getattr(reactor, "_asyncioEventloop", None)


def _is_running(reactor: Any) -> bool:
    """Return whether something runs the reactor: itself, or asyncio its event loop."""
    loop = event_loop_of(reactor)
    return bool(reactor.running or (loop is not None and loop.is_running()))


def _refuse_on_loop_of(reactor: Any) -> None:
    loop = event_loop_of(reactor)
    asyncio = sys.modules.get("asyncio")
    if loop is not None and asyncio is not None and asyncio._get_running_loop() is loop:
        raise ClientError(
            "a blocking client was made on the event loop that Twisted's reactor uses, where its calls would never "
            "return; use ipython1.kernel.asyncclient there"
        )


reactor_in_thread: ReactorInThread = ReactorInThread()


def in_reactor_thread() -> bool:
    """Return whether this is the reactor's thread."""
    # Called several times for each call; an import, even of what is loaded, takes longer than the rest.
    threadable = sys.modules.get("twisted.python.threadable")
    if threadable is None or "twisted.internet.reactor" not in sys.modules:
        return False
    return bool(threadable.ioThread == threading.get_ident())


def call_own(function: Callable[[], object]) -> None:
    """Call a function of the user's: now; or soon, if this thread only does some of the reactor's work meanwhile."""
    if in_reactor_thread():
        from twisted.internet import reactor

        turns_of(reactor).call_own(function)
    else:
        function()


def refuse_in_reactor_thread() -> None:
    """Check that the caller may block.

    :raises ClientError: in the reactor's thread, which must not block.
    """
    if in_reactor_thread():
        raise ClientError(
            "a blocking call was made in the reactor's thread, where it would never return; "
            "use ipython1.kernel.asyncclient there"
        )


def blockingCallFromThread(
    function: Callable[..., Any], *args: Any, timeout: float | None = None, **kwargs: Any
) -> Any:
    """Call ``function`` in the reactor's thread and wait for the value that it, or its Deferred or coroutine, returns.

    :param timeout: the maximum time to wait, in seconds; None for no limit.
    :raises ResultNotCompleted: after ``timeout``; the call itself continues.
    :raises WaitInterrupted: on Ctrl-C.
    :raises ClientError: in the reactor's thread.
    """
    refuse_in_reactor_thread()
    reactor = reactor_in_thread.start()
    return _wait_for(reactor.callFromThread, partial(function, *args, **kwargs), timeout)


def blocking_ask(end: Asked, name: str, **args: Any) -> Any:
    """Ask the controller something, and wait for the answer.

    The question may go out in this thread, in a turn of the reactor's, and the answer may come in it.

    :raises WaitInterrupted: on Ctrl-C.
    :raises ClientError: in the reactor's thread.
    """
    refuse_in_reactor_thread()
    turns = turns_of(reactor_in_thread.start())
    return _wait_for(turns.call, partial(end.ask, name, **args), None, end.read_until)


def _wait_for(
    call_in_reactor: Callable[[Callable[[], None]], Any],
    function: Callable[[], Any],
    timeout: float | None,
    read_until: Callable[[Callable[[], bool]], None] = lambda over: None,
) -> Any:
    from twisted.internet.defer import ensureDeferred, maybeDeferred
    from twisted.python.failure import Failure

    answer: Answer[Any] = Answer()

    def failed(failure: Failure) -> None:
        problem = failure.value or RuntimeError("failed")
        # For errors of this package, a traceback of the reactor's thread is of no help.
        story = None if isinstance(problem, KernelError) else problem.__traceback__
        answer.set_exception(problem.with_traceback(story))

    def call() -> None:
        result = maybeDeferred(_as_deferred)
        result.addCallbacks(answer.set_result, failed)

    def _as_deferred() -> Any:
        value = function()
        return ensureDeferred(value) if hasattr(value, "cr_await") else value

    call_in_reactor(call)
    try:
        read_until(answer.is_there)
        return answer.result(timeout)
    except KeyboardInterrupt:
        raise WaitInterrupted(
            "KeyboardInterrupt: stopped waiting for the controller's answer"
        ) from None
    except TimeoutError as problem:
        if answer.is_there() or raised_by_handler(problem):
            raise
        raise ResultNotCompleted(f"no answer within {timeout:g} s") from None
