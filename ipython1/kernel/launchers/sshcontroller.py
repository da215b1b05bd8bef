"""The controller on another host, over ssh."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from zope.interface import implementer

from ipython1.daemon.link import NannyError, NannyLink
from ipython1.daemon.protocol import Warm
from ipython1.kernel.basics.error import ClusterError, KernelError
from ipython1.kernel.host.private_files import write_private
from ipython1.kernel.host.sshclient import has_terminal
from ipython1.kernel.launchers.clusterfile import ControllerSpec
from ipython1.kernel.launchers.controllertunnel import ControllerTunnel
from ipython1.kernel.launchers.furlcopies import INTERVAL
from ipython1.kernel.launchers.hostlogin import BUSY_ATTEMPTS, BUSY_PAUSE, Trouble
from ipython1.kernel.launchers.interfaces import Context, IControllerLauncher
from ipython1.kernel.launchers.local import ControllerLauncher, read_log
from ipython1.kernel.launchers.loginslots import LoginSlots
from ipython1.kernel.launchers.programs import (
    CONTROLLER_HOST,
    CONTROLLER_MODULE,
    controller_spec,
)
from ipython1.kernel.launchers.remotefiles import RemoteFiles
from ipython1.kernel.launchers.sshhost import Listener, LoginFailed, SshConnection
from ipython1.kernel.launchers.tunnel import ControllerPlace


@implementer(IControllerLauncher)
class SshController(ControllerLauncher):
    """The controller on another host; its FURL files are copied to this host.

    :param place: is told when they are.
    """

    def __init__(
        self, context: Context, spec: ControllerSpec, slots: LoginSlots, place: ControllerPlace
    ) -> None:
        assert spec.host is not None
        super().__init__(context)
        self._slots = slots
        self._place = place
        self._spec = spec.host
        self._tunnel: ControllerTunnel | None = None
        if spec.host.tunnel or context.config.ssh.tunnel:
            self._tunnel = ControllerTunnel(
                spec.host.host, context.config.ssh.command, context.reactor, context.observer.say
            )
        self._remote = RemoteFiles(context.files, spec.host)
        self._name = f"{CONTROLLER_HOST}{spec.host.host}"
        self._connection: SshConnection | None = None
        self._furls: dict[Path, str] = {}
        self._following: LoopingCall | None = None
        self._closing = False

    async def start(self) -> None:
        """Log in, start it, and copy its FURL files to this host."""
        link = await self._log_in()
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
        await self._copy_furls(link)
        self._following = LoopingCall(lambda: Deferred.fromCoroutine(self._follow_furls(link)))
        self._following.clock = self.context.reactor
        self._following.start(INTERVAL, now=False)

    async def _copy_furls(self, link: NannyLink) -> None:
        """Copy those of its FURL files to this host that are not here yet, or have changed."""
        files = self.context.files
        for path in (files.engine_furl, files.multiengine_furl, files.task_furl):
            await self._copy_furl(link, path)
        with contextlib.suppress(NannyError):  # the monitor may be switched off
            await self._copy_furl(link, files.security_file("ipcontroller-monitor.furl"), 0.0)
        self._place.known(self._furls[files.engine_furl])

    async def _copy_furl(self, link: NannyLink, path: Path, wait: float = 5.0) -> None:
        text = await link.read_file(self._remote.security(path), wait=wait)
        if self._furls.get(path) != text:
            here = text if self._tunnel is None else await self._tunnel.furl(text)
            write_private(path, here.encode())
            self._furls[path] = text

    async def _follow_furls(self, link: NannyLink) -> None:
        with contextlib.suppress(KernelError):  # the next look may succeed
            await self._copy_furls(link)

    async def _log_in(self) -> NannyLink:
        """Log in; again if there were too many logins at a time."""
        context, asks = self.context, has_terminal()
        for attempt in range(BUSY_ATTEMPTS + 1):
            slot = await self._slots.acquire()
            if self._closing:
                slot.release()
                break
            listener = Listener(context.supervisor.on_event, self._lost)
            command = context.config.ssh.command
            connection = SshConnection(self._spec, command, context.reactor, listener, asks)
            self._connection = connection
            try:
                return await connection.open(context.config.start_timeout)
            except LoginFailed as problem:
                if problem.trouble is not Trouble.BUSY or attempt == BUSY_ATTEMPTS:
                    raise
                self._slots.refused()
            finally:
                slot.release()
            await deferLater(context.reactor, BUSY_PAUSE * 2**attempt, lambda: None)
        raise ClusterError(f"{self._spec.host}: the cluster is being stopped")

    def _lost(self, reason: str) -> None:
        self.context.observer.say(f"lost the connection to {self._spec.host}: {reason}")
        self.context.supervisor.host_lost(
            self._name, f"ended with the connection to {self._spec.host}"
        )

    async def logs(self, lines: int) -> list[str]:
        """Return the last lines of its log."""
        assert self._connection is not None
        path = self._remote.log(self.context.files.controller_log)
        return await read_log(self._connection.link, path, lines)

    async def close(self, grace: float) -> None:
        """Stop it."""
        self._closing = True
        if self._following is not None and self._following.running:
            self._following.stop()
        if self._connection is not None:
            await self._connection.close(grace)
        if self._tunnel is not None:
            self._tunnel.close()
