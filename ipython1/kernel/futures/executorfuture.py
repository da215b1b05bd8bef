"""The futures of executors, and the thread that finishes them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, InvalidStateError
from concurrent.futures._base import CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, TypeAlias

from ipython1.core.interrupt import raised_by_handler
from ipython1.kernel.basics.error import WaitInterrupted
from ipython1.kernel.calls.awaited import call_back
from ipython1.kernel.calls.liveview import show_output
from ipython1.kernel.calls.twistedutil import (
    in_reactor_thread,
    reactor_in_thread,
    refuse_in_reactor_thread,
)
from ipython1.kernel.objects.enginewaits import waiters_of, waiting
from ipython1.kernel.wire.waits import Needs
from ipython1.notebook.frontend import person_waits

if TYPE_CHECKING:
    from ipython1.kernel.futures.dispatch import Item

log: logging.Logger = logging.getLogger("concurrent.futures")
"""The logger to which the standard library's executors log errors in callbacks."""

Callback: TypeAlias = Callable[[Any], object]

LINGER: Final = 0.2
"""Seconds that an idle thread waits before it ends."""


CALL_GOES_ON: Final = (
    "KeyboardInterrupt: the call continues; abort() of its future ends it, and abort() of the executor "
    "ends all its calls"
)
"""The message of a wait that Ctrl-C ended."""

CALLS_ENDED: Final = "KeyboardInterrupt: the executor's calls were aborted"
"""The message if Ctrl-C has also left the executor's ``with`` statement."""


class RemoteTraceback(Exception):
    """The traceback of an exception on an engine; the ``__cause__`` of exceptions that have no other.

    :ivar tb: the engine's traceback, as text.
    """

    def __init__(self, tb: str) -> None:
        super().__init__(tb)
        self.tb = tb

    def __str__(self) -> str:
        return f'\n"""\n{self.tb}"""'


def show_traceback(exception: BaseException, traceback: str) -> None:
    """Convert the engine's traceback from a note to the cause of ``exception``.

    If the exception already has a cause or a context, the note is kept.
    """
    notes: list[str] = getattr(exception, "__notes__", [])
    if traceback not in notes:
        return
    if exception.__cause__ is not None or exception.__context__ is not None:
        return
    exception.__notes__ = [note for note in notes if note != traceback]
    if not exception.__notes__:
        del exception.__notes__
    exception.__cause__ = RemoteTraceback(traceback)


def was_remote(exception: BaseException) -> bool:
    """Return whether an exception was raised on an engine and passed to :func:`show_traceback`."""
    return isinstance(exception.__cause__, RemoteTraceback) or bool(
        getattr(exception, "__notes__", None)
    )


class Answer:
    """The decoded outcome of a call.

    :ivar engine: the id of the engine that it ran on, or None.
    :ivar value: the returned value.
    :ivar problem: the exception, or None.
    """

    __slots__ = ("engine", "problem", "stderr", "stdout", "value")

    def __init__(
        self,
        engine: int | None,
        value: Any = None,
        problem: BaseException | None = None,
        stdout: str = "",
        stderr: str = "",
    ) -> None:
        self.engine: int | None = engine
        self.value: Any = value
        self.problem: BaseException | None = problem
        self.stdout: str = stdout
        self.stderr: str = stderr


_OVER: Final = (CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED)

_UNREAD: Final = RuntimeError("the exception from the engine has not been decoded")


class ItemOwner(Protocol):
    """The executor, as its futures use it."""

    def cancel_items(self, items: list[Item]) -> bool: ...

    def has_begun(self, item: Item) -> bool: ...

    def abort_items(self, items: list[Item]) -> None: ...

    def needs_of(self, items: list[Item]) -> Needs: ...

    def give_up_items(self, items: list[Item], problem: Exception) -> None: ...

    def call_back(self, callback: Callback, future: EngineFuture) -> None: ...


