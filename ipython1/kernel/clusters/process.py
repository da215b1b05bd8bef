"""The process of ``ipcluster``: the service, its control socket and state file, and what the user sees."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from pathlib import Path
from typing import IO, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ipython1.core.texts import compress_ids
from ipython1.daemon import osprocess
from ipython1.daemon.link import NannyLink, adopt_connection
from ipython1.daemon.supervision import Supervision
from ipython1.daemon.supervisor import ProcessSupervisor
from ipython1.daemon.titles import process_title, set_title
from ipython1.kernel.basics.error import KernelError
from ipython1.kernel.clusters import engineview
from ipython1.kernel.clusters.progress import StartProgress, failure_lines
from ipython1.kernel.clusters.server import EnginesLike, Orders
from ipython1.kernel.clusters.service import ClusterService
from ipython1.kernel.clusters.status import write_state
from ipython1.kernel.host import logs
from ipython1.kernel.host.control import choose_socket_path, remove_socket
from ipython1.kernel.host.controlserver import ControlServer
from ipython1.kernel.host.security import ClusterFiles
from ipython1.kernel.host.steadyclock import keep_steady
from ipython1.kernel.launchers.clusterconfig import ClusterConfig, option_of, title_of
from ipython1.system import termios

STATE_DELAY = 0.1
"""Seconds for which changes are collected before the state file is written."""


class Screen:
    """What the user sees: lines, and on a terminal one line that is overwritten."""

    def __init__(self, out: IO[str], err: IO[str]) -> None:
        self._out = out
        self._err = err
        self._terminal = out.isatty()
        self._passing = False
        self._settings = self._save_terminal()

    def line(self, text: str) -> None:
        """A line that stays."""
        self._write(self._out, f"{text}\n")

    def problem(self, text: str) -> None:
        """A line on standard error."""
        self._write(self._err, f"ipcluster: {text}\n")

    def passing(self, text: str) -> bool:
        """A line that the next one replaces; False where that is not possible."""
        if self._terminal:
            self._write(self._out, f"{text}", passing=True)
        return self._terminal

    def close(self) -> None:
        """Leave the terminal as it was found, unless it belongs to another program now."""
        self._write(self._out, "")
        if self._settings is not None:
            with contextlib.suppress(termios.error, OSError):
                terminal = sys.stdin.fileno()
                # In the background, a shell's job that changes its terminal is stopped.
                if os.tcgetpgrp(terminal) == os.getpgrp():
                    termios.tcsetattr(terminal, termios.TCSADRAIN, self._settings)

    def _write(self, file: IO[str], text: str, passing: bool = False) -> None:
        # A closed terminal or a broken pipe must not keep processes from being ended.
        with contextlib.suppress(OSError, ValueError):
            if self._passing:
                self._out.write("\r\x1b[K")
                self._out.flush()
            self._passing = passing
            file.write(text)
            file.flush()

    @staticmethod
    def _save_terminal() -> Any:
        if termios is None:
            return None
        try:
            return termios.tcgetattr(sys.stdin.fileno()) if sys.stdin.isatty() else None
        except (OSError, ValueError, AttributeError, termios.error):
            return None


def connecting_lines(config: ClusterConfig) -> list[str]:
    """The Python lines that connect to the cluster."""
    found = []
    if config.ipython_dir:
        files = config.files()
        mec, tc = repr(str(files.multiengine_furl)), repr(str(files.task_furl))
    else:
        mec = tc = repr(config.cluster_id) if config.cluster_id else ""
    found.append("from ipython1.kernel import client")
    found.append(f"mec = client.MultiEngineClient({mec})")
    found.append(f"tc = client.TaskClient({tc})")
    return found


class ClusterProcess:
    """Runs one cluster until it is over.

    :param connection: the socket to this host's nanny.
    :param supervision: with what was started before the reactor was there.
    :param owner: the descriptor of a connection to the process that the cluster belongs to; -1 for none.
    :param engines_like: understands the options of engines that are added.
    """

    log: Logger = Logger()

    def __init__(
        self,
        config: ClusterConfig,
        files: ClusterFiles,
        reactor: Any,
        connection: socket.socket,
        supervision: Supervision,
        owner: int,
        engines_like: EnginesLike,
    ) -> None:
        self.config = config
        self.files = files
        self.screen: Screen = Screen(sys.stdout, sys.stderr)
        self.status: int = 0
        self._reactor = reactor
        self._owner = owner
        supervisor = ProcessSupervisor(reactor, supervision)
        nanny = adopt_connection(reactor, connection, NannyLink(supervisor.on_event))
        nanny.hello.addErrback(lambda failure: None)
        supervisor.add_host("", nanny)
        self.service: ClusterService = ClusterService(
            config,
            files,
            reactor,
            supervisor,
            nanny,
            say=self._say,
            on_change=self._on_change,
        )
        self._orders = Orders(self.service, engines_like, reactor)
        self.server: ControlServer = ControlServer(self._orders.all())
        self._socket_path = files.security_file("ipcluster.sock")
        self._writing: Any = None
        self._shown = -1
        self._up = False
        self._interrupts = 0
        self._over = False

    # -- the life

    async def live(self) -> None:
        """Everything from the start to the end."""
        self._listen()
        started = Deferred.fromCoroutine(self.service.start())
        try:
            progress = await started
        except Exception as problem:
            await self._failed_to_start(problem)
        else:
            self._started(progress)
            if progress.outcome == "failed":
                self.status = 1
                await self.service.stop()
            ended = await self.service.finished
            self.status = self.status or ended
            await self.service.stop()
        await self._close()

    def _listen(self) -> None:
        if self.config.with_controller:
            self._socket_path = choose_socket_path(self._socket_path)
            self.server.listen(self._reactor, self._socket_path)
            self.service.socket_path = str(self._socket_path)
        if self._owner >= 0:
            self.server.adopt_owner(self._reactor, self._owner, self._owner_ended)
        self._on_change()

    def _started(self, progress: StartProgress) -> None:
        failures = list(progress.failures.values())
        for text in failure_lines(failures):
            self.screen.problem(text)
        self._up, self._shown = True, -1
        # Whoever hears that it is up finds so in the state file.
        self._write_state_now()
        self._orders.set_started(progress)
        usable = len(progress.usable)
        if progress.outcome == "failed":
            self.screen.problem("no engine could be started")
            return
        if progress.outcome == "waiting":
            late = progress.wanted - progress.failed - usable
            self.screen.problem(
                f"{late} of {progress.wanted} engines did not come up within {self.config.start_timeout:g} s"
            )
        if self._owner < 0:
            self._tell_how_to_connect(progress)

    def _tell_how_to_connect(self, progress: StartProgress) -> None:
        usable, wanted = len(progress.usable), progress.wanted
        what = f"{usable} engines" if usable != 1 else "1 engine"
        share = "" if usable == wanted else f" of {wanted}"
        ids = f" ({compress_ids(progress.usable)})" if usable else ""
        title = title_of(self.config.cluster_id)
        if not wanted:
            add = f"to add some: ipcluster engines -n 4{option_of(self.config.cluster_id)}"
            what = (
                f"no engines yet; {'they come with the tasks' if self.config.adaptation else add}"
            )
        self.screen.line(f"{title} is up: {what}{share}{ids}.")
        self.screen.line("To use it, in Python:")
        self.screen.line("")
        for line in connecting_lines(self.config):
            self.screen.line(f"    {line}")
        self.screen.line("")
        self.screen.line("Ctrl-C ends it.")

    async def _failed_to_start(self, problem: Exception) -> None:
        if self._interrupts:
            self.status = 1
        elif isinstance(problem, KernelError):
            self.status = 1
            if not self.service.finished.called:  # else it was said already
                self.screen.problem(str(problem))
        else:
            self.status = 1
            self.log.failure("the cluster could not be started")
            self.screen.problem(
                f"failed unexpectedly, see {self.files.cluster_log}: {type(problem).__name__}: {problem}"
            )
        self._orders.set_started(Failure(problem))
        await self.service.stop()

    async def _close(self) -> None:
        self._over = True
        if self._writing is not None and self._writing.active():
            self._writing.cancel()
        await self.server.close()
        wanted = self.files.security_file("ipcluster.sock")
        if self.config.with_controller:
            remove_socket(self._socket_path, wanted)
            self.files.state.unlink(missing_ok=True)
        self.screen.close()

    # -- what ends it

    def interrupt(self) -> None:
        """Ctrl-C: the first ends everything in good order, the second at once."""
        self._interrupts += 1
        if self._interrupts == 1:
            self.screen.line("")
            self.screen.passing("stopping; Ctrl-C again to kill what is left")
            self.service.stop()
        else:
            self.service.stop(0.0)

    def terminate(self) -> None:
        """SIGTERM, SIGHUP: end in good order."""
        self._interrupts = max(self._interrupts, 1)
        self.service.stop()

    def _owner_ended(self) -> None:
        self.log.info("the process that this cluster belongs to has ended")
        self.service.stop()

    # -- what the user sees

    def _say(self, text: str) -> None:
        self.log.info("{text}", text=text)
        self.screen.problem(text)
        self.server.tell({"event": "say", "text": text})

    def _on_change(self) -> None:
        if self._over:
            return
        progress = self.service.progress
        if progress is not None and progress.wanted:
            usable = len(progress.usable)
            queue = self.service.queue_text
            self.server.tell({"event": "progress", **progress.to_json(), "queue": queue})
            if usable != self._shown and self._owner < 0:
                self._shown = usable
                self.screen.passing(f"starting engines: {usable} of {progress.wanted}")
        elif progress is None and self._up and self._shown >= 0:
            # Engines were added, by somebody else; the passing line about them is over.
            self._shown = -1
            self.screen.line(f"engines that are usable: {compress_ids(self.service.ids) or 'none'}")
        if self.config.with_controller and self._writing is None:
            self._writing = self._reactor.callLater(STATE_DELAY, self._write_state)

    def _write_state_now(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._write_state()

    def _write_state(self) -> None:
        self._writing = None
        try:
            write_state(self.files.state, self.service.status())
        except KernelError as problem:
            self.log.error("{problem}", problem=problem)


def run_cluster(
    config: ClusterConfig,
    files: ClusterFiles,
    connection: socket.socket,
    supervision: Supervision,
    owner: int,
    engines_like: EnginesLike,
) -> int:
    """Run a cluster in this process; gives the exit status."""
    from twisted.internet import reactor as installed_reactor

    reactor: Any = installed_reactor
    keep_steady(reactor)
    log_file = Path(config.log_file) if config.log_file else files.cluster_log
    options = logs.LogOptions(
        None if config.log_file == "-" else log_file, config.log_level or "info", config.log_size
    )
    running_log = logs.start_logging(options)
    # Should the nanny be killed, what its processes had started comes here.
    osprocess.adopt_orphans()
    process = ClusterProcess(config, files, reactor, connection, supervision, owner, engines_like)

    def over(result: Any) -> None:
        if isinstance(result, Failure):
            process.status = 1
            process.log.failure("the cluster failed", result)
            process.screen.problem(f"failed unexpectedly: {result.getErrorMessage()}")
        reactor.stop()

    def begin() -> None:
        signal.signal(signal.SIGINT, lambda *_: reactor.callFromThread(process.interrupt))
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            # One that is ignored stays so: that is how nohup works.
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                handler: Any = lambda *_: reactor.callFromThread(process.terminate)  # noqa: E731
                signal.signal(number, handler)
        Deferred.fromCoroutine(process.live()).addBoth(over)
        # The controller starts meanwhile, and this process will be its client.
        reactor.callLater(0, engineview.preload)
        reactor.callLater(0, set_title, process_title("ipcluster", config.cluster_id))

    reactor.callWhenRunning(begin)
    reactor.run()
    running_log.close()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    return process.status
