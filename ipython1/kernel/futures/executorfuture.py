"""The futures of executors, and the thread that finishes them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, InvalidStateError
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from ipython1.kernel.basics.error import WaitInterrupted
from ipython1.kernel.calls.twistedutil import in_reactor_thread, refuse_in_reactor_thread

if TYPE_CHECKING:
    from ipython1.kernel.futures.dispatch import Item

log = logging.getLogger("concurrent.futures")
"""Where the standard library's executors log what goes wrong in callbacks."""

Callback: TypeAlias = Callable[[Any], object]

LINGER: Final = 0.2
"""Seconds that the thread stays when there is nothing to do."""


CALL_GOES_ON: Final = (
    "KeyboardInterrupt: the call continues; abort() of its future ends it, and abort() of the executor "
    "ends all its calls"
)
"""What Ctrl-C says."""

CALLS_ENDED: Final = "KeyboardInterrupt: the executor's calls were aborted"
"""What it says when it leaves the executor's ``with`` statement too."""


class RemoteTraceback(Exception):
    """Stands for where an exception was raised on an engine; the ``__cause__`` of exceptions that have no other.

    :ivar tb: the engine's traceback, text.
    """

    def __init__(self, tb: str) -> None:
        super().__init__(tb)
        self.tb = tb

    def __str__(self) -> str:
        return f'\n"""\n{self.tb}"""'


def show_traceback(exception: BaseException, traceback: str) -> None:
    """Make an engine's traceback the cause of ``exception``; it is a note of it until now.

    Where the exception has a cause or a context of its own, the note stays.
    """
    notes: list[str] = getattr(exception, "__notes__", [])
    if traceback not in notes or exception.__cause__ or exception.__context__:
        return
    exception.__notes__ = [note for note in notes if note != traceback]
    if not exception.__notes__:
        del exception.__notes__
    exception.__cause__ = RemoteTraceback(traceback)


def was_remote(exception: BaseException) -> bool:
    """Whether it was raised on an engine, and :func:`show_traceback` was called for it."""
    return isinstance(exception.__cause__, RemoteTraceback) or bool(
        getattr(exception, "__notes__", None)
    )


