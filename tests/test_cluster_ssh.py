"""Engines and controller over ssh, to a private sshd."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import tempfile
from pathlib import Path

from twisted.trial import unittest

from ipython1.daemon import osprocess
from tests.benchmarks.farpython import FarPython
from tests.benchmarks.sshhosts import silent_port, start_hosts
from tests.test_ipcluster import LIMIT, IpclusterCase, until
from tests.testbeds import testbed
from tests.testbeds.lib import free_ports


class SshCase(IpclusterCase):
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

    def node(self, number: int, n: int, **more: object) -> str:
        options = {"n": n, "ipython_dir": str(self.far[f"node{number}"]), **more}
        return f"node{number}={options!r}"

    def script(self, name: str, text: str) -> str:
        """Write a program; ``{python}`` is the interpreter of this test."""
        path = self.directory / name
        path.write_text("#!/bin/sh\n" + text.replace("{python}", self.python) + "\n")
        path.chmod(0o700)
        return str(path)

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


class SshTests(SshCase):
    """Clusters on these hosts."""

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
        # All engines of a host use one login, so they do not hit sshd's limits.  Ctrl-C reaches all processes of the
        # terminal, but what follows here needs the connections.
        connections = [self.ssh_of(process, host) for host in ("node1", "node2")]
        for pid in connections:
            os.kill(pid, signal.SIGINT)
        # A dead engine is reported, and restarted on its host.
        os.kill(status.engines[2].pid, signal.SIGKILL)
        line = process.stdout.readline()  # type: ignore[union-attr]
        self.assertRegex(line, "engine 2 was killed by signal SIGKILL")
        self.run_python(
            "from ipython1.kernel.client import Cluster\n"
            "cluster = Cluster.attach()\n"
            "cluster.restart_engine(2)\n"
            "cluster.restart_engine(0)\n"
            "assert cluster.ids == [0, 1, 2]\n"
            "assert 'registered as engine 2' in cluster.logs(2)\n"
        )
        self.assertTrue(all(osprocess.is_alive(pid) for pid in connections))
        self.check_a_lost_connection(process)
        os.killpg(process.pid, signal.SIGINT)
        self.assertEqual(process.wait(LIMIT), 0)
        self.nothing_is_left()

    def check_a_lost_connection(self, process: subprocess.Popen[str]) -> None:
        """If the connection to a host breaks, its engines end, the others go on, and it is logged in to again."""
        before = self.status()
        self.assertEqual(
            [(each.name, each.state) for each in before.hosts],
            [("node1", "there"), ("node2", "there")],
        )
        *others, lost = before.engines
        os.kill(self.ssh_of(process, "node2"), signal.SIGKILL)
        self.assertIn("logging in again", self.line_about(process, "lost the connection to node2"))
        until(lambda: self.status().ids == (0, 1))
        until(lambda: not osprocess.is_alive(lost.pid))
        self.assertTrue(all(osprocess.is_alive(each.pid) for each in others))
        self.line_about(process, "node2 is there")
        self.assertEqual(self.status().engines[2].reason, "ended with the connection to node2")
        printed = self.run_python(
            "from ipython1.kernel.client import Cluster\n"
            "cluster = Cluster.attach()\n"
            "cluster.restart_engine(2)\n"
            "print(cluster.ids)\n"
            "cluster.remove_engines([2])\n"
            "cluster.add_engines(1)\n"
            "print(cluster.ids, [each.host for each in cluster.status().engines])\n"
        )
        self.assertEqual(printed, "[0, 1, 2]\n[0, 1, 2] ['node1', 'node1', 'node2']\n")

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

    def ssh_of(self, process: subprocess.Popen[str], host: str) -> int:
        """The local process that carries the connection to a host."""
        (found,) = [
            entry.pid
            for entry in osprocess.process_table().values()
            if entry.parent == process.pid
            and f"\0{host}\0".encode() in self.command_line(entry.pid)
        ]
        return found

    def line_about(self, process: subprocess.Popen[str], text: str) -> str:
        """The next line that contains a text."""
        for line in process.stdout:  # type: ignore[union-attr]
            if text in line:
                return line
        raise AssertionError(f"it never said {text!r}")

    def start_tasks(self, retries: int) -> subprocess.Popen[str]:
        """Start a program with a task for each of three engines; returns when all of them run."""
        marks = Path(tempfile.mkdtemp(dir=self.directory))
        process = self.start_program(
            [
                self.python,
                "-c",
                "from ipython1.kernel import client\n"
                "def work(number):\n"
                "    import pathlib, time\n"
                f"    pathlib.Path({str(marks)!r}, str(number)).touch()\n"
                "    time.sleep(3)\n"
                "    return number\n"
                f"print(client.TaskClient().mapper(retries={retries}).map(work, range(3)))\n",
            ]
        )
        until(lambda: len(list(marks.iterdir())) == 3)
        return process

    def test_engines_are_restarted_when_their_host_is_there_again(self) -> None:
        """Whatever breaks: the local ``ssh``, or the nanny there.  In the end nothing is left."""
        text = f"engines = dict({self.node(1, 1)}, {self.node(2, 2)})"
        process = self.start("--restart-engines=5", *self.options(text))
        before = self.status()

        for loses_ssh in (True, False):
            ended = [each.pid for each in self.status().engines[1:]]
            nanny = osprocess.process_table()[ended[0]].parent
            if loses_ssh:
                # The engines end after the controller has been told that their tasks are not to blame.
                tasks = self.start_tasks(retries=0)
                os.kill(nanny, signal.SIGSTOP)
                os.kill(self.ssh_of(process, "node2"), signal.SIGKILL)
                self.line_about(process, "lost the connection to node2")
                until(lambda: self.status().ids == (0,))
                os.kill(nanny, signal.SIGCONT)
            else:
                # All these hosts are this machine, so the controller may see that they are dead before it is told why.
                tasks = self.start_tasks(retries=1)
                os.kill(nanny, signal.SIGKILL)
                self.line_about(process, "lost the connection to node2")
            self.line_about(process, "node2 is there; engines start there: 1-2")
            self.run_python(
                "from ipython1.kernel.client import Cluster\n"
                "Cluster.attach().wait_for_engines(3, timeout=60)\n"
            )
            self.assertEqual([pid for pid in ended if osprocess.is_alive(pid)], [])
            # The tasks that were lost with the host ran again, although those of the first round may not fail once.
            self.assertEqual(tasks.stdout.read(), "[0, 1, 2]\n")  # type: ignore[union-attr]
        after = self.status()
        self.assertEqual(after.engines[0].pid, before.engines[0].pid)
        self.assertEqual([each.restarts for each in after.engines], [0, 2, 2])
        process.terminate()
        self.assertEqual(process.wait(LIMIT), 0)
        self.assertEqual(self.processes(), [])

    def test_dead_hosts_delay_nobody_and_late_ones_join(self) -> None:
        """One refuses connections, and one does not answer at all; both are tried again and again."""
        hole = self.enterContext(silent_port())
        closed = free_ports(1)
        good = Path(self.config).read_text()
        config = self.directory / "ssh_config"

        def write(ports: dict[str, int]) -> None:
            hosts = "".join(
                f"Host {name}\n    HostName 127.0.0.1\n    Port {port}\n"
                for name, port in ports.items()
            )
            config.write_text(hosts + good)

        write({"node2": closed, "node3": hole})
        options = self.options(
            f"engines = dict({self.node(2, 2)}, {self.node(3, 1)}, {self.node(4, 1)})"
        )
        process = self.start(*options[:-1], f"ssh -F {config}")
        text = "".join(self.printed)
        self.assertIn("the cluster is up: 1 engine of 4 (3).", text)
        self.assertRegex(text, "engines 0-1 cannot start yet: node2: Connection refused")
        self.assertRegex(text, "engine 2 cannot start yet: node3 has not answered for 3 s")
        self.assertRegex(
            self.run_ipcluster("status").stdout,
            r"host node2: (away, tried again in \d+ s|logging in), engines 0-1: Connection refused",
        )
        write({})  # from now on, they are there
        self.line_about(process, "node2 is there; engines start there: 0-1")
        printed = self.run_python(
            "from ipython1.kernel.client import Cluster\n"
            "cluster = Cluster.attach()\n"
            "ids = cluster.wait_for_engines(3, timeout=60)\n"
            "if 2 in ids:  # the silent one was first\n"
            "    ids = cluster.wait_for_engines(4, timeout=60)\n"
            "print({0, 1, 3} - set(ids), cluster.status().engines[0].restarts)\n"
        )
        self.assertEqual(printed, "set() 0\n")

    def test_hosts_that_cannot_be_used(self) -> None:
        old = self.script(
            "old", 'exec {python} -c "$(echo "$2" | sed \'s/sys.version_info/(3, 6)/\')"'
        )
        bare = self.script(
            "bare", 'shift; exec {python} -I -S -c "$(echo "$1" | sed \'s/sys.path.append/str/\')"'
        )
        stranger = self.directory / "known_hosts"
        stranger.write_text("testbed ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43 + "\n")
        config = self.directory / "ssh_config"
        config.write_text(
            f"Host changed\n    HostName 127.0.0.1\n    UserKnownHostsFile {stranger}\n"
            "Host unknown\n    HostName 127.0.0.1\n    UserKnownHostsFile /dev/null\n"
            "Host denied\n    HostName 127.0.0.1\n    User nobody\n"
            "Host old bare noisy\n    HostName 127.0.0.1\n" + Path(self.config).read_text()
        )
        far = str(self.far["node1"])
        hosts = {
            "node1": {"n": 1, "ipython_dir": far},
            "no-such-host.invalid": {"n": 1},
            "node2": {"n": 1, "python": "/no/such/python"},
            "node3": {"n": 1, "ipython_dir": "/proc/no/such"},
            "node4": {"n": 1, "cwd": "/no/such"},
            "old": {"n": 1, "python": old},
            "bare": {"n": 1, "python": bare},
            "changed": {"n": 1},
            "unknown": {"n": 1},
            "denied": {"n": 1},
            "noisy": {"n": 1, "ipython_dir": far, "setup": "echo Welcome; printf 'to node9'"},
        }
        options = self.options(f"engines = {hosts!r}")
        done = self.start(*options[:-1], f"ssh -F {config}")
        text = "".join(self.printed)
        self.assertIn("the cluster is up: 2 engines of 11 (0,10).", text)
        for found in (
            "engine 1 cannot start yet: no-such-host.invalid: .*resolve.*; it is tried again",
            "engine 2 could not be started: node2: there is no interpreter /no/such/python; install",
            "engine 3 could not be started: cannot copy files to .*node3: .*/proc/no/such.*ipython_dir",
            "engine 5 could not be started: old has Python 3.6, but this host has .*python=",
            "engine 6 could not be started: bare: ipython1 is not installed for the Python there",
            "engine 7 could not be started: changed: its host key has changed.*ssh-keygen -R changed",
            "engine 8 could not be started: unknown: its host key is not known here.*: ssh unknown",
            "engine 9 could not be started: denied: it refuses the login.*ssh-copy-id denied",
        ):
            self.assertRegex(text, found)
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


class ManyHostsTests(unittest.SynchronousTestCase):
    """A short form of ``python -m tests.benchmarks.sshhosts``, which measures."""

    def test_dead_hosts_among_others(self) -> None:
        directory = Path(tempfile.mkdtemp(prefix="ipython1-test-"))
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        with FarPython(directory) as python:
            printed = start_hosts(directory, 3, 2, str(python.path)).printed
        self.assertIn("the cluster is up: 1 engine of 3 (2).", printed)
        self.assertRegex(printed, "engine 0 cannot start yet: far0 has not answered for 3 s")
        self.assertRegex(printed, "engine 1 cannot start yet: far1: Connection refused")


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
