"""``ipcluster ssh --tunnel``: the ssh connections carry engines' connections to the controller; by a private sshd."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

from ipython1.daemon import osprocess
from ipython1.kernel.host.furl import Furl
from ipython1.kernel.host.security import read_furl
from tests.test_cluster_ssh import SshCase
from tests.test_ipcluster import LIMIT, until
from tests.testbeds import testbed

ASK = """
from ipython1.kernel import client
mec = client.MultiEngineClient()
mec.wait_for_engines({count}, timeout=60)
print(mec.map(abs, range(-{count}, 0)))
"""


class TunnelTests(SshCase):
    """Four host names for this machine, each with its own IPython directory."""

    def furl_at(self, node: int) -> Furl:
        """The FURL that engines of a host use."""
        path = self.far[f"node{node}"] / "security" / f"ipcontroller-engine-for-node{node}.furl"
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        return read_furl(path)

    def ssh_to(self, parent: int, node: str) -> list[int]:
        return [
            entry.pid
            for entry in osprocess.process_table().values()
            if entry.parent == parent and f"\0{node}\0".encode() in self.command_line(entry.pid)
        ]

    def rotate(self, directory: Path, name: str = "engine") -> None:
        """Give a controller another FURL."""
        words = ["furl", "rotate", name, f"--ipython-dir={directory}"]
        self.run_to_end([self.python, "-P", "-m", "ipython1.kernel.scripts.ipcontroller", *words])

    def test_it_carries_the_connections(self) -> None:
        text = f"engines = dict({self.node(1, 1)}, {self.node(2, 1)})"
        process = self.start(*self.options(text), "--tunnel")
        self.assertIn("the cluster is up: 2 engines (0-1).", "".join(self.printed))
        own = read_furl(self.directory / "security" / "ipcontroller-engine.furl")
        before = self.furl_at(1), self.furl_at(2)
        for furl in before:
            self.assertEqual((furl.tub_id, furl.name), (own.tub_id, own.name))
            ((host, port),) = furl.hints
            self.assertEqual(host, "127.0.0.1")
            self.assertNotIn(port, [each for _, each in own.hints])
        self.assertEqual(self.run_python(ASK.format(count=2)), "[2, 1]\n")

        # A controller that dies comes back at its port, and engines reach it as before.
        controller = self.status().controller
        assert controller is not None
        os.kill(controller.pid, signal.SIGKILL)
        until(lambda: self.status().controller.pid not in (0, controller.pid))  # type: ignore[union-attr]
        self.assertEqual(self.run_python(ASK.format(count=2)), "[2, 1]\n")

        # A new login has another port.
        (ssh,) = self.ssh_to(process.pid, "node2")
        os.kill(ssh, signal.SIGKILL)
        until(lambda: self.furl_at(2) != before[1])
        self.run_python(
            "from ipython1.kernel.client import Cluster\n"
            "Cluster.attach().restart_engine(1)\n" + ASK.format(count=2)
        )
        self.assertEqual(self.furl_at(1), before[0])

        # Engines come back with the new FURL, which is copied to their hosts.
        self.rotate(self.directory)
        self.assertEqual(self.run_python(ASK.format(count=2)), "[2, 1]\n")
        self.assertNotEqual(self.furl_at(1).name, own.name)
        process.terminate()
        self.assertEqual(process.wait(LIMIT), 0)
        until(lambda: not self.processes())

    def test_a_controller_on_another_host(self) -> None:
        """Also this host reaches it through ssh; an engine beside it needs nothing of this."""
        far = str(self.far["node4"])
        text = (
            f"controller = dict(host='node4', ipython_dir={far!r}, tunnel=True)\n"
            f"engines = dict({self.node(4, 1)}, {self.node(3, 1, tunnel=True)})"
        )
        process = self.start(*self.options(text))
        its = read_furl(self.far["node4"] / "security" / "ipcontroller-engine.furl")
        here = read_furl(self.directory / "security" / "ipcontroller-mec.furl")
        self.assertEqual(len(here.hints), 1)
        self.assertNotIn(here.hints[0][1], [port for _, port in its.hints])
        self.assertNotIn(
            self.furl_at(3).hints[0][1], [port for _, port in (*its.hints, *here.hints)]
        )
        self.assertEqual(self.run_python(ASK.format(count=2)), "[2, 1]\n")

        # The login that leads to the controller is made again, with the same port.
        (tunnel,) = [
            pid for pid in self.ssh_to(process.pid, "node4") if b"\0-L\0" in self.command_line(pid)
        ]
        os.kill(tunnel, signal.SIGKILL)
        self.assertEqual(self.run_python(ASK.format(count=2)), "[2, 1]\n")

        # What the controller's FURL files say is copied to this host and to those of engines.
        self.rotate(self.far["node4"])
        self.rotate(self.far["node4"], "multiengine")
        mine = self.directory / "security" / "ipcontroller-mec.furl"
        until(lambda: read_furl(mine).name != here.name)
        self.assertEqual(self.run_python(ASK.format(count=2)), "[2, 1]\n")
        look = "from ipython1.kernel import client; print(client.MonitorClient().get_ids())"
        self.assertEqual(self.run_python(look), "[0, 1]\n")
        process.kill()
        until(lambda: not self.processes())

    def test_a_server_that_does_not_forward(self) -> None:
        self.config = testbed("ssh", forwarding="no").environ["SSH_CONFIG"]
        done = self.run_ipcluster(
            *self.options(f"engines = dict({self.node(1, 1)})"), "--tunnel", status=1
        )
        self.assertRegex(
            done.stderr,
            r"node1: its ssh server does not forward ports for you; its sshd_config must allow it \(AllowTcpForward",
        )