class EngineFuture(Future[Any]):
    """The future of a call on an engine; a ``concurrent.futures.Future``.

    The result is unpickled once, in the first thread that reads it.  Callbacks run in a thread of the executor.  A
    future can also be awaited in asyncio, where an exception that the event loop would take as a signal of its own
    (``StopIteration``, ``CancelledError``, ``KeyboardInterrupt``, ``SystemExit``) is the cause of a ``RuntimeError``.

    :ivar calls: how many calls of a map it stands for.
    """

    interrupted_text: ClassVar[str] = CALL_GOES_ON
    """The message of a wait that Ctrl-C ended."""

    def __init__(self, owner: ItemOwner) -> None:
        super().__init__()
        self._waiters = waiters_of(self)
        self._owner = owner
        self._item: Item | None = None
        self._read: Callable[[], Answer] | None = None
        self._reading = threading.Lock()
        self._answer: Answer | None = None
        self._shown = False
        self.calls: int = 1

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled() else "finished" if self.done() else "not finished"
        return f"<{type(self).__name__} at {id(self):#x}: {state}>"

    # -- for users

    def cancel(self) -> bool:
        """Cancel the call if it has not begun, wherever it is waiting.

        :returns: whether it was cancelled and will not run.
        :raises ClientError: if the call is not done, in a process that was forked from the client's, and after the
            reactor has stopped.
        """
        self._check_pending()
        item = self._item
        if item is None or self.done():
            return super().cancel()
        return self._owner.cancel_items([item]) or self.cancelled()

    def running(self) -> bool:
        """Return whether an engine is running the call, as far as the client knows."""
        item = self._item
        if item is None:
            return super().running()
        if reactor_in_thread.trouble():
            return False
        return not self.done() and self._owner.has_begun(item)

    def abort(self) -> None:
        """Abort the call: cancel it if it has not begun, interrupt it (as Ctrl-C would) if it is running.

        :raises ClientError: as for :meth:`cancel`.
        """
        self._check_pending()
        item = self._item
        if item is not None and not self.done():
            self._owner.abort_items([item])

    def add_done_callback(self, fn: Callback) -> None:
        """Call ``fn(future)`` when the future is done or cancelled, at once if it already is."""

        def seen(future: EngineFuture) -> None:
            call_back(fn, future)

        def call(_: object) -> None:
            if in_reactor_thread():
                self._owner.call_back(seen, self)
            else:
                seen(self)

        super().add_done_callback(call)

    def result(self, timeout: float | None = None) -> Any:
        """Return the result of the call, or raise its exception.

        :param timeout: the maximum time to wait, in seconds; default: no limit.
        :raises TimeoutError: after ``timeout``; the call continues.
        :raises concurrent.futures.CancelledError: if it was cancelled.
        :raises WaitInterrupted: on Ctrl-C; the call continues.
        :raises BrokenEnginePool: if all engines are gone, the connection to the controller is lost, or the executor's
            initializer failed.
        :raises ClientError: if it is not done, in a process that was forked from the client's, and after the reactor
            has stopped.

        In an interactive session, the first call in the main thread also shows what the call has printed.
        """
        answer = self._await(timeout)
        if person_waits():
            self.show_output()
        problem = answer.problem
        if problem is None:
            return answer.value
        try:
            raise problem.with_traceback(None)
        finally:
            # The exception refers to this frame; neither may keep the other alive.
            del problem, answer, self

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the exception of the call, or None if it succeeded; waits like :meth:`result`.

        :param timeout: the maximum time to wait, in seconds; default: no limit.
        :raises TimeoutError: after ``timeout``; the call continues.
        """
        return self._await(timeout).problem

    @property
    def engine_id(self) -> int | None:
        """The id of the engine that the call ran on; None if it is not done or did not run."""
        return self._peek().engine

    @property
    def stdout(self) -> str:
        """The standard output of the call; empty until it is done."""
        return self._peek().stdout

    @property
    def stderr(self) -> str:
        """The standard error of the call; empty until it is done."""
        return self._peek().stderr

    def __await__(self) -> Generator[Any, None, Any]:
        import asyncio

        with waiting(self):
            return (yield from asyncio.wrap_future(self).__await__())

    def _peek(self) -> Answer:
        return self._await(0) if self.done() and not self.cancelled() else Answer(None)

    def _check_pending(self) -> None:
        """Check that the future is done, or something can still finish it; takes no lock."""
        if self._state not in _OVER:
            reactor_in_thread.check()

    def _await(self, timeout: float | None) -> Answer:
        self._check_pending()
        if self.done():
            problem = super().exception(0)
        else:
            refuse_in_reactor_thread()
            try:
                with waiting(self):
                    problem = super().exception(timeout)
            except KeyboardInterrupt:
                raise WaitInterrupted(self.interrupted_text) from None
        with self._reading:
            if self._answer is None:
                if self._read is None:
                    value = None if problem is not None else super().result(0)
                    self._answer = Answer(None, value, problem)
                else:
                    try:
                        self._answer = self._read()
                    except Exception as unreadable:
                        if raised_by_handler(unreadable):
                            raise
                        self._answer = Answer(None, problem=unreadable.with_traceback(None))
                    self._read = None
            return self._answer

    # -- for those who wait on an engine (see ``objects.enginewaits``)

    def needs(self) -> Needs | None:
        """Return what has to end before the future is done; in the reactor's thread."""
        item = self._item
        if self.done():
            return None
        return Needs("") if item is None else self._owner.needs_of([item])

    def give_up(self, problem: Exception) -> None:
        """Fail, as the call would never be done; in the reactor's thread."""
        item = self._item
        if item is not None and not self.done():
            self._owner.give_up_items([item], problem)

    # -- for the executor

    def take(self, timeout: float | None) -> Any:
        """Return or raise the result as :meth:`result` does, and forget it: other threads may still have the future."""
        try:
            return self.result(timeout)
        finally:
            self._answer = None

    def follow(self, item: Item) -> None:
        """Set the item of this future."""
        self._item = item

    def finish(self, read: Callable[[], Answer], good: bool) -> None:
        """Finish the future, and call its callbacks.

        :param read: decodes the outcome.
        :param good: whether the call succeeded.
        :raises InvalidStateError: if it was already finished or cancelled.
        """
        self._read = read
        try:
            if good:
                self.set_result(None)
            else:
                # Shows concurrent.futures.wait that there is an exception, which is decoded later.
                self.set_exception(_UNREAD)
        except InvalidStateError:
            self._read = None
            raise
        finally:
            self._item = None

    def show_output(self) -> None:
        """Show what the call has printed, once, with the id of its engine."""
        answer = self._peek()
        shown, self._shown = self._shown, True
        if not shown and answer.engine is not None and (answer.stdout or answer.stderr):
            output = {"stdout": answer.stdout, "stderr": answer.stderr}
            show_output(answer.engine, output, "stdout and stderr of the future have all")

    def cancel_now(self) -> None:
        """Cancel the future, and notify all waiters."""
        super().cancel()
        self.set_running_or_notify_cancel()
        self._item = None


