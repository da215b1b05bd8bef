"""Creating Tubs, listening, and connecting: everything that the rest of the kernel needs from Foolscap.

Importing this module imports neither Foolscap nor the reactor; calling its functions does.  Call them in the
reactor's thread.  Their messages and logs never contain a FURL, because anyone who reads one has the capability.
"""

from __future__ import annotations

import functools
import socket
from typing import TYPE_CHECKING, Any

from ipython1.kernel.basics import error
from ipython1.kernel.host import addresses
from ipython1.kernel.host.furl import Furl, check_host, check_port, format_hint, parse_furl

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime
    from twisted.python.failure import Failure

    from ipython1.kernel.tub.kerneltub import KernelTub

ONLY_SSH = "where only ssh is open, connect through it: 'ipcluster ssh --tunnel' for engines, ssh='HOST' for clients"
START_ONE = "is the controller running? (ipcluster or ipcontroller starts one)"


@functools.cache
def preload() -> None:
    """Import what the other functions need, where that is better done before they are called."""
    import ipython1.kernel.tub.kerneltub  # noqa: F401
    from ipython1.kernel.host.certificates import make_certificate

    make_certificate()  # the first one imports much


def make_tub(cert_pem: bytes | None = None) -> KernelTub:
    """Create and start a Tub; stop it with :func:`close`.

    :param cert_pem: certificate and private key, which are its identity; None for a temporary identity, as clients
        and engines have.
    :raises SecurityError: if ``cert_pem`` is not a certificate with its key, or assertions are disabled.
    """
    if not __debug__:
        raise error.SecurityError(
            "Python runs with assertions disabled (-O or PYTHONOPTIMIZE), but Foolscap's security relies on them;"
            " start it without this option"
        )
    from ipython1.kernel.tub.kerneltub import KernelTub

    if cert_pem is None:
        from ipython1.kernel.host.certificates import make_certificate

        cert_pem = make_certificate()
    tub: KernelTub
    try:
        # Foolscap would silently create a new identity for an empty string.
        tub = KernelTub(certData=cert_pem or b"empty")
    except Exception:
        raise error.SecurityError(
            "the certificate file does not contain a certificate with its private key;"
            " restore it, or remove it together with the FURL files to get a new identity"
        ) from None
    tub.startService()
    return tub


async def listen(
    tub: KernelTub,
    ip: str,
    port: int,
    location: str | None = None,
    *,
    clock: IReactorTime | None = None,
    most_strangers: int | None = None,
) -> int:
    """Listen for connections to ``tub``, and set the location in its FURLs.

    :param ip: where to listen; see :func:`ipython1.kernel.host.addresses.to_listen_at`.
    :param port: 0 for any free port.
    :param location: how others reach this host: a name or address, with ``:port`` if it differs, or several
        separated by commas.  Default: see :func:`ipython1.kernel.host.addresses.advertised`.
    :param clock: for the deadline of connections that have not named a capability; default the reactor.
    :param most_strangers: the maximum number of these; see :mod:`ipython1.kernel.tub.strangers`.
    :returns: the port.
    :raises ConnectionError: if the port is in use, or the address not one of this host.
    :raises SecurityError: if ``location`` is malformed.
    """
    from twisted.internet import error as net_error
    from twisted.internet import reactor

    from ipython1.kernel.tub.listening import open_listeners
    from ipython1.kernel.tub.strangers import Doorkeeper

    places = _places(ip, location)
    doorkeeper = Doorkeeper(
        clock or reactor, most_strangers, connections=lambda: tub.open_connections
    )
    try:
        listeners, port = await open_listeners(
            tub, addresses.to_listen_at(ip), port, doorkeeper, reactor
        )
    except (net_error.CannotListenError, OverflowError) as problem:
        raise _cannot_listen(ip, port, getattr(problem, "socketError", problem)) from None
    for listener in listeners:
        tub.listeners.append(listener)
        listener.setServiceParent(tub)
    tub.setLocation(*(format_hint(host, given or port) for host, given in places))
    return port


def _places(ip: str, location: str | None) -> list[tuple[str, int | None]]:
    """Return the hosts for FURLs, each with its port if given, else None."""
    if location is not None:
        return [_place(part.strip()) for part in location.split(",")]
    return [(host, None) for host in addresses.advertised(ip)]


