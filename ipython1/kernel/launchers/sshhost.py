"""A connection to a host over ssh: a nanny runs there, connected by the pipes of one ``ssh`` process here.

Everything on the host goes through this one connection, however many engines it has: starting and stopping them,
their FURL file, and their logs.  When the connection ends, the nanny ends all engines.

``ssh`` tells how far it is (``-v``), so that a host that does not answer is known from one that is slow.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from ipython1.daemon import osprocess
from ipython1.daemon.companion import companion_command
from ipython1.daemon.link import NannyLink
from ipython1.daemon.protocol import End, Hello, Message
from ipython1.daemon.pythoncommand import package_root
from ipython1.daemon.starting import MODULE
from ipython1.kernel.basics.error import ClusterError, ConnectionError
from ipython1.kernel.launchers.clusterfile import HostSpec
from ipython1.kernel.launchers.hostlogin import Trouble
from ipython1.kernel.launchers.sshconfig import connect_timeout
from ipython1.kernel.launchers.sshtroubles import HERE, SIGN, explain, other_python, other_version
from ipython1.version import __version__

SILENCE = 120.0
"""Seconds without a message from here after which a nanny considers the connection dead."""

ALIVE_INTERVAL = 5.0
"""Seconds between two signs of life, which the nanny answers."""

SILENT_AFTER = 20.0
"""Seconds without an answer after which a host is said to be silent."""

PATIENCE = 20.0
"""Seconds that a host may take to answer at all, unless ``ConnectTimeout`` of the user's ssh configuration is more."""

ANSWER_LIMIT = 15.0
"""Seconds after the grace period in which a host must end everything, or its connection is considered dead."""

HURRIED_LIMIT = 2.0
"""The same if there is no grace period."""

PIPES_LIMIT = 0.5
"""Seconds for which what ``ssh`` has left in its pipes is read after its end."""

OPTIONS = ("-v", "-T", "-x", "-o", "ServerAliveInterval=20", "-o", "ServerAliveCountMax=5")

_ANSWERS = re.compile(rb"^debug1: (?:Remote protocol version|mux_client_request_session)")
_AUTHENTICATED = re.compile(rb"^(?:Authenticated to |debug1: mux_client_request_session)")
_PROGRESS = re.compile(
    rb"^(?:debug[123]: |OpenSSH_|Authenticated to |Transferred: sent |Bytes per second: sent )"
)


class LoginFailed(ClusterError):
    """A login failed; the message begins with the host's name.

    :ivar trouble: what kind of failure it is.
    """

    def __init__(self, text: str, trouble: Trouble) -> None:
        super().__init__(text)
        self.trouble = trouble


@dataclass(frozen=True, slots=True)
class Listener:
    """Whom a connection tells what happens.

    :ivar on_event: called with the events of the processes there.
    :ivar on_lost: called with the reason if the connection ends unexpectedly after the login.
    :ivar on_answer: called when the host has answered.
    :ivar on_authenticated: called when the host has accepted the user.
    :ivar on_words: called with each line on standard error of ``ssh`` that does not tell how far it is; returns whether
        it is no error.
    :ivar on_silence: called with the number of seconds for which the host has been silent, and with 0 when it is heard
        again.
    """

    on_event: Callable[[Message], None]
    on_lost: Callable[[str], None]
    on_answer: Callable[[], object] = lambda: None
    on_authenticated: Callable[[], object] = lambda: None
    on_words: Callable[[str], bool] = lambda line: False
    on_silence: Callable[[float], object] = lambda seconds: None