class Completions:
    """Finishes futures, and calls their callbacks in a separate thread, where they may block.

    The thread runs until shortly after the last future is done.

    :param keeps_alive: whether the program does not end before that.
    """

    def __init__(self, name: str, keeps_alive: bool = True) -> None:
        self._name = name
        self._keeps_alive = keeps_alive
        self._queue: SimpleQueue[tuple[Callback, EngineFuture] | None] = SimpleQueue()
        # Its lock is reentrant, as an executor may be garbage-collected at any point.
        self._changed = threading.Condition()
        self._outstanding = 0
        self._thread: threading.Thread | None = None
        self._when_idle: list[Callable[[], object]] = []

    @property
    def outstanding(self) -> int:
        """The number of futures that are not done, plus that of waiting callbacks."""
        return self._outstanding

    def expect(self) -> None:
        """Add a future to the outstanding ones.

        :raises RuntimeError: if the program is ending, so that no thread can be started.
        """
        with self._changed:
            if self._thread is None:
                if not threading.main_thread().is_alive():
                    raise RuntimeError("cannot schedule new futures after interpreter shutdown")
                daemon = not self._keeps_alive
                thread = threading.Thread(target=self._run, name=self._name, daemon=daemon)
                thread.start()
                self._thread = thread
            self._outstanding += 1

    def put(self, future: EngineFuture, read: Callable[[], Answer], good: bool = False) -> None:
        """Finish a future; from any thread."""
        try:
            future.finish(read, good)
        except InvalidStateError:
            log.warning("%r was finished by something other than its executor", future)
        self.over(1)

    def call(self, callback: Callback, future: EngineFuture) -> None:
        """Call a callback in the thread."""
        with self._changed:
            self._outstanding += 1
        self._queue.put((callback, future))

    def over(self, number: int) -> None:
        """Note that a number of futures are done."""
        with self._changed:
            self._outstanding -= number
            if self._outstanding:
                return
            self._changed.notify_all()
            idle, self._when_idle = self._when_idle, []
            self._queue.put(None)
        for call in idle:
            call()

    def when_idle(self, call: Callable[[], object]) -> None:
        """Call ``call`` once, as soon as no future is outstanding."""
        with self._changed:
            if self._outstanding:
                self._when_idle.append(call)
                return
        call()

    def wait_idle(self) -> None:
        """Wait until no future is outstanding and all callbacks have returned.

        :raises RuntimeError: in a callback, which would wait for itself.
        :raises WaitInterrupted: on Ctrl-C.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("a callback of a future cannot wait for the executor to end")
        try:
            with self._changed:
                while self._outstanding:
                    self._changed.wait()
        except KeyboardInterrupt:
            number = self._outstanding
            raise WaitInterrupted(
                f"KeyboardInterrupt: {number} call{'' if number == 1 else 's'} of the executor "
                f"continue{'s' if number == 1 else ''}; abort() of the executor ends {'it' if number == 1 else 'them'}"
            ) from None

    def _run(self) -> None:
        while True:
            try:
                todo = self._queue.get(timeout=None if self._outstanding else LINGER)
            except Empty:
                with self._changed:
                    if not self._outstanding:
                        self._thread = None
                        return
                continue
            if todo is not None:
                try:
                    todo[0](todo[1])
                except BaseException:
                    log.exception("exception calling callback for %r", todo[1])
                todo = None
                self.over(1)
