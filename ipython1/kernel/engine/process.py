"""An engine's process: the reactor in a background thread, user code in the main thread."""

from __future__ import annotations

import os
import signal
import sys
import threading
import uuid
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from ipython1.core.capture import OutputCapture
from ipython1.core.comms import offer_comms
from ipython1.core.debugger import EngineDebugger
from ipython1.core.interpreter import Interpreter
from ipython1.core.interrupt import InterruptGate
from ipython1.core.userhandlers import UserHandlers
from ipython1.daemon.osprocess import mpi_rank
from ipython1.daemon.ready import BEAT_INTERVAL, NannyPipe
from ipython1.kernel.basics.error import ClientError, ConnectionError, KernelError
from ipython1.kernel.engine.appearance import Appearance
from ipython1.kernel.engine.connection import EngineConnection
from ipython1.kernel.engine.debugging import DebugEnd
from ipython1.kernel.engine.end import EngineEnd
from ipython1.kernel.engine.restoring import restore
from ipython1.kernel.engine.service import EngineService
from ipython1.kernel.engine.side import Session, Side, SourcesInTurn, WaitsOfSides
from ipython1.kernel.engine.upstream import Upstream
from ipython1.kernel.engine.worker import Command, CommandRunner, Worker
from ipython1.kernel.host import logs, sockets
from ipython1.kernel.host.byhand import is_by_hand
from ipython1.kernel.host.hosts import host_identity, user_label
from ipython1.kernel.host.security import furl_variable, wait_for_furl
from ipython1.kernel.host.signalwatch import SignalWatch
from ipython1.kernel.host.stackdump import offer_stack_dump
from ipython1.kernel.host.steadyclock import keep_steady
from ipython1.kernel.host.turns import take_turns, turns_of
from ipython1.kernel.objects import enginewaits
from ipython1.kernel.objects.joblibcalls import offer_nested_backend
from ipython1.kernel.tub import tubs
from ipython1.kernel.tub.gate import register
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.link import FrameLink, TurnFlusher
from ipython1.system import after_fork_in_child

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ipython1.kernel.engine.config import EngineConfig

log: Logger = Logger()

SWITCH_INTERVAL = 0.0005
"""Seconds after which user code lets the reactor's thread have the interpreter."""


ATTEMPT = 15.0
"""Seconds after which an attempt to connect is given up and, while there is time, told and made again."""

GOODBYE_DELAY = 0.01
"""Seconds that the last words have to go out."""


async def open_engine_link(
    config: EngineConfig,
    hello: messages.Hello,
    end: EngineEnd,
    reactor: Any,
    instance: str = "",
    made: Callable[[FrameLink], None] = lambda link: None,
) -> messages.Welcome:
    """Find the controller's FURL, connect and register.

    :param instance: the controller's state with which this engine was registered before.
    :param made: called with the link before anything can come through it.
    :raises KernelError: one clear error for whatever is in the way.
    """
    source = str(config.furl_file) if config.furl is None else furl_variable(messages.ENGINE)
    furl = config.furl or await wait_for_furl(
        config.furl_file, config.connect_timeout, reactor, named=config.furl_file_named
    )
    furl = furl.with_location(config.controller_ip, config.controller_port)
    tub = tubs.make_tub()
    try:
        limit = min(config.connect_timeout, ATTEMPT)
        gate = await tubs.connect(tub, str(furl), limit, reactor, source=source)
        link = FrameLink(TurnFlusher(turns_of(reactor).call_soon, reactor), end)
        made(link)
        welcome = await register(gate, hello, link, config.connect_timeout, reactor, reactor)
    except BaseException:
        await tubs.close(tub)
        raise
    end.attach(link, welcome, welcome.known and welcome.instance == instance)
    end.lost.addCallback(lambda reason: _close_and_pass(tub, reason))
    return welcome


def _close_and_pass(tub: Any, reason: str) -> str:
    Deferred.fromCoroutine(tubs.close(tub)).addErrback(lambda failure: None)
    return reason


def set_up_mpi(name: str, code: str) -> int:
    """Run the code that sets MPI up, in the main thread and before any other thread is there.

    :param name: what it is called in the ``[mpi]`` section of the ini file.
    :returns: this process's rank.
    :raises ClientError: when it fails, or does not define ``mpi`` with a ``rank``.
    """
    namespace: dict[str, Any] = {}
    try:
        exec(compile(code, f"<[mpi] {name}>", "exec"), namespace)
    except Exception as problem:
        raise ClientError(
            f"cannot set up MPI with --mpi={name}: {type(problem).__name__}: {' '.join(str(problem).split())}; "
            "install that package for this Python, or change the [mpi] section of ipython1.kernel.ini"
        ) from None
    rank = getattr(namespace.get("mpi"), "rank", None)
    if not isinstance(rank, int):
        raise ClientError(
            f"the code of {name!r} in the [mpi] section of ipython1.kernel.ini defines no 'mpi' with a rank"
        )
    return rank


