"""The programs as process 1, as in containers: SIGTERM ends them, and they collect the orphans of others."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import psutil
from twisted.trial import unittest

from tests.test_ipcluster import LIMIT, IpclusterCase, until

UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


def can_unshare() -> bool:
    """Whether this user can make a namespace of processes."""
    if not (shutil.which("unshare") and shutil.which("nsenter")) or os.geteuid() != 0:
        return False
    done = subprocess.run([*UNSHARE, "true"], capture_output=True, check=False, timeout=LIMIT)
    return done.returncode == 0


class FirstProcessTests(IpclusterCase):
    def setUp(self) -> None:
        if not can_unshare():
            raise unittest.SkipTest("needs root, unshare and nsenter")
        super().setUp()

    def start_first(self, name: str, *arguments: str) -> tuple[subprocess.Popen[str], int]:
        """Start a program as process 1; returns the process around it, and its process id out here."""
        process = self.start_program(
            [*UNSHARE, sys.executable, "-P", "-m", f"ipython1.kernel.scripts.{name}", *arguments]
        )
        until(lambda: psutil.Process(process.pid).children())
        (child,) = psutil.Process(process.pid).children()
        return process, child.pid

    def check(self, process: subprocess.Popen[str], first: int) -> None:
        """Check that it collects an orphan, and ends well at SIGTERM."""
        enter = ["nsenter", f"--target={first}", "--pid", "--mount"]
        orphan = subprocess.run(
            [*enter, "sh", "-c", "sleep 0.1 >&- & echo $!"],
            capture_output=True,
            text=True,
            check=True,
            timeout=LIMIT,
        ).stdout.strip()
        there = [*enter, "test", "-e", f"/proc/{orphan}"]
        self.assertTrue(orphan.isdigit())
        until(lambda: subprocess.run(there, check=False, timeout=LIMIT).returncode == 1)
        os.kill(first, signal.SIGTERM)
        self.assertEqual(process.wait(LIMIT), 0)

    def test_controller_and_engine(self) -> None:
        controller, first = self.start_first("ipcontroller")
        self.assertIn("listening", controller.stdout.readline())  # type: ignore[union-attr]
        engine, second = self.start_first("ipengine")
        self.run_python(
            "from ipython1.kernel import client\n"
            "client.MultiEngineClient().wait_for_engines(1, timeout=60)\n"
        )
        self.check(engine, second)
        self.check(controller, first)
        self.nothing_is_left()

    def test_cluster(self) -> None:
        process, first = self.start_first("ipcluster", "-n", "1")
        self.wait_until_up(process)
        self.check(process, first)
        self.nothing_is_left()