class SshProcess(ProcessProtocol):
    """The ``ssh`` process that carries a link.

    The connection is over when this process has ended.  What it leaves behind may have its pipes for longer: the
    process that ``ControlPersist`` keeps for other logins.

    :ivar stage: how far it is: ``connecting``, ``answered`` or ``authenticated``.
    """

    def __init__(self, link: NannyLink, listener: Listener, reactor: Any) -> None:
        self.stage: str = "connecting"
        self._reactor = reactor
        self._pipes: IDelayedCall | None = None
        self._link = link
        self._listener = listener
        self._errors: list[str] = []
        self._rest = b""

    def kill(self) -> None:
        """Kill it, and what it has started to reach the host, such as the login to a jump host."""
        if self.transport is not None and self.transport.pid is not None:
            osprocess.kill_below(self.transport.pid)
            with contextlib.suppress(ProcessExitedAlready):
                self.transport.signalProcess("KILL")

    @property
    def errors(self) -> list[str]:
        """Return the last lines of its standard error, without those that tell how far it is."""
        rest = self._rest.decode(errors="replace").strip()
        return [*self._errors, *([rest] if rest else [])][-20:]

    def connectionMade(self) -> None:
        self._link.makeConnection(self.transport)

    def outReceived(self, data: bytes) -> None:
        self._link.dataReceived(data)

    def errReceived(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[-8192:]
        for line in lines:
            self._told(line.rstrip(b"\r"))

    def _told(self, line: bytes) -> None:
        if self.stage == "connecting" and _ANSWERS.match(line):
            self.stage = "answered"
            self._listener.on_answer()
        if self.stage != "authenticated" and _AUTHENTICATED.match(line):
            self.stage = "authenticated"
            self._listener.on_authenticated()
        if not _PROGRESS.match(line):
            text = line.decode(errors="replace")
            if not self._listener.on_words(text):
                self._errors = [*self._errors, text][-20:]

    def processExited(self, reason: Failure) -> None:
        assert self.transport is not None
        self._pipes = self._reactor.callLater(PIPES_LIMIT, self.transport.loseConnection)

    def processEnded(self, reason: Failure) -> None:
        if self._pipes is not None and self._pipes.active():
            self._pipes.cancel()
        self._link.connectionLost(reason)


def remote_command(spec: HostSpec) -> str:
    """Return a command line that starts a nanny and works in any shell, and Python, that the host may have."""
    code = (
        f"import sys; v='%d.%d' % sys.version_info[:2]; v == {HERE!r} or sys.exit({SIGN!r} + v); "
        f"sys.path[:] = [p for p in sys.path if p]; sys.path.append({package_root()!r}); "
        f"from {MODULE} import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = shlex.join(["-c", code, "--stdio", "--silence", str(SILENCE)])
    python = shlex.quote(spec.python) if spec.python else '"$p"'
    lines = list(spec.setup)
    if not spec.python:
        own = shlex.quote(sys.executable)
        lines.append(f"p={own}; [ -x {own} ] || p=python3")
    # What was printed so far, perhaps without a newline, is not to become a part of the nanny's first line.
    lines += ["echo", f"exec {python} {arguments}"]
    return "exec sh -c " + shlex.quote("; ".join(lines))


class SshConnection:
    """One attempt to log in to a host, and the connection that it leads to.

    :param command: ``ssh`` and the user's options.
    :param asks: whether ``ssh`` may ask the user for a password.
    """

    log: Logger = Logger()

    def __init__(
        self,
        spec: HostSpec,
        command: tuple[str, ...],
        reactor: Any,
        listener: Listener,
        asks: bool = False,
    ) -> None:
        self.spec = spec
        self.link: NannyLink = NannyLink(listener.on_event)
        self._command = command
        self._reactor = reactor
        self._listener = listener
        self._asks = asks
        self._process = SshProcess(self.link, listener, reactor)
        self._alive = LoopingCall(self._beat)
        self._closing = False
        self._over = ""
        self._patience: IDelayedCall | None = None
        self._asking: Deferred[Any] | None = None
        self._count = -1
        self._silent = False
        self._heard = self._turned = reactor.seconds()

    @property
    def stage(self) -> str:
        """How far the login is; see :class:`SshProcess`."""
        return self._process.stage

    async def open(self, timeout: float) -> NannyLink:
        """Log in and start the nanny.

        :param timeout: seconds; 0 for no limit besides that for the host's first answer.
        :raises LoginFailed: if it fails; the message says why.
        """
        self._spawn()
        self._patience = self._reactor.callLater(PATIENCE, self._no_answer)
        limit = self._reactor.callLater(timeout, self._too_slow, timeout) if timeout else None
        try:
            hello = await self.link.hello
        except ConnectionError:
            if self._over:
                raise LoginFailed(self._over, Trouble.PASSING) from None
            strays = self.link.strays
            raise LoginFailed(*explain(self.spec, self._process.errors, strays)) from None
        finally:
            for call in (self._patience, limit):
                if call is not None and call.active():
                    call.cancel()
            if self._asking is not None:
                self._asking.cancel()
        self._check(hello)
        self._alive.clock = self._reactor
        self._heard = self._turned = self._reactor.seconds()
        self._alive.start(ALIVE_INTERVAL)
        self.link.lost.addCallback(lambda _: self._lost())
        return self.link

    def _spawn(self) -> None:
        program, *options = self._command
        quiet = [] if self._asks else ["-o", "BatchMode=yes"]
        where = ["--", self.spec.host, remote_command(self.spec)]
        argv = companion_command(package_root(), [program, *options, *OPTIONS, *quiet, *where])
        self._reactor.spawnProcess(self._process, argv[0], argv, env=None)

    def _check(self, hello: Hello) -> None:
        host = self.spec.host
        text = ""
        if hello.python != HERE:
            text = other_python(host, hello.python)
        elif hello.version != __version__:
            text = other_version(host, hello.version, __version__)
        if text:
            self.abandon()
            raise LoginFailed(text, Trouble.LASTING)

    def _no_answer(self) -> None:
        if self.stage == "connecting" and not self._closing:
            self._asking = Deferred.fromCoroutine(self._ask_for_patience())
            self._asking.addErrback(lambda failure: failure.trap(CancelledError))
            self._asking.addErrback(lambda failure: self.log.failure("ssh was not asked", failure))

    async def _ask_for_patience(self) -> None:
        """Give the host up, unless the user is more patient."""
        # This also takes a moment, in which is read what came while this process was held up itself.
        given = await connect_timeout(self._command, self.spec.host, self._reactor)
        if self.stage != "connecting" or self.link.hello.called or self._closing:
            return
        self._patience = self._reactor.callLater(
            max(0.0, given - PATIENCE), self._out_of_reach, max(given, PATIENCE)
        )

    def _out_of_reach(self, seconds: float) -> None:
        if self.stage == "connecting":
            self._give_up(
                f"has not answered for {seconds:g} s; it may be down, or a firewall drops what is sent to it"
            )

    def _too_slow(self, timeout: float) -> None:
        said = [line for line in (*self.link.strays, *self._process.errors) if line.strip()]
        last = f"; it printed: {said[-1].strip()}" if said else ""
        done = {
            "connecting": "has not answered",
            "answered": "has answered, but has not accepted the login",
            "authenticated": "has accepted the login, but Python has not started there",
        }[self.stage]
        self._give_up(f"{done} within {timeout:g} s{last}")

    def _give_up(self, text: str) -> None:
        self._over = f"{self.spec.host} {text}"
        self._process.kill()

    def abandon(self) -> None:
        """End the connection now, and everything that was started by it."""
        self._closing = True
        self.link.close()
        self._process.kill()

    def _beat(self) -> None:
        now = self._reactor.seconds()
        # If this process was held itself, what came meanwhile has not been read yet.
        held = now - self._turned > 2 * ALIVE_INTERVAL
        if held or self.link.heard != self._count:
            self._heard = now
        self._count, self._turned = self.link.heard, now
        self.link.keep_alive()
        silent = now - self._heard >= SILENT_AFTER
        if silent or self._silent:
            self._listener.on_silence(now - self._heard if silent else 0.0)
        self._silent = silent

    def _lost(self) -> None:
        if self._alive.running:
            self._alive.stop()
        if not self._closing:
            errors = self._process.errors
            self._listener.on_lost(errors[-1] if errors else "the ssh connection ended")

    async def close(self, grace: float) -> None:
        """Stop everything on the host; return when the connection has ended.

        A second call with a shorter ``grace`` speeds this up.
        """
        self._closing = True
        link, process = self.link, self._process
        if process.transport is None:
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
