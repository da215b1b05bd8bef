"""A host reached over ssh: a nanny runs there, connected by the pipes of one ``ssh`` process here.

Everything on the host goes through this one connection, however many engines it has: starting and stopping them,
their FURL file, and their logs.  When the connection ends, the nanny ends all engines.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import LoopingCall, deferLater
from twisted.python.failure import Failure

from ipython1.daemon.companion import companion_command
from ipython1.daemon.link import NannyLink
from ipython1.daemon.protocol import End, Message
from ipython1.daemon.pythoncommand import package_root
from ipython1.daemon.starting import MODULE
from ipython1.kernel.basics.error import ClusterError, ConnectionError
from ipython1.kernel.host.sshclient import unattended_options
from ipython1.kernel.launchers.clusterfile import HostSpec
from ipython1.kernel.launchers.tunnel import HostTunnel

SILENCE = 120.0
"""Seconds without a message from here after which a nanny considers the connection dead."""

ALIVE_INTERVAL = 20.0

ANSWER_LIMIT = 15.0
"""Seconds after the grace period in which a host must end everything, or its connection is considered dead."""

HURRIED_LIMIT = 2.0
"""The same if there is no grace period."""

OPTIONS = ("-T", "-x", "-o", "ServerAliveInterval=20", "-o", "ServerAliveCountMax=5")
ATTEMPTS = 4
REFUSALS = ("kex_exchange_identification", "Connection reset", "Connection closed by")
"""Error messages of ``ssh`` that mean too many simultaneous logins."""


class SshProcess(ProcessProtocol):
    """The ``ssh`` process that carries a link."""

    def __init__(
        self, link: NannyLink, heard: Callable[[str], object] = lambda line: False
    ) -> None:
        self._link = link
        self._heard = heard
        self._rest = b""
        self._errors: deque[str] = deque(maxlen=20)

    def kill(self) -> None:
        """Kill it."""
        if self.transport is not None:
            with contextlib.suppress(ProcessExitedAlready):
                self.transport.signalProcess("KILL")

    @property
    def errors(self) -> list[str]:
        """Return the last lines of its standard error."""
        rest = self._rest.decode(errors="replace").strip()
        return [*self._errors, *([rest] if rest else [])]

    def connectionMade(self) -> None:
        self._link.makeConnection(self.transport)

    def outReceived(self, data: bytes) -> None:
        self._link.dataReceived(data)

    def errReceived(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[-8192:]
        for line in lines:
            text = line.decode(errors="replace").strip()
            if text and not self._heard(text):
                self._errors.append(text)

    def processEnded(self, reason: Failure) -> None:
        self._link.connectionLost(reason)


def remote_command(spec: HostSpec) -> str:
    """Return a command line that starts a nanny and works in any shell that the host may have."""
    code = (
        f"import sys; sys.path.append({package_root()!r}); from {MODULE} import main; "
        f"sys.exit(main(sys.argv[1:]))"
    )
    arguments = shlex.join(["-P", "-c", code, "--stdio", "--silence", str(SILENCE)])
    python = shlex.quote(spec.python) if spec.python else '"$p"'
    lines = list(spec.setup)
    if not spec.python:
        own = shlex.quote(sys.executable)
        lines.append(f"p={own}; [ -x {own} ] || p=python3")
    lines.append(f"exec {python} {arguments}")
    return "exec sh -c " + shlex.quote("; ".join(lines))


class SshHost:
    """A host with a nanny.

    :param command: ``ssh`` and the user's options.
    :param on_event: called with the events of the processes there.
    :param on_lost: called with the reason if the connection ends unexpectedly.
    :param tunnel: what else the connection is to carry; None for nothing.
    """

    def __init__(
        self,
        spec: HostSpec,
        command: tuple[str, ...],
        reactor: Any,
        on_event: Callable[[Message], None],
        on_lost: Callable[[str], None],
        tunnel: HostTunnel | None = None,
    ) -> None:
        self.spec = spec
        self.tunnel = tunnel
        self.link: NannyLink | None = None
        self.home = ""
        self._command = command
        self._reactor = reactor
        self._on_event = on_event
        self._on_lost = on_lost
        self._process: SshProcess | None = None
        self._alive: LoopingCall | None = None
        self._closing = False

    async def connect(self, logins: DeferredSemaphore, timeout: float) -> NannyLink:
        """Log in and start the nanny.

        :param logins: limits the number of simultaneous logins.
        :param timeout: seconds for each attempt; 0 for no limit.
        :raises ClusterError: if it fails; the message holds the error message of ``ssh`` or the host.
        """
        for attempt in range(ATTEMPTS):
            forward = () if self.tunnel is None else await self.tunnel.options()
            await logins.acquire()
            try:
                if self._closing:
                    raise ClusterError(f"{self.spec.host}: the cluster is being stopped")
                return await self._log_in(timeout, forward)
            except ConnectionError:
                errors = self._process.errors if self._process is not None else []
                busy = not self._closing and any(
                    sign in line for sign in REFUSALS for line in errors
                )
                if not busy or attempt == ATTEMPTS - 1:
                    raise ClusterError(self._why_not(errors)) from None
            finally:
                logins.release()
            await deferLater(self._reactor, 0.5 * 2**attempt, lambda: None)
        raise AssertionError("not reached")

    async def _log_in(self, timeout: float, forward: Sequence[str]) -> NannyLink:
        link = NannyLink(self._on_event)
        self.link = link
        self._process = SshProcess(link, *([self.tunnel.heard] if self.tunnel is not None else []))
        program, *options = self._command
        argv = [
            program,
            *forward,
            *options,
            *OPTIONS,
            *unattended_options(),
            "--",
            self.spec.host,
            remote_command(self.spec),
        ]
        argv = companion_command(package_root(), argv)
        self._reactor.spawnProcess(self._process, argv[0], argv, env=None)
        hello: Deferred[Any] = link.hello
        if timeout:
            hello.addTimeout(timeout, self._reactor)
        try:
            greeting = await hello
        except DeferredTimeout:
            self._process.kill()
            raise ClusterError(
                f"{self.spec.host}: no answer over ssh within {timeout:g} s"
            ) from None
        here = ".".join(map(str, sys.version_info[:2]))
        if greeting.python != here:
            link.close()
            raise ClusterError(
                f"{self.spec.host} has Python {greeting.python}, but this host has {here}; "
                "set an interpreter of the same version in the cluster file (python='...')"
            )
        if self.tunnel is not None:
            try:
                await self.tunnel.opened()
            except ClusterError:
                link.close()
                raise
        self.home = greeting.home
        self._alive = LoopingCall(link.keep_alive)
        self._alive.clock = self._reactor
        self._alive.start(ALIVE_INTERVAL, now=False)
        link.lost.addCallback(lambda _: self._lost())
        return link

    def _why_not(self, errors: list[str]) -> str:
        strays = self.link.strays if self.link is not None else []
        said = [line for line in (*strays, *errors) if line.strip()]
        if any("No module named 'ipython1'" in line for line in said):
            return (
                f"{self.spec.host}: ipython1 is not installed for the Python there; install it, or set another "
                "interpreter in the cluster file (python='...')"
            )
        return f"{self.spec.host}: " + (
            said[-1].strip() if said else "ssh exited without an error message"
        )

    def _lost(self) -> None:
        if self._alive is not None and self._alive.running:
            self._alive.stop()
        if not self._closing:
            errors = self._process.errors if self._process is not None else []
            self._on_lost(errors[-1] if errors else "the ssh connection ended")

    async def close(self, grace: float) -> None:
        """Stop everything on the host; return when the connection has ended.

        A second call with a shorter ``grace`` speeds this up.
        """
        self._closing = True
        link, process = self.link, self._process
        if link is None or process is None:
            return
        link.send(End(grace))
        gone: Deferred[None] = Deferred()
        link.lost.addBoth(lambda _: None if gone.called else gone.callback(None))
        if not link.hello.called:
            process.kill()  # the nanny has not started yet
        gone.addTimeout(grace + ANSWER_LIMIT if grace else HURRIED_LIMIT, self._reactor)
        try:
            await gone
        except DeferredTimeout:
            # When the connection ends, the nanny stops everything that is left.
            process.kill()
