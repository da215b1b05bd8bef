"""Which process of this host holds the other end of a connection, and ending it.

A peer's word for its process id proves nothing: a false one would name somebody else's process.  So no process is
watched or signalled before the operating system has confirmed that it holds the other end of the peer's connection,
and none is signalled after its pid has passed to another process.

A process is not confirmed if it is on another host, behind a tunnel or in another network namespace, or if this user
may not look at it.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address
from typing import Any, NamedTuple, Protocol

from ipython1.daemon import osprocess
from ipython1.kernel.host.hosts import host_identity
from ipython1.kernel.host.processstate import ProcessName, ProcessState, name_process
from ipython1.system import KILL

MOST_SEEN = 16
"""Processes of which is remembered where their sockets were seen."""

_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_LISTEN = 10
_ANY_STATE = 0xFFFFFFFF
_NO_COOKIE = b"\xff" * 8
_HEADER = struct.Struct("=IHHII")
_ERROR = struct.Struct("=i")
_DIAG_REQUEST = struct.Struct("=IHHIIBBBBI2s2s16s16sI8s")
_DIAG_ANSWER = struct.Struct("=xB2x48x16xI")


class Ends(NamedTuple):
    """The two ends of a TCP connection, each an address and a port."""

    here: tuple[str, int]
    there: tuple[str, int]

    @classmethod
    def of_transport(cls, transport: Any) -> Ends | None:
        """Return the ends of a Twisted transport's connection; None if it is not TCP or closed."""
        if transport is None:
            return None
        here, there = transport.getHost(), transport.getPeer()
        try:
            return cls((_plain(here.host), int(here.port)), (_plain(there.host), int(there.port)))
        except (AttributeError, TypeError, ValueError):
            return None


class PeerProcesses(Protocol):
    """The processes of this host, as the controller sees those of its peers."""

    def find(self, host: str, pid: int, ends: Ends | None) -> ProcessName | None:
        """Return the process that a peer claims to be, if the operating system confirms it.

        :param host: the host identity that the peer claims.
        :param ends: of its connection.
        """

    def state(self, process: ProcessName) -> ProcessState:
        """Return what a process that was found does now."""

    def end(self, process: ProcessName, ends: Ends | None) -> bool:
        """Kill a process that was found; return whether it was sent the signal.

        :param ends: of its connection if that is open; it must still be held by that process.
        """


class NoProcesses:
    """Confirms nothing and ends nothing: for peers that are in this process, and for tests."""

    def find(self, host: str, pid: int, ends: Ends | None) -> ProcessName | None:
        return None

    def state(self, process: ProcessName) -> ProcessState:
        return ProcessState.RUNNING

    def end(self, process: ProcessName, ends: Ends | None) -> bool:
        return False


class HostProcesses:
    """The real processes of this host."""

    def __init__(self) -> None:
        self._holders = _Holders()

    def find(self, host: str, pid: int, ends: Ends | None) -> ProcessName | None:
        # Both ends in this process: it is nobody's peer.
        if ends is None or pid == os.getpid() or host != host_identity():
            return None
        process = name_process(pid)
        if process is None or not self._holders.holds(pid, ends):
            return None
        # The pid may have passed to another process meanwhile.
        return process if process.state.alive else None

    def state(self, process: ProcessName) -> ProcessState:
        return process.state

    def end(self, process: ProcessName, ends: Ends | None) -> bool:
        if process.pid == os.getpid():
            return False
        try:
            # From here on the signal can only reach the process that has this pid now.
            handle = os.pidfd_open(process.pid) if hasattr(os, "pidfd_open") else None
        except OSError:
            handle = None
        try:
            if not process.state.alive or (
                ends is not None and not self._holders.holds(process.pid, ends)
            ):
                return False
            if handle is None:
                return osprocess.send_signal(process.pid, KILL)
            signal.pidfd_send_signal(handle, KILL)
        except OSError:
            return False
        finally:
            if handle is not None:
                os.close(handle)
        return True


