"""The engine's end of its link with the controller; lives in the reactor's thread.

:class:`EngineEnd` takes commands and sends their outcomes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from time import monotonic  # user code may replace the one in the module
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ipython1.core.interrupt import InterruptGate
from ipython1.core.stacks import main_thread_stack
from ipython1.core.texts import shorten
from ipython1.kernel.basics.error import (
    ConnectionError,
    MessageSizeError,
    QueueCleared,
    to_wire,
)
from ipython1.kernel.engine.worker import Command, Worker
from ipython1.kernel.wire import frames, messages
from ipython1.kernel.wire.bulk import WritableBuffer, unpack_reference
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.link import FrameLink, ThreadOutbox
from ipython1.kernel.wire.messages import Outcome
from ipython1.kernel.wire.payload import split_inline, total_size

log = Logger()

STREAM_INTERVAL = 0.05
"""Seconds between looks at the output of a running command."""

STREAM_MOST = 60_000
"""Characters that are sent of what came between two looks; fit into one frame.  The result itself has all of it."""

INTERRUPT_AGAIN = 0.005
"""Seconds after which an interrupt is tried again for a command that has not begun."""

EXIT_DELAY = 0.05
"""Seconds that user code gets to end by itself when the engine is to end."""


class OutputSource(Protocol):
    """Gives what a running command has written and not yet shown."""

    def peek(self) -> tuple[str, str]: ...


class EngineEnd:
    """The engine's end of the link; lives in the reactor's thread.

    :param exit_now: ends the process without waiting for user code.
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
        self._gate = gate
        self._output = output
        self._reactor = reactor
        self._exit_now = exit_now
        self._link: FrameLink | None = None
        self._unfinished: tuple[bytes, int] | None = None
        self._watching: Command | None = None
        self._watch_call: Any = None
        self._begun = monotonic()
        self.outbox = ThreadOutbox(reactor.callFromThread)
        self.lost: Deferred[str] = Deferred()
        self.handlers: dict[int, Callable[[int, int, Buffer, Buffer], None]] = {}
        self.stopping = False
        self.max_message = 0

    def holds(self) -> messages.Holds:
        """What is left of earlier connections, for the greeting."""
        return messages.Holds()

    def attach(self, link: FrameLink, welcome: messages.Welcome, kept: bool = False) -> None:
        """Answer through ``link`` from now on.

        :param welcome: what the controller answered; larger answers than it allows are refused here.
        :param kept: whether the controller has what it had, so that what is left here matters to it.
        """
        self.max_message = welcome.max_message
        self.lost = Deferred()
        if link.lost:
            self.lost.callback("the connection was lost while it was made")
            return
        self._link = link
        self.outbox.link = link

    def frame_received(
        self, kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer
    ) -> None:
        handler = self.handlers.get(kind)
        if handler is not None:
            handler(flags, ident, meta, payload)
        elif kind == frames.COMMAND:
            self._command(flags, ident, messages.CommandMeta.unpack(meta), payload)
        elif kind == frames.INTERRUPT:
            _guarded(self._interrupt, bytes(meta), ident)
        elif kind == frames.RECALL:
            _guarded(self._recall, bytes(meta), ident)
        elif kind == frames.STATUS:
            _guarded(self._status, ident, messages.unpack_json(payload))
        elif kind == frames.STOP:
            self.stop()
        else:
            log.warn("the controller sent a frame of unknown kind {kind}", kind=kind)

    def link_lost(self, reason: str) -> None:
        self._link = None
        self.outbox.link = None
        if not self.lost.called:
            self.lost.callback(reason)

    def say_goodbye(self, reason: str) -> None:
        """Tell the controller that this engine ends, so that it does not wait for it."""
        if self._link is not None:
            self._link.send(frames.GOODBYE, 0, b"", reason.encode())
            self._link.flush()

    def stop(self) -> None:
        """End the process: at once if user code runs, else in good order."""
        self.stopping = True
        self._worker.stop()
        # What was sent in this turn still goes out.
        self._reactor.callLater(EXIT_DELAY, self._exit_if_busy)

    def _exit_if_busy(self) -> None:
        if self._worker.busy:
            self._exit_now()

    # -- commands

    def _command(
        self, flags: int, number: int, meta: messages.CommandMeta, payload: Buffer
    ) -> None:
        command = Command(meta.origin, number, meta.method, stream=meta.stream)
        self._unfinished = command.key
        if not flags & frames.BULK:
            self._queue(replace(command, buffers=split_inline(payload)))
            return
        assert self._link is not None

        def arrived(buffers: list[WritableBuffer] | None, reason: str) -> None:
            if buffers is None:
                problem = ConnectionError(f"its data did not arrive: {reason}")
                self._queue(replace(command, problem=problem))
            else:
                self._queue(replace(command, buffers=buffers))

        self._link.bulk.take(unpack_reference(payload), arrived)

    def _queue(self, command: Command) -> None:
        if command.stream:
            self._watching = command
            if self._watch_call is None:
                self._watch_call = self._reactor.callLater(STREAM_INTERVAL, self._watch)
        self._worker.put(command)

    def _watch(self) -> None:
        """Send what the watched command has written since the last look."""
        self._watch_call = None
        command = self._watching
        if command is None:
            return
        if self._worker.running is command:
            _guarded(self._send_new_output, command)
        self._watch_call = self._reactor.callLater(STREAM_INTERVAL, self._watch)

    def _send_new_output(self, command: Command) -> None:
        for stream, text in zip(("stdout", "stderr"), self._output.peek(), strict=True):
            if text:
                data = shorten(text, STREAM_MOST).encode(errors="replace")
                self._send_output(command, stream, data)

    def _send_output(self, command: Command, stream: str, data: bytes) -> None:
        if self._link is not None:
            self._link.send(frames.OUTPUT, command.number, command.origin + stream.encode(), data)

    def send_outcome(self, command: Command, outcome: Outcome) -> None:
        """Tell how a command ended; from any thread."""
        if self._unfinished == command.key:
            self._unfinished = None
        size = total_size(outcome.buffers)
        if self.max_message and size > self.max_message:
            problem = MessageSizeError.too_large(
                "the result", size, self.max_message, "fetch it in parts"
            )
            outcome = Outcome.refused(outcome.engine_id, problem)
        meta = command.origin + bytes((outcome.status,))
        if outcome.error is not None:
            meta += messages.pack_json(to_wire(outcome.error))
        if self._watching is command:
            self._watching = None
        self.outbox.post_payload(frames.OUTCOME, command.number, meta, outcome.buffers)

    # -- control

    def _recall(self, origin: bytes, number: int) -> None:
        """Give back a command that has come but not begun."""
        command = self._worker.take_out((origin, number))
        if command is not None:
            problem = QueueCleared(f"{command.method}: it was taken back")
            self.send_outcome(command, Outcome.refused(-1, problem))

    def _interrupt(self, origin: bytes, number: int) -> None:
        key = self._unfinished
        if key is not None and (not origin or key == (origin, number)):
            self._interrupt_command(key)

    def _interrupt_command(self, key: tuple[bytes, int]) -> None:
        # A command that has come but not begun cannot be interrupted yet, and must not escape by that.
        if self._unfinished == key and not self._gate.request(key):
            self._reactor.callLater(INTERRUPT_AGAIN, self._interrupt_command, key)

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
        if self._link is not None:
            self._link.send(frames.REPLY, number, b"", messages.pack_json(answer))

    def _status_of_task(self, answer: dict[str, Any], interrupt: bool) -> None:
        source = self._worker.source
        if source is None:
            return
        task = source.running_key
        if task is not None:
            answer["task"] = list(task)
        if interrupt:
            source.interrupt()


def _guarded(function: Callable[..., object], *args: Any) -> None:
    """Do what meets user code; what goes wrong there must not end the connection."""
    try:
        function(*args)
    except Exception:
        log.failure("user code is in the way of a request")


def _stack() -> str:
    try:
        return main_thread_stack()
    except Exception as problem:
        return f"<the stack could not be read: {type(problem).__name__}>"
