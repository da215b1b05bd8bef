"""An engine's main thread: takes work from the reactor's thread and runs it in the user's namespace.

Commands run in the order in which they came, and before tasks that have not begun.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic  # user code may replace the one in the module
from typing import Any, Protocol

from twisted.logger import Logger

from ipython1.core.failures import ExceptionRecord, record_exception
from ipython1.core.interrupt import InterruptGate, has_other_handlers
from ipython1.core.livedisplays import LiveDisplays
from ipython1.core.stacks import has_other_threads
from ipython1.core.texts import short_repr
from ipython1.core.userhandlers import UserHandlers
from ipython1.kernel.basics.error import ProtocolError
from ipython1.kernel.engine.failuretexts import note_of, note_of_value
from ipython1.kernel.engine.service import EngineService
from ipython1.kernel.objects.commands import COMMANDS, CommandKind, Failed
from ipython1.kernel.objects.serialize import LIVE_FROM
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.bulk import copy_of
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.messages import Outcome
from ipython1.kernel.wire.payload import Buffers, Live

log: Logger = Logger()


class CommandOwner(Protocol):
    """Whom a command is from: those who gave it to the worker.

    :ivar engine_id: the id of this engine there.
    """

    engine_id: int

    def ended(self, command: Command, outcome: Outcome) -> None:
        """It has ended so; from any thread."""


@dataclass(frozen=True, slots=True)
class Command:
    """What this engine has to do.

    :ivar origin: the uuid (16 bytes) of the client it comes from.
    :ivar number: unique for ever with ``origin``.
    :ivar method: its name.
    :ivar buffers: its arguments.
    :ivar stream: send output while it runs.
    :ivar problem: why it cannot be run: its arguments did not arrive.
    :ivar owner: is told how it ends.
    """

    origin: bytes
    number: int
    method: str
    buffers: Buffers = ()
    stream: bool = False
    problem: Exception | None = None
    owner: CommandOwner | None = None

    @property
    def key(self) -> tuple[bytes, int]:
        """What names it for ever."""
        return (self.origin, self.number)


class CommandRunner:
    """Runs commands as the table says: unpacks their arguments, calls the service, packs what it gives.

    :param service: the engine.
    :param user_code_ended: called when a command has failed, before that is recorded: no signal handler of the user's
        may run from then on.
    """

    def __init__(
        self, service: EngineService, user_code_ended: Callable[[], None] = lambda: None
    ) -> None:
        self._service = service
        self._user_code_ended = user_code_ended
        self._rows: dict[str, tuple[CommandKind[..., Any], Callable[..., Any]]] = {
            name: (kind, getattr(service, kind.run or name)) for name, kind in COMMANDS.items()
        }

    def run(self, command: Command) -> Outcome:
        """Run one command; never raises."""
        service = self._service
        if command.owner is not None:
            service.id = command.owner.engine_id
        if command.problem is not None:
            return Outcome.refused(service.id, command.problem)
        row = self._rows.get(command.method)
        if row is None:
            problem = ProtocolError(f"an engine has no method {command.method!r}")
            return Outcome.refused(service.id, problem)
        kind, method = row
        try:
            with service.calling():
                value = method(*kind.arguments.unpack(command.buffers, service))
            buffers = _as_live(kind.value.pack(value, service))
            return Outcome(service.id, messages.OK, buffers, note=note_of_value(value))
        except Failed as failure:
            return self._failed(failure)
        except BaseException as raised:
            self._user_code_ended()
            return self.failed(record_exception(raised))

    def failed(self, record: ExceptionRecord) -> Outcome:
        """How a command ends that raised."""
        return self._failed(Failed(record))

    def _failed(self, failure: Failed) -> Outcome:
        note = note_of(failure.record)
        return Outcome(self._service.id, messages.FAILED, failure.pack(), note=note)


def _as_live(buffers: Buffers) -> Buffers:
    """The buffers of an outcome, some of which may still be the user's.

    They are copied at once if threads or signal handlers of the user's could change them while no command runs.
    """
    if not any(map(_may_be_users, buffers)):
        return buffers
    live = Live(buffers)
    if has_other_threads() or has_other_handlers():
        live.secure(copy_of)
    return live


def _may_be_users(buffer: Buffer) -> bool:
    """Whether a buffer may be memory of an object of the user's, and so take none of its own."""
    return type(buffer) is memoryview or len(buffer) >= LIVE_FROM


class WorkSource(Protocol):
    """Other work for the main thread: the tasks."""

    def run_one(self) -> bool:
        """Do one piece of work; False when there is none."""

    def idle(self) -> None:
        """There is nothing more to do for now; send what is held back."""

    @property
    def running_key(self) -> tuple[int, int] | None:
        """What names the piece that runs now; from any thread."""

    def interrupt(self) -> bool:
        """Interrupt the piece that runs, if one does; from any thread."""

    def broken_off(self, trouble: BaseException) -> None:
        """Something that user code left behind has raised ``trouble``, perhaps when a piece had just ended."""


