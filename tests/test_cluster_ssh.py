"""Engines and controller over ssh, to a private sshd."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from pathlib import Path

from ipython1.daemon import osprocess
from tests.test_ipcluster import LIMIT, IpclusterCase, until
from tests.testbeds import testbed


class SshTests(IpclusterCase):
    """Four host names for this machine, each with its own IPython directory, as other hosts would have."""

    def setUp(self) -> None:
        # sshd's default limit for simultaneous logins.
        self.config = testbed("ssh", max_startups="10:30:100").environ["SSH_CONFIG"]
        super().setUp()
        self.far = {f"node{number}": self.directory / f"home{number}" for number in (1, 2, 3, 4)}

    def cluster_file(self, text: str) -> str:
        path = self.directory / "hosts.py"
        marks = f"defaults = dict(env=dict(IPYTHON1_TEST_MARK={self.mark!r}))\n"
        path.write_text(marks + text)
        return str(path)

    def options(self, text: str) -> list[str]:
        return ["-f", self.cluster_file(text), "--ssh", f"ssh -F {self.config}"]

    def node(self, number: int, n: int, **more: str) -> str:
        options = {"n": n, "ipython_dir": str(self.far[f"node{number}"]), **more}
        return f"node{number}={options!r}"

    def processes(self) -> list[int]:
        """Also find processes on other hosts by their command lines, as sshd gives them a clean environment."""
        found = set(super().processes())
        for entry in osprocess.process_table().values():
            if entry.state != "Z" and str(self.directory).encode() in self.command_line(entry.pid):
                found.add(entry.pid)
        below = [each for pid in found for each in osprocess.descendants(pid)]
        return sorted(found | set(below))

    @staticmethod
    def command_line(pid: int) -> bytes:
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return b""

    def test_engines_on_several_hosts(self) -> None:
        text = f"engines = dict({self.node(1, 2)}, {self.node(2, 1, cwd=str(self.directory))})"
        process = self.start(*self.options(text))
        self.assertIn("the cluster is up: 3 engines (0-2).", "".join(self.printed))
        status = self.status()
        self.assertEqual([each.host for each in status.engines], ["node1", "node1", "node2"])
        printed = self.run_python(
            "from ipython1.kernel import client\n"
            "mec = client.MultiEngineClient()\n"
            "mec.execute('import os; where = os.getcwd()')\n"
            "print(mec.map(abs, range(-3, 0)), mec.pull('where', targets=2))"
        )
        self.assertEqual(printed, f"[3, 2, 1] [{str(self.directory)!r}]\n")
        furl = self.far["node1"] / "security" / "ipcontroller-engine.furl"
        self.assertEqual(stat.S_IMODE(furl.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(furl.parent.stat().st_mode), 0o700)
        names = sorted(path.name for path in furl.parent.iterdir())
        self.assertEqual(names, ["ipcontroller-engine.furl"])  # engines need no more
        self.assertTrue((self.far["node2"] / "log" / "ipengine-2.log").exists())
        # A dead engine is reported, and restarted on its host.
        os.kill(status.engines[2].pid, signal.SIGKILL)
        line = process.stdout.readline()  # type: ignore[union-attr]
        self.assertRegex(line, "engine 2 was killed by signal SIGKILL")
        self.run_python(
            "from ipython1.kernel.client import Cluster\n"
            "cluster = Cluster.attach()\n"
            "cluster.restart_engine(2)\n"
            "assert cluster.ids == [0, 1, 2]\n"
            "assert 'registered as engine 2' in cluster.logs(2)\n"
            "assert cluster.add_engines(1) == [3]\n"
        )
        pids = [each.pid for each in self.status().engines]
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(LIMIT), 0)
        until(lambda: not any(osprocess.is_alive(pid) for pid in pids))

    def test_a_controller_on_another_host_and_the_end_by_kill_9(self) -> None:
        far = str(self.far["node4"])
        text = (
            f"controller = dict(host='node4', ipython_dir={far!r}, control_port=None)\n"
            f"engines = dict({self.node(3, 2)})"
        )
        process = self.start(*self.options(text))
        status = self.status()
        assert status.controller is not None
        self.assertEqual(status.controller.host, "node4")
        printed = self.run_python(
            "from ipython1.kernel import client; print(client.MultiEngineClient().get_ids())"
        )
        self.assertEqual(printed, "[0, 1]\n")
        self.assertTrue((self.far["node4"] / "security" / "ipcontroller.pem").exists())
        self.assertFalse((self.directory / "security" / "ipcontroller.pem").exists())
        pids = [status.controller.pid, *(each.pid for each in status.engines)]
        process.kill()
        until(lambda: not any(osprocess.is_alive(pid) for pid in pids))

    def test_sixty_engines_on_one_host(self) -> None:
        """They all use one login, so they do not hit sshd's limits."""
        process = self.start(*self.options(f"engines = dict({self.node(1, 60)})"))
        self.assertIn("60 engines (0-59)", "".join(self.printed))
        process.terminate()
        self.assertEqual(process.wait(LIMIT), 0)

    def test_a_lost_connection(self) -> None:
        """If the connection to a host breaks, its engines end; the others go on."""
        process = self.start(*self.options(f"engines = dict({self.node(1, 1)}, {self.node(2, 1)})"))
        before = self.status()
        (ssh,) = [
            entry.pid
            for entry in osprocess.process_table().values()
            if entry.parent == process.pid and b"\0node2\0" in self.command_line(entry.pid)
        ]
        os.kill(ssh, signal.SIGKILL)
        line = process.stdout.readline()  # type: ignore[union-attr]
        self.assertRegex(line, "lost the connection to node2")
        until(lambda: self.status().ids == (0,))
        until(lambda: not osprocess.is_alive(before.engines[1].pid))
        self.assertTrue(osprocess.is_alive(before.engines[0].pid))

    def test_hosts_that_cannot_be_used(self) -> None:
        done = self.start(
            *self.options(
                f"engines = {{'node1': dict(n=1, ipython_dir={str(self.far['node1'])!r}), "
                "'no-such-host.invalid': 1, 'node2': dict(n=1, python='/no/such/python'), "
                "'node3': dict(n=1, ipython_dir='/proc/no/such'), 'node4': dict(n=1, cwd='/no/such')}"
            )
        )
        text = "".join(self.printed)
        self.assertIn("the cluster is up: 1 engine of 5 (0).", text)
        self.assertRegex(
            text, "engine 1 cannot start yet: no-such-host.invalid: .*resolve.*; it is tried again"
        )
        self.assertRegex(text, "engine 2 could not be started: node2: .*/no/such/python")
        self.assertRegex(
            text,
            "engine 3 could not be started: cannot copy files to .*node3: .*/proc/no/such",
        )
        self.assertRegex(
            text, "engine 4 could not be started: the working directory /no/such does not exist"
        )
        done.terminate()
        done.wait(LIMIT)
        error = self.run_ipcluster(*self.options("engines = dict(nowhere=2)"), status=1).stderr
        self.assertRegex(error, "^ipcluster: nowhere: .*Could not resolve")
        error = self.run_ipcluster(
            *self.options("engines = dict(node1=2, node1=2)"), status=1
        ).stderr
        self.assertRegex(
            error, r"^ipcluster: error in the cluster file \S+: line 2: keyword argument repeated"
        )

    def test_ctrl_c_in_the_terminal_is_not_for_ssh(self) -> None:
        """Ctrl-C reaches all processes of the terminal, but an orderly end needs the connections."""
        process = self.start(*self.options(f"engines = dict({self.node(1, 1)}, {self.node(2, 1)})"))
        connections = [
            entry.pid
            for entry in osprocess.process_table().values()
            if entry.parent == process.pid and b"\0node" in self.command_line(entry.pid)
        ]
        self.assertEqual(len(connections), 2)
        for pid in connections:
            os.kill(pid, signal.SIGINT)
        # These calls use the connections after the signal.
        self.run_python(
            "from ipython1.kernel.client import Cluster\n"
            "cluster = Cluster.attach()\n"
            "cluster.restart_engine(0)\n"
            "cluster.restart_engine(1)\n"
        )
        self.assertTrue(all(osprocess.is_alive(pid) for pid in connections))
        os.killpg(process.pid, signal.SIGINT)
        self.assertEqual(process.wait(LIMIT), 0)
        self.nothing_is_left()


class LoginTests(IpclusterCase):
    """Hosts that do not answer: an ``ssh`` that hangs, and ignores signals."""

    def setUp(self) -> None:
        super().setUp()
        self.hosts = self.directory / "hosts.py"
        self.hosts.write_text("engines = dict.fromkeys(map('host{}'.format, range(10)), 1)")
        self.ssh = self.directory / "ssh"
        self.ssh.write_text(
            "#!/bin/sh\ntrap '' HUP INT TERM\n: > \"$TMPDIR/login.$$\"\nexec sleep 300\n"
        )
        self.ssh.chmod(0o700)

    def logging_in(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            self.command("-f", str(self.hosts), f"--ssh={self.ssh}", "--start-timeout=0"),
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        until(lambda: len(list((self.directory / "tmp").glob("login.*"))) == 10)
        return process

    def test_they_do_not_hold_up_the_end(self) -> None:
        process = self.logging_in()
        process.terminate()
        self.assertEqual(process.wait(LIMIT), 1)
        self.assertEqual(self.processes(), [])

    def test_nothing_is_left_after_kill_9(self) -> None:
        process = self.logging_in()
        process.kill()
        self.nothing_is_left()
