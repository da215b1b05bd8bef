"""Hosts between which only the port of ssh is open, and a host that others cannot reach; made of network namespaces."""

from __future__ import annotations

import os
from pathlib import Path

from tests.test_cluster_netns import HostsCase
from tests.test_ipcluster import LIMIT, until
from tests.testbeds import testbed

CLIENT = """
from ipython1.kernel import client
ssh = {ssh!r}
mec = client.MultiEngineClient({mec!r}, timeout=30, ssh=ssh)
mec.wait_for_engines(2, timeout=60)
mec.execute("import socket; host = socket.gethostname()")
tc = client.TaskClient({tc!r}, timeout=30, ssh=ssh)
print(sorted(mec.pull("host")), tc.map(abs, [-1]))
"""


class OnlySshTests(HostsCase):
    def log_in(self, jump: str = "") -> str:
        """The ssh command that leads to host1 and host2; ``port`` is that of their sshd."""
        bed = testbed("ssh", on="host1,host2", netns=str(self.netns.directory), jump=jump)
        self.config = bed.environ["SSH_CONFIG"]
        words = Path(self.config).read_text().split()
        self.port = words[words.index("Port") + 1]
        return f"ssh -F {self.config}"

    def let_in(self, host: str, *what: str) -> None:
        """Drop everything of TCP that comes to a host from others, besides some."""
        for family in ("-4", "-6"):
            some = [each for each in what if family == "-4" or "from" not in each]
            rules = [f"pref 10 iif eth0 ipproto tcp {each} lookup local" for each in some]
            rules += ["pref 11 iif eth0 ipproto tcp type blackhole", "pref 12 lookup local"]
            for rule in rules:
                self.ip(host, f"{family} rule add {rule}")
                self.addCleanup(self.ip, host, f"{family} rule del {rule}")
            self.ip(host, f"{family} rule del pref 0")
            self.addCleanup(self.ip, host, f"{family} rule add pref 0 lookup local")

    def hosts(self, text: str) -> str:
        path = self.directory / "hosts.py"
        python_path = os.environ.get("PYTHONPATH", "")
        setup = [f"export PYTHONPATH={python_path}"] if python_path else []
        far = str(self.directory / "far")
        path.write_text(f"defaults = dict(ipython_dir={far!r}, setup={setup!r})\n{text}\n")
        return str(path)

    def test_nat(self) -> None:
        """Engines' hosts cannot reach the controller's: that is told, and ssh carries their connections."""
        ssh = self.log_in()
        self.let_in("host0", f"sport {self.port}")
        options = ["-f", self.hosts("engines = dict(host1=1, host2=1)"), "--ssh", ssh]
        # Engines give up long before the start is over, also where they take long to come to that.
        patience = ("--engine-argument=--connect-timeout=5", "--start-timeout=50")
        process = self.script("host0", "ipcluster", *options, *patience)
        told = r"did not answer.*; where only ssh is open, .*'ipcluster ssh --tunnel' for engines"
        said = ""
        for line in process.stdout:  # type: ignore[union-attr]
            said += line
            if line == "ipcluster: no engine could be started\n":
                break
        self.assertRegex(said, told)
        self.assertEqual(process.wait(LIMIT), 1)
        until(lambda: not self.processes())

        process = self.script("host0", "ipcluster", *options, "--tunnel")
        self.wait_until_up(process)
        self.assertEqual(self.client("host0", 2), "['host1', 'host2'] [1, 2]\n")
        self.end(process)

    def test_only_ssh_and_a_jump_host(self) -> None:
        """The controller's host accepts nothing but ssh, and only from host1, which the user's configuration tells."""
        ssh = self.log_in(jump="host1")
        self.let_in("host1", f"dport {self.port}", f"sport {self.port}")
        self.let_in("host2", f"from {self.netns.hosts['host1'].address} dport {self.port}")
        text = "controller = dict(host='host2')\nengines = dict(host1=1, host2=1)"
        options = ["-f", self.hosts(text), "--ssh", ssh, "--tunnel"]
        process = self.script("host0", "ipcluster", *options)
        self.wait_until_up(process)
        self.assertEqual(self.client("host0", 2), "['host1', 'host2'] [1, 2]\n")
        files = [
            f"{self.directory}/far/security/ipcontroller-{name}.furl" for name in ("mec", "tc")
        ]
        login = ["ssh", "-F", self.config, "host2"]
        code = CLIENT.format(ssh=login, mec=files[0], tc=files[1])
        self.assertEqual(self.python_on("host3", code), "['host1', 'host2'] [1]\n")
        self.end(process)

    def end(self, process: object) -> None:
        process.terminate()  # type: ignore[attr-defined]
        self.assertEqual(process.wait(LIMIT), 0)  # type: ignore[attr-defined]
        until(lambda: not self.processes())
