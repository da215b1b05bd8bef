"""What ``ssh=`` may be, and what is run on the host that it names."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial import unittest

from ipython1.kernel.calls.sshroute import MISSING, SshRoute, check_ssh


class CheckSshTests(unittest.SynchronousTestCase):
    def test_what_ssh_accepts(self) -> None:
        self.assertIsNone(check_ssh(None))
        self.assertEqual(check_ssh("login"), ("ssh", "--", "login"))
        self.assertEqual(check_ssh("me@login"), ("ssh", "--", "me@login"))
        self.assertEqual(check_ssh("ssh://me@login:22"), ("ssh", "--", "ssh://me@login:22"))

    def test_a_port(self) -> None:
        self.assertEqual(check_ssh("me@login:2222"), ("ssh", "-p", "2222", "--", "me@login"))
        self.assertEqual(check_ssh("[fd77::1]:22"), ("ssh", "-p", "22", "--", "fd77::1"))
        self.assertEqual(check_ssh("fd77::1"), ("ssh", "--", "fd77::1"))

    def test_a_command(self) -> None:
        self.assertEqual(
            check_ssh(["ssh", "-J", "jump", "login"]), ("ssh", "-J", "jump", "--", "login")
        )

    def test_what_it_does_not_accept(self) -> None:
        for wrong in ("", "-oProxyCommand=x", "a b", ["ssh"], ["ssh", "-oProxyCommand=x"]):
            self.assertRaises(ValueError, check_ssh, wrong)
        for unknown in (22, {"host": "login"}, ["ssh", 1]):
            self.assertRaises(TypeError, check_ssh, unknown)


class ReadingTests(unittest.SynchronousTestCase):
    """The command that prints a FURL file, in a shell."""

    def setUp(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="ipython1 test-"))
        self.addCleanup(subprocess.run, ["rm", "-r", str(self.home)], check=True)

    def read(self, source: str, **environ: str) -> tuple[int, str]:
        route = SshRoute(Clock(), ("ssh", "--", "login"), source, "multiengine")
        done = subprocess.run(
            ["sh", "-c", route._reading(source)],
            env={"HOME": str(self.home), "PATH": os.environ["PATH"], **environ},
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    def write(self, path: str) -> None:
        file = self.home / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"furl of {path}\n")

    def test_the_default(self) -> None:
        path = ".ipython/security/ipcontroller-mec.furl"
        self.assertEqual(self.read(""), (MISSING, f"{self.home / path}\n"))
        self.write(path)
        self.assertEqual(self.read(""), (0, f"furl of {path}\n"))

    def test_another_ipython_directory(self) -> None:
        self.write("mine/security/ipcontroller-mec.furl")
        self.assertEqual(self.read("", IPYTHONDIR=str(self.home / "mine"))[0], 0)

    def test_a_cluster_id(self) -> None:
        self.write(".ipython/security/ipcontroller-big-mec.furl")
        self.assertEqual(self.read("big")[0], 0)
        self.assertEqual(self.read("small")[0], MISSING)

    def test_a_path(self) -> None:
        self.write("a b/it's.furl")
        expected = (0, "furl of a b/it's.furl\n")
        self.assertEqual(self.read("~/a b/it's.furl"), expected)
        self.assertEqual(self.read("a b/it's.furl"), expected)
        self.assertEqual(self.read(f"{self.home}/a b/it's.furl"), expected)
