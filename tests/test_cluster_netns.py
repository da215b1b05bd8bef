"""Controller, engines and client on different hosts, made of network namespaces."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from ipython1.kernel.host.security import read_furl
from tests.test_ipcluster import LIMIT, IpclusterCase, until
from tests.testbeds import mpi_program, testbed

GET_IDS = """
import time
from ipython1.kernel import client
mec = client.MultiEngineClient({argument})
while len(mec.get_ids()) < {count}:
    time.sleep(0.02)
mec.execute("import socket; host = socket.gethostname()")
print(sorted(mec.pull("host")), mec.map(abs, [-1, -2]))
"""

SOON = """
import sys
from ipython1.kernel.launchers import sshhost
from ipython1.kernel.scripts.ipcluster import main
sshhost.ALIVE_INTERVAL, sshhost.SILENT_AFTER, sshhost.PATIENCE = 2.0, 8.0, 8.0
sys.exit(main())
"""
"""The command \"ipcluster\", with less patience for hosts that do not answer: seconds, not a third of a minute."""

GOES_ON = """
import socket, subprocess
from ipython1.kernel import client
def hosts(mec, targets="all"):
    mec.execute("import socket; host = socket.gethostname()", targets=targets)
    return mec.pull("host", targets=targets)
mec = client.MultiEngineClient()
here = hosts(mec).index(socket.gethostname())
for command in {commands}:
    subprocess.run(command.split(), check=True)
print(hosts(mec, here), hosts(client.MultiEngineClient(), here))
"""


class HostsCase(IpclusterCase):
    """Four hosts; each has its own IPython directory, so FURL files must be copied to it."""

    def setUp(self) -> None:
        self.netns = testbed("netns", count=4)
        super().setUp()
        self.home = {host: self.directory / host for host in self.netns.hosts}

    def on(self, host: str, *command: str) -> list[str]:
        return self.netns.hosts[host].command(*command)

    def ssh(self) -> str:
        """The ssh command that leads to host1 and host2."""
        ssh = testbed("ssh", on="host1,host2", netns=str(self.netns.directory))
        return f"ssh -F {ssh.environ['SSH_CONFIG']}"

    def environ_of(self, host: str) -> dict[str, str]:
        return {**self.environ, "IPYTHONDIR": str(self.home[host])}

    def script(self, host: str, name: str, *arguments: str) -> subprocess.Popen[str]:
        """Start one of the scripts on a host."""
        command = self.on(host, self.python, "-m", f"ipython1.kernel.scripts.{name}", *arguments)
        return self.start_program(command, self.environ_of(host))

    def controller(self, host: str, *arguments: str) -> subprocess.Popen[str]:
        process = self.script(host, "ipcontroller", *arguments)
        self.assertIn("listening", process.stdout.readline())  # type: ignore[union-attr]
        return process

    def copy(self, name: str, source: str, target: str) -> None:
        """Copy a FURL file to another host, as a user does with scp."""
        path = self.home[target] / "security" / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copy2(self.home[source] / "security" / name, path)

    def client(self, host: str, count: int, argument: str = "") -> str:
        return self.python_on(host, GET_IDS.format(argument=argument, count=count))

    def python_on(self, host: str, code: str) -> str:
        """What a program prints on a host."""
        command = self.on(host, self.python, "-c", code)
        return self.run_to_end(command, environ=self.environ_of(host)).stdout

    def ip(self, host: str, command: str) -> None:
        """Change a host's network, with iproute2."""
        self.run_to_end(self.on(host, "ip", *command.split()))


