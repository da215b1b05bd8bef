"""``slurm``: a private Slurm, with a munged, a slurmctld, and a slurmd for each node.

::

    eval "$(scripts/testbed up slurm)"
    sinfo; srun -N 4 hostname; ipcluster slurm -n 4
    scripts/testbed down slurm                    which ends all jobs

The nodes node1 to node4 are all on this machine; ``$SLURMD_NODENAME`` tells a job where it is.  On hosts of the
testbed ``netns``, the first runs slurmctld, and the others are nodes with their own names and addresses::

    eval "$(scripts/testbed up slurm on=host0,host1,host2)"
    scripts/testbed on host0 srun -N 2 hostname

It needs root, and neither systemd nor cgroups.  Every user of this machine can submit jobs.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import ClassVar

from tests.testbeds.lib import (
    Failed,
    Host,
    HostedTestbed,
    Needs,
    free_ports,
    output_of,
    succeeds,
    wait_for,
)

_MAX_NODES = 16


@dataclass(frozen=True)
class Slurm(HostedTestbed):
    """A private Slurm.

    :ivar nodes: how many, 1 to 16, when it runs on this machine.
    :ivar cpus: how many processors each node claims to have, regardless of the real number.
    :ivar port: slurmctld's, followed by those of the nodes; 0 for free ones.
    """

    name: ClassVar[str] = "slurm"
    needs: ClassVar[tuple[Needs, ...]] = (
        Needs("munged", ("munge",)),
        Needs("slurmctld", ("slurm-wlm",)),
        Needs("slurmd", ("slurm-wlm",)),
        Needs("sinfo", ("slurm-wlm",)),
    )
    needs_root: ClassVar[bool] = True

    nodes: int = 4
    cpus: int = 2
    port: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.nodes <= _MAX_NODES:
            raise ValueError(f"nodes must be 1 to {_MAX_NODES}")

    def start(self) -> dict[str, str]:
        hosts = self.hosts()
        here = Host(socket.gethostname().partition(".")[0])
        if len(hosts) == 1:
            raise Failed("the first host runs slurmctld; name at least one more, for a node")
        master = hosts[0] if hosts else here
        nodes = {host.name: host for host in hosts[1:]} or {
            f"node{number}": here for number in range(1, self.nodes + 1)
        }
        config = self.directory / "slurm.conf"
        os.environ["SLURM_CONF"] = str(config)
        config.write_text(self._config(master, nodes, self.port or free_ports(1 + len(nodes))))
        # slurmd asks for the version of cgroups even if it uses none, and not every container has them.
        (self.directory / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")
        self._start_munged()
        (self.directory / "state").mkdir(mode=0o700)
        log = self.directory / "slurmctld.log"
        controller = self.spawn("slurmctld", master.command("slurmctld", "-D", "-c"), log)
        ping = master.command("scontrol", "ping")
        wait_for("slurmctld", lambda: succeeds(ping), [controller])
        daemons = [controller]
        for name, host in nodes.items():
            (self.directory / f"spool-{name}").mkdir()
            log = self.directory / f"slurmd-{name}.log"
            daemons.append(
                self.spawn(f"slurmd-{name}", host.command("slurmd", "-D", "-N", name), log)
            )
        idle = master.command("sinfo", "-h", "-N", "-t", "idle", "-o", "%N")
        wait_for("Slurm's nodes", lambda: set(output_of(idle).split()) == set(nodes), daemons)
        return {"SLURM_CONF": str(config)}

    def _start_munged(self) -> None:
        """The daemon that authenticates users, with its own key."""
        key = self.directory / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        socket_path = self.directory / "munge.socket"
        options = {
            "key-file": key,
            "seed-file": self.directory / "munge.seed",
            "socket": socket_path,
            "pid-file": self.directory / "munged.pid",
            "log-file": self.directory / "munged.log",
        }
        # Use force, since it rejects temporary directories.
        command = ["munged", "--foreground", "--force"]
        command += [f"--{name}={value}" for name, value in options.items()]
        munged = self.spawn("munged", command, self.directory / "munged.log")
        encode = ["munge", "-n", f"--socket={socket_path}"]
        wait_for("munged", lambda: succeeds(encode), [munged], 10.0)

    def _config(self, master: Host, nodes: dict[str, Host], port: int) -> str:
        lines = [
            f"NodeName={name} NodeHostname={host.name} NodeAddr={host.address} Port={port + number} "
            f"CPUs={self.cpus} State=UNKNOWN\n"
            for number, (name, host) in enumerate(nodes.items(), 1)
        ]
        return f"""ClusterName=testbed
SlurmctldHost={master.name}({master.address})
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={self.directory}/munge.socket
StateSaveLocation={self.directory}/state
SlurmdSpoolDir={self.directory}/spool-%n
SlurmctldPidFile={self.directory}/slurmctld.pid
SlurmdPidFile={self.directory}/slurmd-%n.pid
SlurmctldLogFile={self.directory}/slurmctld.log
SlurmdLogFile={self.directory}/slurmd-%n.log
# Be found at these addresses only.
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
# Neither cgroups nor binding to processors: a container may have none.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
MailProg=/bin/true
# A node may claim more processors than there are, and is back by itself after it was away.
SlurmdParameters=config_overrides
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
# A batch job would wait for up to three seconds.
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
KillWait=2
SlurmdTimeout=20
SlurmctldTimeout=20
{"".join(lines)}PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