def check_working_directory() -> None:
    """Check that this process is in a directory that exists, as IPython and user code need one.

    :raises ClientError: if it has been removed.
    """
    try:
        os.getcwd()
    except FileNotFoundError:
        raise ClientError(
            "the working directory of the engine has been removed; start it in a directory that exists"
        ) from None


def run_engine(config: EngineConfig, pipe: NannyPipe) -> None:
    """Run an engine in this process; returns when it is to end.

    :param pipe: to the nanny that started it.
    :raises KernelError: why it cannot run, or cannot go on.
    """
    check_working_directory()
    rank = set_up_mpi(config.mpi, config.mpi_code) if config.mpi_code else None
    wanted_id = _wanted_id(config, rank)
    appearance = Appearance(config, rank, is_by_hand(pipe.awaited))
    from twisted.internet import reactor

    # What user code reads is another thing, and so is an engine that something else has started and ends.
    in_terminal = not pipe.awaited and os.isatty(0)
    keep_steady(reactor)
    take_turns(reactor)
    config.files.dirs.prepare()
    logs.start_logging(config.log_options())
    appearance.begin()
    engine = EngineProcess(config, wanted_id, reactor, pipe)
    engine.appearance = appearance
    if in_terminal:
        engine.end_with_terminal()
    if not pipe.awaited:
        engine.leave_on(signal.SIGTERM)
    after_fork_in_child(engine.interpreter.forked)
    sockets.let_go_in_children(reactor)
    offer_stack_dump()
    offer_nested_backend()
    sys.setswitchinterval(SWITCH_INTERVAL)
    if config.restore_file is not None:
        engine.restore(config.restore_file)
    try:
        engine.run()
    finally:
        appearance.ended()


def _wanted_id(config: EngineConfig, rank: int | None) -> int | None:
    """Return the id that an engine asks for.

    :param rank: its rank, if MPI is set up.
    """
    if config.engine_id is not None:
        return config.engine_id
    if config.ids_of_ranks:
        number = mpi_rank() if rank is None else rank
        known = number is not None and number < len(config.ids_of_ranks)
        return config.ids_of_ranks[number] if known and number is not None else None
    return rank


def _new_hello(wanted_id: int | None) -> messages.Hello:
    """The greeting of an engine that has never registered."""
    return messages.Hello(
        uuid=uuid.uuid4().hex,
        pid=os.getpid(),
        host=host_identity(),
        role=messages.ENGINE,
        wanted_id=wanted_id,
        secret=messages.new_secret(),
        label=user_label(),
    )


