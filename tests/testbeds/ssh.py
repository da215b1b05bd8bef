"""``ssh``: a private sshd, to start engines over ssh.

::

    eval "$(scripts/testbed up ssh)"
    ssh -F "$SSH_CONFIG" node1 hostname           node1 to node4 all lead to this machine
    scp -F "$SSH_CONFIG" a_file node2:/tmp
    ipcluster -f hosts.py --ssh="ssh -F $SSH_CONFIG"
    scripts/testbed down ssh                      which ends all logins, and processes that they left behind

On hosts of the testbed ``netns``, each host has an sshd and keeps its name::

    eval "$(scripts/testbed up ssh on=host1,host2)"
    scripts/testbed on host0 ssh -F "$SSH_CONFIG" host1 hostname

If only one of the hosts can be reached from the others, name it, and users' logins go through it::

    eval "$(scripts/testbed up ssh on=host1,host2 jump=host1)"

Only the user who started it can log in, with a key that is created for it.  It listens only at 127.0.0.1 to
127.0.0.4.  It does not need root.
"""

from __future__ import annotations

import getpass
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tests.testbeds.lib import (
    Daemon,
    Failed,
    Host,
    HostedTestbed,
    Needs,
    free_ports,
    is_root,
    output_of,
    search_path,
    succeeds,
    wait_for,
)

_NODES = 4


@dataclass(frozen=True)
class Ssh(HostedTestbed):
    """A private sshd.

    :ivar port: 0 for a free one.
    :ivar max_startups: how many logins at a time, as ``MaxStartups`` of sshd_config(5); sshd's own value is
        10:30:100.
    :ivar forwarding: whether it forwards connections, as ``AllowTcpForwarding``.
    :ivar jump: the host through which all others are reached, as ``ProxyJump``; empty for none.
    """

    name: ClassVar[str] = "ssh"
    needs: ClassVar[tuple[Needs, ...]] = (
        Needs("sshd", ("openssh-server",)),
        Needs("ssh", ("openssh-client",)),
        Needs("ssh-keygen", ("openssh-client",)),
    )

    port: int = 0
    max_startups: str = "100:30:200"
    forwarding: str = "yes"
    jump: str = ""

    def start(self) -> dict[str, str]:
        port = self.port or free_ports(1)
        for name in ("host_key", "client_key"):
            kind = ("-q", "-t", "ed25519", "-N", "", "-C", "testbed")
            output_of(["ssh-keygen", *kind, "-f", str(self.directory / name)])
        shutil.copy(self.directory / "client_key.pub", self.directory / "authorized_keys")
        public = (self.directory / "host_key.pub").read_text().split()
        (self.directory / "known_hosts").write_text(f"testbed {public[0]} {public[1]}\n")

        hosts = self.hosts()
        if hosts:
            daemons = [self._start_sshd(host, [host.address], port) for host in hosts]
        else:
            hosts = [Host(f"node{number}", f"127.0.0.{number}") for number in range(1, _NODES + 1)]
            addresses = [host.address for host in hosts]
            daemons = [self._start_sshd(Host("loopback"), addresses, port)]
        config = self.directory / "ssh_config"
        config.write_text(self._client_config(hosts, port))
        for host in hosts:
            try:
                output_of(host.command("ssh", "-F", str(config), host.name, "true"))
            except Failed as problem:
                told = "; ".join(daemon.trouble() for daemon in daemons)
                raise Failed(f"{problem}; sshd says: {told}") from None
        return {"SSH_CONFIG": str(config)}

    def _start_sshd(self, host: Host, addresses: list[str], port: int) -> Daemon:
        pid_file = self.directory / f"sshd-{host.name}.pid"
        config = self.directory / f"sshd-{host.name}.conf"
        listen = "".join(f"ListenAddress {address}\n" for address in addresses)
        config.write_text(
            f"""{listen}Port {port}
PidFile {pid_file}
HostKey {self.directory}/host_key
AuthorizedKeysFile {self.directory}/authorized_keys
AllowUsers {getpass.getuser()}
PermitRootLogin prohibit-password
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM {"yes" if self._is_locked() else "no"}
# Above this directory there is a temporary one that everybody can write to.
StrictModes no
MaxStartups {self.max_startups}
MaxSessions 100
AllowTcpForwarding {self.forwarding}
UseDNS no
X11Forwarding no
PrintMotd no
AcceptEnv LANG LC_*
{self._environment()}
Subsystem sftp internal-sftp
"""
        )
        if is_root():
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        # It needs its full path, since it restarts itself for each login.
        sshd = shutil.which("sshd", path=search_path()) or "sshd"
        daemon = self.spawn(f"sshd-{host.name}", host.command(sshd, "-D", "-e", "-f", str(config)))
        wait_for("sshd", pid_file.exists, [daemon], 10.0)
        return daemon

    def _environment(self) -> str:
        """Have what runs there import the same packages as what runs here, and leave the user's own files alone."""
        path = os.environ.get("PYTHONPATH", "")
        packages = f" PYTHONPATH={path}" if path else ""
        return f"SetEnv IPYTHONDIR={self.directory}/ipython{packages}"

    def _is_locked(self) -> bool:
        """Whether the account has no password, which also prevents logging in with a key, unless PAM is used."""
        shadow = ["getent", "shadow", getpass.getuser()]
        return is_root() and succeeds(shadow) and output_of(shadow).split(":")[1].startswith("!")

    def _client_config(self, hosts: list[Host], port: int) -> str:
        names = "".join(
            f"Host {host.name}\n    HostName {host.address}\n"
            + (f"    ProxyJump {self.jump}\n" if self.jump not in ("", host.name) else "")
            for host in hosts
        )
        return f"""{names}Host *
    Port {port}
    User {getpass.getuser()}
    IdentityFile {self.directory}/client_key
    IdentitiesOnly yes
    HostKeyAlias testbed
    UserKnownHostsFile {self.directory}/known_hosts
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    BatchMode yes
    ConnectTimeout 10
    LogLevel ERROR
"""
