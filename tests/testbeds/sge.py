"""``sge``: a private Grid Engine, with an sge_qmaster and an sge_execd.

::

    eval "$(scripts/testbed up sge)"
    qhost; qsub -cwd job.sh; ipcluster sge -n 3
    qsub -pe mpi 4 job.sh                         parallel environments: mpi (round robin), smp (one host)
    scripts/testbed down sge                      which ends all jobs

There is one host, and one queue, all.q.  On hosts of the testbed ``netns``, the first runs sge_qmaster, and the others
run jobs::

    eval "$(scripts/testbed up sge on=host0,host1,host2)"
    scripts/testbed on host0 qsub -cwd job.sh

It needs root.  Grid Engine listens at all addresses, and trusts the name that a host claims: on a machine that others
can reach, use hosts of the testbed ``netns``.
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tests.testbeds.lib import (
    Failed,
    Host,
    HostedTestbed,
    Missing,
    Needs,
    free_ports,
    output_of,
    succeeds,
    wait_for,
)

_PROGRAMS = Path("/usr/lib/gridengine")
_DEFAULTS = Path("/usr/share/gridengine")
_INSTALLED = Path("/var/lib/gridengine")
_CELL = "testbed"

_PACKAGES = ("gridengine-master", "gridengine-exec", "gridengine-client")

_PARALLEL_ENVIRONMENT = """pe_name            {name}
slots              9999
user_lists         NONE
xuser_lists        NONE
start_proc_args    NONE
stop_proc_args     NONE
allocation_rule    {rule}
control_slaves     TRUE
job_is_first_task  FALSE
urgency_slots      min
accounting_summary FALSE
qsort_args         NONE
"""


def changed(text: str, **settings: str) -> str:
    """Settings of Grid Engine, one per line, some of them replaced.

    :raises Failed: if there is none of that name.
    """
    for name, value in settings.items():
        # A backslash continues a long value.
        text, count = re.subn(rf"(?m)^({name}\s+)(?:.*\\\n)*.*$", rf"\g<1>{value}", text)
        if not count:
            raise Failed(f"Grid Engine knows no setting {name}")
    return text


@dataclass(frozen=True)
class Sge(HostedTestbed):
    """A private Grid Engine.

    :ivar slots: how many jobs each host takes, regardless of its processors.
    :ivar port: sge_qmaster's; sge_execd has the next one.  0 for free ones.
    """

    name: ClassVar[str] = "sge"
    needs: ClassVar[tuple[Needs, ...]] = (
        Needs("sge_qmaster", _PACKAGES),
        Needs("sge_execd", _PACKAGES),
        Needs("qsub", _PACKAGES),
    )
    # The packages require a mail server, and would install a full one.
    install_first: ClassVar[tuple[Needs, ...]] = (Needs("sendmail", ("msmtp-mta",)),)
    needs_root: ClassVar[bool] = True

    slots: int = 8
    port: int = 0

    def check(self) -> None:
        super().check()
        if not (_PROGRAMS / "spoolinit").exists():
            raise Missing(f"{_PROGRAMS}/spoolinit is missing: this Grid Engine is not Debian's")

    def start(self) -> dict[str, str]:
        named = self.hosts()
        if len(named) == 1:
            raise Failed("the first host runs sge_qmaster; name at least one more, for jobs")
        master = named[0] if named else Host(socket.gethostname())
        hosts = named[1:] or [master]
        port = self.port or free_ports(2)
        environ = {
            "SGE_ROOT": str(self.directory / "root"),
            "SGE_CELL": _CELL,
            "SGE_CLUSTER_NAME": "testbed",
            "SGE_QMASTER_PORT": str(port),
            "SGE_EXECD_PORT": str(port + 1),
        }
        os.environ.update(environ)
        self._make_cell(master)

        def qconf(*arguments: str) -> str:
            return output_of(master.command("qconf", *arguments))

        def change(option: str, text: str) -> None:
            path = self.directory / "change"
            path.write_text(text)
            qconf(option, str(path))

        # With this set, they stay in the foreground.
        stay = {"SGE_ND": "1"}
        log = self.directory / "qmaster" / "messages"
        qmaster = self.spawn("sge_qmaster", master.command("sge_qmaster"), log, environ=stay)
        wait_for("sge_qmaster", lambda: succeeds(master.command("qconf", "-sconf")), [qmaster])
        qconf("-as", master.name)
        for host in hosts:
            if host is not master:
                qconf("-ah", host.name)
                qconf("-as", host.name)
        # Look for work every two seconds, and one second after something was submitted or has ended.
        soon = dict.fromkeys(("flush_submit_sec", "flush_finish_sec"), "1")
        change(
            "-Msconf",
            changed(
                qconf("-ssconf"), schedule_interval="0:0:2", job_load_adjustments="NONE", **soon
            ),
        )
        daemons = [qmaster]
        for host in hosts:
            log = self.directory / "execd" / host.name / "messages"
            name = f"sge_execd-{host.name}"
            daemons.append(self.spawn(name, host.command("sge_execd"), log, environ=stay))
        for name, rule in (("mpi", "$round_robin"), ("smp", "$pe_slots")):
            change("-Ap", _PARALLEL_ENVIRONMENT.format(name=name, rule=rule))
        # The directories of killed jobs are removed with the testbed.
        temporary = self.directory / "tmp"
        temporary.mkdir()
        temporary.chmod(0o1777)
        # Let a machine that is busy with tests take jobs anyway.
        queue = changed(
            qconf("-sq"),
            qname="all.q",
            hostlist=" ".join(host.name for host in hosts),
            slots=str(self.slots),
            pe_list="mpi smp",
            load_thresholds="NONE",
            shell="/bin/sh",
            tmpdir=str(temporary),
        )
        change("-Aq", queue)

        def ready() -> bool:
            """Whether all instances of the queue exist, and none is unknown, disabled or in error."""
            lines = output_of(master.command("qstat", "-f", "-q", "all.q")).splitlines()
            return sum(
                line.startswith("all.q@") and len(line.split()) == 5 for line in lines
            ) == len(hosts)

        wait_for("Grid Engine's hosts", ready, daemons, 40.0)
        return environ

    def _make_cell(self, master: Host) -> None:
        """An empty cluster, kept in plain files."""
        root = self.directory / "root"
        common = root / _CELL / "common"
        spool = self.directory / "qmaster"
        for path in (common, spool / "job_scripts", self.directory / "execd"):
            path.mkdir(parents=True)
        for name in ("bin", "lib", "util", "utilbin"):
            (root / name).symlink_to(_INSTALLED / name)
        (common / "bootstrap").write_text(
            f"""admin_user              root