def _cannot_listen(ip: str, port: int, cause: Exception) -> error.ConnectionError:
    where = f"cannot listen at {ip or 'any address'}:{port}"
    if isinstance(cause, socket.gaierror):
        return error.ConnectionError(
            f"{where}: this host has no such address, name or network interface; its interfaces are"
            f" {', '.join(addresses.interfaces())}"
        )
    return error.ConnectionError(
        f"{where}: {getattr(cause, 'strerror', None) or cause};"
        " choose another address or port (0 means any free port)"
    )


def _place(text: str) -> tuple[str, int | None]:
    text = text.removeprefix("tcp:")
    host, colon, port = text.rpartition(":")
    if colon and (":" not in host or host.endswith("]")):
        return check_host(host), check_port(int(port) if port.isdecimal() else port)
    return check_host(text), None


def register(tub: KernelTub, referenceable: Any, furl_name: str | None = None) -> str:
    """Return the FURL by which others get a reference to ``referenceable``; call :func:`listen` first.

    :param furl_name: the capability of an earlier run, to keep it; None for 160 new random bits.
    """
    furl: str = tub.registerReference(referenceable, furl_name)
    return furl


def replace_name(tub: KernelTub, referenceable: Any, furl_name: str) -> str:
    """Give a registered object another secret, and end the connections of all who hold a reference to it.

    :returns: the new FURL; the old one leads to nothing any more.
    """
    tub.unregisterReference(referenceable)
    furl: str = tub.registerReference(referenceable, furl_name)
    puid = referenceable.processUniqueID()
    for broker in list(tub.brokers.values()):
        if puid in broker.myReferenceByPUID:
            broker.abort("its FURL was replaced")
    return furl


async def connect(
    tub: KernelTub,
    furl: str | Furl,
    timeout: float,
    clock: IReactorTime | None = None,
    *,
    source: str | None = None,
) -> Any:
    """Connect to the Tub in ``furl`` and return the reference; a failed attempt leaves nothing behind.

    :param timeout: seconds.
    :param source: where the FURL comes from (a file name), for messages.
    :raises SecurityError: if the FURL is malformed or unknown there, or the certificate differs.
    :raises ProtocolError: if the program that listens there is not a controller.
    :raises NoController, ConnectionError: if nothing listens there, or nothing answers.
    """
    from twisted.internet import defer, reactor

    from ipython1.kernel.tub.connector import AttemptsFailed

    try:
        target = furl if isinstance(furl, Furl) else parse_furl(furl)
    except error.SecurityError as problem:
        raise error.SecurityError(f"{source}: {problem}" if source else str(problem)) from None
    if not tub.running:
        raise error.ConnectionError("cannot connect: this process has closed its connections")
    attempt = defer.Deferred.fromCoroutine(_reach(tub, target))
    status: dict[str, str] | None = None

    def expire() -> None:
        nonlocal status
        status = tub.attempt_status(target.tub_id)
        attempt.cancel()

    timer = (clock or reactor).callLater(timeout, expire)
    try:
        return await attempt
    except AttemptsFailed as problem:
        raise _explained(target, problem.failures, source) from None
    except defer.CancelledError:
        if status is None:
            raise
        raise _late(target, status, timeout) from None
    except error.KernelError:
        raise
    except Exception as problem:
        raise _refused(target, problem, source) from None
    finally:
        if timer.active():
            timer.cancel()


async def _reach(tub: KernelTub, target: Furl) -> Any:
    from foolscap.referenceable import TubRef

    places = [format_hint(host, port) for host, port in tub.in_order(target.hints)]
    return await tub.reach(TubRef(target.tub_id, places), target.name)


def _shown(hint: str) -> str:
    return hint.removeprefix("tcp:")


def _where(target: Furl) -> str:
    return " or ".join(_shown(format_hint(host, port)) for host, port in target.hints)


def _is_near(target: Furl) -> bool:
    """Return whether the Tub would be on this host."""
    return any(
        addresses.is_local(host) for host, _ in target.hints if not addresses.is_loopback(host)
    ) or all(addresses.is_loopback(host) for host, _ in target.hints)


