"""Reaching a controller through a host that one can log in to: ``ssh=`` of clients.

Two kinds of ``ssh`` processes do this.  One reads the FURL file there.  Another one per connection (``ssh -W``)
connects to the controller from there, and carries what the two say over its standard input and output.  No port of
this host is opened, and nothing of this package is needed there.

===========  =====================================================  ================================================
a client     event                                                  becomes
===========  =====================================================  ================================================
new          it is to connect                                       it reads the FURL, then connects
connected    the ``ssh`` process ends, or the controller leaves     away
away         an attempt                                             connected, by the FURL that it has;
                                                                    else it reads the FURL before the next attempt
===========  =====================================================  ================================================
"""

from __future__ import annotations

import os
import re
import shlex
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred

from ipython1.kernel.basics.error import (
    ClientError,
    ConnectionError,
    KernelError,
    NoController,
    SecurityError,
)
from ipython1.kernel.calls.locate import Place, furl_name, is_file
from ipython1.kernel.calls.sshchild import Ended, SshChild
from ipython1.kernel.host import clientconfig
from ipython1.kernel.host.furl import Furl, check_host, check_port, parse_furl
from ipython1.kernel.host.sshclient import BATCH, FORWARDING, has_terminal, unattended_options

PATIENCE: Final = 4.0
"""Seconds after which another of the controller's places is tried as well."""

END_LIMIT: Final = 3.0
"""Seconds that an ``ssh`` process has to end when its connection has."""

WORDS_LIMIT: Final = 0.5
"""The same if the connection has failed, which ``ssh`` has told before, or will not tell."""

MISSING: Final = 73
"""The exit status if there is no FURL file."""

_FURL_LINE: Final = re.compile(r"^pb://\S+$", re.MULTILINE)
_HOST_AND_PORT: Final = re.compile(
    r"(?P<host>[^:\s/]+|[^:\s/]*\[[0-9A-Fa-f:.%\w]+\]):(?P<port>\d+)"
)


def check_ssh(ssh: object) -> tuple[str, ...] | None:
    """Return the command line that logs in, without a remote command; None for no ssh.

    :param ssh: what ``ssh`` takes as its destination, or ``[user@]host:port``; or a list: the command with its options
        and, last, the destination.
    :raises TypeError, ValueError: if it is none of these.
    """
    if ssh is None:
        return None
    if isinstance(ssh, str):
        found = _HOST_AND_PORT.fullmatch(ssh)
        where = ("-p", found["port"], "--", _bare(found["host"])) if found else ("--", ssh)
        _check_word(ssh)
        return (*clientconfig.ssh_command(), *where)
    if isinstance(ssh, Sequence) and all(isinstance(each, str) for each in ssh):
        if len(ssh) < 2:
            raise ValueError(f"ssh must be a command with its options and a host, not {ssh!r}")
        *command, host = ssh
        _check_word(host)
        return (*command, "--", host)
    raise TypeError(
        f"ssh must be a host to log in to, or a list with the ssh command, its options and the host, not {ssh!r}"
    )


def _bare(host: str) -> str:
    return host.replace("[", "").replace("]", "")


def _check_word(host: str) -> None:
    if not host or host.startswith("-") or any(each.isspace() for each in host):
        raise ValueError(f"ssh cannot log in to {host!r}: it must be a host, such as 'user@host'")