class _Holders:
    """Finds out which process holds the other side of a connection of this process.

    It remembers where it saw the sockets of the processes that it looked at last, and looks there first: a program
    with hundreds of connections is not searched for each of them.
    """

    def __init__(self) -> None:
        self._seen: dict[int, dict[str, str]] = {}

    def holds(self, pid: int, ends: Ends) -> bool:
        """Return whether a process holds the other side of a connection now."""
        if not osprocess.is_linux():
            return _holds_by_psutil(pid, ends)
        wanted = {f"socket:[{inode}]" for inode in _inodes(ends)}
        seen = self._seen.setdefault(pid, {})
        if any(_read_link(seen[target]) == target for target in wanted if target in seen):
            return True
        seen.clear()
        if len(self._seen) > MOST_SEEN:
            del self._seen[next(iter(self._seen))]
        for path in _open_files(pid) if wanted else ():
            target = _read_link(path)
            seen[target] = path
            if target in wanted:
                return True
        return False


def _open_files(pid: int) -> list[str]:
    """Return the links to what a process has open, the newest first in most cases, such as a connection."""
    folder = f"/proc/{pid}/fd"
    try:
        return [f"{folder}/{name}" for name in sorted(os.listdir(folder), key=int, reverse=True)]
    except OSError:
        return []


def _read_link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _inodes(ends: Ends) -> list[str]:
    """Return the sockets at the other side of a connection, if it is in this network namespace."""
    try:
        return list(_ask_netlink(ends))
    except (OSError, struct.error):
        return list(_search_tables(ends))


def _ask_netlink(ends: Ends) -> Iterator[str]:
    """Look one connection up, however many there are: ``inet_diag_req_v2`` of Linux's sock_diag(7)."""
    source, target = ip_address(ends.there[0]).packed, ip_address(ends.here[0]).packed
    family = socket.AF_INET if len(source) == 4 else socket.AF_INET6
    question = _DIAG_REQUEST.pack(
        *(_DIAG_REQUEST.size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0),
        *(family, socket.IPPROTO_TCP, 0, 0, _ANY_STATE),
        *(ends.there[1].to_bytes(2, "big"), ends.here[1].to_bytes(2, "big"), source, target),
        *(0, _NO_COOKIE),
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(0.5)
        netlink.send(question)
        answer = netlink.recv(4096)
    _, kind, *_ = _HEADER.unpack_from(answer)
    if kind != _SOCK_DIAG_BY_FAMILY:
        if kind == _NLMSG_ERROR and -_ERROR.unpack_from(answer, _HEADER.size)[0] == errno.ENOENT:
            return
        raise OSError("this system does not answer")
    state, inode = _DIAG_ANSWER.unpack_from(answer, _HEADER.size)
    # Where there is no such connection, the listening socket of that port answers.
    if state != _LISTEN and inode:
        yield str(inode)


def _search_tables(ends: Ends) -> Iterator[str]:
    theirs, ours = f":{ends.there[1]:04X}", f":{ends.here[1]:04X}"
    for table in _TABLES:
        try:
            with open(table, encoding="ascii") as file:
                rows = file.readlines()[1:]
        except OSError:
            continue
        for row in rows:
            if theirs not in row or ours not in row:
                continue
            _, local, remote, _, _, _, _, _, _, inode, *_ = row.split()
            if inode != "0" and (_place(local), _place(remote)) == (ends.there, ends.here):
                yield inode


def _place(text: str) -> tuple[str, int]:
    """Return the address and port of ``0100007F:1F90``: 32-bit words in the order of this machine."""
    address, _, port = text.partition(":")
    words = (int(address[at : at + 8], 16) for at in range(0, len(address), 8))
    packed = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    return _plain(socket.inet_ntop(family, packed)), int(port, 16)


def _plain(host: str) -> str:
    """Return an address in the one form in which it can be compared."""
    try:
        socket.inet_pton(socket.AF_INET, host)
    except OSError:
        pass
    else:
        return host
    address = ip_address(host)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address)


def _holds_by_psutil(pid: int, ends: Ends) -> bool:
    import psutil

    try:
        process = psutil.Process(pid)
        # Its name before psutil 6.
        connections = getattr(process, "net_connections", None) or process.connections
        for each in connections(kind="tcp"):
            if each.raddr and (_end(each.laddr), _end(each.raddr)) == (ends.there, ends.here):
                return True
    except (psutil.Error, OSError):
        pass
    return False


def _end(address: Any) -> tuple[str, int]:
    return _plain(address.ip), int(address.port)
