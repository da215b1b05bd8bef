"""``netns``: hosts made of network namespaces, wired to one switch.

A controller, its engines and its clients on these hosts talk over real interfaces::

    scripts/testbed up netns count=4
    scripts/testbed on host1 hostname
    scripts/testbed down netns               which ends every process that still runs on a host

The hosts are ``host0``, ``host1``, ...; each has ``eth0`` with its own address in one 10.77.N.0/24 and, if the kernel
has IPv6, one in fd77:0:0:N::/64; it knows the others by name, and shares this machine's files, users and process ids.
There is no way into or out of this network: every party of a test, including the client, runs on a host.  If root
starts the hosts, this machine meanwhile refuses connections to 10.77.N.0/24, which would otherwise leave through its
default route.

Root is not needed if the kernel lets every user create user namespaces.  The user is then called root on the hosts,
and no other testbed can run on them.  Several such networks can be up at the same time, each in its own directory.

Faults, by hand or in a test (``switch`` is a host, too)::

    scripts/testbed on host1 ip link set eth0 down        host1 gets errors at once; the others wait
    scripts/testbed on switch ip link set host1 down     the cable is pulled: host1 loses its carrier
    scripts/testbed on switch bridge link set dev host1 state 0
                                                         every frame is lost without an error; 'state 3' undoes it
    scripts/testbed on switch tc qdisc add dev host1 root tbf rate 10mbit burst 32kb latency 400ms
                                                         a slow link to host1; 'tc qdisc del dev host1 root' undoes it
    scripts/testbed on switch tc qdisc add dev host1 root netem delay 50ms loss 5%
                                                         a slow and lossy link, if TESTBED_NETEM is 'yes'

For the other direction, do the same to ``eth0`` on host1.  Without netem, use the package nftables to drop packets.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from tests.testbeds.lib import (
    Failed,
    Host,
    Missing,
    Needs,
    Testbed,
    is_root,
    output_of,
    succeeds,
    write_hosts,
)

_SWITCH = "switch"
_MAX_HOSTS = 64
_ROUTE_FILE = "route"


@dataclass(frozen=True)
class Netns(Testbed):
    """Hosts made of network namespaces.

    :ivar count: how many, 1 to 64.
    """

    name: ClassVar[str] = "netns"
    needs: ClassVar[tuple[Needs, ...]] = (
        Needs("ip", ("iproute2",)),
        Needs("unshare", ("util-linux",)),
        Needs("nsenter", ("util-linux",)),
        Needs("hostname", ("hostname",)),
    )

    count: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.count <= _MAX_HOSTS:
            raise ValueError(f"count must be 1 to {_MAX_HOSTS}")

    def check(self) -> None:
        super().check()
        if not succeeds(["unshare", *self._user(), "--net", "--uts", "--mount", "true"]):
            raise Missing(
                "network namespaces cannot be made here"
                + (
                    ""
                    if is_root()
                    else ": root is needed, or a kernel that lets every user make them"
                )
            )

    def start(self) -> dict[str, str]:
        network = self._network()
        names = [f"host{number}" for number in range(self.count)]
        addresses = {name: f"{network}.{10 + number}" for number, name in enumerate(names)}
        known = {"localhost": "127.0.0.1", **addresses}
        lines = [f"{address} {name}\n" for name, address in known.items()]
        (self.directory / "etc-hosts").write_text("".join([*lines, "::1 localhost\n"]))

        switch = self._make_host(_SWITCH, "", None)
        for command in ("link add br0 type bridge", "link set br0 up"):
            output_of(switch.command("ip", *command.split()))
        hosts = [self._make_host(name, addresses[name], switch) for name in names]
        for host in hosts:
            for where, command in (
                (switch, f"link add {host.name} type veth peer name eth0 netns {host.pid}"),
                (switch, f"link set {host.name} master br0 up"),
                (host, f"addr add {host.address}/24 broadcast + dev eth0"),
                (host, "link set eth0 up"),
            ):
                output_of(where.command("ip", *command.split()))
        hosts = [self._add_ipv6(host) for host in hosts]
        write_hosts(self.directory, [switch, *hosts])
        netem = ("dev", hosts[0].name, "root", "netem")
        has_netem = succeeds(switch.command("tc", "qdisc", "add", *netem, "delay", "1ms"))
        if has_netem:
            output_of(switch.command("tc", "qdisc", "del", *netem))
        return {**addresses, "TESTBED_NETEM": "yes" if has_netem else "no"}

    def _user(self) -> list[str]:
        return [] if is_root() else ["--user", "--map-root-user"]

    def _network(self) -> str:
        """The first three numbers of addresses that this machine does not use; reserved for us if this is root."""
        for number in range(256):
            network = f"10.77.{number}"
            known = [
                *output_of(["ip", "-4", "route", "show", "root", f"{network}.0/24"]).splitlines(),
                *output_of(["ip", "-4", "route", "show", "match", f"{network}.0/24"]).splitlines(),
            ]
            if any(not line.startswith("default") for line in known):
                continue
            # If two testbeds try the same one, only one gets it.
            if not is_root() or succeeds(["ip", "-4", "route", "add", *_unreachable(network)]):
                (self.directory / _ROUTE_FILE).write_text(network)
                return network
        raise Missing("this machine has routes to all of 10.77.0.0/16, or does not let us add one")

    def _make_host(self, name: str, address: str, switch: Host | None) -> Host:
        """Create namespaces; a process that ends with this one keeps them alive."""
        script = 'hostname "$0" && mount --bind "$1" /etc/hosts && ip link set lo up && echo made && exec cat'
        spaces = ["--net", "--uts", "--mount"]
        unshare = ["unshare", *([] if switch else self._user()), *spaces]
        command = [*unshare, "sh", "-c", script, name, str(self.directory / "etc-hosts")]
        process = subprocess.Popen(
            # Hosts can only be wired to each other within one user namespace: that of the switch.
            switch.command(*command) if switch and switch.unprivileged else command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        if line != "made\n":
            raise Failed(f"namespaces for {name} could not be made: {line.strip()}")
        _held.append((process, os.open(f"/proc/{process.pid}/ns/net", os.O_RDONLY)))
        return Host(name, address, pid=process.pid, unprivileged=not is_root())

    def _add_ipv6(self, host: Host) -> Host:
        """Give a host an address of IPv6 that ends like that of IPv4."""
        network, number = (int(part) for part in host.address.split(".")[2:])
        address = f"fd77:0:0:{network}::{number}"
        command = f"ip -6 addr add {address}/64 dev eth0 nodad".split()
        return replace(host, address6=address if succeeds(host.command(*command)) else "")

    def processes(self) -> set[int]:
        """All processes that run on the hosts."""
        ours = {os.fstat(network).st_ino for _, network in _held}
        everybody = [path.name for path in Path("/proc").glob("[0-9]*")]
        return {int(pid) for pid in everybody if _network_of(pid) in ours}

    def close(self) -> None:
        if is_root():
            with contextlib.suppress(FileNotFoundError):
                network = (self.directory / _ROUTE_FILE).read_text()
                succeeds(["ip", "-4", "route", "del", *_unreachable(network)])


_held: list[tuple[subprocess.Popen[str], int]] = []
"""The keepers of the supervisor's namespaces, with pipes that end them however it ends; and the network namespaces,
kept open, so that processes that still run in them can be found after the keepers have gone."""


def _unreachable(network: str) -> list[str]:
    return ["unreachable", f"{network}.0/24"]


def _network_of(pid: str) -> int | None:
    """The network namespace of a process; None for one that is gone, or hidden."""
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError:
        return None
