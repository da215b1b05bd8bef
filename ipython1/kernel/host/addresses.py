"""The addresses of this host: which there are, which of them others use, and which are loopback."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

IPV4_LOOPBACK = "127.0.0.1"
IPV6_LOOPBACK = "::1"

IPV4_EVERYWHERE = "0.0.0.0"
IPV6_EVERYWHERE = "::"
EVERYWHERE = ("", IPV6_EVERYWHERE)
"""What means all addresses of this host, IPv4 and IPv6, to those who listen."""

_PROBES = ("192.0.2.1", "2001:db8::1")
"""Addresses for documentation: nobody has them, and there is a route to them if there is a default route."""

_OF_THIS_HOST = ("docker", "br-", "virbr", "veth", "podman", "cni", "lxc", "vmnet", "vboxnet")
"""How interfaces begin whose networks exist on this host alone, for containers and virtual machines."""


def to_listen_at(place: str) -> list[str]:
    """Return the addresses to listen at.

    :param place: an address of this host or a name of it; a network interface; ``""`` or ``"::"`` for all addresses,
        ``"0.0.0.0"`` for all of IPv4.
    """
    if place in EVERYWHERE:
        return [IPV4_EVERYWHERE, IPV6_EVERYWHERE]
    return _at_interface(place) or [place]


def advertised(place: str = "") -> list[str]:
    """Return the addresses by which others may reach this host, the most likely ones first, then loopback.

    First comes the address from which this host reaches others, of IPv4 and then of IPv6; then those of the other
    interfaces; then those of networks for containers and virtual machines on this host.  Addresses that mean something
    only together with an interface (169.254.0.0/16, fe80::/10) are left out.

    :param place: where it listens, as for :func:`to_listen_at`.
    """
    if place not in (*EVERYWHERE, IPV4_EVERYWHERE):
        first, *others = to_listen_at(place)  # of an interface, loopback is the first
        return [*others, first]
    found = [address for address in map(_towards, _PROBES) if address is not None]
    found += [address for some in interfaces().values() for address in some]
    found = [*dict.fromkeys(found), IPV4_LOOPBACK if is_local(IPV4_LOOPBACK) else IPV6_LOOPBACK]
    return [each for each in found if ":" not in each] if place == IPV4_EVERYWHERE else found


def _at_interface(name: str) -> list[str]:
    """Return loopback and the addresses of an interface; nothing if it has none."""
    found = [] if is_ip(name) else interfaces().get(name)
    return [IPV4_LOOPBACK, *found] if found else []


def _towards(other: str) -> str | None:
    """Return the address from which this host would speak to ``other``."""
    # Connecting a datagram socket only looks up the route.
    try:
        with socket.socket(family_of(other), socket.SOCK_DGRAM) as probe:
            probe.connect((other, 9))
            found = str(probe.getsockname()[0])
    except OSError:
        return None
    return found if _is_of_use(found) else None


def interfaces() -> dict[str, list[str]]:
    """Return the network interfaces, those to other hosts first, each with its addresses that others can use."""
    try:
        import psutil

        known = psutil.net_if_addrs()
    except (ImportError, OSError):
        return {}
    return {
        name: [
            entry.address
            for family in (socket.AF_INET, socket.AF_INET6)
            for entry in known[name]
            if entry.family == family and _is_of_use(entry.address)
        ]
        for name in sorted(known, key=lambda name: name.startswith(_OF_THIS_HOST))
    }


def _is_of_use(text: str) -> bool:
    """Return whether others can use an address of this host."""
    try:
        address: IPv4Address | IPv6Address = ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_link_local or address.is_unspecified)


def is_local(host: str) -> bool:
    """Return whether ``host`` is an IP address of this host."""
    if not is_ip(host):
        return False
    try:
        with socket.socket(family_of(host), socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except OSError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether ``host`` is the loopback interface."""
    return host == "localhost" or (is_ip(host) and ip_address(host).is_loopback)


def is_ip(host: str) -> bool:
    """Return whether ``host`` is an IPv4 or IPv6 address rather than a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def family_of(address: str) -> socket.AddressFamily:
    """Return the family of an IP address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def in_order(hints: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return the places of a controller in the order in which to try them.

    If one of them is an address of this host, the controller most likely runs here: loopback comes first, as it stays
    when the host's addresses change.  If none is, loopback comes last: it may be the end of a tunnel, or the controller
    may have been here before the host changed its address.
    """
    places = list(dict.fromkeys(hints))
    near = [place for place in places if is_loopback(place[0])]
    others = [place for place in places if place not in near]
    return near + others if any(is_local(host) for host, _ in others) else others + near