class Answer:
    """What came of a call, read.

    :ivar engine: the id of the engine that it ran on, or None.
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
        self.engine = engine
        self.value = value
        self.problem = problem
        self.stdout = stdout
        self.stderr = stderr


_UNREAD: Final = RuntimeError("the exception from the engine has not been decoded")


class ItemOwner(Protocol):
    """The executor, as its futures see it."""

    def cancel_items(self, items: list[Item]) -> bool: ...

    def has_begun(self, item: Item) -> bool: ...

    def abort_items(self, items: list[Item]) -> None: ...

    def call_back(self, callback: Callback, future: EngineFuture) -> None: ...


class EngineFuture(Future):
    """A call on an engine; a ``concurrent.futures.Future``.

    The result is unpickled by the thread that asks for it, once.  Callbacks run in a thread of the executor.  A future
    can also be awaited in asyncio.
    """

    def __init__(self, owner: ItemOwner) -> None:
        super().__init__()
        self._owner = owner
        self._item: Item | None = None
        self._read: Callable[[], Answer] | None = None
        self._reading = threading.Lock()
        self._answer: Answer | None = None

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled() else "finished" if self.done() else "not finished"
        return f"<{type(self).__name__} at {id(self):#x}: {state}>"

    # -- what users call

    def cancel(self) -> bool:
        """Cancel the call if it has not begun, wherever it waits; True if it will not run."""
        item = self._item
        if item is None or self.done():
            return super().cancel()
        return self._owner.cancel_items([item]) or self.cancelled()

    def running(self) -> bool:
        """Whether an engine is at it now, as far as the client can tell."""
        item = self._item
        return item is not None and not self.done() and self._owner.has_begun(item)

    def abort(self) -> None:
        """End the call: it is cancelled if it has not begun, and interrupted if it has, as by Ctrl-C."""
        item = self._item
        if item is not None and not self.done():
            self._owner.abort_items([item])

    def add_done_callback(self, fn: Callback) -> None:
        """Call ``fn(future)`` when the future is done or cancelled; at once if it is."""

        def call(_: object) -> None:
            if in_reactor_thread():
                self._owner.call_back(fn, self)
            else:
                fn(self)

        super().add_done_callback(call)

    def result(self, timeout: float | None = None) -> Any:
        """What the call returned; raises what it raised.

        :param timeout: seconds to wait at most.
        :raises TimeoutError: after ``timeout``.
        :raises concurrent.futures.CancelledError: when it was cancelled.
        """
        answer = self._await(timeout)
        if answer.problem is not None:
            raise answer.problem.with_traceback(None)
        return answer.value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the call raised, or None; waits for it like :meth:`result`."""
        return self._await(timeout).problem

    @property
    def engine_id(self) -> int | None:
        """The engine that it ran on; None as long as it is not done, or if it ran on none."""
        return self._peek().engine

    @property
    def stdout(self) -> str:
        """What it has written to standard output, once it is done."""
        return self._peek().stdout

    @property
    def stderr(self) -> str:
        """What it has written to standard error, once it is done."""
        return self._peek().stderr

    def __await__(self) -> Generator[Any, None, Any]:
        import asyncio

        return asyncio.wrap_future(self).__await__()

    def _peek(self) -> Answer:
        return self._await(0) if self.done() and not self.cancelled() else Answer(None)

    def _await(self, timeout: float | None) -> Answer:
        if not self.done():
            refuse_in_reactor_thread()
        try:
            problem = super().exception(timeout)
        except KeyboardInterrupt:
            raise WaitInterrupted(CALL_GOES_ON) from None
        with self._reading:
            if self._answer is None:
                if self._read is None:
                    value = None if problem is not None else super().result(0)
                    self._answer = Answer(None, value, problem)
                else:
                    try:
                        self._answer = self._read()
                    except Exception as unreadable:
                        self._answer = Answer(None, problem=unreadable)
                    self._read = None
            return self._answer

    # -- for the executor

    def follow(self, item: Item) -> None:
        """This is what the future tells of."""
        self._item = item

    def finish(self, read: Callable[[], Answer], good: bool) -> None:
        """It is done, ``read`` says how, and ``good`` whether it went well; calls the callbacks.

        :raises InvalidStateError: when something else has finished or cancelled it.
        """
        self._read = read
        try:
            if good:
                self.set_result(None)
            else:
                # Those who wait for an exception are told by this; what it is, is read later.
                self.set_exception(_UNREAD)
        except InvalidStateError:
            self._read = None
            raise
        finally:
            self._item = None

    def cancel_now(self) -> None:
        """It is cancelled, and everybody who waits shall know."""
        super().cancel()
        self.set_running_or_notify_cancel()
        self._item = None


class Completions:
    """Finishes futures, and calls their callbacks in a thread of its own, where they may wait for other things.

    The thread is there as long as futures are outstanding and a moment longer; the program does not end before.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: SimpleQueue[tuple[Callback, EngineFuture] | None] = SimpleQueue()
        # Its lock may be taken again: an executor that is let go of may be collected anywhere.
        self._changed = threading.Condition()
        self._outstanding = 0
        self._thread: threading.Thread | None = None
        self._when_idle: list[Callable[[], object]] = []

    @property
    def outstanding(self) -> int:
        """The number of futures that are not done, and of callbacks that wait."""
        return self._outstanding

    def expect(self) -> None:
        """There is one more future."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name)
                self._thread.start()
            self._outstanding += 1

    def put(self, future: EngineFuture, read: Callable[[], Answer], good: bool = False) -> None:
        """A future is done, well or not; from any thread."""
        try:
            future.finish(read, good)
        except InvalidStateError:
            log.warning("%r was finished by something other than its executor", future)
        self.over(1)

    def call(self, callback: Callback, future: EngineFuture) -> None:
        """Call a callback, in the thread."""
        with self._changed:
            self._outstanding += 1
        self._queue.put((callback, future))

    def over(self, number: int) -> None:
        """So many futures are done."""
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
        """Call it once, as soon as no future is outstanding."""
        with self._changed:
            if self._outstanding:
                self._when_idle.append(call)
                return
        call()

    def wait_idle(self) -> None:
        """Return when no future is outstanding, and all their callbacks are through.

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
