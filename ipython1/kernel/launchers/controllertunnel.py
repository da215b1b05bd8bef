"""Reaching a controller on another host by a port of this host that ``ssh`` forwards to it.

========  =====================================================  ======================================
state     event                                                  becomes
========  =====================================================  ======================================
opening   the remote shell has spoken, so ``ssh`` is listening   open
opening   another program has the port                           opening, with another port
opening   ``ssh`` ends                                           (an error)
open      ``ssh`` ends                                           broken
broken    after a pause (see :class:`Pauses`)                    open again with the same port, or broken
any       :meth:`ControllerTunnel.close`                         closed
========  =====================================================  ======================================
"""

from __future__ import annotations

import contextlib
import shlex
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError, ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol, Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from ipython1.daemon import osprocess
from ipython1.daemon.companion import companion_command
from ipython1.daemon.pythoncommand import package_root
from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.host.addresses import IPV4_LOOPBACK
from ipython1.kernel.host.furl import parse_furl
from ipython1.kernel.host.sshclient import BATCH, FORWARDING, UNSHARED, unattended_options
from ipython1.kernel.launchers.tunnel import reached_from_its_host, target, through
from ipython1.kernel.wire.again import Pauses

LIMIT: Final = 60.0
"""Seconds that a login may take."""

PROBE_LIMIT: Final = 10.0
ATTEMPTS: Final = 4

_READY: Final = "ipython1-forwards"
_REMOTE: Final = "exec sh -c " + shlex.quote(f"echo {_READY}; exec cat")
"""What runs on the other host: it ends when its input does, and so does ``ssh``, however this process ends."""


class _Login(ProcessProtocol):
    """One ``ssh`` process that forwards.

    :ivar ready: fires when it does, or fails when it has ended before.
    :ivar over: fires when it has ended.
    """

    def __init__(self) -> None:
        self.ready: Deferred[None] = Deferred()
        self.over: Deferred[None] = Deferred()
        self.errors: deque[str] = deque(maxlen=20)

    def outReceived(self, data: bytes) -> None:
        if not self.ready.called:
            self.ready.callback(None)

    def errReceived(self, data: bytes) -> None:
        self.errors.extend(data.decode(errors="replace").strip().splitlines())

    def processEnded(self, reason: Failure) -> None:
        if not self.ready.called:
            self.ready.errback(ClusterError("ssh has ended"))
        self.over.callback(None)

    def said(self, words: str) -> bool:
        """Return whether it has said this."""
        return any(words in line for line in self.errors)

    def kill(self) -> None:
        """Kill it, and what it has started to reach the host."""
        if self.transport is not None and self.transport.pid is not None:
            osprocess.kill_below(self.transport.pid)
            with contextlib.suppress(ProcessExitedAlready):
                self.transport.signalProcess("KILL")


class _Probe(Protocol):
    """Asks for nothing that there is, and waits until it is sent away."""

    def __init__(self) -> None:
        self.over: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"GET / HTTP/1.0\r\n\r\n")

    def connectionLost(self, reason: Any = None) -> None:
        self.over.callback(None)


class ControllerTunnel:
    """See the module's text.

    :param host: the controller's host.
    :param command: ``ssh`` and the user's options.
    :param say: takes lines for the user.
    """

    def __init__(
        self, host: str, command: tuple[str, ...], reactor: Any, say: Callable[[str], None]
    ) -> None:
        self._host = host
        self._command = command
        self._reactor = reactor
        self._say = say
        self._port = 0
        self._login: _Login | None = None
        self._made = False
        self._closed = False
        self._pauses = Pauses(reactor)

    async def furl(self, text: str) -> str:
        """Return the FURL for this host; open the tunnel, unless it is open.

        :param text: the FURL as it is in a file of the controller's host.
        :raises ClusterError: if the tunnel cannot be opened.
        """
        if self._login is None:
            await self._open(target(reached_from_its_host(parse_furl(text))))
        return through(text, self._port)

    async def _open(self, to: str) -> None:
        for attempt in range(ATTEMPTS):
            self._port = _free_port()
            login = await self._log_in(to)
            if not login.said(f"cannot listen to port: {self._port}"):
                break
            login.kill()
            if attempt == ATTEMPTS - 1:
                raise ClusterError(f"{self._host}: ssh finds no free port of this host to forward")
        await self._probe(login)
        self._keep(login, to)

    async def _log_in(self, to: str) -> _Login:
        login = _Login()
        program, *options = self._command
        forward = ("-L", f"{IPV4_LOOPBACK}:{self._port}:{to}")
        argv = [program, *FORWARDING, *UNSHARED, *forward, "-T", "-x", *options]
        # Nobody waits for a question when the tunnel is made again.
        argv += [*(BATCH if self._made else unattended_options()), "--", self._host, _REMOTE]
        argv = companion_command(package_root(), argv)
        self._reactor.spawnProcess(login, argv[0], argv, env=None)
        self._login = login
        login.ready.addTimeout(LIMIT, self._reactor)
        try:
            await login.ready
        except (DeferredTimeout, ClusterError):
            login.kill()
            why = login.errors[-1] if login.errors else f"no answer over ssh within {LIMIT:g} s"
            raise ClusterError(f"{self._host}: {why}") from None
        return login

    async def _probe(self, login: _Login) -> None:
        """Find out whether the server lets connections through, which it tells at the first one.

        :raises ClusterError: if it does not.
        """
        endpoint = TCP4ClientEndpoint(self._reactor, IPV4_LOOPBACK, self._port)
        with contextlib.suppress(ConnectError, DeferredTimeout):
            probe = await connectProtocol(endpoint, _Probe())
            probe.over.addTimeout(PROBE_LIMIT, self._reactor)
            await probe.over
        if login.said("administratively prohibited"):
            login.kill()
            raise ClusterError(
                f"{self._host}: its ssh server does not forward connections for you; its sshd_config must allow "
                "it (AllowTcpForwarding, PermitOpen), or start the cluster without --tunnel"
            )

    def _keep(self, login: _Login, to: str) -> None:
        """Make the tunnel again when it breaks."""

        def over(result: object) -> None:
            if not self._closed:
                why = login.errors[-1] if login.errors else "ssh ended"
                self._say(f"the tunnel to the controller on {self._host} is broken: {why}")
                Deferred.fromCoroutine(self._open_again(to))

        self._made = True
        self._pauses.connected()
        login.over.addCallback(over)

    async def _open_again(self, to: str) -> None:
        while not self._closed:
            await deferLater(self._reactor, self._pauses.next())
            if self._closed:
                return
            with contextlib.suppress(ClusterError):
                login = await self._log_in(to)
                if not login.said(f"cannot listen to port: {self._port}"):
                    self._say(f"the tunnel to the controller on {self._host} is open again")
                    self._keep(login, to)
                    return
                login.kill()

    def close(self) -> None:
        """Close it."""
        self._closed = True
        if self._login is not None:
            self._login.kill()


def _free_port() -> int:
    """Return a port of the loopback interface that nobody listens at."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((IPV4_LOOPBACK, 0))
        return int(probe.getsockname()[1])