def _only_far(failures: dict[str, Failure]) -> dict[str, Failure]:
    # If the controller is on another host, its loopback hint leads to this host, where anything may listen.
    far = {
        hint: why
        for hint, why in failures.items()
        if not addresses.is_loopback(_shown(hint).rpartition(":")[0].strip("[]"))
    }
    return far or failures


def _explained(target: Furl, failures: dict[str, Failure], source: str | None) -> error.KernelError:
    """Return one error that sums up the results of the location hints."""
    from OpenSSL import SSL
    from twisted.internet import error as net_error

    from ipython1.kernel.tub.kerneltub import NotFoolscap, OtherTub

    failures = _only_far(failures)
    file = source or "the FURL"

    def places(*kinds: type[BaseException]) -> str:
        return " and ".join(_shown(hint) for hint, why in failures.items() if why.check(*kinds))

    if at := places(OtherTub):
        return error.SecurityError(
            f"the program that listens at {at} is not the controller of {file}: it has another certificate"
            f" (it did not get the capability); use the file of the controller that is running now"
        )
    if at := places(NotFoolscap):
        return error.ProtocolError(
            f"the program that listens at {at} is not a controller: it speaks another protocol; {START_ONE}"
        )
    if at := places(SSL.Error):
        return error.ProtocolError(
            f"cannot connect securely to {at}: TLS 1.3 negotiation failed; is the same version of this"
            " package installed on both sides?"
        )
    if at := places(net_error.ConnectionRefusedError):
        far = "" if _is_near(target) else f"; {ONLY_SSH}"
        return error.NoController(f"nothing listens at {at} (connection refused): {START_ONE}{far}")
    if at := places(net_error.TimeoutError):
        return error.ConnectionError(
            f"{at} did not answer: the host is down, or a firewall closes the port; {ONLY_SSH}"
        )
    if at := places(net_error.DNSLookupError):
        return error.ConnectionError(
            f"the host of {at} has no address: check the name, or use the controller's address"
        )
    if at := places(net_error.ConnectionClosed):
        return error.ConnectionError(
            f"{at} closed the connection during setup; the controller is stopping or overloaded,"
            " or another program listens there"
        )
    if at := places(net_error.ConnectError):
        reasons = {_network_reason(why) for why in failures.values()}
        return error.ConnectionError(f"cannot reach {at}: {', '.join(sorted(reasons))}; {ONLY_SSH}")
    reasons = {why.getErrorMessage() for why in failures.values()}
    return error.ProtocolError(
        f"cannot connect to the controller at {_where(target)}: {', '.join(sorted(reasons)) or 'unknown reason'}"
    )


def _network_reason(why: Failure) -> str:
    cause = getattr(why.value, "osError", None)
    return getattr(cause, "strerror", None) or why.getErrorMessage()


def _late(target: Furl, status: dict[str, str], timeout: float) -> error.ConnectionError:
    """Return the error for a timeout."""
    within = f"within {timeout:g} s"
    if not status:
        return error.ConnectionError(
            f"the controller at {_where(target)} accepted the connection but did not answer {within};"
            " it is busy or stuck"
        )
    if "negotiating" in status.values():
        return error.ConnectionError(
            f"{_where(target)} accepted the connection but did not answer like a controller {within};"
            " it is busy or stopped, or another program listens there"
        )
    return error.ConnectionError(
        f"{_where(target)} did not answer {within}: the host is down, or a firewall closes the port; {ONLY_SSH}"
    )


def _refused(target: Furl, problem: Exception, source: str | None) -> error.KernelError:
    """Return the error for a reference that could not be fetched over an established connection."""
    from foolscap.ipb import DeadReferenceError
    from foolscap.tokens import RemoteException

    if isinstance(problem, RemoteException):
        return error.SecurityError(
            f"the controller at {_where(target)} does not know {source or 'this FURL'}: it is from another run;"
            " use the file that the controller wrote at its last start"
        )
    if isinstance(problem, DeadReferenceError):
        return error.ConnectionError(
            f"the controller at {_where(target)} closed the connection immediately"
        )
    return error.ConnectionError(f"cannot connect to the controller at {_where(target)}: {problem}")


async def close(tub: KernelTub) -> None:
    """Stop listening, close every connection, and stop ``tub``; return when all its sockets are closed.

    Its references send no disconnect notifications.  Peers have two seconds to close their side.
    """
    await tub.close()
