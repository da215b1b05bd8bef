"""Engines as the controller and its adapters see them.

Each engine is a :class:`QueuedEngine` here: it holds the engine's link and a queue of :class:`Command` objects, sends
them one at a time, and gives a Deferred of each one's :class:`Outcome`.  Both are sealed: the controller forwards their
bytes and never looks into them, except for names and source that it shows in queues.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import Attribute, Interface, implementer

from ipython1.core.texts import clip
from ipython1.kernel.basics.error import (
    EngineDied,
    KernelError,
    NotStarted,
    ProtocolError,
    QueueCleared,
    to_wire,
)
from ipython1.kernel.host.peerprocess import NoProcesses, PeerProcesses
from ipython1.kernel.host.processstate import ProcessName
from ipython1.kernel.wire import frames, messages
from ipython1.kernel.wire.bulk import unpack_reference
from ipython1.kernel.wire.bulkrelay import BulkRelay
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.link import FrameLink
from ipython1.kernel.wire.named import pack_named
from ipython1.kernel.wire.payload import Serialized, join_inline, split_inline

log = Logger()


class IEngineQueued(Interface):
    """An engine in the controller: a queue of commands.

    The methods that take part in the queue give a Deferred of an :class:`Outcome` and never fail.
    """

    id = Attribute("The engine's id, an int >= 0.")

    def submit(command: Command) -> Deferred[Outcome]:
        """Queue a :class:`Command`."""

    def execute(lines: str) -> Any:
        """Queue the running of ``lines``."""

    def push_serialized(namespace: Mapping[str, Serialized]) -> Any:
        """Queue a push of serialized objects."""

    def pull_serialized(keys: Sequence[str]) -> Any:
        """Queue a pull; the payload of the outcome holds the objects' bytes."""

    def reset() -> Any:
        """Queue a reset."""

    def keys() -> Any:
        """Queue a listing of the user's names."""

    def clear_queue() -> int:
        """Remove what has not begun; each of those fails with ``QueueCleared``."""

    def queue_status() -> dict[str, Any]:
        """The method and number of the command that runs and of those that wait."""

    def interrupt() -> None:
        """Interrupt what runs now."""

    def kill() -> Any:
        """End the engine's process."""


