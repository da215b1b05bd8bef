"""Engines as the controller and its adapters see them.

Each engine is a :class:`QueuedEngine` here: it holds the engine's link and a queue of :class:`Command` objects, sends
them one at a time, and gives a Deferred of each one's :class:`Outcome`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import Attribute, Interface, implementer

from ipython1.kernel.basics.error import KernelError, NotStarted, ProtocolError
from ipython1.kernel.controller.command import Command, Outcome
from ipython1.kernel.controller.commanddata import CommandData
from ipython1.kernel.controller.commandqueue import Key
from ipython1.kernel.controller.commandsender import CommandSender, CommandWatch
from ipython1.kernel.controller.confirmations import Confirmations
from ipython1.kernel.host.peerprocess import NoProcesses, PeerProcesses
from ipython1.kernel.host.processstate import ProcessName
from ipython1.kernel.wire import frames, messages
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.handlers import KindHandler
from ipython1.kernel.wire.link import Link
from ipython1.kernel.wire.loads import leaves_data
from ipython1.kernel.wire.named import pack_named
from ipython1.kernel.wire.payload import Serialized, join_inline

log: Logger = Logger()


class IEngineQueued(Interface):
    """An engine in the controller: a queue of commands.

    The methods that take part in the queue give a Deferred of an :class:`Outcome` and never fail.
    """

    id: int = Attribute("The engine's id, an int >= 0.")

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


class CommandRules(Protocol):
    """What clients mean for the queues of engines."""

    def may_go(self, key: Key) -> bool:
        """Whether a command of this name may be sent, as far as its client is concerned."""

    def may_claim(self, key: Key) -> bool:
        """Whether a client may still come and name a command as its own."""


class NoRules:
    """All commands may be sent, and none is claimed later."""

    def may_go(self, key: Key) -> bool:
        return True

    def may_claim(self, key: Key) -> bool:
        return False


@implementer(IEngineQueued)
class QueuedEngine:
    """An engine in the controller.

    :param clock: for the escalation of :meth:`kill`.
    :param processes: those of this host, the engine's perhaps among them.
    :param rules: which commands may be sent, as far as their clients are concerned.
    :param confirmations: those of all engines; None for its own.
    :ivar commands: its queue of commands.
    :ivar blameless: whether somebody ends it on purpose, so that what it runs is not to blame.
    :ivar holds_data: whether somebody has left something there.
    :ivar turned: when it was last seen to begin or end a command, in seconds of the clock.
    :ivar process: the engine's process, if this host's operating system confirms that it is at the other end.
    """

    has_lane = False
    """Whether it comes through the connection of its gateway."""

    def __init__(
        self,
        engine_id: int,
        hello: messages.Hello,
        clock: IReactorTime,
        processes: PeerProcesses | None = None,
        rules: CommandRules | None = None,
        confirmations: Confirmations | None = None,
    ) -> None:
        self.id = engine_id
        self.hello = hello
        self.origin: bytes = bytes.fromhex(hello.uuid)
        # Another one after each start of the controller, as the numbers begin anew.
        self.local_origin: bytes = os.urandom(messages.ORIGIN_SIZE)
        self.properties_version: int = 0
        self.registered: float = time.time()
        self.alive: bool = True
        self.link: Link | None = None
        self._away_since: float | None = None
        self._clock = clock
        self._processes = processes or NoProcesses()
        self.process: ProcessName | None = None
        chosen = NoRules() if rules is None else rules
        self.commands: CommandSender = CommandSender(
            engine_id,
            self._name,
            confirmations or Confirmations(clock),
            chosen.may_go,
            chosen.may_claim,
            self._turn,
        )
        self._number = 0
        self._handlers: dict[int, KindHandler] = {}
        self._reports: dict[int, Deferred[Any]] = {}
        self._kill_timer: Any = None
        self.on_turn: Callable[[], None] = lambda: None
        """Called when a command is sent, and when the engine is done with one."""
        self.on_killed: Callable[[], None] = lambda: None
        """Called when it was to be killed and has not gone by itself; it must be given up."""
        self.row: int = 0
        """The journal's ticket of its registration."""
        self.loss_reason: str = ""
        """How it went, once it is gone."""
        self.lost_command: bool = False
        """Whether it had a command when it went."""
        self.blameless: bool = False
        self.holds_data: bool = hello.holds.data
        self.turned: float = clock.seconds()

    def _name(self) -> str:
        return f"engine {self.id} (process {self.hello.pid})"

    def watched_by(self, watch: CommandWatch) -> None:
        """Tell somebody what it does."""
        self.commands.watch = watch

    def _turn(self) -> None:
        self.turned = self._clock.seconds()
        self.on_turn()
        self.commands.watch.turn()

    @property
    def away(self) -> bool:
        """Whether its link is lost, and it may come back."""
        return self._away_since is not None

    @property
    def seconds_away(self) -> float:
        """For how long its link has been lost; 0 if it is not."""
        since = self._away_since
        return 0.0 if since is None else round(self._clock.seconds() - since, 1)

    def attach(self, link: Link, holds: messages.Holds) -> None:
        """The engine is reached through ``link``, perhaps again; ``holds`` is what it has left from before."""
        self.link = link
        self.holds_data = self.holds_data or holds.data
        self._away_since = None
        link.bulk.relaying = True
        self.process = self._processes.find(self.hello.host, self.hello.pid, link.ends)
        self.commands.attach(link, holds)

    def go_away(self, reason: str) -> None:
        """The engine's link is lost, and it may come back."""
        self.link = None
        self._away_since = self._clock.seconds()
        self.loss_reason = reason
        self.commands.go_away()
        self._fail_reports(KernelError(f"{self._name()} is out of reach: {reason}"))

    def handle(self, kind: int, handler: KindHandler) -> None:
        """Frames of ``kind`` from this engine go to ``handler(flags, ident, meta, payload)``."""
        self._handlers[kind] = handler

    # -- the queue

    def submit(self, command: Command) -> Deferred[Outcome]:
        """Queue ``command``; gives its first outcome, and never fails."""
        outcome: Deferred[Outcome] = Deferred()
        command.on_outcome = outcome.callback
        self.queue(command)
        return outcome

    def queue(self, command: Command) -> None:
        """Queue ``command``, which calls its ``on_outcome``."""
        if self.alive:
            self.holds_data = leaves_data(command.method, self.holds_data)
            self.commands.submit(command)
        else:
            problem = NotStarted(f"{self._name()} died before it started this command: it is gone")
            command.end(Outcome.refused(self.id, problem))

    def _local(self, method: str, payload: Sequence[Buffer]) -> Deferred[Outcome]:
        self._number += 1
        joined = join_inline(payload)
        data = CommandData(len(joined), joined)
        return self.submit(Command(self.local_origin, self._number, method, data))

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
        reason = "its engine's queue was cleared before it began"
        return self.commands.remove(lambda command: True, reason)

    def is_running(self, key: Key) -> bool:
        """Whether the command ``key`` is what the engine has now."""
        return self.commands.is_running(key)

    def is_waiting(self, key: Key) -> bool:
        """Whether the command ``key`` is in the queue and has not been sent."""
        return self.commands.is_waiting(key)

    @property
    def running_key(self) -> Key | None:
        """What names the command that the engine has now."""
        return self.commands.running_key

    def queue_status(self) -> dict[str, Any]:
        away = {"away": self.seconds_away} if self.away else {}
        return {**self.commands.status(), **away}

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
            answer.errback(self._out_of_reach())
            return answer
        self._reports[number] = answer
        self.link.send(frames.STATUS, number, b"", messages.pack_json(request))
        return answer

    def _out_of_reach(self) -> KernelError:
        if self.away:
            return KernelError(f"{self._name()} is out of reach: {self.loss_reason}")
        return self.commands.died("it is gone")

    def kill(self, grace: float = 1.0) -> None:
        """End the engine's process; by force after ``grace`` seconds, where it runs on this host.

        It is gone then in any case.
        """
        if not self.alive or self._kill_timer is not None:
            return
        if self.link is not None:
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
        self.on_killed()

    # -- the link

    def frame_received(
        self, kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer
    ) -> None:
        """A frame from the engine."""
        handler = self._handlers.get(kind)
        if handler is not None:
            handler(flags, ident, meta, payload)
        elif kind == frames.OUTCOME:
            self.commands.outcome_received(flags, ident, meta, payload)
        elif kind == frames.OUTPUT:
            self.commands.output_received(ident, bytes(meta), payload)
        elif kind == frames.REPLY:
            answer = self._reports.pop(ident, None)
            if answer is not None:
                answer.callback(messages.unpack_json(payload))
        elif kind == frames.PROPERTIES:
            self.properties_version = ident
        else:
            raise ProtocolError(f"an engine sent a frame of unknown kind {kind}")

    def end(self, reason: str) -> None:
        """The engine is gone for good; call :meth:`fail_all` when everybody knows."""
        self.alive, self._away_since = False, None
        self.link = None
        if self._kill_timer is not None:
            self._kill_timer.cancel()
            self._kill_timer = None
        self.loss_reason, self.lost_command = reason, self.commands.busy
        self.commands.end()

    def fail_all(self) -> None:
        """Fail everything that a gone engine had."""
        self.commands.fail_all(self.loss_reason)
        self._fail_reports(self.commands.died(self.loss_reason))

    def _fail_reports(self, problem: KernelError) -> None:
        reports, self._reports = self._reports, {}
        for answer in reports.values():
            answer.errback(problem)
