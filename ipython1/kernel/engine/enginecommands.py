"""An engine's commands, in the reactor's thread: taking them, telling their outcomes, interrupting them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from twisted.logger import Logger

from ipython1.core.interrupt import InterruptGate
from ipython1.kernel.basics.error import (
    KernelError,
    MessageSizeError,
    OutOfMemory,
    ProtocolError,
    QueueCleared,
    to_wire,
)
from ipython1.kernel.engine.commandmemory import Came, CommandMemory, Key
from ipython1.kernel.engine.liveoutput import STREAM_INTERVAL, LiveOutput
from ipython1.kernel.engine.worker import Command, Worker
from ipython1.kernel.objects.mapparts import forget_items
from ipython1.kernel.wire import frames, messages
from ipython1.kernel.wire.bulk import RefusedHere, WritableBuffer, copy_of, unpack_reference
from ipython1.kernel.wire.failurenotes import pack_note
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.handlers import KindHandler
from ipython1.kernel.wire.link import Link, ThreadOutbox
from ipython1.kernel.wire.loads import leaves_data
from ipython1.kernel.wire.messages import Outcome
from ipython1.kernel.wire.overflow import Overflow
from ipython1.kernel.wire.payload import Live, split_inline, total_size

log: Logger = Logger()

MOST_HELD: Final = 64 * 2**20
"""Bytes of outcomes that were not confirmed and are held in memory; what comes beyond goes into temporary files."""

INTERRUPT_AGAIN: Final = 0.005
"""Seconds after which an interrupt is tried again for a command that has not begun."""

DID_NOT_RUN: Final = "did not run on this engine"
"""What is said of a command that was never here as a whole, and may not come any more."""


class EngineCommands:
    """Gives commands to the main thread, and keeps their outcomes until the controller confirms that they are safe.

    While there is no link, what runs goes on, and nothing begins.

    :ivar handlers: for the frames of commands.
    :ivar max_message: bytes; larger results are refused here.  0 for no limit.
    :ivar engine_id: this engine's id where they come from.
    """

    def __init__(
        self,
        worker: Worker,
        gate: InterruptGate,
        output: LiveOutput,
        reactor: Any,
        outbox: ThreadOutbox,
    ) -> None:
        self._worker = worker
        self._gate = gate
        self._output = output
        self._reactor = reactor
        self._outbox = outbox
        self._memory = CommandMemory()
        self._overflow = Overflow()
        self._told: tuple[Key, ...] = ()
        self._streamed: set[Key] = set()
        self._data = False
        self._watch_call: Any = None
        self.max_message: int = 0
        self.engine_id: int = -1
        self.handlers: dict[int, KindHandler] = {
            frames.COMMAND: self._command,
            frames.INTERRUPT: self._interrupt_asked,
            frames.RECALL: self._recall_asked,
            frames.CONFIRM: self._confirm,
            frames.RECLAIM: self._reclaim,
        }

    @property
    def _link(self) -> Link | None:
        return self._outbox.link

    # -- the link

    def holds(self) -> messages.Holds:
        """What is left here of earlier connections; tell it when registering."""
        # In this order: a command that ends in between is told twice rather than not at all.
        self._told = self._memory.held
        finished = _named(self._memory.finished)
        return messages.Holds(_named(self._told), finished, data=self._data)

    def attached(self) -> None:
        """There is a link, by which the controller knows what :meth:`holds` said."""
        told, self._told = self._told, ()
        for key in told:
            outcome = self._memory.outcome(key)
            if outcome is not None:  # it ended since then
                self._send(key, outcome)
        self._worker.set_away(False, self)

    def link_lost(self) -> None:
        """The link is gone."""
        self._worker.set_away(True, self)
        self._memory.link_lost()

    def forget(self) -> None:
        """The controller has given this engine up and does not know what it holds; stop that."""
        self._told = ()
        self._memory.forget_outcomes()
        for key in self._memory.held:
            if self._worker.take_out(key) is not None:
                self._memory.drop(key)
            else:
                _guarded(self._interrupt_command, key)

    # -- commands

    def _command(self, flags: int, number: int, meta: Buffer, payload: Buffer) -> None:
        told = messages.CommandMeta.unpack(meta)
        key = (told.origin, number)
        came = self._memory.came(key)
        if came is Came.NEW:
            if flags & frames.BULK:
                self._receive(told, number, payload)
            else:
                self._queue(_inline(told, number, payload, self))
            return
        if flags & frames.BULK and self._link is not None:
            self._link.bulk.drop(unpack_reference(payload), "it was received before")
        if came is Came.ENDED:
            self._reclaim(0, number, told.origin, b"")
        elif came is Came.FORGOTTEN:
            self._send(key, _not_kept())
        elif came is Came.OVERTAKEN:
            self._send(key, _overtaken())

    def _receive(self, told: messages.CommandMeta, number: int, payload: Buffer) -> None:
        command = Command(told.origin, number, told.method, stream=told.stream, owner=self)
        link = self._link
        assert link is not None

        def arrived(buffers: list[WritableBuffer] | None, reason: str) -> None:
            if buffers is not None:
                self._queue(replace(command, buffers=buffers))
            elif isinstance(reason, RefusedHere):
                problem = OutOfMemory(f"its data could not be received: {reason}")
                self._queue(replace(command, problem=problem))
            elif self._memory.did_not_arrive(command.key):
                self._send_unreceived(link, command.key, reason)

        link.bulk.take(unpack_reference(payload), arrived)

    def _send_unreceived(self, link: Link, key: Key, reason: str) -> None:
        origin, number = key
        error = to_wire(KernelError(f"its data did not arrive: {reason}"))
        meta = origin + bytes((messages.UNRECEIVED,)) + messages.pack_json(error)
        link.send(frames.OUTCOME, number, meta)

    def _queue(self, command: Command) -> None:
        if not self._memory.arrived(command.key):
            return
        self._data = leaves_data(command.method, self._data)
        if command.stream:
            self._streamed.add(command.key)
            if self._watch_call is None:
                self._watch_call = self._reactor.callLater(STREAM_INTERVAL, self._watch)
        self._worker.put(command)

    # -- outcomes

    def ended(self, command: Command, outcome: Outcome) -> None:
        """Keep and tell how a command ended; from any thread."""
        size = total_size(outcome.buffers)
        if self.max_message and size > self.max_message:
            problem = MessageSizeError.too_large(
                "the result", size, self.max_message, "fetch it in parts"
            )
            outcome = Outcome.refused(outcome.engine_id, problem)
        elif size + self._memory.size > MOST_HELD and not isinstance(outcome.buffers, Live):
            outcome = outcome._replace(buffers=self._overflow.put(outcome.buffers))
        if command.stream:
            self._streamed.discard(command.key)
            for stream, data in self._output.ended():
                frame = _output_frame(command, stream, data)
                self._outbox.post([frame], len(frame))
        forget_items()
        self._memory.ended(command.key, outcome)
        self._send(command.key, outcome)

    def before_user_code(self) -> None:
        """Copy what outcomes have of the user's objects, as these may change now; in the main thread.

        What this did not get to, as it was interrupted or there was no room, is copied before the next user code.

        :raises MemoryError: if there is no room; no user code may run.
        """
        for key, live in self._memory.live:
            live.secure(self._copied)
            self._memory.secured(key)

    def _copied(self, buffer: Buffer) -> Buffer:
        if self._memory.size <= MOST_HELD:
            try:
                return copy_of(buffer)
            except MemoryError:
                pass  # a file takes none
        (copied,) = self._overflow.put((buffer,))
        return copy_of(buffer) if copied is buffer else copied

    def _send(self, key: Key, outcome: Outcome) -> None:
        origin, number = key
        meta = origin + bytes((outcome.status,))
        if outcome.error is not None:
            meta += messages.pack_json(to_wire(outcome.error))
        elif outcome.note is not None:
            meta += pack_note(outcome.note)
        self._outbox.post_payload(frames.OUTCOME, number, meta, outcome.buffers)

    def _confirm(self, flags: int, number: int, meta: Buffer, payload: Buffer) -> None:
        origin, count = messages.unpack_confirm(meta)
        self._memory.confirm(origin, number, count)

    def _reclaim(self, flags: int, number: int, meta: Buffer, payload: Buffer) -> None:
        """Send an outcome again, unless it is not there yet."""
        key = (bytes(meta), number)
        outcome = self._memory.outcome(key)
        if outcome is None and not self._memory.is_unfinished(key):
            outcome = _not_kept()
        if outcome is not None:
            self._send(key, outcome)

    # -- output

    def _watch(self) -> None:
        """Send what a command that is watched has written since the last look."""
        self._watch_call = None
        if not self._streamed:
            return
        command = self._worker.running
        if command is not None and command.stream and command.owner is self:
            _guarded(self._send_new_output, command)
        self._watch_call = self._reactor.callLater(STREAM_INTERVAL, self._watch)

    def _send_new_output(self, command: Command) -> None:
        link = self._link
        if link is None or not link.has_room:
            return  # nothing is lost: the next look finds it
        for stream, data in self._output.look(command.key, lambda: self._worker.running is command):
            link.send(frames.OUTPUT, command.number, command.origin + stream.encode(), data)

    # -- control

    def _recall_asked(self, flags: int, number: int, meta: Buffer, payload: Buffer) -> None:
        _guarded(self._recall, (bytes(meta), number))

    def _recall(self, key: Key) -> None:
        """Give back a command that has come but not begun."""
        command = self._worker.take_out(key)
        if command is not None:
            problem = QueueCleared(f"{command.method}: it was taken back")
            self.ended(command, Outcome.refused(-1, problem))

    def _interrupt_asked(self, flags: int, number: int, meta: Buffer, payload: Buffer) -> None:
        _guarded(self._interrupt, bytes(meta), number)

    def _interrupt(self, origin: bytes, number: int) -> None:
        key = (origin, number) if origin else self._memory.first_unfinished
        if key is not None:
            self._interrupt_command(key)

    def _interrupt_command(self, key: Key) -> None:
        # A command that has come but not begun cannot be interrupted yet, and must not escape by that.
        if self._memory.is_unfinished(key) and not self._gate.request(key):
            self._reactor.callLater(INTERRUPT_AGAIN, self._interrupt_command, key)


def _output_frame(command: Command, stream: str, data: bytes) -> bytes:
    return frames.pack_frame(frames.OUTPUT, command.number, command.origin + stream.encode(), data)


def _inline(
    told: messages.CommandMeta, number: int, payload: Buffer, owner: EngineCommands
) -> Command:
    try:
        buffers = split_inline(payload)
        return Command(told.origin, number, told.method, buffers, told.stream, owner=owner)
    except ProtocolError as problem:
        # The controller passes on what clients send; this must not end the engine's connection.
        return Command(told.origin, number, told.method, (), told.stream, problem, owner)


def _named(keys: tuple[Key, ...]) -> tuple[tuple[str, int], ...]:
    return tuple((origin.hex(), number) for origin, number in keys)


def _not_kept() -> Outcome:
    problem = KernelError(
        "the command ran and its outcome is not kept any more, or a later one of its client came before it"
    )
    return Outcome.refused(-1, problem)


def _overtaken() -> Outcome:
    problem = KernelError(
        f"the call {DID_NOT_RUN}, and later ones of its client came before it: it had been refused or taken out of the "
        "queue, and its client had not heard of that. Make the call again"
    )
    return Outcome.refused(-1, problem)


def _guarded(function: Callable[..., object], *args: Any) -> None:
    """Do what meets user code; what goes wrong there must not end the connection."""
    try:
        function(*args)
    except Exception:
        log.failure("user code is in the way of a request")