class EngineProcess:
    """The parts of an engine, put together: session, worker, tasks, and its end of the link.

    :param wanted_id: the id that it asks for.
    :param pipe: see :func:`run_engine`.
    :ivar appearance: is told its id.
    """

    appearance: Appearance

    def __init__(
        self, config: EngineConfig, wanted_id: int | None, reactor: Any, pipe: NannyPipe
    ) -> None:
        self._config = config
        self._reactor = reactor
        self._pipe = pipe
        self._failure: BaseException | None = None
        self._capture = OutputCapture(config.output_size)
        self._gate = InterruptGate(later=reactor.callLater)
        try:
            self.interpreter: Interpreter = Interpreter(
                self._capture,
                history_size=config.history_length,
                history_bytes=config.history_size,
                gate=self._gate,
            )
        except BaseException:
            self._capture.close()  # so that the error is seen
            raise
        self._service = EngineService(self.interpreter)
        self._debugger = EngineDebugger(self._capture, self._is_attended)
        self._service.debugger = self._debugger.post_mortem
        handlers = UserHandlers()
        self.interpreter.user_code_ended = handlers.put_aside
        commands = CommandRunner(self._service, handlers.put_aside)
        self._worker = Worker(commands, self._gate, self._command_ended, handlers)
        self._service.stop = self._worker.stop
        displays = self._worker.displays = self.interpreter.displays
        offer_comms(displays)
        self._session = Session(
            self._service,
            self._worker,
            self._gate,
            self._debugger.output,
            displays,
            handlers,
            reactor,
            self._leave_at_once,
        )
        side = self._side = Side(self._session)
        self._end = side.end
        self._offer_debugger()
        self._worker.before_waiting = self._end.read_until
        self._service.before_user_code = self._end.commands.before_user_code
        self._worker.source = side.tasks
        self._service.properties.on_change = side.tasks.properties_changed
        self._hello = _new_hello(wanted_id)
        self._welcome = messages.Welcome()
        self._upstream = Upstream(self._hello, self._serve_another)

    def _serve_another(self) -> Side:
        """A side for another controller, beside the one that this engine is connected to."""
        own, other = self._side, Side(self._session)
        other.end.debug, other.end.debugged = own.end.debug, own.end.debugged
        both = (own, other)
        own.end.beside, other.end.beside = other.end, own.end
        other.end.leaving = own.end.leaving

        def before_user_code() -> None:
            for side in both:
                side.end.commands.before_user_code()

        def properties_changed() -> None:
            for side in both:
                side.tasks.properties_changed()

        self._service.before_user_code = before_user_code
        self._service.properties.on_change = properties_changed
        enginewaits.install(WaitsOfSides(own.waits, other.waits))
        self._worker.source = SourcesInTurn([own.tasks, other.tasks])
        return other

    def _offer_debugger(self) -> None:
        debugger, reactor = self._debugger, self._reactor
        debugger.install(self.interpreter.shell)
        desk = DebugEnd(debugger.desk, reactor.callFromThread, reactor, debugger.last_error)
        self._end.debug, self._end.debugged = desk.ask, debugger.desk.waiting_at

    def _is_attended(self) -> bool:
        """Whether somebody at a prompt waits for what runs."""
        command = self._worker.running
        return command is not None and command.stream

    def _command_ended(self, command: Command, outcome: messages.Outcome) -> None:
        if self._debugger.desk.is_open:
            self._debugger.command_ended()
        if command.owner is not None:
            command.owner.ended(command, outcome)

    def end_with_terminal(self) -> None:
        """Have Ctrl-C in its terminal end it."""
        self._gate.on_terminal = lambda: self._reactor.callFromThread(self._end.stop)

    def leave_on(self, number: int) -> None:
        """Have a signal by which the system that runs it tells of its end make it leave in good order."""
        watch = SignalWatch(number, self._reactor, self._end.leave)
        self._reactor.callWhenRunning(watch.begin)

    def _leave_at_once(self) -> None:
        self._pipe.leave()
        os._exit(0)

    def restore(self, path: Path) -> None:
        """Prepare the session as a restore file says, before anybody can use it.

        :raises ClientError: if that fails.
        """
        try:
            restore(self._service, path)
        except BaseException:
            self._capture.close()  # so that the error is seen
            raise

    def run(self) -> None:
        """Run what comes, in this thread, the main one; returns when the engine is to end.

        :raises KernelError: why it cannot run, or cannot go on.
        """
        thread = threading.Thread(
            target=self._in_reactor_thread, name="ipython1-reactor", daemon=True
        )
        thread.start()
        enginewaits.install(self._side.waits)
        try:
            self._worker.loop()
        finally:
            self._capture.close()
        self._reactor.callFromThread(self._leave)
        thread.join(1.0)
        if self._failure is not None:
            raise self._failure

    # -- in the reactor's thread

    def _in_reactor_thread(self) -> None:
        # That this thread runs is told to the nanny; when the engine is usable, only the controller knows.
        beats = LoopingCall(self._pipe.beat)
        beats.clock = self._reactor
        self._reactor.callWhenRunning(lambda: beats.start(BEAT_INTERVAL))
        self._reactor.callWhenRunning(
            lambda: Deferred.fromCoroutine(self._stay_connected()).addBoth(self._ended)
        )
        self._reactor.run(installSignalHandlers=False)

    async def _stay_connected(self) -> None:
        connection = EngineConnection(
            self._open_link,
            self._end,
            self._reactor,
            self._config.reconnect_timeout,
            self._config.connect_timeout,
            self._tell_that_it_waits,
        )
        await connection.run(self._registered)

    def _tell_that_it_waits(self, problem: KernelError) -> None:
        limit = self._config.connect_timeout
        text = f"waiting for the controller for up to {limit:g} s: {problem}"
        log.info("{text}", text=text)
        with suppress(OSError):
            os.write(self._capture.original_stderr, f"ipengine: {text}\n".encode())

    async def _open_link(self) -> messages.Welcome:
        hello = replace(self._hello, holds=self._side.holds())
        return await open_engine_link(
            self._config,
            hello,
            self._end,
            self._reactor,
            self._welcome.instance,
            self._upstream.offer,
        )

    def _registered(self, welcome: messages.Welcome) -> None:
        kept = welcome.known and welcome.instance == self._welcome.instance
        self._welcome = welcome
        service = self._service
        service.id = welcome.engine_id if welcome.engine_id is not None else -1
        log.info("registered as engine {id}", id=service.id)
        self._debugger.name = f"engine {service.id}"
        self._debugger.call = f"mec.debug(targets={service.id})"
        self.appearance.registered(service.id)
        self._side.registered(welcome, kept)

    def _leave(self) -> None:
        self._end.say_goodbye("it ended")
        # What was written goes out in the next turns.
        self._reactor.callLater(GOODBYE_DELAY, self._reactor.stop)

    def _ended(self, result: Any) -> None:
        if isinstance(result, Failure):
            self._failure = result.value or ConnectionError("the engine failed")
        self._worker.stop()
