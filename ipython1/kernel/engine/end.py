"""The engine's end of its link with the controller; lives in the reactor's thread.

:class:`EngineEnd` hands frames to whoever handles their kind, answers questions about the engine, and ends it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from time import monotonic  # user code may replace the one in the module
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger

from ipython1.core.interrupt import InterruptGate
from ipython1.core.livedisplays import LiveDisplays
from ipython1.core.stacks import main_thread_stack
from ipython1.kernel.engine.enginecommands import EngineCommands
from ipython1.kernel.engine.liveoutput import LiveOutput, OutputSource
from ipython1.kernel.engine.worker import Worker, WorkSource
from ipython1.kernel.host.processusage import own_usage
from ipython1.kernel.host.turns import turns_of
from ipython1.kernel.wire import frames, messages
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.handlers import FrameHandlers
from ipython1.kernel.wire.link import Link, ThreadOutbox

log: Logger = Logger()

Runs: TypeAlias = tuple[tuple[int, int], ...]
"""Runs of tasks, as (task id, attempt)."""

TASK_OF_ANOTHER = "a task of another controller"
"""What a controller is told that runs here, if it is the task of another one that has this engine, too."""

EXIT_DELAY = 0.05
"""Seconds that user code gets to end by itself when the engine is to end."""


class EngineEnd:
    """The engine's end of the link; lives in the reactor's thread.

    :param output: what user code writes.
    :param displays: what it displays.
    :param exit_now: ends the process without waiting for user code.
    :ivar handlers: what is done with each kind of frame.
    :ivar output: what running code has written and displayed.
    :ivar commands: takes the commands.
    :ivar debugged: returns where user code waits for a debugger; empty if it does not.
    :ivar debug: answers the questions of those who debug user code: takes a dict, and gives one or its Deferred.
    :ivar tasks: the tasks of this controller; None for all that the worker has.
    :ivar leaving: whether it is about to end, and gets nothing more.
    :ivar released: whether it has nothing to do for its controller any more, as that one says.
    :ivar beside: the end of the engine's link with another controller, if there is one.
    :ivar holds_of_tasks: gives the runs that wait or are under way, and those whose results are not confirmed.
    """

    def __init__(
        self,
        worker: Worker,
        gate: InterruptGate,
        output: OutputSource,
        reactor: Any,
        exit_now: Callable[[], None],
        displays: LiveDisplays | None = None,
    ) -> None:
        self._worker = worker
        self._reactor = reactor
        self._exit_now = exit_now
        self._begun = monotonic()
        self.outbox: ThreadOutbox = ThreadOutbox(reactor.callFromThread, turns_of(reactor).call)
        self.lost: Deferred[str] = Deferred()
        self.stopping: bool = False
        self.leaving: bool = False
        self.released: bool = False
        self.beside: EngineEnd | None = None
        self.debugged: Callable[[], str] = lambda: ""
        self.debug: Callable[[dict[str, Any]], Any] = lambda request: {}
        self.output: LiveOutput = LiveOutput(output, displays or LiveDisplays())
        self.commands: EngineCommands = EngineCommands(
            worker, gate, self.output, reactor, self.outbox
        )
        self.holds_of_tasks: Callable[[], tuple[Runs, Runs]] = lambda: ((), ())
        self.tasks: WorkSource | None = None
        self.handlers: FrameHandlers = FrameHandlers("the controller")
        self.handlers.update(self.commands.handlers)
        self.handlers[frames.STATUS] = self._status_asked
        self.handlers[frames.STOP] = lambda flags, ident, meta, payload: self._stop_asked()
        self.frame_received: Callable[[int, int, int, Buffer, Buffer], None] = (
            self.handlers.frame_received
        )

    def holds(self) -> messages.Holds:
        """What is left of earlier connections, for the greeting."""
        runs, ended = self.holds_of_tasks()
        return replace(self.commands.holds(), runs=runs, ended=ended)

    def attach(self, link: Link, welcome: messages.Welcome, kept: bool = False) -> None:
        """Answer through ``link`` from now on.

        :param welcome: what the controller answered; larger answers than it allows are refused here.
        :param kept: whether the controller has what it had, so that what is left here matters to it.
        """
        self.commands.max_message = welcome.max_message
        self.commands.engine_id = -1 if welcome.engine_id is None else welcome.engine_id
        self.lost = Deferred()
        if link.lost:
            self.lost.callback("the connection was lost while it was made")
            return
        self.outbox.link = link
        if not kept:
            self.commands.forget()
        self.commands.attached()
        self.released = False
        if self.leaving:
            link.send(frames.LEAVING, 0)

    def link_lost(self, reason: str) -> None:
        self.outbox.link = None
        self.commands.link_lost()
        if not self.lost.called:
            self.lost.callback(reason)
        other = self.beside
        if self.leaving and other is not None and other.released and other.outbox.link is not None:
            self.stop()

    def say_goodbye(self, reason: str) -> None:
        """Tell the controller that this engine ends, so that it does not wait for it."""
        link = self.outbox.link
        if link is not None:
            link.send(frames.GOODBYE, 0, b"", reason.encode())
            link.flush()

    def leave(self) -> None:
        """This engine is being ended by what runs it: finish what it has begun, and end.

        Where nobody can be told, or when it is said again, end at once.
        """
        link = self.outbox.link
        if self.leaving or link is None:
            self.say_goodbye("it was ended by what runs it")
            self.stop()
            return
        log.info("this engine is to end; it gets nothing more")
        for end in (self, self.beside):
            if end is not None:
                end.leaving = True
                if end.outbox.link is not None:
                    end.outbox.link.send(frames.LEAVING, 0)

    def _stop_asked(self) -> None:
        """The controller has it end; one that leaves still has to finish what it does for another one."""
        self.released = True
        other = self.beside
        waits = other is not None and not other.released and other.outbox.link is not None
        if not self.leaving or not waits:
            self.stop()

    def stop(self) -> None:
        """End the process: at once if user code runs, else in good order."""
        self.stopping = True
        self._worker.stop()
        # What was sent in this turn still goes out.
        self._reactor.callLater(EXIT_DELAY, self._exit_if_busy)

    def _exit_if_busy(self) -> None:
        if self._worker.busy:
            self._exit_now()

    def read_until(self, over: Callable[[], bool]) -> None:
        """Read what comes, in the main thread, for a moment; perhaps not at all."""
        link = self.outbox.link
        if link is not None:
            link.read_until(over)

    # -- questions

    def _status_asked(self, flags: int, number: int, meta: Buffer, payload: Buffer) -> None:
        try:
            self._status(number, messages.unpack_json(payload))
        except Exception:
            log.failure("user code is in the way of a request")

    def _status(self, number: int, request: dict[str, Any]) -> None:
        if "debug" in request:
            maybeDeferred(self.debug, request["debug"]).addCallback(
                lambda answer: self._reply(number, answer)
            )
            return
        running = self._worker.running
        answer: dict[str, Any] = {
            "running": None if running is None else running.method,
            "pid": os.getpid(),
            "uptime": monotonic() - self._begun,
        }
        if running is not None:
            answer["command"] = (running.origin.hex(), running.number)
            answer["seconds"] = monotonic() - self._worker.running_since
        else:
            self._status_of_task(answer, bool(request.get("interrupt")))
        where = self.debugged()
        if where:
            answer["debug"] = where
        if request.get("usage"):
            answer["usage"] = (monotonic(), *own_usage())
        if request.get("stack"):
            busy = answer["running"] is not None or "task" in answer
            answer["stack"] = _stack() if busy else ""
        self._reply(number, answer)

    def _reply(self, number: int, answer: dict[str, Any]) -> None:
        link = self.outbox.link
        if link is not None:
            link.send_bytes(frames.REPLY, number, b"", messages.pack_json(answer))

    def _status_of_task(self, answer: dict[str, Any], interrupt: bool) -> None:
        source = self.tasks or self._worker.source
        if source is None:
            return
        task = source.running_key
        if task is not None:
            answer["task"] = list(task)
        elif self._worker.source is not None and self._worker.source.running_key is not None:
            answer["running"] = TASK_OF_ANOTHER
        if interrupt:
            source.interrupt()


def _stack() -> str:
    try:
        return main_thread_stack()
    except Exception as problem:
        return f"<the stack could not be read: {type(problem).__name__}>"
