"""The engine's end of its link with the controller; lives in the reactor's thread.

:class:`EngineEnd` hands frames to whoever handles their kind, answers questions about the engine, and ends it;
:class:`EngineConnection` makes the link, and makes it again when it is lost, for a bounded time.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from time import monotonic  # user code may replace the one in the module
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from ipython1.core.interrupt import InterruptGate
from ipython1.core.stacks import main_thread_stack
from ipython1.kernel.basics.error import ConnectionError, KernelError
from ipython1.kernel.engine.enginecommands import EngineCommands, OutputSource
from ipython1.kernel.engine.worker import Worker
from ipython1.kernel.wire import frames, messages
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.handlers import FrameHandlers
from ipython1.kernel.wire.link import FrameLink, ThreadOutbox

log = Logger()

EXIT_DELAY = 0.05
"""Seconds that user code gets to end by itself when the engine is to end."""

RECONNECT_DELAYS = (0.05, 0.2, 0.5, 1.0, 2.0, 3.0)
"""Seconds to wait before each attempt to reach the controller again; the last is repeated."""


class EngineEnd:
    """The engine's end of the link; lives in the reactor's thread.

    :param exit_now: ends the process without waiting for user code.
    :ivar handlers: what is done with each kind of frame.
    :ivar commands: takes the commands.
    """

    def __init__(
        self,
        worker: Worker,
        gate: InterruptGate,
        output: OutputSource,
        reactor: Any,
        exit_now: Callable[[], None],
    ) -> None:
        self._worker = worker
        self._reactor = reactor
        self._exit_now = exit_now
        self._begun = monotonic()
        self.outbox = ThreadOutbox(reactor.callFromThread)
        self.lost: Deferred[str] = Deferred()
        self.stopping = False
        self.commands = EngineCommands(worker, gate, output, reactor, self.outbox)
        self.handlers = FrameHandlers("the controller")
        self.handlers.update(self.commands.handlers)
        self.handlers[frames.STATUS] = self._status_asked
        self.handlers[frames.STOP] = lambda flags, ident, meta, payload: self.stop()
        self.frame_received = self.handlers.frame_received

    def attach(self, link: FrameLink, max_message: int = 0) -> None:
        """Answer through ``link`` from now on.

        :param max_message: bytes; larger answers are refused here.  0 for no limit.
        """
        self.commands.max_message = max_message
        self.lost = Deferred()
        if link.lost:
            self.lost.callback("the connection was lost while it was made")
            return
        self.outbox.link = link
        self.commands.attached()

    def link_lost(self, reason: str) -> None:
        self.outbox.link = None
        self.commands.link_lost()
        if not self.lost.called:
            self.lost.callback(reason)

    def stop(self) -> None:
        """End the process: at once if user code runs, else in good order."""
        self.stopping = True
        self._worker.stop()
        # What was sent in this turn still goes out.
        self._reactor.callLater(EXIT_DELAY, self._exit_if_busy)

    def _exit_if_busy(self) -> None:
        if self._worker.busy:
            self._exit_now()

    # -- questions

    def _status_asked(self, flags: int, number: int, meta: Buffer, payload: Buffer) -> None:
        try:
            self._status(number, messages.unpack_json(payload))
        except Exception:
            log.failure("user code is in the way of a request")

    def _status(self, number: int, request: dict[str, Any]) -> None:
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
        if request.get("stack"):
            answer["stack"] = _stack() if "seconds" in answer or "task" in answer else ""
        if self.outbox.link is not None:
            self.outbox.link.send(frames.REPLY, number, b"", messages.pack_json(answer))

    def _status_of_task(self, answer: dict[str, Any], interrupt: bool) -> None:
        source = self._worker.source
        if source is None:
            return
        task = source.running_key
        if task is not None:
            answer["task"] = list(task)
        if interrupt:
            source.interrupt()


def _stack() -> str:
    try:
        return main_thread_stack()
    except Exception as problem:
        return f"<the stack could not be read: {type(problem).__name__}>"


class EngineConnection:
    """Keeps the engine connected.

    :param open_link: makes a connection and registers; gives the welcome.
    :param give_up_after: seconds without a controller after which ``run`` ends with an error.
    """

    def __init__(
        self,
        open_link: Callable[[], Awaitable[messages.Welcome]],
        end: EngineEnd,
        clock: IReactorTime,
        give_up_after: float,
    ) -> None:
        self._open_link = open_link
        self._end = end
        self._clock = clock
        self._give_up_after = give_up_after

    async def run(self, on_registered: Callable[[messages.Welcome], None]) -> None:
        """Stay connected; returns when the engine is to stop.

        :raises KernelError: when the first attempt fails, or the controller is gone for too long.
        """
        welcome = await self._open_link()
        while not self._end.stopping:
            on_registered(welcome)
            reason = await self._end.lost
            if self._end.stopping:
                return
            log.info("the controller is out of reach: {reason}", reason=reason)
            welcome = await self._connect_again()

    async def _connect_again(self) -> messages.Welcome:
        deadline = self._clock.seconds() + self._give_up_after
        delays = iter(RECONNECT_DELAYS)
        delay = 0.0
        while True:
            delay = next(delays, delay)
            await deferLater(self._clock, delay)
            try:
                return await self._open_link()
            except KernelError as problem:
                if self._clock.seconds() + delay > deadline:
                    raise ConnectionError(
                        f"the controller could not be reached for {self._give_up_after:g} s ({problem}); "
                        "the engine exits"
                    ) from None
