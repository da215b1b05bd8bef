"""Platform-specific calls on TCP sockets, each with a portable fallback.

A dead host or a cut network is noticed by the kernel of this host, not by messages of ours: a process that is busy in
a C call, or stopped, still has a kernel that answers, and must not be declared dead (``tune``).

On Linux that takes two options.  Keepalive probes an idle connection.  ``TCP_USER_TIMEOUT`` bounds how long sent data
may stay unacknowledged; without it a blackhole is noticed after a quarter of an hour.  But it also ends a connection
whose receiver keeps its window shut for that long while its kernel answers every probe, which is what a busy process
with a full receive buffer looks like.  ``spare_busy_peer``, called every few seconds, lifts the limit for such a
connection and restores it afterwards.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

DEAD_AFTER = 30.0
"""Seconds of silence of a host after which its connections are ended."""

PROBES = 6
"""The seconds before that are divided into so many steps: one silent step more is one more probe sent."""

ANY_ADDRESS = ("", "0.0.0.0", "::")
"""What ``listen`` takes for "all interfaces"."""

_TCP_INFO = getattr(socket, "TCP_INFO", None) if sys.platform == "linux" else None
_TCP_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)
_KEEP_IDLE = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))

# The beginning of Linux's struct tcp_info: state, ca_state, retransmits, probes, backoff, options, two bytes of bit
# fields; then rto, ato, snd_mss, rcv_mss, unacked (32 bits each).
_INFO = struct.Struct("=8B5I")


def tune(sock: socket.socket, dead_after: float = DEAD_AFTER) -> None:
    """Send small messages at once, and end the connection when the other host is silent for ``dead_after`` seconds.

    What the platform cannot do is left out; keepalive alone is everywhere.
    """
    step = max(1, int(dead_after / PROBES))
    _set(sock, socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _set(sock, socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    _set(sock, socket.IPPROTO_TCP, _KEEP_IDLE, 2 * step)
    _set(sock, socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPINTVL", None), step)
    _set(sock, socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPCNT", None), PROBES - 2)
    _set_user_timeout(sock, dead_after)


def spare_busy_peer(sock: socket.socket, dead_after: float = DEAD_AFTER) -> bool:
    """Whether the other side does not read although its kernel answers; such a connection is kept.

    To be called for every connection a few times in each ``dead_after`` seconds.  False where the platform
    has nothing to spare a connection from.
    """
    if _TCP_INFO is None or _TCP_USER_TIMEOUT is None:
        return False
    try:
        raw = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _INFO.size)
        _, _, _, unanswered, backoff, _, _, _, _, _, _, _, unacknowledged = _INFO.unpack(raw)
        busy = backoff > 0 and unacknowledged == 0 and unanswered <= 1
        limited = sock.getsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT) > 0
    except (OSError, struct.error):
        return False
    if busy == limited:
        _set_user_timeout(sock, 0 if busy else dead_after)
    return busy


def _set_user_timeout(sock: socket.socket, dead_after: float) -> None:
    # One step less than the bound, because the kernel looks only when a probe or a retransmission is due.
    milliseconds = int(dead_after * 1000 * (PROBES - 1) / PROBES)
    _set(sock, socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, milliseconds)


def _set(sock: socket.socket, level: int, option: int | None, value: int) -> None:
    if option is None:
        return
    try:
        sock.setsockopt(level, option, value)
    except OSError:
        # Not a TCP socket, or a platform that names the option without having it.
        pass


def let_go_in_children(reactor: Any) -> None:
    """Have children that are forked from now on let go of the reactor's connections.

    The other side would not see the end of this process as long as one of them lives.
    """
    if not hasattr(os, "register_at_fork"):
        return

    def let_go() -> None:
        with suppress(OSError):
            nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            for each in {*reactor.getReaders(), *reactor.getWriters()}:
                if hasattr(each, "getPeer"):
                    # The number stays taken, as objects that know it live on.
                    os.dup2(nothing, each.fileno(), inheritable=False)
            os.close(nothing)

    os.register_at_fork(after_in_child=let_go)


def primary_address() -> str | None:
    """The IPv4 address by which other hosts most likely reach this one; None when there is only loopback."""
    # Connecting a datagram socket sends nothing: it asks the routing table (192.0.2.1 is a documentation address).
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))
            found = str(probe.getsockname()[0])
            if not ip_address(found).is_loopback:
                return found
    except OSError:
        pass
    return _first_interface_address()


def _first_interface_address() -> str | None:
    """For a host without a default route, such as one of a private cluster network."""
    try:
        import psutil

        interfaces = psutil.net_if_addrs()
    except (ImportError, OSError):
        return None
    found = [
        entry.address
        for entries in interfaces.values()
        for entry in entries
        if entry.family == socket.AF_INET and not ip_address(entry.address).is_loopback
    ]
    return found[0] if found else None


def is_local_address(host: str) -> bool:
    """Whether ``host`` is an IP address of this very host."""
    if not is_ip_address(host):
        return False
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except OSError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether ``host`` names this host by its loopback interface."""
    return host == "localhost" or (is_ip_address(host) and ip_address(host).is_loopback)


def is_ip_address(host: str) -> bool:
    """Whether ``host`` is an IPv4 or IPv6 address rather than a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def file_limit(default: int = 256) -> int:
    """How many files and sockets this process may have open; ``default`` where that is not known."""
    try:
        import resource
    except ImportError:
        return default
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return default if limit == resource.RLIM_INFINITY else int(limit)