class Worker:
    """The main thread's loop.

    :param done: called in the main thread with each command and its outcome.
    :param handlers: the signal handlers of user code, which run only while it does, or while this waits.
    :ivar before_waiting: called in the main thread when there is nothing to do, with what tells whether there is
        something again; may read from the connection until then.
    :ivar displays: collects what code displays that is watched.
    :ivar running: the command that runs.
    :ivar busy: whether a command or a task may be running.
    """

    def __init__(
        self,
        runner: CommandRunner,
        gate: InterruptGate,
        done: Callable[[Command, Outcome], None],
        handlers: UserHandlers | None = None,
    ) -> None:
        self._runner = runner
        self._gate = gate
        self._handlers = UserHandlers() if handlers is None else handlers
        self._done = done
        self._commands: deque[Command] = deque()
        # Locked means that nothing was brought since the loop last looked.
        self._nothing_new = threading.Lock()
        self._nothing_new.acquire()
        self._stopping = False
        self._away: set[CommandOwner | None] = set()
        self.source: WorkSource | None = None
        self.displays: LiveDisplays = LiveDisplays()
        self.running: Command | None = None
        self.running_since: float = 0.0
        self.busy: bool = False
        self._told_late = False
        self.before_waiting: Callable[[Callable[[], bool]], None] = lambda over: None

    def put(self, command: Command) -> None:
        """Queue a command; from any thread."""
        self._commands.append(command)
        self.wake()

    def take_out(self, key: tuple[bytes, int]) -> Command | None:
        """Take out a command that has not begun, if there is one of that key; from any thread."""
        for command in list(self._commands):
            if command.key == key:
                try:
                    self._commands.remove(command)
                    return command
                except (ValueError, IndexError):
                    pass  # the main thread has just taken it, or another one
        return None

    def wake(self) -> None:
        """There is something to look at; from any thread."""
        if self._nothing_new.locked():
            try:
                self._nothing_new.release()
            except RuntimeError:
                pass  # another thread was faster

    def set_away(self, away: bool, owner: CommandOwner | None = None) -> None:
        """Begin no command of ``owner`` while its controller is out of reach; from any thread."""
        if away:
            self._away = self._away | {owner}
        elif owner in self._away:
            self._away = self._away - {owner}
            self.wake()

    def stop(self) -> None:
        """Leave the loop when what runs now is done; from any thread."""
        self._stopping = True
        self.wake()

    def loop(self) -> None:
        """Run until :meth:`stop`."""
        self.busy = True
        try:
            while not self._stopping:
                try:
                    self._step()
                except BaseException as trouble:
                    self._late(trouble)
        finally:
            self.busy = False

    def _step(self) -> None:
        command = self._next_command() if self._commands else None
        if command is not None:
            self._run(command)
        elif self.source is None or not self.source.run_one():
            self._handlers.ended()
            if self.source is not None:
                self.source.idle()
            self.busy = False
            if self._nothing_new.locked():
                self.before_waiting(self._is_woken)
            self._wait()
            self.busy = True

    def _wait(self) -> None:
        if not self._handlers.some_are_aside:
            self._nothing_new.acquire()
            return
        try:
            self._handlers.begins()
            self._nothing_new.acquire()
        finally:
            self._handlers.put_aside()

    def _is_woken(self) -> bool:
        return not self._nothing_new.locked()

    def _next_command(self) -> Command | None:
        away = self._away
        if away:
            return self._first_not_of(away)
        try:
            return self._commands.popleft()
        except IndexError:
            return None  # it has just been taken out

    def _first_not_of(self, away: set[CommandOwner | None]) -> Command | None:
        for command in list(self._commands):
            if command.owner not in away and self.take_out(command.key) is command:
                return command
        return None

    def _run(self, command: Command) -> None:
        self._told_late = False
        self.running = command
        self.displays.wanted = command.stream
        try:
            self.running_since = monotonic()
            with self._gate.running(command.key):
                self._handlers.begins()
                outcome = self._runner.run(command)
                self._handlers.ended()
        except BaseException as late:
            self._handlers.put_aside()
            outcome = self._runner.failed(record_exception(late))
        self.running = None
        self._done(command, outcome)

    def _late(self, trouble: BaseException) -> None:
        """Survive what user code left behind: a signal handler or a trace function that raises in this loop."""
        self._handlers.put_aside()
        self.busy = True
        command, self.running = self.running, None
        if command is not None:
            self._done(command, self._runner.failed(record_exception(trouble)))
        if self.source is not None:
            self.source.broken_off(trouble)
        if not self._told_late:
            self._told_late = True
            log.warn(
                "something that user code left behind raised {trouble}",
                trouble=short_repr(trouble),
            )
