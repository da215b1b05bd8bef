"""Engines, and optionally the controller, on other hosts over ssh."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from twisted.internet.defer import (
    Deferred,
    DeferredList,
    DeferredSemaphore,
    gatherResults,
)
from zope.interface import implementer

from ipython1.daemon.link import NannyError, NannyLink
from ipython1.daemon.processes import State
from ipython1.daemon.protocol import Warm
from ipython1.kernel.basics.error import ClusterError, ConnectionError, KernelError
from ipython1.kernel.host.private_files import write_private
from ipython1.kernel.host.security import ClusterFiles
from ipython1.kernel.launchers.clusterconfig import ClusterConfig
from ipython1.kernel.launchers.clusterfile import ControllerSpec, HostSpec, cluster_hosts
from ipython1.kernel.launchers.interfaces import Context, IControllerLauncher, IEngineLauncher, Unit
from ipython1.kernel.launchers.local import (
    ControllerLauncher,
    HostedEngines,
    LocalController,
    read_log,
)
from ipython1.kernel.launchers.programs import (
    CONTROLLER_HOST,
    CONTROLLER_MODULE,
    ENGINE_MODULE,
    controller_spec,
    engine_spec,
)
from ipython1.kernel.launchers.sshhost import SshHost

RESTORE_LIMIT = 700_000
"""Bytes of a restore file that fit into one message to a nanny."""

LOGINS_AT_A_TIME = 8
"""Fewer than sshd accepts by default, as all logins may go through one jump host."""


class RemoteFiles:
    """Where a cluster's files are on another host."""

    def __init__(self, files: ClusterFiles, spec: HostSpec) -> None:
        self.directory = PurePosixPath(spec.ipython_dir or _seen_from_home(files.dirs.ipython_dir))

    def security(self, path: Path) -> str:
        """Return the counterpart of a file in this host's security directory."""
        return str(self.directory / "security" / path.name)

    def log(self, path: Path) -> str:
        """Return the counterpart of a file in this host's log directory."""
        return str(self.directory / "log" / path.name)

    def common_arguments(self, config: ClusterConfig) -> list[str]:
        """Return the common options for controller and engines there."""
        found = [
            each for each in config.common_arguments() if not each.startswith("--ipython-dir=")
        ]
        return [f"--ipython-dir={self.directory}", *found]


def _seen_from_home(path: Path) -> str:
    try:
        return str(PurePosixPath("~") / path.relative_to(Path.home()))
    except (ValueError, RuntimeError):
        return str(path)


