"""A running cluster: its controller, its engines, and what users may ask of them.

The service puts together what the supervisor says of processes, what the launcher says of jobs, and what the controller
says of engines; an engine counts as usable when the controller lists it.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.logger import Logger

from ipython1.core.texts import compress_ids
from ipython1.daemon import osprocess
from ipython1.daemon.link import NannyLink
from ipython1.daemon.protocol import AtEnd, End, Ready
from ipython1.daemon.supervision import ProcessStatus, State
from ipython1.daemon.supervisor import ProcessSupervisor
from ipython1.kernel.basics.error import (
    ClusterError,
    InvalidEngineID,
    KernelError,
    ResultNotCompleted,
)
from ipython1.kernel.clusters.engineview import EnginesView, connect_to_controller
from ipython1.kernel.clusters.progress import StartProgress
from ipython1.kernel.clusters.status import (
    ClusterStatus,
    ControllerInfo,
    EngineInfo,
    controller_info,
    engine_info,
)
from ipython1.kernel.host.security import ClusterFiles
from ipython1.kernel.launchers import launcher_class
from ipython1.kernel.launchers.clusterconfig import ClusterConfig
from ipython1.kernel.launchers.interfaces import Context, Unit
from ipython1.kernel.launchers.local import LocalController, describe_failure
from ipython1.kernel.launchers.programs import CONTROLLER_KEY

RECONNECT_DELAY = 0.5
END_LIMIT = 40.0
"""Seconds after its grace within which a nanny must have ended."""


class ClusterService:
    """See the module's text.

    :param supervisor: with this host's nanny as the host ``""``.
    :param connect: gives the controller's engines.
    :param say: shows a line to the user.
    :param on_change: called when :meth:`status` has changed.
    :ivar finished: fires with an exit status when the cluster is over.
    """

    log = Logger()

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
        self.socket_path = ""
        self._reactor = reactor
        self._supervisor = supervisor
        self._nanny = nanny
        self._connect = connect
        self._say = say
        self._on_change = on_change
        self._state = "starting"
        self._started = time.time()
        self._ids: list[int] = []
        self._stale_ids: set[int] = set()
        self._units: dict[str, Unit] = {}
        self._job_ids: dict[str, frozenset[int]] = {}
        self._ended_engines: dict[int, EngineInfo] = {}
        self._progresses: list[StartProgress] = []
        self._watchers: list[Callable[[], None]] = []
        self._client: EnginesView | None = None
        self._end_commands: dict[str, tuple[tuple[str, ...], ...]] = {}
        self._stopping: Deferred[None] | None = None
        context = Context(config, files, reactor, supervisor, nanny, self)
        self._launcher: Any = launcher_class(config.kind)(context)
        self._controller = self._controller_launcher(context)
        supervisor.on_report(self._on_report)
        nanny.lost.addCallback(lambda _: self._nanny_lost())

    def _controller_launcher(self, context: Context) -> Any:
        make = getattr(self._launcher, "controller_launcher", None)
        return (make() if make else None) or LocalController(context)

    # -- start

    async def start(self) -> StartProgress:
        """Start everything; gives what became of it when each engine is usable or has failed.

        :raises ClusterError: when there is no controller, or nothing can be started.
        """
        self._launcher.check()
        self._controller.check()
        progress = self._begin_progress()
        count = self._launcher.default_count()
        prepared = Deferred.fromCoroutine(self._launcher.prepare())
        if not self.config.with_controller:
            await _first_error([prepared, Deferred.fromCoroutine(self._join())])
            await self._start_engines(progress, count)
        else:
            controller = Deferred.fromCoroutine(self._start_controller())
            if self._launcher.early:
                await self._start_engines(progress, count)
            await _first_error([prepared, controller])
            if not self._launcher.early:
                await self._start_engines(progress, count)
        await self._settle(progress)
        if self._state == "starting":
            self._state = "running"
            self._changed()
        return progress

    @property
    def progress(self) -> StartProgress | None:
        """How far the start, or the newest addition of engines, is."""
        return self._progresses[-1] if self._progresses else None

    async def _start_controller(self) -> None:
        await self._controller.start()
        await self._join()

    async def _join(self) -> None:
        """Connect to the controller and follow its engines."""
        client = await self._connect(str(self.files.multiengine_furl), 20.0)
        if self._state == "stopping":
            client.close()
            return
        self._client = client
        client.on_engines_changed(self._ids_changed)
        client.on_connection_lost(self._controller_lost)
        self._ids_changed(await client.get_ids())

    async def _start_engines(self, progress: StartProgress, count: int) -> Sequence[Unit]:
        units = await self._launcher.start(self._free_ids(count))
        self._units.update((unit.key, unit) for unit in units)
        for unit in units:
            for engine_id in unit.ids:
                self._ended_engines.pop(engine_id, None)
        progress.add(units)
        progress.all_added()
        for unit in units:
            status = self._supervisor.status().get(unit.key)
            if status is not None and status.state is State.ENDED:
                progress.unit_ended(unit.key, status.reason, status.lines)
        self._changed()
        return units

    def _begin_progress(self) -> StartProgress:
        progress = StartProgress(self._ids)
        self._progresses.append(progress)
        return progress

    async def _settle(self, progress: StartProgress) -> None:
        """Wait until every engine of ``progress`` is usable or has failed, or the time is over.

        Where engines wait in a queue the time begins with the first one.
        """
        try:
            if self._launcher.waits_in_queue:
                await self.wait_until(lambda: bool(progress.usable or progress.settled), None)
            await self.wait_until(lambda: progress.settled, self.config.start_timeout or None)
        except ResultNotCompleted:
            pass
        finally:
            self._progresses.remove(progress)
        self._learn_ids(progress)

    def _learn_ids(self, progress: StartProgress) -> None:
        """Note whose the new engines are, where a unit got its ids from the controller."""
        units = progress.units
        if len(units) == 1 and not units[0].ids and units[0].key in self._units:
            self._job_ids[units[0].key] = frozenset(progress.usable)

    def _free_ids(self, count: int) -> list[int]:
        taken = {*self._ids, *(each for unit in self._units.values() for each in unit.ids)}
        found: list[int] = []
        candidate = 0
        while len(found) < count:
            if candidate not in taken:
                found.append(candidate)
            candidate += 1
        return found

    # -- what users ask

    @property
    def ids(self) -> list[int]:
        """The engines that are usable now."""
        return list(self._ids)

    async def add_engines(self, count: int) -> StartProgress:
        """Start more engines; gives what became of them."""
        self._check_running()
        if count < 1:
            raise ClusterError(f"{count} engines cannot be added; give a number from 1 on")
        progress = self._begin_progress()
        try:
            await self._start_engines(progress, count)
        except BaseException:
            self._progresses.remove(progress)
            raise
        await self._settle(progress)
        self._changed()
        return progress

    async def remove_engines(self, ids: Iterable[int]) -> None:
        """End engines; returns when the controller does not list them any more."""
        chosen = [self._checked_id(each) for each in ids]
        jobs = [key for key, engines in self._job_ids.items() if engines & set(chosen)]
        for key in jobs:
            left = (self._job_ids[key] & set(self._ids)) - set(chosen)
            if left:
                raise ClusterError(
                    f"the engines of {key} end together: they cannot be removed without {compress_ids(left)}"
                )
        for key in jobs:
            chosen = [each for each in chosen if each not in self._job_ids[key]]
            await self._remove_job(key)
        others = [each for each in chosen if self._unit_of(each) is None and each in self._ids]
        for each in chosen:
            unit = self._unit_of(each)
            if unit is not None:
                await self._launcher.remove(unit)
                self._units.pop(unit.key, None)
            self._ended_engines.pop(each, None)
        if others and self._client is not None:
            await self._client.kill(targets=others)
        await self.wait_until(lambda: not set(chosen) & set(self._ids), 30.0)
        self._changed()

    async def _remove_job(self, key: str) -> None:
        """End a unit with all its engines."""
        engines = self._job_ids[key]
        await self._launcher.remove(self._units[key])
        self._forget_unit(key)
        await self.wait_until(lambda: not engines & set(self._ids), 30.0)

    def _forget_unit(self, key: str) -> Unit | None:
        self._job_ids.pop(key, None)
        return self._units.pop(key, None)

    async def restart_engine(self, engine_id: int) -> None:
        """End an engine and start it again under its id; returns when it is usable.

        :raises ClusterError: when it was started in a way that cannot do this, or does not come up.
        """
        unit = self._unit_of(self._checked_id(engine_id))
        job = self._job_of(engine_id)
        if job is not None:
            await self._launcher.restart(job)  # says why it cannot
        if unit is None:
            raise ClusterError(
                f"engine {engine_id} was not started as a process of its own, so it cannot be restarted; "
                "remove it and add another one"
            )
        known = self._supervisor.status().get(unit.key)
        if known is None:
            await self._launcher.restart(unit)  # a batch system has it: says why it cannot
            return
        before = known.restarts
        self._ended_engines.pop(engine_id, None)
        await self._launcher.restart(unit)

        def settled() -> bool:
            status = self._supervisor.status()[unit.key]
            return status.restarts > before and status.state in (State.RUNNING, State.ENDED)

        await self.wait_until(settled, self.config.start_timeout or None)
        status = self._supervisor.status()[unit.key]
        if status.state is State.ENDED:
            raise ClusterError(describe_failure(status))
        await self.wait_until(lambda: engine_id in self._ids, self.config.start_timeout or None)

    def signal(self, ids: Sequence[int] | None, number: int) -> None:
        """Send a signal to engines (all of them for None)."""
        if ids is None:
            units = list(self._units.values())
        else:
            units = []
            for each in ids:
                unit = self._unit_of(self._checked_id(each))
                if unit is None:
                    raise ClusterError(
                        f"engine {each} was not started as a process of its own, so it cannot be signalled alone"
                    )
                units.append(unit)
        for unit in units:
            self._launcher.signal(unit, number)

    async def logs(self, engine_id: int | None, lines: int) -> list[str]:
        """The last lines that an engine (the controller for None) has logged."""
        if engine_id is None:
            return list(await self._controller.logs(lines))
        unit = self._unit_of(self._checked_id(engine_id))
        if unit is None:
            unit = self._job_of(engine_id)
        if unit is None:
            raise ClusterError(f"where engine {engine_id} logs to is not known")
        return list(await self._launcher.logs(unit, engine_id, lines))

    async def wait_for_engines(self, count: int | None, timeout: float | None) -> list[int]:
        """Wait for that many engines, or all that were asked for; gives the ids of the usable ones.

        :raises ClusterError: as soon as it is sure that they do not come.
        :raises ResultNotCompleted: when the time is over.
        """

        def wanted() -> int:
            return sum(u.count for u in self._units.values()) if count is None else count

        def enough() -> bool:
            return self._state != "starting" and len(self._ids) >= wanted()

        def hopeless() -> bool:
            return self._state != "starting" and not self._progresses and not self._coming()

        await self.wait_until(lambda: enough() or hopeless(), timeout)
        if not enough():
            reasons = [info for info in self._ended_engines.values() if info.reason]
            last = f"; engine {reasons[-1].id} {reasons[-1].reason}" if reasons else ""
            raise ClusterError(
                f"{len(self._ids)} engines are usable and no more are being started, "
                f"so there will not be {wanted()}{last}"
            )
        return self.ids

    def _coming(self) -> bool:
        """Whether an engine is being started, or waits for that, that is not usable yet."""
        return any(self._is_coming(unit) for unit in self._units.values())

    def _is_coming(self, unit: Unit) -> bool:
        status = self._supervisor.status().get(unit.key)
        if status is None:  # a batch system has it
            return not set(unit.ids) <= set(self._ids)
        return status.state in (State.REQUESTED, State.STARTING, State.WAITING)

    async def wait_until(self, condition: Callable[[], bool], timeout: float | None) -> None:
        """Wait for something that changes with the status.

        :raises ResultNotCompleted: when the time is over.
        :raises ClusterError: when the cluster is stopped meanwhile.
        """
        done: Deferred[None] = Deferred()

        def look() -> None:
            if done.called:
                return
            if self._state == "stopping":
                done.errback(ClusterError("the cluster was stopped"))
            elif condition():
                done.callback(None)

        self._watchers.append(look)
        try:
            look()
            if timeout is not None and not done.called:
                done.addTimeout(timeout, self._reactor)
            await done
        except DeferredTimeout:
            raise ResultNotCompleted(
                f"{len(self._ids)} engines were usable after {timeout:g} s"
            ) from None
        finally:
            self._watchers.remove(look)

    def status(self) -> ClusterStatus:
        """Everything that is known."""
        entry = osprocess.process_entry(os.getpid())
        return ClusterStatus(
            cluster_id=self.config.cluster_id,
            kind=self.config.kind,
            state=self._state,
            host=socket.gethostname(),
            pid=os.getpid(),
            pid_started=entry.started if entry else 0.0,
            started=self._started,
            ipython_dir=str(self.files.dirs.ipython_dir),
            socket=self.socket_path,
            n=sum(unit.count for unit in self._units.values()),
            ids=tuple(self._ids),
            controller=self._controller_info(),
            engines=tuple(self._engine_infos()),
            jobs=tuple(self._launcher.jobs()),
            end_commands=tuple(c for each in self._end_commands.values() for c in each),
        )

    def _controller_info(self) -> ControllerInfo | None:
        status = self._supervisor.status().get(CONTROLLER_KEY)
        if status is None:
            return None
        return controller_info(status)

    def _engine_infos(self) -> list[EngineInfo]:
        status = self._supervisor.status()
        found = dict(self._ended_engines)
        for unit in self._units.values():
            for engine_id in unit.ids:
                each = status.get(unit.key)
                if each is not None:
                    found[engine_id] = engine_info(engine_id, each)
                elif engine_id not in self._ids:
                    found[engine_id] = EngineInfo(engine_id, "queued")
        for engine_id in self._ids:
            found.setdefault(engine_id, EngineInfo(engine_id, "running"))
        return [found[engine_id] for engine_id in sorted(found)]

    # -- stop

    def stop(self, grace: float | None = None) -> Deferred[None]:
        """End everything; a second call with a shorter ``grace`` hurries it up."""
        grace = self.config.stop_timeout if grace is None else grace
        if self._stopping is None:
            self._state = "stopping"
            self._changed()
            self._stopping = Deferred.fromCoroutine(self._stop(grace))
        else:
            self._nanny.send(End(grace))
            for each in self._elsewhere():
                Deferred.fromCoroutine(each.close(grace)).addErrback(
                    lambda failure: self.log.failure("the launcher cannot be hurried", failure)
                )
        waiter: Deferred[None] = Deferred()

        def pass_on(result: Any) -> Any:
            waiter.callback(None)
            return result

        self._stopping.addBoth(pass_on)
        return waiter

    async def _stop(self, grace: float) -> None:
        client, self._client = self._client, None
        self._supervisor.close()
        self._nanny.send(End(grace))
        if client is not None:
            client.close().addErrback(lambda failure: None)
        closing = [Deferred.fromCoroutine(each.close(grace)) for each in self._elsewhere()]
        try:
            await _first_error(closing)
        except Exception as problem:
            self.log.failure("the launcher did not close")
            self._say(f"what runs elsewhere may not have ended: {problem}")
        gone: Deferred[None] = Deferred()
        self._nanny.lost.addBoth(lambda result: gone.callback(None) if not gone.called else None)
        gone.addTimeout(grace + END_LIMIT, self._reactor)
        try:
            await gone
        except DeferredTimeout:
            self._say("some processes could not be ended")
        if not self.finished.called:
            self.finished.callback(0)

    def _elsewhere(self) -> list[Any]:
        return [self._launcher, self._controller]

    def _give_up(self, text: str, status: int) -> None:
        """The cluster cannot go on: say why and end what is left."""
        if self._stopping is None:
            self._say(text)
            if not self.finished.called:
                self.finished.callback(status)
            self.stop()

    def _nanny_lost(self) -> None:
        """The nanny was killed, and the kernel killed its processes; their orphans came to this process."""
        if self._stopping is None:
            self._give_up("the process that supervises this host's processes was killed", 1)
            osprocess.kill_descendants()
        self._supervisor.host_lost("", "was ended with the process that supervised it")

    # -- what happens

    def _on_report(self, status: ProcessStatus) -> None:
        self.log.info("{title}: {state}", title=status.title, state=status.state.value)
        if status.key == CONTROLLER_KEY:
            self._controller_report(status)
        elif status.key in self._units or status.key.startswith("engine-"):
            self._engine_report(status)
        self._changed()

    def _controller_report(self, status: ProcessStatus) -> None:
        if self._state == "stopping":
            return
        if status.state is State.WAITING:
            self._say(f"{describe_failure(status)}; it is started again")
        elif status.state is State.RUNNING and status.restarts:
            self._say("the controller is back")
        elif status.state is State.ENDED and not status.asked and self._state != "starting":
            if status.status == 0:
                self._give_up("the controller was told to end", 0)
            else:
                self._give_up(f"{describe_failure(status)}; the log tells more", 1)

    def _engine_report(self, status: ProcessStatus) -> None:
        unit = self._units.get(status.key)
        ids = unit.ids if unit is not None else ()
        if status.state in (State.ENDED, State.WAITING):
            self._stale_ids |= set(ids) & set(self._ids)
        if status.state is State.RUNNING:
            self._stale_ids -= set(ids)
        if self._state == "stopping" or status.asked:
            return
        if status.state is State.WAITING:
            self._say(f"{describe_failure(status)}; it is started again")
        elif status.state is State.ENDED:
            self._lost(status.key, status.reason, status.lines, describe_failure(status))

    def _lost(self, key: str, reason: str, lines: Sequence[str], text: str) -> None:
        expected = [p for p in self._progresses if p.unit_ended(key, reason, lines)]
        if not expected and key in self._units:
            self._say(text)
        unit = self._units.get(key)
        if unit is not None and not unit.ids:
            self._forget_unit(key)

    def _ids_changed(self, ids: Sequence[int]) -> None:
        self._ids = sorted(ids)
        self._stale_ids &= set(ids)
        fresh = set(ids) - self._stale_ids
        for unit in self._units.values():
            usable = unit.ids and set(unit.ids) <= fresh
            if usable or (not unit.ids and len(fresh) >= unit.count):
                self._supervisor.on_event(Ready(unit.key))
        for progress in self._progresses:
            progress.ids_changed(fresh)
        self._changed()

    def _controller_lost(self, reason: str) -> None:
        self._client = None
        if self._state == "stopping":
            return
        self._ids_changed([])
        if not self.config.with_controller:
            self._say(f"the connection to the controller is lost ({reason})")
        self._reactor.callLater(RECONNECT_DELAY, self._reconnect)

    def _reconnect(self) -> None:
        if self._state == "stopping" or self._client is not None:
            return

        def failed(failure: Any) -> None:
            failure.trap(KernelError)
            self._reactor.callLater(RECONNECT_DELAY, self._reconnect)

        Deferred.fromCoroutine(self._join()).addErrback(failed).addErrback(
            lambda failure: self.log.failure("cannot follow the controller", failure)
        )

    def _changed(self) -> None:
        for watcher in list(self._watchers):
            watcher()
        self._on_change()

    # -- for launchers

    def say(self, text: str) -> None:
        """Show a line to the user."""
        self._say(text)

    def unit_ended(self, key: str, reason: str, lines: Sequence[str], asked: bool) -> None:
        """A job that is no process of ours came to its end."""
        if not asked and self._state != "stopping":
            self._lost(key, reason, lines, f"{key} {reason}" + (f": {lines[-1]}" if lines else ""))
        unit = self._forget_unit(key)
        if unit is not None and not asked:
            for engine_id in unit.ids:
                self._ended_engines[engine_id] = EngineInfo(
                    engine_id, "ended", reason=reason, lines=tuple(lines)
                )
        self._changed()

    def set_end_commands(self, key: str, commands: Sequence[Sequence[str]]) -> None:
        """Have commands run at the end, also when this process is killed."""
        self._end_commands[key] = tuple(map(tuple, commands))
        if not commands:
            del self._end_commands[key]
        self._nanny.send(AtEnd(tuple(c for each in self._end_commands.values() for c in each)))
        self._changed()

    def jobs_changed(self) -> None:
        """The state file is to be written anew."""
        self._changed()

    # -- small ones

    def _check_running(self) -> None:
        if self._state == "stopping":
            raise ClusterError("the cluster is being stopped")

    def _checked_id(self, engine_id: int) -> int:
        known = {*self._ids, *self._ended_engines}
        known |= {each for unit in self._units.values() for each in unit.ids}
        if engine_id not in known:
            there = compress_ids(known) or "none"
            raise InvalidEngineID(
                f"there is no engine {engine_id} in this cluster; there are: {there}"
            )
        return engine_id

    def _unit_of(self, engine_id: int) -> Unit | None:
        return next((unit for unit in self._units.values() if engine_id in unit.ids), None)

    def _job_of(self, engine_id: int) -> Unit | None:
        """The unit of an engine that has its id from the controller."""
        found = (key for key, engines in self._job_ids.items() if engine_id in engines)
        return next((self._units[key] for key in found), None)


async def _first_error(waiting: list[Deferred[Any]]) -> None:
    try:
        await gatherResults(waiting, consumeErrors=True)
    except FirstError as first:
        first.subFailure.raiseException()