class SshRoute:
    """The way of one client.

    :param login: see :func:`check_ssh`.
    :param source: a FURL; or a FURL file there, a cluster id, a tuple ``(host, port)`` as seen from there, or empty.
    :param interface: ``'multiengine'``, ``'task'``, or the name of a custom interface.
    """

    def __init__(self, reactor: Any, login: tuple[str, ...], source: Any, interface: str) -> None:
        self._reactor = reactor
        self._command = login[:-2]
        self.host: str = login[-1]
        self._source = source
        self._interface = interface
        self._place: Place | None = None
        self._fails = False
        self._children: dict[SshChild, str] = {}
        self._ended: list[tuple[str, Ended]] = []
        self._worked = False

    # -- where the controller is

    async def place(self, timeout: float) -> Place:
        """Return where the controller is, as seen from there; read the FURL, unless the one that is known works.

        :param timeout: seconds.
        :raises KernelError: if there is none, or one cannot log in.
        """
        if self._place is None or self._fails:
            self._place = await self._find(timeout)
        self._fails, self._ended = True, []
        return self._place

    async def _find(self, timeout: float) -> Place:
        source = self._source
        if isinstance(source, Furl):
            return self._seen(source)
        if isinstance(source, str) and source.strip().startswith("pb://"):
            return self._seen(parse_furl(source))
        if isinstance(source, tuple):
            furl = await self._read("", timeout)
            if len(source) != 2:
                raise TypeError(f"furl_or_file must be a tuple (host, port), not {source!r}")
            return self._seen(furl.with_location(check_host(source[0]), check_port(source[1])))
        if not isinstance(source, (str, os.PathLike)):
            raise TypeError(
                "furl_or_file must be a FURL, a FURL file there, a cluster id or a tuple (host, port), "
                f"not an object of type {type(source).__name__}"
            )
        return self._seen(await self._read(os.fspath(source), timeout))

    def _seen(self, furl: Furl) -> Place:
        if not furl.hints:
            raise ClientError(
                "the FURL contains no location; give one as furl_or_file=(host, port)"
            )
        places = ", ".join(f"{host}:{port}" for host, port in furl.hints)
        return Place(furl, f"{places} (through ssh {self.host})")

    async def _read(self, file: str, timeout: float) -> Furl:
        """Read a FURL file there."""
        child = SshChild(self._reactor, self._login("-T", "--", self.host, self._reading(file)))
        late = self._reactor.callLater(timeout, child.kill)
        try:
            ended = await child.ended
        finally:
            if late.active():
                late.cancel()
            else:
                child.kill()
        found = _FURL_LINE.search(ended.output)
        if ended.status == MISSING:
            path = ended.output.strip().splitlines()[-1]
            remedy = (
                "check the name" if is_file(file) else "start a cluster there with: ipcluster -n 4"
            )
            raise NoController(f"there is no FURL file {path} on {self.host}; {remedy}")
        if ended.status or found is None:
            raise self._trouble([("", ended)]) or ConnectionError(
                f"the FURL file could not be read on {self.host}: {_last(ended)}"
            )
        try:
            return parse_furl(found[0])
        except SecurityError as problem:
            raise SecurityError(f"the FURL file on {self.host} is damaged: {problem}") from None

    def _reading(self, file: str) -> str:
        """Return a command that prints a file, for any shell that the user may have there."""
        if is_file(file):
            home, rest = ('"$HOME"/', file[2:]) if file.startswith("~/") else ("", file)
            path = home + shlex.quote(rest)
        else:
            path = '"${IPYTHONDIR:-$HOME/.ipython}"/security/' + furl_name(self._interface, file)
        script = (
            f'f={path}; [ -e "$f" ] || {{ printf "%s\\n" "$f"; exit {MISSING}; }}; exec cat "$f"'
        )
        return "exec sh -c " + shlex.quote(script)

    def _login(self, *arguments: str) -> list[str]:
        # Nobody waits for a question when a connection is made again.
        quiet = BATCH if self._worked else unattended_options()
        program, *options = self._command
        return [program, *FORWARDING, *options, *quiet, "-x", *arguments]

    # -- connecting

    def start(self, host: str, port: int, theirs: socket.socket) -> None:
        """Connect to a place from there; see :data:`~ipython1.kernel.tub.pipes.Starter`."""
        at = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        child = SshChild(self._reactor, self._login("-W", at, "--", self.host), theirs)
        self._children[child] = at
        child.ended.addCallback(self._over, child)

    def _over(self, ended: Ended, child: SshChild) -> None:
        self._ended.append((self._children.pop(child), ended))

    def works(self) -> None:
        """The connection is there."""
        self._fails = False
        self._worked = True

    async def release(self, seconds: float = END_LIMIT) -> None:
        """End the processes whose connections have ended; return when they are gone.

        :param seconds: how long they may take to end by themselves.
        """
        gone = []
        for child in list(self._children):
            child.end_within(seconds)
            over: Deferred[None] = Deferred()
            child.ended.addCallback(_passing_on(over))
            gone.append(over)
        for each in gone:
            await each

    async def explain(self, problem: KernelError) -> KernelError:
        """Return the error for an attempt that has failed: what ``ssh`` said, if it said why."""
        if not isinstance(problem, ConnectionError):
            return problem
        await self.release(WORDS_LIMIT)
        return self._trouble(self._ended) or problem

    def _trouble(self, ended: Sequence[tuple[str, Ended]]) -> KernelError | None:
        """Return one error that sums up what ``ssh`` processes said."""
        lines = [(at, line) for at, each in ended for line in each.errors]

        def places(words: str) -> str:
            return " and ".join(dict.fromkeys(at for at, line in lines if words in line))

        if any("administratively prohibited" in line for _, line in lines):
            return ConnectionError(
                f"{self.host} does not forward connections for you; its sshd_config must allow it "
                "(AllowTcpForwarding, PermitOpen)"
            )
        if at := places("open failed: connect failed: Connection refused"):
            return NoController(
                f"nothing listens at {at} as seen from {self.host} (connection refused): is the controller running?"
            )
        if at := places("open failed: connect failed"):
            why = {
                line.rpartition("connect failed: ")[2]
                for _, line in lines
                if "connect failed" in line
            }
            return ConnectionError(
                f"{self.host} cannot reach the controller at {at}: {', '.join(sorted(why))}"
            )
        failed = [each for _, each in ended if each.status]
        if not failed:
            return None
        if all(each.status < 0 for each in failed):
            return ConnectionError(
                f"no answer through ssh from {self.host} in time; if it has to ask for a password, give a longer "
                "timeout"
            )
        return ConnectionError(
            f"cannot log in to {self.host} by ssh: {_last(failed[-1])}{self._advice(failed[-1])}"
        )

    def _advice(self, ended: Ended) -> str:
        last = _last(ended)
        if "Permission denied" in last and not has_terminal():
            return (
                "; there is no terminal where it could ask for a password: use a key, or an agent"
            )
        if "Host key verification failed" in last:
            return "; log in once by hand and check the host's key"
        return ""


def _last(ended: Ended) -> str:
    said = [line for line in ended.errors if "stdio forwarding failed" not in line]
    return (
        said[-1].removeprefix("ssh: ").rstrip(".")
        if said
        else f"ssh exited with status {ended.status}"
    )


def _passing_on(over: Deferred[None]) -> Callable[[Ended], Ended]:
    def tell(ended: Ended) -> Ended:
        over.callback(None)
        return ended

    return tell
