"""Engines on other hosts over ssh.

Each host is logged in to, and kept logged in to, by itself (:mod:`ipython1.kernel.launchers.kepthost`): engines start
as soon as their host is there, and wait for it as long as it is away.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall
from zope.interface import implementer

from ipython1.core.texts import compress_ids
from ipython1.daemon.link import NannyLink
from ipython1.daemon.processes import State
from ipython1.daemon.protocol import Warm
from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.host.sshclient import has_terminal
from ipython1.kernel.launchers.clusterfile import HostSpec, cluster_hosts
from ipython1.kernel.launchers.furlcopies import FurlCopies
from ipython1.kernel.launchers.hostlogin import LATE, HostState
from ipython1.kernel.launchers.interfaces import Context, HostInfo, IEngineLauncher, Unit
from ipython1.kernel.launchers.kepthost import KeptHost
from ipython1.kernel.launchers.local import HostedEngines, LocalController
from ipython1.kernel.launchers.loginslots import LoginSlots
from ipython1.kernel.launchers.programs import ENGINE_MODULE, engine_key, engine_spec
from ipython1.kernel.launchers.remotefiles import RemoteFiles, send_files
from ipython1.kernel.launchers.sshcontroller import SshController
from ipython1.kernel.launchers.tunnel import ControllerPlace, HostTunnel
from ipython1.kernel.launchers.waitnotes import WaitNotes

FIRST_WORD = 5.0
"""Seconds after which the user is told which hosts are being waited for."""

NEXT_WORD = 15.0
"""Seconds between two such lines."""

CONNECT_LIMIT = 60.0
CONNECT_PART = 0.75
"""Seconds that an engine has to reach the controller, and how much of the time for the start at most."""

_TRYING = (HostState.NEW, HostState.LOGGING_IN, HostState.SET_UP)
_FAILED = (HostState.AWAY, HostState.UNUSABLE)


@implementer(IEngineLauncher)
class SshEngines(HostedEngines):
    """Engines on the hosts of a cluster file."""

    kind = "ssh"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._file = cluster_hosts(context.config)
        self._slots = LoginSlots(context.reactor)
        self._hosts: dict[str, KeptHost] = {}
        self._placed: dict[int, str] = {}
        self._looks: list[Callable[[], None]] = []
        self._files_exist: Deferred[None] | None = Deferred()
        self._were_away: set[str] = set()
        self._word: IDelayedCall | None = None
        self._place = ControllerPlace(context)
        self._copies = FurlCopies(context.reactor, self._place.direct_furl, self._copy)
        self._notes = WaitNotes(
            context.reactor, self._log_of_engine, lambda line: context.observer.say(line)
        )

    def controller_launcher(self) -> LocalController | SshController:
        """Return the launcher for the controller, according to the cluster file."""
        context = self.context
        spec = self._file.controller
        options = context.config.controller
        if spec.engine_port is not None and options.engine_port is None:
            options = replace(options, engine_port=spec.engine_port)
        if spec.control_port is not None and options.client_port is None:
            options = replace(options, client_port=spec.control_port)
        if spec.location and options.client_location is None:
            options = replace(options, client_location=spec.location)
        config = replace(context.config, controller=options)
        if spec.host is None:
            return LocalController(replace(context, config=config))
        self._place.is_far()
        return SshController(replace(context, config=config), spec, self._slots, self._place)

    def check(self) -> None:
        """Check that ``ssh`` is installed."""
        program = self.context.config.ssh.command[0]
        if shutil.which(program) is None:
            raise ClusterError(f"program {program!r} not found; install an OpenSSH client")

    def default_count(self) -> int:
        """Return the configured number, by default that of the cluster file."""
        n = self.context.config.n
        return self._file.count if n is None else n

    async def prepare(self) -> None:
        """Begin to log in to all hosts; return when one of them is there, and fail only if none can be reached."""
        wanted = list(dict.fromkeys(self._slots_of(self.default_count())))
        self._want(wanted, asks=has_terminal())
        hosts = [self._hosts[name] for name in wanted]

        def settled() -> bool:
            there = any(host.state in (HostState.SET_UP, HostState.THERE) for host in hosts)
            return there or not any(host.state in _TRYING for host in hosts)

        await self._until(settled)
        if hosts and all(host.state in _FAILED for host in hosts):
            await self.close(0.0)  # nobody waits for them any more
            raise ClusterError("; ".join(host.login.reason for host in hosts))

    def _want(self, names: Iterable[str], asks: bool = False) -> None:
        """Log in to those of these hosts that are not there."""
        for name in dict.fromkeys(names):
            if name not in self._hosts:
                spec = self._spec_of(name)
                tunnel = self._tunnel_to(spec)
                self._hosts[name] = KeptHost(spec, self.context, self._slots, self, tunnel)
            if self._hosts[name].state in (HostState.NEW, HostState.UNUSABLE):
                self.context.supervisor.host_away(self._label(name), "")
            self._hosts[name].want(asks=asks)
        self._tell_later(FIRST_WORD)

    def _tunnel_to(self, spec: HostSpec) -> HostTunnel | None:
        """Return what carries the connections of a host's engines, unless they are direct."""
        controller = self._file.controller.host
        beside = controller is not None and controller.host == spec.host
        if beside or not (spec.tunnel or self.context.config.ssh.tunnel):
            return None
        return HostTunnel(spec.host, self._place, self.context.reactor)

    def _label(self, name: str) -> str:
        """Return the name under which the supervisor knows a host."""
        return f"{name}{self.context.scope}"

    def _spec_of(self, name: str) -> HostSpec:
        return next(spec for spec in self._file.engines if spec.host == name)

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is true of the hosts."""
        if condition():
            return
        done: Deferred[None] = Deferred()

        def look() -> None:
            if not done.called and condition():
                done.callback(None)

        self._looks.append(look)
        try:
            await done
        finally:
            self._looks.remove(look)

    # -- what becomes of hosts

    async def set_up(self, name: str, link: NannyLink) -> None:
        """Copy the files that engines need to a host, as soon as there are any."""
        link.send(Warm((ENGINE_MODULE,)))
        if self._files_exist is not None:
            waiter: Deferred[None] = Deferred()
            self._files_exist.chainDeferred(waiter)
            await waiter
        tunnel, furl = self._hosts[name].tunnel, self._place.direct_furl()
        if tunnel is not None:
            await tunnel.opened()
        await self._send(name, link, furl)
        self._copies.made(name, furl)

    async def _copy(self, name: str, furl: str) -> None:
        """Copy the files again, with another FURL."""
        await self._send(name, self._hosts[name].link, furl)

    async def _send(self, name: str, link: NannyLink, furl: str) -> None:
        tunnel = self._hosts[name].tunnel
        here = furl if tunnel is None else tunnel.furl(furl)
        remote = RemoteFiles(self.context.files, self._spec_of(name))
        file = self._furl_file(remote, tunnel)
        await send_files(link, remote, name, file, here, self.context.config.restore_file)

    def _furl_file(self, remote: RemoteFiles, tunnel: HostTunnel | None) -> str:
        path = self.context.files.engine_furl
        return remote.security(path) if tunnel is None else remote.furl_through_ssh(path)

    def host_there(self, name: str, link: NannyLink) -> None:
        """Start the engines that wait for a host."""
        engines = self._engines_of(name, State.WAITING)
        if name in self._were_away:
            self._were_away.discard(name)
            start = f"; engines start there: {compress_ids(engines)}" if engines else ""
            self.context.observer.say(f"{name} is there{start}")
        self.context.supervisor.add_host(self._label(name), link)
        if engines:
            self._notes.started(name, engines[0])
        self._pass_by_late_ones()

    def host_late(self, name: str) -> None:
        """Wait for a host no longer, if there are others."""
        self._pass_by_late_ones()

    def _pass_by_late_ones(self) -> None:
        if not any(host.state is HostState.THERE for host in self._hosts.values()):
            return
        for name, host in self._hosts.items():
            if host.login.late and name not in self._were_away:
                self._were_away.add(name)
                text = f"{name} has not answered for {LATE:g} s"
                self.context.supervisor.host_away(self._label(name), _waits(text))

    def host_away(self, name: str, lost: bool) -> None:
        """Let the engines of a host wait until it is there; what ran there has ended with the connection."""
        self._were_away.add(name)
        self._notes.forget(name)
        self._copies.host_gone(name)
        reason = self._hosts[name].login.reason
        if lost:
            self.context.observer.say(f"{reason}; logging in again")
        ended = f"ended with the connection to {name}"
        self.context.supervisor.host_away(self._label(name), _waits(reason), lost=ended)

    def host_unusable(self, name: str, lost: bool) -> None:
        """The engines of a host cannot be started."""
        self._were_away.add(name)
        self._copies.host_gone(name)
        reason = self._hosts[name].login.reason
        self.context.supervisor.host_lost(self._label(name), f"could not be started: {reason}")

    def host_changed(self, name: str) -> None:
        """Have those look who wait, and tell everybody."""
        for look in list(self._looks):
            look()
        self.context.observer.jobs_changed()

    def hosts(self) -> Sequence[HostInfo]:
        """Return what is known of each host."""
        return [host.info(tuple(self._engines_of(name))) for name, host in self._hosts.items()]

    def _engines_of(self, name: str, *states: State) -> list[int]:
        known = self.context.supervisor.status()
        found = []
        for engine_id, host in self._placed.items():
            status = known.get(engine_key(engine_id))
            if host == name and status is not None and (not states or status.state in states):
                found.append(engine_id)
        return sorted(found)

    # -- words for those who wait

    def _tell_later(self, seconds: float) -> None:
        if self._word is None or not self._word.active():
            self._word = self.context.reactor.callLater(seconds, self._tell)

    def _tell(self) -> None:
        """Tell which hosts are being waited for, and why."""
        waited = [
            host
            for name, host in self._hosts.items()
            if host.state in _TRYING and name not in self._were_away
        ]
        if not waited:
            return
        groups: dict[str, list[str]] = {}
        for host in waited:
            groups.setdefault(host.doing(), []).append(host.name)
        text = "; ".join(f"{', '.join(names)}: {doing}" for doing, names in groups.items())
        self.context.observer.say(f"waiting for {text}")
        self._tell_later(NEXT_WORD)

    # -- engines

    def _slots_of(self, count: int) -> list[str]:
        """Return a host for each engine, in the order of the file, repeated as needed."""
        once = [spec.host for spec in self._file.engines for _ in range(spec.n)]
        if not once:
            where = self.context.config.ssh.cluster_file
            raise ClusterError(
                f"the cluster file {where} lists no engines"
                if where
                else "the hosts have no engines"
            )
        return [once[index % len(once)] for index in range(count)]

    async def start(self, ids: Sequence[int]) -> Sequence[Unit]:
        """Start engines on hosts that are there; those of other hosts wait for their host, or have failed."""
        hosts = self._choose_hosts(len(ids))
        self._placed.update(zip(ids, hosts, strict=True))
        self._want(hosts)
        units = await super().start(ids)
        waiting, self._files_exist = self._files_exist, None
        if waiting is not None:
            waiting.callback(None)
        return units

    def _choose_hosts(self, count: int) -> list[str]:
        """Return hosts for new engines: first the free places in the cluster file, without hosts that are not there."""
        first = self._files_exist is not None
        gone = {name for name, host in self._hosts.items() if host.state in _FAILED and not first}
        taken = [host for each, host in self._placed.items() if self._is_there(each)]
        places = self._slots_of(max(self._file.count, len(taken) + count))
        for host in taken:
            if host in places:
                places.remove(host)
        once = self._slots_of(self._file.count)
        living = [host for host in once if host not in gone] or once
        found = [host for host in places if host in living][:count]
        return found + [living[index % len(living)] for index in range(count - len(found))]

    def _is_there(self, engine_id: int) -> bool:
        status = self.context.supervisor.status().get(engine_key(engine_id))
        return status is not None and status.state is not State.ENDED

    def start_one(self, engine_id: int) -> None:
        """Start one engine on the host chosen for it."""
        name = self._placed[engine_id]
        spec, host = self._spec_of(name), self._hosts[name]
        remote = RemoteFiles(self.context.files, spec)
        common = remote.common_arguments(self.context.config)
        if host.tunnel is not None:
            common.append(f"--furl-file={self._furl_file(remote, host.tunnel)}")
        if self.context.config.start_timeout:
            # It has to say why, if it cannot connect, before the start is over.
            limit = min(CONNECT_LIMIT, CONNECT_PART * self.context.config.start_timeout)
            common.append(f"--connect-timeout={limit:g}")
        if host.state is HostState.THERE:
            self._notes.started(name, engine_id)
        self.context.supervisor.add(
            engine_spec(
                self.context.config,
                engine_id,
                remote.log(self.context.files.engine_log(engine_id)),
                host=self._label(name),
                common=common,
                env=spec.env,
                cwd=spec.cwd or "~",
                python="",  # that of the nanny there
                restore_file=self._restore_file(remote),
            )
        )

    async def _log_of_engine(self, engine_id: int, lines: int) -> list[str]:
        return await self.logs(Unit(engine_key(engine_id), 1, (engine_id,)), engine_id, lines)

    def _restore_file(self, remote: RemoteFiles) -> str:
        path = self.context.config.restore_file
        return remote.security(Path(path)) if path else ""

    async def remove(self, unit: Unit) -> None:
        """Stop one engine and forget it."""
        await super().remove(unit)
        for engine_id in unit.ids:
            self._placed.pop(engine_id, None)

    async def restart(self, unit: Unit) -> None:
        """Restart one engine; log in first if its host is not there.

        :raises ClusterError: if it cannot be logged in to.
        """
        host = self._hosts[self._placed[unit.ids[0]]]
        self._want([host.name])
        await self._until(lambda: host.state not in _TRYING)
        host.link  # noqa: B018 - raises why it is not there
        await super().restart(unit)

    def nanny_of(self, unit: Unit) -> NannyLink:
        """Return the link to the nanny on the engine's host."""
        return self._hosts[self._placed[unit.ids[0]]].link

    async def close(self, grace: float) -> None:
        """Stop everything on all hosts."""
        if self._word is not None and self._word.active():
            self._word.cancel()
        self._notes.close()
        self._copies.close()
        closing = [Deferred.fromCoroutine(host.close(grace)) for host in self._hosts.values()]
        await gatherResults(closing)
        self.host_changed("")


def _waits(reason: str) -> str:
    """Return what is said of engines that wait for a host, worded to follow their names."""
    return f"cannot start yet: {reason}; it is tried again"