@dataclass(frozen=True, slots=True)
class Command:
    """What one engine has to do.

    :ivar origin: the uuid (16 bytes) of the client it comes from.
    :ivar number: unique for ever with ``origin``.
    :ivar method: the command's name, which the engine knows.
    :ivar payload: its arguments, joined with :func:`~ipython1.kernel.payload.join_inline`.
    :ivar relay: instead, the bulk transfer that brings them.
    :ivar stream: called with the name of a stream and text while the command runs, when output shall be streamed.
    :ivar outcome: fires with the :class:`Outcome`, and never fails.
    :ivar transfer: the number of the bulk transfer to the engine, once it is queued.
    """

    origin: bytes
    number: int
    method: str
    payload: Buffer = b""
    relay: BulkRelay | None = None
    stream: Callable[[str, bytes], None] | None = None
    outcome: Deferred[Outcome] = field(default_factory=Deferred, compare=False, repr=False)
    transfer: int | None = None

    @property
    def key(self) -> tuple[bytes, int]:
        """What names it for ever."""
        return (self.origin, self.number)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended on one engine.

    :ivar status: ``messages.OK``, ``messages.FAILED`` (the user's code raised) or ``messages.REFUSED`` (the
        kernel's error).
    :ivar payload: opaque, inline.
    :ivar relay: instead, the bulk transfer that brings it; a sink must be added in the same turn.
    :ivar error: name and message of the kernel's error.
    """

    engine_id: int
    status: int
    payload: Buffer = b""
    relay: BulkRelay | None = None
    error: tuple[str, str] | None = None

    @classmethod
    def refused(cls, engine_id: int, problem: BaseException) -> Outcome:
        """The kernel's own error."""
        return cls(engine_id, messages.REFUSED, error=to_wire(problem))


@dataclass(slots=True)
class CommandQueue:
    """One engine's commands in order; no I/O.

    ==========  =====================================  ============================
    command     event                                  becomes
    ==========  =====================================  ============================
    waiting     nothing runs: :meth:`next_to_send`     running
    waiting     :meth:`remove`                         gone (the caller fails it)
    running     :meth:`finished`                       gone
    any         :meth:`drain` (the engine is gone)     gone
    ==========  =====================================  ============================
    """

    running: Command | None = None
    waiting: deque[Command] = field(default_factory=deque)

    def __bool__(self) -> bool:
        return self.running is not None or bool(self.waiting)

    def next_to_send(self) -> Command | None:
        """The command to send now, if nothing runs and something waits."""
        if self.running is not None or not self.waiting:
            return None
        self.running = self.waiting.popleft()
        return self.running

    def finished(self, key: tuple[bytes, int]) -> Command | None:
        """The engine is done with ``key``; None when that was not running (a late or repeated outcome)."""
        command = self.running
        if command is None or command.key != key:
            return None
        self.running = None
        return command

    def remove(self, wanted: Callable[[Command], bool]) -> list[Command]:
        """Take out the waiting commands that are ``wanted``."""
        removed = [command for command in self.waiting if wanted(command)]
        if removed:
            self.waiting = deque(command for command in self.waiting if not wanted(command))
        return removed

    def drain(self) -> list[Command]:
        """Take out everything."""
        commands = [*([self.running] if self.running else []), *self.waiting]
        self.running = None
        self.waiting.clear()
        return commands


@implementer(IEngineQueued)
class QueuedEngine:
    """An engine in the controller.

    :param clock: for the escalation of :meth:`kill`.
    :param processes: those of this host, the engine's perhaps among them.
    :ivar process: the engine's process, if this host's operating system confirms that it is at the other end.
    """

    def __init__(
        self,
        engine_id: int,
        hello: messages.Hello,
        clock: IReactorTime,
        processes: PeerProcesses | None = None,
    ) -> None:
        self.id = engine_id
        self.hello = hello
        self.origin = bytes.fromhex(hello.uuid)
        self.properties_version = 0
        self.alive = True
        self.link: FrameLink | None = None
        self._away = False
        self._clock = clock
        self._processes = processes or NoProcesses()
        self.process: ProcessName | None = None
        self._queue = CommandQueue()
        self._number = 0
        self._handlers: dict[int, Callable[[int, int, Buffer, Buffer], None]] = {}
        self._reports: dict[int, Deferred[Any]] = {}
        self._waiting_for_end: dict[tuple[bytes, int], list[Deferred[None]]] = {}
        self._kill_timer: Any = None
        self.on_turn: Callable[[], None] = lambda: None
        """Called when a command is sent, and when the engine is done with one."""
        self.loss_reason = ""
        """How it went, once it is gone."""
        self.lost_command = False
        """Whether it had a command when it went."""

    @property
    def away(self) -> bool:
        """Whether its link is lost, and it may come back."""
        return self._away

    def attach(self, link: FrameLink, holds: messages.Holds) -> None:
        """The engine is reached through ``link``, perhaps again; ``holds`` is what it has left from before."""
        self.link = link
        self._away = False
        link.bulk.relaying = True
        self.process = self._processes.find(self.hello.host, self.hello.pid, link.ends)

    def go_away(self, reason: str) -> None:
        """The engine's link is lost, and it may come back."""
        self.link = None
        self._away = True
        self.loss_reason = reason

    def handle(self, kind: int, handler: Callable[[int, int, Buffer, Buffer], None]) -> None:
        """Frames of ``kind`` from this engine go to ``handler(flags, ident, meta, payload)``."""
        self._handlers[kind] = handler

    # -- the queue

    def submit(self, command: Command) -> Deferred[Outcome]:
        """Queue ``command``; gives its ``outcome``."""
        if not self.alive:
            command.outcome.callback(Outcome.refused(self.id, self._not_started("it is gone")))
            return command.outcome
        if command.relay is not None and self.link is not None:
            command = replace(command, transfer=command.relay.add_sink(self.link.bulk))
        self._queue.waiting.append(command)
        self._send_next()
        self.on_turn()
        return command.outcome

    def _send_next(self) -> None:
        if self.link is None:
            return
        command = self._queue.next_to_send()
        if command is None:
            return
        meta = messages.CommandMeta(command.origin, command.method, command.stream is not None)
        if command.transfer is None:
            self.link.send(frames.COMMAND, command.number, meta.pack(), command.payload)
        else:
            self.link.send_reference(frames.COMMAND, command.number, meta.pack(), command.transfer)

    def _local(self, method: str, payload: Sequence[Buffer]) -> Deferred[Outcome]:
        self._number += 1
        return self.submit(Command(self.origin, self._number, method, join_inline(payload)))

    def execute(self, lines: str) -> Deferred[Outcome]:
        return self._local("execute", [messages.pack_json({"source": lines})])

    def push_serialized(self, namespace: Mapping[str, Serialized]) -> Deferred[Outcome]:
        return self._local("push", pack_named(namespace))

    def pull_serialized(self, keys: Sequence[str]) -> Deferred[Outcome]:
        return self._local("pull", [messages.pack_json({"keys": list(keys)})])

    def reset(self) -> Deferred[Outcome]:
        return self._local("reset", [b"{}"])

    def keys(self) -> Deferred[Outcome]:
        return self._local("keys", [b"{}"])

    def clear_queue(self) -> int:
        """Remove what has not begun; returns how many that were."""
        return self.remove(lambda command: True, "its engine's queue was cleared before it began")

    def remove(self, wanted: Callable[[Command], bool], reason: str) -> int:
        """Remove the waiting commands that are ``wanted``; each fails with ``QueueCleared``."""
        removed = self._queue.remove(wanted)
        for command in removed:
            self._drop_transfer(command)
            problem = QueueCleared(f"{command.method}: {reason}")
            command.outcome.callback(Outcome.refused(self.id, problem))
        return len(removed)

    def take_back(self, key: tuple[bytes, int]) -> int:
        """Remove the command ``key`` if it has not begun; returns how many are removed at once.

        The engine is asked to give it back if it has been sent, as it may wait there for the end of a task.
        """
        if self.is_running(key) and self.link is not None:
            self.link.send(frames.RECALL, key[1], key[0])
        return self.remove(lambda command: command.key == key, "it was taken back")

    def is_running(self, key: tuple[bytes, int]) -> bool:
        """Whether the command ``key`` is what the engine has now."""
        running = self._queue.running
        return running is not None and running.key == key

    def is_waiting(self, key: tuple[bytes, int]) -> bool:
        """Whether the command ``key`` is in the queue and has not been sent."""
        return any(command.key == key for command in self._queue.waiting)

    @property
    def running_key(self) -> tuple[bytes, int] | None:
        """What names the command that the engine has now."""
        running = self._queue.running
        return None if running is None else running.key

    def when_over(self, key: tuple[bytes, int]) -> Deferred[None]:
        """A Deferred that fires when the engine is done with the running command ``key``, well or not."""
        over: Deferred[None] = Deferred()
        if self.is_running(key):
            self._waiting_for_end.setdefault(key, []).append(over)
        else:
            over.callback(None)
        return over

    def _over(self, key: tuple[bytes, int]) -> None:
        for waiting in self._waiting_for_end.pop(key, ()):
            waiting.callback(None)

    def _drop_transfer(self, command: Command) -> None:
        if command.transfer is not None and command.relay is not None and self.link is not None:
            command.relay.drop_sink(self.link.bulk, command.transfer)
            # The engine may have all of it already, and holds it for a command that will not come.
            self.link.bulk.forget(command.transfer)

    def queue_status(self) -> dict[str, Any]:
        running = self._queue.running
        return {
            "pending": None if running is None else _shown(running),
            "queue": [_shown(command) for command in self._queue.waiting],
        }

    # -- control

    def interrupt(self, key: tuple[bytes, int] | None = None) -> None:
        """Interrupt the command ``key``, or whatever runs now."""
        if self.link is not None:
            origin, number = key if key is not None else (b"", 0)
            self.link.send(frames.INTERRUPT, number, origin)

    def report(self, request: dict[str, Any]) -> Deferred[Any]:
        """Ask the engine's reactor something (JSON); answered also while user code runs."""
        self._number += 1
        number = self._number

        def forget(_: Deferred[Any]) -> None:
            self._reports.pop(number, None)

        answer: Deferred[Any] = Deferred(forget)
        if self.link is None or not self.alive:
            answer.errback(self._died("it is gone"))
            return answer
        self._reports[number] = answer
        self.link.send(frames.STATUS, number, b"", messages.pack_json(request))
        return answer

    def kill(self, grace: float = 1.0) -> None:
        """End the engine's process; by force after ``grace`` seconds, where it runs on this host."""
        if self.link is None or not self.alive or self._kill_timer is not None:
            return
        self.link.send(frames.STOP, 0)
        self._kill_timer = self._clock.callLater(grace, self._kill_by_force)

    def _kill_by_force(self) -> None:
        self._kill_timer = None
        ends = None if self.link is None else self.link.ends
        if self.process is not None and self._processes.end(self.process, ends):
            log.info("engine {id} did not end by itself; it was ended by force", id=self.id)
        else:
            # What it claims to be may be somebody else's process, so this is for people to decide.
            log.warn(
                "engine {id} did not end by itself, and this controller cannot end it; its connection is closed: "
                "end it where it runs (it says: process {pid} on {host})",
                id=self.id,
                pid=self.hello.pid,
                host=self.hello.host.partition("|")[0],
            )
        if self.link is not None:
            self.link.abort("it was killed")

    # -- the link

    def frame_received(
        self, kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer
    ) -> None:
        """A frame from the engine."""
        handler = self._handlers.get(kind)
        if handler is not None:
            handler(flags, ident, meta, payload)
        elif kind == frames.OUTCOME:
            self._outcome_received(flags, ident, bytes(meta), payload)
        elif kind == frames.OUTPUT:
            self._output_received(ident, bytes(meta), payload)
        elif kind == frames.REPLY:
            answer = self._reports.pop(ident, None)
            if answer is not None:
                answer.callback(messages.unpack_json(payload))
        elif kind == frames.PROPERTIES:
            self.properties_version = ident
        else:
            raise ProtocolError(f"an engine sent a frame of unknown kind {kind}")

    def _outcome_received(self, flags: int, number: int, meta: bytes, payload: Buffer) -> None:
        assert self.link is not None
        if len(meta) <= messages.ORIGIN_SIZE:
            raise ProtocolError("an engine's outcome is cut short")
        key = (meta[: messages.ORIGIN_SIZE], number)
        status = meta[messages.ORIGIN_SIZE]
        if status == messages.UNRECEIVED:
            status = messages.REFUSED
        rest = meta[messages.ORIGIN_SIZE + 1 :]
        # All of it is understood before the command is taken out, so that garbage leaves it to fail with its engine.
        error = None
        if rest:
            name, message = messages.unpack_json(rest)
            error = (str(name), str(message))
        relay = None
        if flags & frames.BULK:
            reference = unpack_reference(payload)
            if not self.is_running(key):
                self.link.bulk.refuse_relay(reference, "nobody waits for it")
                return
            relay = self.link.bulk.relay(reference)
            payload = b""
        command = self._queue.finished(key)
        if command is None:
            return
        # The engine is free before anybody hears of the outcome, so that whoever reacts finds the queue as it is.
        self._send_next()
        self.on_turn()
        command.outcome.callback(Outcome(self.id, status, payload, relay, error))
        self._over(key)

    def _output_received(self, number: int, meta: bytes, payload: Buffer) -> None:
        running = self._queue.running
        if running is None or running.stream is None:
            return
        if running.key == (meta[: messages.ORIGIN_SIZE], number):
            running.stream(meta[messages.ORIGIN_SIZE :].decode(), bytes(payload))

    def end(self, reason: str) -> None:
        """The engine is gone for good; call :meth:`fail_all` when everybody knows."""
        self.alive = self._away = False
        self.link = None
        if self._kill_timer is not None:
            self._kill_timer.cancel()
            self._kill_timer = None
        self.loss_reason, self.lost_command = reason, bool(self._queue)

    def fail_all(self) -> None:
        """Fail everything that a gone engine had."""
        reason = self.loss_reason
        running = self._queue.running
        commands = self._queue.drain()
        problem = self._died(reason)
        for command in commands:
            self._drop_transfer(command)
            why = problem if command is running else self._not_started(reason)
            command.outcome.callback(Outcome.refused(self.id, why))
            self._over(command.key)
        reports, self._reports = self._reports, {}
        for answer in reports.values():
            answer.errback(problem)

    def _died(self, reason: str) -> KernelError:
        return EngineDied(
            f"engine {self.id} (process {self.hello.pid}) died: {reason}; "
            "its running command and its namespace are lost"
        )

    def _not_started(self, reason: str) -> KernelError:
        return NotStarted(
            f"engine {self.id} (process {self.hello.pid}) died before it started this command: {reason}"
        )


def _shown(command: Command) -> str:
    """``execute('a=5')`` or ``push(a, b)``: for people who look at a queue."""
    if command.relay is not None:
        return f"{command.method}(...)"
    try:
        head = messages.unpack_json(split_inline(command.payload)[0])
        if "source" in head:
            return f"{command.method}({clip(head['source'], 60)!r})"
        if "call" in head:
            return f"{command.method}({clip(head['call'], 60)})"
        names = head.get("names", head.get("keys")) or ()
        return f"{command.method}({clip(', '.join(names), 60)})"
    except (ProtocolError, LookupError, TypeError, AttributeError):
        # Pickled arguments, which nobody reads here; or a client of its own kind.
        return f"{command.method}(...)"
