"""Carrying engines' connections to the controller over ssh, where no other port is open.

The ``ssh`` process that starts a host's nanny asks the server there for a port of the host's loopback interface, and
forwards what connects to it to the controller.  The server chooses the port at each login and ``ssh`` names it on its
standard error.  Engines find it in a FURL file of their host's own, which is written anew after each login; they read
it before each attempt to connect.

A controller on another host is reached the same way: a second ``ssh`` process forwards a port of this host's loopback
interface to it, and this host's FURL files have that port as the controller's only location.  So what is to be
forwarded to is always found in this host's FURL file.

==========  =======================================================  ==============
a login     event                                                    becomes
==========  =======================================================  ==============
asked       ``ssh`` names the port                                   open
asked       the server refuses, or nothing is said                   failed
open        the login ends, and with it the forwarding               asked, at the next login
==========  =======================================================  ==============
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import quote

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout

from ipython1.daemon.processes import ProcessStatus, State
from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.host.addresses import IPV4_LOOPBACK, in_order, is_loopback
from ipython1.kernel.host.furl import Furl, parse_furl
from ipython1.kernel.host.security import read_furl
from ipython1.kernel.host.sshclient import FORWARDING, UNSHARED
from ipython1.kernel.launchers.interfaces import Context
from ipython1.kernel.launchers.programs import CONTROLLER_KEY

TELL_LIMIT: Final = 10.0
"""Seconds after the nanny's greeting in which ``ssh`` has to name the port; it does so before it."""

_ALLOCATED: Final = re.compile(r"Allocated port (\d+) for remote forward to ")
_REFUSED: Final = "remote port forwarding failed"


def reached_at(furl: Furl) -> tuple[str, int]:
    """Return the place at which this host reaches the controller of a FURL.

    :raises ClusterError: if the FURL has none.
    """
    places = in_order(furl.hints)
    if not places:
        raise ClusterError("the controller's FURL has no location to which ssh could forward")
    return places[0]


def reached_from_its_host(furl: Furl) -> tuple[str, int]:
    """Return the place at which the controller is reached on its own host."""
    near = [place for place in furl.hints if is_loopback(place[0])]
    return near[0] if near else reached_at(furl)


def through(text: str, port: int) -> str:
    """Return a FURL whose only location is a port of the loopback interface.

    :param text: the FURL as it is in the controller's file.
    """
    return str(parse_furl(text).with_location(IPV4_LOOPBACK, port))


def target(place: tuple[str, int]) -> str:
    """Return a place as ``ssh`` takes it after the port of ``-L`` and ``-R``."""
    host, port = place
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def furl_file_name(name: str, host: str) -> str:
    """Return the name of a host's own FURL file; several hosts may share a directory.

    :param name: the name of the cluster's FURL file.
    """
    return f"{name.removesuffix('.furl')}-for-{quote(host, safe='@')}.furl"


class ControllerPlace:
    """Where this host reaches the controller, as soon as it listens."""

    def __init__(self, context: Context) -> None:
        self._files = context.files
        self._far = False
        self._beside = context.config.with_controller
        self._known = not self._beside
        self._far_furl = ""
        self._waiting: list[Deferred[None]] = []
        context.supervisor.on_report(self._on_report)
        status = context.supervisor.status().get(CONTROLLER_KEY)
        if status is not None:
            self._on_report(status)

    def _on_report(self, status: ProcessStatus) -> None:
        listens = status.key == CONTROLLER_KEY and status.state is State.RUNNING
        if listens and not self._far and not self._known:
            self.known()

    def is_far(self) -> None:
        """The controller will be started on another host; :meth:`known` tells when its FURL is here."""
        self._far = True

    def known(self, far_furl: str = "") -> None:
        """The FURL of the controller, which listens, is in this host's file.

        :param far_furl: the FURL as it is on the controller's host, if that is another one.
        """
        self._known = True
        self._far_furl = far_furl
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    async def place(self) -> tuple[str, int]:
        """Wait for it, and return host and port.

        :raises SecurityError: if the FURL file cannot be read.
        """
        if not self._known:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            await waiting
        furl = read_furl(self._files.engine_furl)
        # What others are told to use may lead nowhere from its own host, as the outer address of a NAT.
        return reached_from_its_host(furl) if self._beside else reached_at(furl)

    def direct_furl(self) -> str:
        """Return the FURL for engines that connect directly."""
        return self._far_furl or self._files.engine_furl.read_text()


class HostTunnel:
    """The forwarding from one engines' host, in the ``ssh`` process that starts its nanny.

    :param host: its name.
    :param place: where the controller is reached from here.
    :ivar port: the port on the host by which its engines reach the controller; 0 while there is none.
    """

    def __init__(self, host: str, place: ControllerPlace, clock: Any) -> None:
        self.port: int = 0
        self._host = host
        self._place = place
        self._clock = clock
        self._said: Deferred[None] = Deferred()

    async def command(self, command: tuple[str, ...]) -> tuple[str, ...]:
        """Return the command for a login; wait until the controller listens.

        :param command: ``ssh`` and the user's options.
        """
        to = target(await self._place.place())
        self.port = 0
        self._said = Deferred()
        program, *options = command
        return (program, *FORWARDING, *UNSHARED, "-R", f"{IPV4_LOOPBACK}:0:{to}", *options)

    def heard(self, line: str) -> bool:
        """Take a line of the standard error of ``ssh``; return whether it is about the forwarding."""
        found = _ALLOCATED.search(line)
        if found is None and _REFUSED not in line:
            return False
        if not self._said.called:
            self.port = int(found[1]) if found is not None else 0
            self._said.callback(None)
        return True

    async def opened(self) -> None:
        """Wait until the forwarding is there.

        :raises ClusterError: if it is refused, or ``ssh`` does not name its port.
        """
        said = self._said
        said.addTimeout(TELL_LIMIT, self._clock)
        try:
            await said
        except DeferredTimeout:
            raise ClusterError(
                f"{self._host}: ssh did not name the port that it forwards; --tunnel needs OpenSSH's client, "
                "without its option -q"
            ) from None
        if not self.port:
            raise ClusterError(
                f"{self._host}: its ssh server does not forward ports for you; its sshd_config must allow it "
                "(AllowTcpForwarding, PermitListen), or engines there must reach the controller without --tunnel"
            )

    def furl(self, text: str) -> str:
        """Return the FURL for the engines there."""
        return through(text, self.port)
