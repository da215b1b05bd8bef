"""A running cluster: its controller, its engines, and what users may ask of them.

The shell around :mod:`ipython1.kernel.clusters.machine`: it passes on what the supervisor says of processes, what the
launcher says of jobs, and what the controller says of engines, and does what follows.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ipython1.daemon import osprocess
from ipython1.daemon.link import NannyLink
from ipython1.daemon.processes import ProcessStatus
from ipython1.daemon.protocol import AtEnd
from ipython1.daemon.supervisor import ProcessSupervisor
from ipython1.kernel.basics.error import (
    ClusterError,
    ConnectionError,
    KernelError,
    ResultNotCompleted,
)
from ipython1.kernel.clusters import presence
from ipython1.kernel.clusters.arguments import FINISH
from ipython1.kernel.clusters.engineview import EnginesView, connect_to_controller
from ipython1.kernel.clusters.enough import wait_for_engines
from ipython1.kernel.clusters.heartbeat import Heartbeat
from ipython1.kernel.clusters.launchers import Launchers
from ipython1.kernel.clusters.machine import (
    ClusterMachine,
    GiveUp,
    Instruction,
    MarkUsable,
    Phase,
    Reconnect,
    Say,
    SaySilent,
    TellEnded,
)
from ipython1.kernel.clusters.progress import StartProgress
from ipython1.kernel.clusters.reachable import check_reachable, start_again
from ipython1.kernel.clusters.restarts import Restarts
from ipython1.kernel.clusters.retirement import Retirement
from ipython1.kernel.clusters.scaling import Scaling
from ipython1.kernel.clusters.status import ClusterStatus, ProcessInfo, controller_info
from ipython1.kernel.clusters.stopping import Stopping, first_error
from ipython1.kernel.clusters.waiting import Waiting
from ipython1.kernel.host.security import ClusterFiles
from ipython1.kernel.launchers.clusterconfig import ClusterConfig
from ipython1.kernel.launchers.interfaces import Context, Unit
from ipython1.kernel.launchers.local import LocalController
from ipython1.kernel.launchers.programs import CONTROLLER_KEY

RECONNECT_DELAY = 0.5
GONE_LIMIT = 90.0
"""Seconds in which removed engines must be gone; Slurm gives a job 30 s between SIGTERM and SIGKILL."""


class ClusterService:
    """See the module's text.

    :param supervisor: with this host's nanny as the host ``""``.
    :param connect: gives the controller's engines.
    :param say: shows a line to the user.
    :param on_change: called when :meth:`status` has changed.
    :ivar finished: fires with an exit status when the cluster is over.
    """

    log: Logger = Logger()

    def __init__(
        self,
        config: ClusterConfig,
        files: ClusterFiles,
        reactor: Any,
        supervisor: ProcessSupervisor,
        nanny: NannyLink,
        *,
        connect: Callable[[str, float], Deferred[EnginesView]] = connect_to_controller,
        say: Callable[[str], object] = lambda text: None,
        on_change: Callable[[], object] = lambda: None,
    ) -> None:
        self.config = config
        self.files = files
        self.finished: Deferred[int] = Deferred()
        self.socket_path: str = ""
        self._reactor = reactor
        self._supervisor = supervisor
        self._nanny = nanny
        self._connect = connect
        self._say = say
        self._on_change = on_change
        self._started = time.time()
        self._machine = ClusterMachine(supervisor.status, config.with_controller)
        self._waiting = Waiting(reactor, lambda: self._machine.engines.there)
        self._client: EnginesView | None = None
        self._end_commands: dict[str, tuple[tuple[str, ...], ...]] = {}
        self._stopping: Deferred[None] | None = None
        context = Context(config, files, reactor, supervisor, nanny, self)
        self._launchers = Launchers(context, lambda: self._machine.engines.units)
        self._controller = self._controller_launcher(context)
        self._retirement = Retirement(reactor, lambda: self._client)
        self._restarts = Restarts(
            config, self._machine, supervisor, self._launchers, self._waiting, self._retirement
        )
        self._end = Stopping(reactor, supervisor, nanny, self._elsewhere, say)
        self._heartbeat = Heartbeat(reactor, nanny, self._say)
        limits = config.idle_timeout, config.start_timeout
        first = self._launchers.first
        self.scaling: Scaling = Scaling(reactor, self, self._machine.engines, first, *limits)
        supervisor.on_report(self._on_report)
        nanny.lost.addCallback(lambda _: self._nanny_lost())

    def _controller_launcher(self, context: Context) -> Any:
        make = getattr(self._launchers.first, "controller_launcher", None)
        return (make() if make else None) or LocalController(context)

    # -- start

    async def start(self) -> StartProgress:
        """Start everything; gives what became of it when each engine is usable or has failed.

        :raises ClusterError: when there is no controller, or nothing can be started.
        """
        launcher = self._launchers.first
        launcher.check()
        self._controller.check()
        self.scaling.adapt(self.config.adaptation)
        progress = self._machine.begin_start()
        count = launcher.default_count()
        prepared = Deferred.fromCoroutine(launcher.prepare())
        if not self.config.with_controller:
            await first_error([prepared, Deferred.fromCoroutine(self._join())])
            await self._start_engines(progress, launcher, count)
        else:
            controller = Deferred.fromCoroutine(self._start_controller())
            if launcher.early:
                await self._start_engines(progress, launcher, count)
            await first_error([prepared, controller])
            if not launcher.early:
                await self._start_engines(progress, launcher, count)
        self.scaling.begin()
        await self._settle(progress, launcher)
        self._machine.start_settled()
        self.changed()
        return progress

    @property
    def queue_text(self) -> str:
        """How many engines wait in a queue and why; empty if none does."""
        return self._machine.engines.queue_text

    @property
    def progress(self) -> StartProgress | None:
        """How far the start, or the newest addition of engines, is."""
        return self._machine.progresses[-1] if self._machine.progresses else None

    async def _start_controller(self) -> None:
        await self._controller.start()
        try:
            await self._join()
        except ConnectionError:
            # It listened, so it has died since and is being started again; the engines wait for it, too.
            self._reactor.callLater(RECONNECT_DELAY, self._reconnect)

    async def _join(self) -> None:
        """Connect to the controller and follow its engines."""
        client = await self._connect(str(self.files.multiengine_furl), 20.0)
        if self._stops:
            client.close()
            return
        self._client = client
        client.on_engines_changed(self._ids_changed)
        client.on_warnings(self._warned)
        client.on_connection_lost(self._controller_lost)
        self._ids_changed(await client.get_ids())

    async def _start_engines(self, progress: StartProgress, launcher: Any, count: int) -> None:
        ids = self._machine.engines.reserve_ids(count)
        try:
            units = await self._launchers.start(launcher, ids)
            self._follow(self._machine.units_started(progress, units, ids))
        finally:
            self._machine.engines.release_ids(ids)

    async def _settle(self, progress: StartProgress, launcher: Any) -> None:
        """Wait until every engine of ``progress`` is usable or has failed, or the time is over.

        Where engines wait in a queue the time begins with the first one.
        """
        try:
            if launcher.waits_in_queue:
                await self._waiting.until(lambda: bool(progress.usable or progress.settled), None)
            await self._waiting.until(lambda: progress.settled, self.config.start_timeout or None)
        except ResultNotCompleted:
            pass
        finally:
            self._machine.end_start(progress)

    # -- what users ask

    @property
    def view(self) -> EnginesView | None:
        """The connection to the controller; None while there is none."""
        return self._client

    @property
    def ids(self) -> list[int]:
        """The engines that are usable now."""
        return list(self._machine.engines.ids)

    async def add_engines(
        self,
        count: int | None,
        config: ClusterConfig | None = None,
        *,
        requested: Callable[[], object] = lambda: None,
    ) -> StartProgress:
        """Start more engines, the first under the ids of those that were lost; gives what became of them.

        :param count: how many; None for as many as the hosts have that ``config`` names, else for one.
        :param config: how they are started; None for as the first.
        :param requested: called once their start was asked for.
        """
        if self._stops:
            raise ClusterError("the cluster is being stopped")
        config = config or self.config
        if config not in self._launchers:
            again = start_again(self.config, self._machine.engines.wanted)
            check_reachable(config, self.files, again)
        launcher, count = await self._launchers.ready(config, count)
        await self._restarts.forget_lost(count)
        progress = self._machine.begin_start()
        try:
            await self._start_engines(progress, launcher, count)
        except BaseException:
            self._machine.end_start(progress)
            raise
        requested()
        await self._settle(progress, launcher)
        self.changed()
        return progress

    async def remove_engines(self, ids: Iterable[int], finish: float = FINISH) -> None:
        """End engines; returns when the controller does not list them any more.

        :param finish: seconds that they have to finish what they run.
        """
        chosen = list(ids)
        removal = self._machine.engines.begin_removal(chosen)
        try:
            await self._retirement.begin(chosen, finish)
            for unit in removal.units:
                if self._machine.engines.units.get(unit.key) is not unit:
                    continue  # somebody else has removed it meanwhile
                await self._launchers.of(unit).remove(unit)
                self._machine.unit_removed(unit.key)
        except BaseException:
            self._machine.engines.keep(removal.units)
            await self._retirement.cancel(chosen)
            raise
        for unit in removal.rest:
            self._machine.engines.shrink(unit)
            self._launchers.of(unit).shrink(unit)
        for engine_id in chosen:
            self._machine.engines.forget_end(engine_id)
        if removal.foreign and self._client is not None:
            await self._client.kill(targets=list(removal.foreign))
        await self._wait_gone(chosen)
        self.changed()

    async def _wait_gone(self, ids: Iterable[int]) -> None:
        gone = set(ids)
        await self._waiting.until(lambda: not gone & set(self._machine.engines.ids), GONE_LIMIT)

    async def restart_engine(self, engine_id: int, finish: float = FINISH) -> None:
        """See :meth:`Restarts.restart_engine`."""
        await self._restarts.restart_engine(engine_id, finish)

    async def restart_controller(self) -> None:
        """See :meth:`Restarts.restart_controller`."""
        await self._restarts.restart_controller()

    def signal(self, ids: Sequence[int] | None, number: int) -> None:
        """Send a signal to engines (all of them for None)."""
        engines = self._machine.engines
        units = list(engines.units.values()) if ids is None else engines.whole_units(ids)
        for unit in units:
            self._launchers.of(unit).signal(unit, number)

    async def logs(self, engine_id: int | None, lines: int) -> list[str]:
        """The last lines that an engine (the controller for None) has logged."""
        if engine_id is None:
            return list(await self._controller.logs(lines))
        unit = self._machine.engines.unit_of(self._machine.engines.checked_id(engine_id))
        if unit is None:
            unit = self._machine.engines.job_of(engine_id)
        if unit is None:
            raise ClusterError(f"the log file of engine {engine_id} is unknown")
        return list(await self._launchers.of(unit).logs(unit, engine_id, lines))

    async def wait_for_engines(self, count: int | None, timeout: float | None) -> list[int]:
        """Wait for that many engines, or all that were asked for; gives the ids of the usable ones.

        :raises ClusterError: as soon as it is sure that they do not come.
        :raises ResultNotCompleted: when the time is over.
        """
        may_come = self.scaling.may_bring
        await wait_for_engines(self._machine, self._waiting, may_come, count, timeout)
        return self.ids

    def status(self) -> ClusterStatus:
        """Everything that is known."""
        entry = osprocess.process_entry(os.getpid())
        return ClusterStatus(
            cluster_id=self.config.cluster_id,
            kind=self.config.kind,
            state=self._machine.phase.value,
            host=socket.gethostname(),
            pid=os.getpid(),
            pid_started=entry.started if entry else 0.0,
            started=self._started,
            ipython_dir=str(self.files.dirs.ipython_dir),
            socket=self.socket_path,
            n=self._machine.engines.wanted,
            ids=tuple(self._machine.engines.ids),
            controller=self._controller_info(),
            warnings=self._machine.warnings,
            nanny=self._heartbeat.info(),
            temporary=self.config.temporary,
            engines=tuple(self._machine.engines.infos(self._reactor.seconds())),
            jobs=tuple(self._launchers.jobs()),
            hosts=tuple(self._launchers.hosts()),
            end_commands=tuple(c for each in self._end_commands.values() for c in each),
            scaling=self.scaling.info(),
        )

    def _controller_info(self) -> ProcessInfo | None:
        status = self._supervisor.status().get(CONTROLLER_KEY)
        return None if status is None else controller_info(status, self._reactor.seconds())

    # -- stop

    def stop(self, grace: float | None = None) -> Deferred[None]:
        """End everything; a second call with a shorter ``grace`` hurries it up."""
        grace = self.config.stop_timeout if grace is None else grace
        if self._stopping is None:
            self._machine.stop()
            self.scaling.close()
            self._stopping = Deferred.fromCoroutine(self._stop(grace))
            # Not before: who waits may call this again when told.
            self._waiting.end("the cluster was stopped")
            self.changed()
        else:
            self._end.hurry(grace)
        waiter: Deferred[None] = Deferred()

        def pass_on(result: Any) -> Any:
            waiter.callback(None)
            return result

        self._stopping.addBoth(pass_on)
        return waiter

    async def _stop(self, grace: float) -> None:
        client, self._client = self._client, None
        self._heartbeat.let_go_on()
        await self._end.end(grace, client)
        if not self.finished.called:
            self.finished.callback(0)

    def _elsewhere(self) -> list[Any]:
        return [*self._launchers.all(), self._controller]

    def _nanny_lost(self) -> None:
        """The nanny was killed, and the kernel killed its processes; their orphans came to this process."""
        self._heartbeat.stop()
        if not self._stops:
            self._follow(self._machine.nanny_lost())
            osprocess.kill_descendants()
        self._supervisor.host_lost("", "was ended with the process that supervised it")

    # -- what happens

    @property
    def _stops(self) -> bool:
        return self._machine.phase is Phase.STOPPING

    def _follow(self, instructions: Iterable[Instruction]) -> None:
        """Do what the machine wants done, and tell everybody that something has changed."""
        for instruction in instructions:
            match instruction:
                case Say():
                    self._say(instruction.text)
                case SaySilent():
                    status = instruction.status
                    since = status.silent_since or 0.0
                    seconds = self._reactor.seconds() - since
                    self._say(presence.controller_is_silent(status, seconds))
                case MarkUsable():
                    self._supervisor.mark_usable(instruction.key)
                case Reconnect():
                    self._reactor.callLater(RECONNECT_DELAY, self._reconnect)
                case TellEnded():
                    self._tell_ended(instruction.ids, instruction.reason)
                case GiveUp():
                    self.give_up(instruction.text, instruction.status)
        self.changed()

    def give_up(self, text: str, status: int) -> None:
        """Say why the cluster does not go on, and end it with this exit status."""
        self._say(text)
        if not self.finished.called:
            self.finished.callback(status)
        self._waiting.end(text)
        self.stop()

    def _tell_ended(self, ids: tuple[int, ...], reason: str) -> None:
        if self._client is not None:
            self._client.told_ended(ids, reason).addErrback(
                lambda failure: self.log.failure("the controller cannot be told", failure)
            )

    def _on_report(self, status: ProcessStatus) -> None:
        silent = "" if status.silent_since is None else ", but gives no sign of life"
        self.log.info(
            "{title}: {state}{silent}", title=status.title, state=status.state.value, silent=silent
        )
        self._follow(self._machine.process_reported(status))

    def _ids_changed(self, ids: Sequence[int]) -> None:
        self._follow(self._machine.ids_listed(ids))

    def _warned(self, lines: Sequence[str]) -> None:
        self._follow(self._machine.warned(lines))

    def _controller_lost(self, reason: str) -> None:
        self._client = None
        self._follow(self._machine.controller_lost(reason))

    def _reconnect(self) -> None:
        if self._stops or self._client is not None:
            return

        def failed(failure: Any) -> None:
            failure.trap(KernelError)
            self._reactor.callLater(RECONNECT_DELAY, self._reconnect)

        Deferred.fromCoroutine(self._join()).addErrback(failed).addErrback(
            lambda failure: self.log.failure("cannot follow the controller", failure)
        )

    def changed(self) -> None:
        """Tell everybody that :meth:`status` has changed."""
        self._supervisor.hold(self._machine.engines.in_the_way)
        self._waiting.changed()
        self._on_change()

    # -- for launchers

    def say(self, text: str) -> None:
        """Show a line to the user."""
        self._say(text)

    def unit_ended(
        self, key: str, reason: str, lines: Sequence[str], asked: bool, by_system: bool = False
    ) -> None:
        """A job that is no process of ours came to its end."""
        self._follow(self._machine.job_ended(key, reason, lines, asked, by_system))

    def unit_queued(self, key: str, reason: str | None) -> None:
        """A job waits in a queue, or has left it."""
        self._machine.engines.set_queued(key, reason)
        self.changed()

    def unit_shrinks(self, rest: Unit, ends: Mapping[int, str]) -> None:
        """Some of the engines of a job have ended."""
        self._follow(self._machine.job_shrinks(rest, ends))

    def unit_comes_back(self, key: str, reason: str) -> None:
        """A job was ended from outside, and is started again."""
        self._follow(self._machine.job_comes_back(key, reason))

    def set_end_commands(self, key: str, commands: Sequence[Sequence[str]]) -> None:
        """Have commands run at the end, also when this process is killed."""
        self._end_commands[key] = tuple(map(tuple, commands))
        if not commands:
            del self._end_commands[key]
        self._nanny.send(AtEnd(tuple(c for each in self._end_commands.values() for c in each)))
        self.changed()

    def jobs_changed(self) -> None:
        """The state file is to be written anew."""
        self.changed()