class HostsTests(HostsCase):
    """Connections between these hosts."""

    def test_furl_files_that_are_copied_and_a_host_that_changes_its_address(self) -> None:
        """As in the documentation: no option is needed, since the FURL contains the controller's address.

        When the controller's host goes to another network, as a laptop does, what runs there goes on.
        """
        self.controller("host0")
        self.script("host0", "ipengine")
        for host in ("host1", "host2"):
            self.copy("ipcontroller-engine.furl", "host0", host)
            self.script(host, "ipengine")
        self.copy("ipcontroller-mec.furl", "host0", "host3")
        self.assertEqual(self.client("host3", 3), "['host0', 'host1', 'host2'] [1, 2]\n")
        own = self.netns.hosts["host0"]
        places = [self.place(address) for address in (own.address, own.address6) if address]
        for place in places:
            self.addCleanup(self.ip, "host0", f"addr replace {place}")
        commands = [f"ip addr del {place}" for place in places]
        printed = self.python_on("host0", GOES_ON.format(commands=commands))
        self.assertEqual(printed, "['host0'] ['host0']\n")

    def test_locations_that_are_given(self) -> None:
        """A FURL with an unreachable address works if the other side is given the right one."""
        self.controller("host0", "--client-port=21234", "--client-location=192.0.2.9:1")
        self.copy("ipcontroller-engine.furl", "host0", "host1")
        self.script("host1", "ipengine", "--controller-ip=host0", "--controller-port=21234")
        self.copy("ipcontroller-mec.furl", "host0", "host3")
        address = repr((self.netns.hosts["host0"].address, 21234))
        self.assertEqual(self.client("host3", 1, address), "['host1'] [1, 2]\n")

    def test_a_list_of_locations(self) -> None:
        """Engines and clients try each: nobody is at the first, and the second is another host."""
        self.controller("host0", "--client-location=10.77.255.9:1,host3,host0")
        self.copy("ipcontroller-engine.furl", "host0", "host1")
        self.script("host1", "ipengine", "--connect-timeout=10")
        self.copy("ipcontroller-mec.furl", "host0", "host2")
        self.assertEqual(self.client("host2", 1), "['host1'] [1, 2]\n")

    def test_only_ipv6(self) -> None:
        if not self.netns.hosts["host0"].address6:
            self.skipTest("this kernel has no IPv6")
        for host in ("host0", "host1", "host2"):
            place = self.place(self.netns.hosts[host].address)
            self.addCleanup(self.ip, host, f"addr replace {place}")
            self.ip(host, f"addr del {place}")
        self.controller("host0")
        self.copy("ipcontroller-engine.furl", "host0", "host1")
        self.script("host1", "ipengine")
        self.copy("ipcontroller-mec.furl", "host0", "host2")
        self.assertEqual(self.client("host2", 1), "['host1'] [1, 2]\n")
        address = repr((self.netns.hosts["host0"].address6, self.port("host0")))
        self.assertEqual(self.client("host2", 1, address), "['host1'] [1, 2]\n")

    def place(self, address: str) -> str:
        """How iproute2 names the place of an address."""
        return f"{address}/{64 if ':' in address else 24} dev eth0"

    def port(self, host: str) -> int:
        """The port of the controller there."""
        furl = read_furl(self.home[host] / "security" / "ipcontroller-mec.furl")
        return furl.hints[0][1]

    def test_engines_over_ssh_and_a_client_elsewhere(self) -> None:
        ssh = self.ssh()
        hosts = self.directory / "hosts.ini"
        hosts.write_text(
            "[engines]\nhost1 = 1\n[[host2]]\nn = 2\n"
            f"[defaults]\nipython_dir = {self.directory / 'far'}\n"
        )
        process = self.script("host0", "ipcluster", "-f", str(hosts), "--ssh", ssh)
        self.wait_until_up(process)
        self.assertIn("the cluster is up: 3 engines (0-2).\n", self.printed)
        self.copy("ipcontroller-mec.furl", "host0", "host3")
        self.assertEqual(self.client("host3", 3), "['host1', 'host2', 'host2'] [1, 2]\n")
        process.terminate()
        self.assertEqual(process.wait(LIMIT), 0)
        until(lambda: not self.below(self.directory / "far"))

    def test_ssh_hosts_that_drop_what_is_sent_to_them(self) -> None:
        """One is out of reach from the beginning, and one for a while: it is told, and costs no engine."""
        ssh = self.ssh()
        hosts = self.directory / "hosts.py"
        hosts.write_text(
            "engines = dict(host1=1, host2=1)\n"
            f"defaults = dict(ipython_dir={str(self.directory / 'far')!r})\n"
        )
        config = self.directory / "ssh_config"
        config.write_text(Path(ssh.split()[-1]).read_text().replace("ConnectTimeout", "# "))
        self.drop("host2")
        command = [self.python, "-c", SOON, "-f", str(hosts), "--ssh", f"ssh -F {config}"]
        process = self.start_program(self.on("host0", *command), self.environ_of("host0"))
        self.wait_until_up(process)
        self.assertRegex("".join(self.printed), "engine 1 cannot start yet: host2")
        self.drop("host1")
        self.next_line(
            process, r"host1 has not answered for ([89]|1\d) s; its engines may be out of reach"
        )
        status = self.ipcluster("host0", "status")
        self.assertRegex(status, "host host1: silent, no answer for .* s, engine 0")
        self.assertRegex(status, "host host2: (away|logging in), .*engine 1: ")
        for host in ("host1", "host2"):
            self.pass_on(host)
        self.next_line(process, "host1 answers again", "host2 is there; engines start there: 1")
        printed = self.python_on(
            "host0",
            "from ipython1.kernel.client import Cluster; cluster = Cluster.attach()\n"
            "print(cluster.wait_for_engines(2), [e.restarts for e in cluster.status().engines])",
        )
        self.assertEqual(printed, "[0, 1] [0, 0]\n")
        process.terminate()
        self.assertEqual(process.wait(LIMIT), 0)
        until(lambda: not self.below(self.directory / "far"))

    def drop(self, host: str) -> None:
        """Lose all packets from and to a host, without an error."""
        self.addCleanup(self.pass_on, host)
        self.run_to_end(self.on("switch", "bridge", "link", "set", "dev", host, "state", "0"))

    def pass_on(self, host: str) -> None:
        """Lose nothing any more."""
        self.run_to_end(self.on("switch", "bridge", "link", "set", "dev", host, "state", "3"))

    def next_line(self, process: subprocess.Popen[str], *patterns: str) -> None:
        """Wait until a program has printed a line for each pattern, in any order."""
        missing = list(patterns)
        for line in process.stdout:  # type: ignore[union-attr]
            missing = [each for each in missing if not re.search(each, line)]
            if not missing:
                return
        raise AssertionError(f"it never printed {missing}")

    def ipcluster(self, host: str, *arguments: str) -> str:
        """What ``ipcluster`` prints on a host."""
        command = self.on(host, *self.command(*arguments))
        return self.run_to_end(command, environ=self.environ_of(host)).stdout

    def test_an_mpi_job_on_two_hosts(self) -> None:
        launcher, self.python = mpi_program("openmpi")
        program = launcher.replace("--oversubscribe", "")
        agent = f"--prtemca plm_ssh_agent '{self.ssh()}' --host host1:1,host2:1"
        options = ["-n", "2", "--mpi=mpi4py", f"--mpiexec={program} {agent} -x PYTHONPATH"]
        process = self.script("host0", "ipcluster", "mpiexec", *options)
        self.wait_until_up(process)
        self.assertEqual(self.client("host0", 2), "['host1', 'host2'] [1, 2]\n")
        code = (
            "from ipython1.kernel import client; mec = client.MultiEngineClient()\n"
            "mec.execute('from mpi4py import MPI; total = MPI.COMM_WORLD.allreduce(4)')\n"
            "print(mec.pull('total'))"
        )
        self.assertEqual(self.python_on("host0", code), "[8, 8]\n")
        process.terminate()
        self.assertEqual(process.wait(LIMIT), 0)
        until(lambda: not self.below(self.directory))

    def below(self, directory: Path) -> list[int]:
        """Processes that were told to use a directory."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if str(directory).encode() in path.read_bytes():
                    found.append(int(path.parent.name))
            except OSError:
                continue
        return found