default_domain          none
ignore_fqdn             true
spooling_method         classic
spooling_lib            libspoolc
spooling_params         {common};{spool}
binary_path             /usr/sbin
qmaster_spool_dir       {spool}
security_mode           none
listener_threads        2
worker_threads          2
scheduler_threads       1
"""
        )
        (common / "act_qmaster").write_text(f"{master.name}\n")
        if not master.pid and master.name != "localhost":
            # If a host's name resolves to loopback, the address resolves to another name.
            (common / "host_aliases").write_text(f"{master.name} localhost\n")
        configuration = self.directory / "configuration"
        text = changed(
            (_DEFAULTS / "default-configuration").read_text(),
            execd_spool_dir=str(self.directory / "execd"),
            mailer="/bin/true",
            min_uid="0",
            min_gid="0",
            load_report_time="00:00:05",
            max_unheard="00:00:20",
        )
        configuration.write_text(re.sub(r"flush_time=[\d:]+", "flush_time=00:00:01", text))
        resources = _DEFAULTS / "util" / "resources"
        method = ("classic", "libspoolc", f"{common};{spool}")
        output_of([f"{_PROGRAMS}/spoolinit", *method, "init"])
        for what in (
            ("configuration", configuration),
            ("complexes", resources / "centry"),
            ("usersets", resources / "usersets"),
            ("managers", "root"),
        ):
            output_of([f"{_PROGRAMS}/spooldefaults", *map(str, what)])
