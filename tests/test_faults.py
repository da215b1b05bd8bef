"""Real faults on real processes: user code that harms its engine, broken connections, a full disk."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from twisted.trial import unittest

from ipython1.testing import RealCluster

PROGRAMS = Path(__file__).parent / "programs"


class FaultTests(unittest.SynchronousTestCase):
    """Each program has its own cluster, which must be intact at the end."""

    def run_on_cluster(self, program: str, last_line: str) -> None:
        with RealCluster(2) as cluster:
            result = cluster.run_program(PROGRAMS / program)
        self.assertEqual(result.stdout.splitlines()[-1], last_line)

    def test_user_code(self) -> None:
        """Closed streams, forks, too little memory: at most one clear error, and the next command works."""
        self.run_on_cluster("user_code_faults.py", "nobody else was disturbed")

    def test_network(self) -> None:
        """Broken and silent connections, clients that die halfway, strangers: others are still served."""
        self.run_on_cluster("network_faults.py", "everybody else was served")


class FullDiskTests(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=8k,mode=700", "tmpfs", str(self.directory)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            raise unittest.SkipTest("mounting a small file system is not permitted") from None
        self.addCleanup(self.unmount)

    def unmount(self) -> None:
        for _ in range(50):
            command = ["umount", str(self.directory)]
            if not subprocess.run(command, check=False, capture_output=True).returncode:
                return
            time.sleep(0.1)
        subprocess.run(["umount", "-l", str(self.directory)], check=False)

    def test_a_cluster_that_cannot_write_says_so(self) -> None:
        path = os.pathsep.join(path for path in sys.path if path)
        ended = subprocess.run(
            [sys.executable, "-m", "ipython1.kernel.scripts.ipcluster", "-n", "1"],
            env={**os.environ, "IPYTHONDIR": str(self.directory), "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(ended.returncode, 1)
        self.assertRegex(ended.stderr, "(?i)no space")
        self.assertEqual(len(ended.stderr.splitlines()), 1, ended.stderr)