@implementer(IEngineLauncher)
class SshEngines(HostedEngines):
    """Engines on the hosts of a cluster file."""

    kind = "ssh"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._file = cluster_hosts(context.config)
        self._hosts: dict[str, SshHost] = {}
        self._logins = DeferredSemaphore(LOGINS_AT_A_TIME)
        self._placed: dict[int, str] = {}
        self._unreachable: set[str] = set()

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
        return SshController(replace(context, config=config), spec, self._logins)

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
        """Log in to all hosts, a few at a time; fail only if no host can be reached."""
        names = list(dict.fromkeys(self._slots(self.default_count())))
        problems = await self._connect_all(names)
        if problems and len(problems) == len(names):
            raise ClusterError("; ".join(problems.values()))
        self._unreachable = set(problems)

    async def _connect_all(self, names: Sequence[str]) -> dict[str, str]:
        """Log in to hosts; give what went wrong, by host."""
        results = await DeferredList(
            [Deferred.fromCoroutine(self._connect(self._spec_of(name))) for name in names],
            consumeErrors=True,
        )
        problems: dict[str, str] = {}
        for name, (well, result) in zip(names, results, strict=True):
            if not well:
                failure: Any = result
                failure.trap(KernelError)
                problems[name] = str(failure.value)
        return problems

    def _spec_of(self, name: str) -> HostSpec:
        return next(spec for spec in self._file.engines if spec.host == name)

    async def _connect(self, spec: HostSpec) -> None:
        name = spec.host
        host = SshHost(
            spec,
            self.context.config.ssh.command,
            self.context.reactor,
            self.context.supervisor.on_event,
            lambda reason: self._lost(name, reason),
        )
        self._hosts[name] = host
        try:
            link = await host.connect(self._logins, self.context.config.start_timeout)
        except BaseException as problem:
            self._hosts.pop(name, None)
            self.context.supervisor.host_lost(self._label(name), f"could not be started: {problem}")
            raise
        self.context.supervisor.add_host(self._label(name), link)
        link.send(Warm((ENGINE_MODULE,)))

    def _lost(self, name: str, reason: str) -> None:
        self._hosts.pop(name, None)
        self.context.observer.say(f"lost the connection to {name}: {reason}")
        self.context.supervisor.host_lost(self._label(name), f"ended with the connection to {name}")

    def _label(self, name: str) -> str:
        """Return the name under which the supervisor knows a host."""
        return f"{name}{self.context.scope}"

    def _slots(self, count: int) -> list[str]:
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
        """Copy the files that engines need to each host and start them; those of unreachable hosts count as failed."""
        hosts = self._choose_hosts(len(ids))
        # Those that could not be reached a moment ago are not tried again for this start.
        new = dict.fromkeys(each for each in hosts if each not in self._hosts)
        await self._connect_all([each for each in new if each not in self._unreachable])
        self._unreachable.clear()
        reached = [name for name in dict.fromkeys(hosts) if name in self._hosts]
        results = await DeferredList(
            [self._send_files(name) for name in reached], consumeErrors=True
        )
        for name, (well, result) in zip(reached, results, strict=True):
            if not well:
                failure: Any = result
                failure.trap(NannyError, ConnectionError)
                await self._give_up(name, str(failure.value))
        self._placed.update(zip(ids, hosts, strict=True))
        return await super().start(ids)

    async def _give_up(self, name: str, problem: str) -> None:
        """Drop a host to which the FURL file cannot be copied, unless it has engines and thus already has the file."""
        living = [each for each, host in self._placed.items() if host == name]
        if name not in self._hosts or any(self._is_there(each) for each in living):
            return
        host = self._hosts.pop(name)
        self.context.supervisor.host_lost(
            self._label(name), f"could not be started: cannot copy files to {name}: {problem}"
        )
        await host.close(0.0)

    def _choose_hosts(self, count: int) -> list[str]:
        """Return hosts for new engines: first the free places in the cluster file."""
        taken = [host for each, host in self._placed.items() if self._is_there(each)]
        places = self._slots(max(self._file.count, len(taken) + count))
        for host in taken:
            if host in places:
                places.remove(host)
        return (places + self._slots(count))[:count]

    def _is_there(self, engine_id: int) -> bool:
        status = self.context.supervisor.status().get(f"engine-{engine_id}")
        return status is not None and status.state is not State.ENDED

    def _send_files(self, name: str) -> Deferred[None]:
        """Copy the FURL file, and the restore file if there is one."""
        return Deferred.fromCoroutine(self._send_files_of(name))

    async def _send_files_of(self, name: str) -> None:
        link = self._hosts[name].link
        assert link is not None
        files = self.context.files
        remote = RemoteFiles(files, self._hosts[name].spec)
        await link.write_file(remote.security(files.engine_furl), files.engine_furl.read_text())
        if self.context.config.restore_file:
            path = Path(self.context.config.restore_file)
            text = path.read_text()
            if len(text) > RESTORE_LIMIT:
                raise NannyError(
                    f"what is to be restored has {len(text)} bytes; at most {RESTORE_LIMIT} can be copied"
                )
            await link.write_file(remote.security(path), text)

    def start_one(self, engine_id: int) -> None:
        """Start one engine on the host chosen for it."""
        name = self._placed[engine_id]
        spec = self._spec_of(name)
        remote = RemoteFiles(self.context.files, spec)
        self.context.supervisor.add(
            engine_spec(
                self.context.config,
                engine_id,
                remote.log(self.context.files.engine_log(engine_id)),
                host=self._label(name),
                common=remote.common_arguments(self.context.config),
                env=spec.env,
                cwd=spec.cwd or "~",
                python="",  # that of the nanny there
                restore_file=self._restore_file(remote),
            )
        )

    def _restore_file(self, remote: RemoteFiles) -> str:
        path = self.context.config.restore_file
        return remote.security(Path(path)) if path else ""

    async def restart(self, unit: Unit) -> None:
        """Restart one engine; log in again if the connection was lost."""
        name = self._placed[unit.ids[0]]
        if name not in self._hosts:
            await self._connect(self._spec_of(name))
            await self._send_files(name)
        await super().restart(unit)

    def nanny_of(self, unit: Unit) -> NannyLink:
        """Return the link to the nanny on the engine's host."""
        host = self._hosts.get(self._placed[unit.ids[0]])
        if host is None or host.link is None:
            raise ClusterError(f"the connection to {self._placed[unit.ids[0]]} was lost")
        return host.link

    async def close(self, grace: float) -> None:
        """Stop everything on all hosts."""
        hosts = list(self._hosts.values())
        await gatherResults([Deferred.fromCoroutine(host.close(grace)) for host in hosts])


@implementer(IControllerLauncher)
class SshController(ControllerLauncher):
    """The controller on another host; its FURL files are copied to this host."""

    def __init__(self, context: Context, spec: ControllerSpec, logins: DeferredSemaphore) -> None:
        assert spec.host is not None
        super().__init__(context)
        self._logins = logins
        self._spec = spec.host
        self._remote = RemoteFiles(context.files, spec.host)
        self._name = f"{CONTROLLER_HOST}{spec.host.host}"
        self._host = SshHost(
            spec.host,
            context.config.ssh.command,
            context.reactor,
            context.supervisor.on_event,
            self._lost,
        )

    async def start(self) -> None:
        """Log in, start it, and copy its FURL files to this host."""
        link = await self._host.connect(self._logins, self.context.config.start_timeout)
        self.context.supervisor.add_host(self._name, link)
        link.send(Warm((CONTROLLER_MODULE,)))
        files, config = self.context.files, self.context.config
        common = self._remote.common_arguments(config)
        spec = controller_spec(config, files, host=self._name, common=common)
        log, env = self._remote.log(files.controller_log), dict(self._spec.env)
        assert spec.restart_spawn is not None
        self.context.supervisor.add(
            replace(
                spec,
                title=f"the controller on {self._spec.host}",
                spawn=replace(spec.spawn, log=log, env=env),
                restart_spawn=replace(spec.restart_spawn, log=log, env=env),
            )
        )
        await self.listens()
        for path in (files.engine_furl, files.multiengine_furl, files.task_furl):
            text = await link.read_file(self._remote.security(path), wait=5.0)
            write_private(path, text.encode())

    def _lost(self, reason: str) -> None:
        self.context.observer.say(f"lost the connection to {self._spec.host}: {reason}")
        self.context.supervisor.host_lost(
            self._name, f"ended with the connection to {self._spec.host}"
        )

    async def logs(self, lines: int) -> list[str]:
        """Return the last lines of its log."""
        assert self._host.link is not None
        path = self._remote.log(self.context.files.controller_log)
        return await read_log(self._host.link, path, lines)

    async def close(self, grace: float) -> None:
        """Stop it."""
        await self._host.close(grace)
